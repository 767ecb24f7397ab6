"""What a file is, by its content; names and declarations are not asked."""

from __future__ import annotations

import re

from hdrs_hpc.catalogue import outputs
from hdrs_hpc.catalogue.outputs.checking.refusal import ArtefactRefusedError
from hdrs_hpc.catalogue.outputs.output_class import OutputClass

# (offset, magic, what it is).  Order matters only where one magic begins like another.
_MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x89PNG\r\n\x1a\n", "png"),
    (0, b"\xff\xd8\xff", "jpeg"),
    (128, b"DICM", "DICOM"),
    (0, b"PK\x03\x04", "a zip archive (also Office, NumPy and PyTorch files)"),
    (0, b"PK\x05\x06", "a zip archive (also Office, NumPy and PyTorch files)"),
    (0, b"PK\x07\x08", "a zip archive (also Office, NumPy and PyTorch files)"),
    (0, b"\x1f\x8b", "gzip"),
    (0, b"\x1f\x9d", "compress"),
    (0, b"BZh", "bzip2"),
    (0, b"\xfd7zXZ\x00", "xz"),
    (0, b"\x28\xb5\x2f\xfd", "zstd"),
    (0, b"\x04\x22\x4d\x18", "lz4"),
    (0, b"7z\xbc\xaf\x27\x1c", "7-zip"),
    (0, b"Rar!", "rar"),
    (257, b"ustar", "tar"),
    (0, b"%PDF", "PDF"),
    (0, b"%!PS", "PostScript"),
    (0, b"\x7fELF", "an ELF program"),
    (0, b"MZ", "a Windows program"),
    (0, b"\xcf\xfa\xed\xfe", "a Mach-O program"),
    (0, b"\xfe\xed\xfa\xcf", "a Mach-O program"),
    (0, b"#!", "a script"),
    (0, b"PAR1", "Parquet"),
    (0, b"ARROW1", "Arrow"),
    (0, b"\x89HDF", "HDF5"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (0, b"SQLite format 3", "SQLite"),
    (0, b"GIF8", "GIF"),
    (0, b"BM", "BMP"),
    (0, b"II*\x00", "TIFF"),
    (0, b"MM\x00*", "TIFF"),
    (0, b"II+\x00", "BigTIFF"),
    (0, b"MM\x00+", "BigTIFF"),
    (8, b"WEBP", "WebP"),
    (4, b"ftyp", "an ISO media file"),
    (0, b"\xd0\xcf\x11\xe0", "an old Office file"),
    (0, b"\x00asm", "WebAssembly"),
    (0, b"{\\rtf", "RTF"),
)
# Magics of printable letters could begin an honest CSV ("BMI,n"): believed only with binary after them.
_NEEDS_BINARY = {"BMP", "a Windows program", "bzip2", "compress", "rar"}
_PICKLE_BINARY = re.compile(rb"\x80[\x02-\x09]")
_PICKLE_TEXT = re.compile(rb"\A(?:\(|\]|\}|l|d|t|p\d+\n)*c[A-Za-z_][\w.]*\n[A-Za-z_]\w*\n")
_MARKUP = re.compile(rb"\A<(!doctype|html|head|body|script|svg|\?xml|!--|[A-Za-z])", re.IGNORECASE)
_NOTEBOOK = re.compile(rb'\A\{.*"nbformat"\s*:', re.DOTALL)
_BOM = b"\xef\xbb\xbf"

_MAY_BE = frozenset(kind for row in outputs.BUILT for kind in row.written_in)


class ArtefactTypeRefusedError(ArtefactRefusedError):
    code = "artefact-type-refused"
    meaning = "Files of this type can carry code, whole records or other files, so none may leave."
    remedy = f"Write {', '.join(f'{row.format} for {row.name}' for row in outputs.BUILT)}."


class ArtefactMistypedError(ArtefactRefusedError):
    code = "artefact-mistyped"
    meaning = "The file's content is of another type than its declared class."
    remedy = "Declare the class that the file really is, or write the file in its class's format."


def identify(data: bytes) -> str:
    """What a class is written in, such as ``png``; raises ArtefactTypeRefusedError, naming what it is, for all else."""
    seen = _look(data)
    if seen in _MAY_BE:
        return seen
    raise ArtefactTypeRefusedError(f"this looks like {seen}")


def check_type(row: OutputClass, data: bytes) -> str:
    """The type seen; raises unless the class may be written in it."""
    seen = identify(data)
    if seen not in row.written_in:
        raise ArtefactMistypedError(f"{row.name} was declared, but this is {seen}")
    return seen


def _look(data: bytes) -> str:
    for row in outputs.BUILT:
        if row.begins_with and data.startswith(row.begins_with):
            return next(iter(row.written_in))
    binary = b"\x00" in data[:4096] or not _is_utf8(data[:4096])
    for offset, magic, name in _MAGIC:
        if data[offset : offset + len(magic)] == magic and (binary or name not in _NEEDS_BINARY):
            return name
    if _PICKLE_BINARY.match(data) or _PICKLE_TEXT.match(data[:4096]):
        return "a pickle"
    # DICOM without its preamble begins with a group 0002 or 0008 element in little endian.
    if data[:4] in (b"\x02\x00\x00\x00", b"\x02\x00\x01\x00") or data[:2] == b"\x08\x00":
        return "DICOM"
    if binary:
        return "unknown binary data"
    text = data.removeprefix(_BOM).lstrip()
    if found := _MARKUP.match(text):
        word = found.group(1).lower()
        return "SVG" if word == b"svg" or b"<svg" in text[:4096].lower() else "HTML or XML"
    if _NOTEBOOK.match(text):
        return "a notebook"
    if data[-4:] == b"PAR1":
        return "Parquet"
    return "text"


def _is_utf8(head: bytes) -> bool:
    for cut in range(4):  # the slice may have cut the last character
        try:
            head[: len(head) - cut].decode("utf-8")
        except UnicodeDecodeError:
            continue
        return True
    return False
