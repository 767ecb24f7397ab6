"""Files that are neither imaging nor tables, such as lie beside them in any archive: passed over, and counted by kind.

Names alone decide nothing that matters: a file whose name says DICOM, slide or table, whatever it holds, and one that a
parser took for one of them and found broken, counts as failed.
"""

from __future__ import annotations

from imaging.staging.refusals import NOT_IMAGING

_BY_SUFFIX = {
    "document": "md markdown rst adoc txt text rtf pdf doc docx odt ppt pptx odp xls xlsx ods htm html xhtml tex bib "
    "log eml msg hl7 epub",
    "drawing": "svg svgz png apng jpg jpeg jpe gif bmp webp ico eps ps ai psd xcf drawio dot puml mmd "
    "excalidraw heic emf wmf dxf dwg stl obj ply",
    "structured text": "json jsonl ndjson geojson jsonld ipynb yaml yml toml ini cfg conf properties env xml xsd xsl "
    "xslt dtd plist bval bvec",
    "script": "py pyi pyc r rmd jl m sh bash zsh fish bat cmd ps1 pl rb js mjs ts css scss c h cc cpp hpp cu java "
    "scala go rs lua sql f90 mk cmake gradle lock patch diff groovy kt swift",
    "checksum": "md5 sha1 sha224 sha256 sha384 sha512 sha3 b2 b3 crc sfv sum asc sig pem crt minisig",
    "system file": "ds_store lnk url bak swp tmp inf",
    "program": "exe dll so dylib msi jar class whl deb rpm apk o",
    "recording": "mp3 wav flac ogg m4a aac wma mp4 m4v mov avi mkv webm wmv",
    "array or model": "npy npz mat h5 hdf5 pkl pickle joblib pt pth ckpt safetensors onnx rds rdata",
    "database": "sqlite sqlite3 db db3 mdb accdb",
}
_BY_NAME = {
    "document": "readme license licence licenses copying copyright notice authors contributors changelog changes "
    "citation todo version install news history manifest contributing acknowledgements",
    "script": "makefile dockerfile containerfile snakefile jenkinsfile vagrantfile gemfile",
    "checksum": "sha1sums sha256sums sha512sums sha1sum sha256sum sha512sum md5sums md5sum checksums checksum b2sums",
    "system file": "thumbs.db desktop.ini autorun.inf .ds_store .gitignore .gitattributes .gitkeep .gitmodules .keep "
    ".directory .dockerignore .editorconfig .nojekyll .localized .bidsignore",
}
_MAY_BE_WANTED = (
    "dcm dicom dic dc3 ima acr svs ndpi ndpis vms vmu scn mrxs tif tiff btf tf8 bif czi qptiff isyntax svslide afi "
    "vsi lif nd2 zvi nii hdr img mha mhd nrrd mgz par rec csv tsv tab parquet pq zip gz bz2 xz zst tar tgz 7z rar"
)
"""Suffixes of imaging, of tables, and of what may hold some: where such a file can't be read it has failed."""
_TABLES = frozenset({"csv", "tsv", "tab", "parquet", "pq"})
_DATABASES = frozenset(_BY_SUFFIX["database"].split())
_LOOSE = frozenset({"txt", "text", "log", "bak", "tmp"})
"""Suffixes that tables have too."""
_SUFFIXES = {suffix: kind for kind, suffixes in _BY_SUFFIX.items() for suffix in suffixes.split()}
_NAMES = {name: kind for kind, names in _BY_NAME.items() for name in names.split()}
_WANTED = frozenset(_MAY_BE_WANTED.split())


def kind_of(path: str, code: str, found: str) -> str | None:
    """The kind of a file that ``code`` was about to refuse as broken; None if it is to be refused so.

    ``found``: what its bytes are, as a parser told: ``drawing``, ``document``, ``system file``, ``text``, ``table``
    (text in even columns) or "".
    """
    name, suffix = _named(path)
    if code == "unsupported-slide" and suffix in _DATABASES:
        return "database"  # Sakura's slides are SQLite too, under a suffix of their own
    if code not in ("not-dicom", "empty-file", "malformed-table"):
        return None
    if name.startswith("._") and found in ("", "system file"):
        return "system file"  # what macOS keeps beside each file
    if suffix in _WANTED or name.startswith("dicomdir"):
        return None
    if found in NOT_IMAGING:
        return found
    if found == "table" and not _is_sure(name, suffix):
        return None
    return _by_name(name, suffix)


def says_table(path: str) -> bool:
    """Whether a file's name says that it is a table."""
    return _named(path)[1] in _TABLES


def table_is_none(path: str, rows: int) -> str | None:
    """The kind of a file that reads as a table but is none, by its name; None if it is to be judged as a table."""
    name, suffix = _named(path)
    if suffix in _WANTED or (rows and not _is_sure(name, suffix)):
        return None
    return _by_name(name, suffix)


def _named(path: str) -> tuple[str, str]:
    """Last part of the path, and its suffix without the point; in lower case."""
    name = path.rpartition("/")[2].lower()
    stem, _, suffix = name.rpartition(".")
    return name, suffix if stem else ""


def _is_sure(name: str, suffix: str) -> bool:
    """Whether no table has such a name."""
    return _well_known(name) is not None or (suffix in _SUFFIXES and suffix not in _LOOSE)


def _by_name(name: str, suffix: str) -> str | None:
    return _well_known(name) or _SUFFIXES.get(suffix)


def _well_known(name: str) -> str | None:
    """Of ``LICENSE`` and ``LICENSE.txt``."""
    stem, _, suffix = name.rpartition(".")
    return _NAMES.get(name) or (_NAMES.get(stem) if suffix in _LOOSE else None)
