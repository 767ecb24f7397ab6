"""Weights as a safetensors file: read strictly, and built anew from what was read.

The format (https://github.com/huggingface/safetensors, README, "Format"): eight bytes with the header's length, little
endian; the header, a JSON object that names each tensor with its dtype, shape and place; the tensors' bytes.
What is built holds the same tensors under the same names, in one order for the same tensors, and nothing else: there is
no room beside them in which anything else could travel, and a reader meets no file that we have not written.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, BinaryIO

from hdrs_hpc.core import strict_json
from hdrs_hpc.core.errors import BadDocumentError

ITEM_BYTES: dict[str, int] = {
    "BOOL": 1,
    "U8": 1,
    "I8": 1,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
    "U16": 2,
    "I16": 2,
    "F16": 2,
    "BF16": 2,
    "U32": 4,
    "I32": 4,
    "F32": 4,
    "U64": 8,
    "I64": 8,
    "F64": 8,
    "C64": 8,
}
"""Bytes of one number, by dtype; those below a byte are not taken."""
MAX_HEADER_BYTES = 8 << 20
MAX_TENSORS = 65_536
MAX_DIMENSIONS = 16
MAX_NUMBERS = 1 << 40
"""Of one tensor."""
METADATA = "__metadata__"
"""Free text that libraries write beside the tensors, such as ``{"format": "pt"}``: it is left behind."""

_LENGTH_BYTES = 8
_PIECE_BYTES = 1 << 20
_ALIGNED_TO = 8
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./:-]{0,255}", re.ASCII)


class WeightsMalformedError(BadDocumentError):
    code = "weights-malformed"
    meaning = "A file of weights is not a plain safetensors file."
    remedy = (
        "Write it with a safetensors library: tensors of usual dtypes under plain names, one after the other, and no "
        "bytes beside them."
    )


@dataclass(frozen=True)
class Tensor:
    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    """Of its bytes, counted from the end of the header."""
    size_bytes: int


def read(stream: BinaryIO, size_bytes: int) -> tuple[Tensor, ...]:
    """The tensors of a file of ``size_bytes``, in the order of their bytes; leaves the stream behind the header.

    Raises WeightsMalformedError for anything that is not exactly header and tensors.
    """
    length = int.from_bytes(_exactly(stream, _LENGTH_BYTES), "little")
    if length > min(MAX_HEADER_BYTES, size_bytes - _LENGTH_BYTES):
        raise WeightsMalformedError("its header is longer than the file, or than any honest one")
    try:
        header = strict_json.loads(_exactly(stream, length), max_bytes=MAX_HEADER_BYTES, max_depth=4)
    except BadDocumentError as error:
        raise WeightsMalformedError(f"its header is no strict JSON: {error.code}") from None
    if not isinstance(header, dict):
        raise WeightsMalformedError("its header is no mapping")
    header.pop(METADATA, None)
    if not 1 <= len(header) <= MAX_TENSORS:
        raise WeightsMalformedError(f"it holds {len(header)} tensors where 1 to {MAX_TENSORS} are taken")
    tensors = sorted((_tensor(*item) for item in header.items()), key=lambda t: (t.start, t.size_bytes))
    end = _LENGTH_BYTES + length
    if tensors[0].start != 0 or any(a.start + a.size_bytes != b.start for a, b in pairwise(tensors)):
        raise WeightsMalformedError("its tensors overlap, or something lies between them")
    if end + tensors[-1].start + tensors[-1].size_bytes != size_bytes:
        raise WeightsMalformedError("it is longer or shorter than its tensors")
    return tuple(tensors)


def rebuild(source: BinaryIO, size_bytes: int, target: BinaryIO) -> None:
    """Write to ``target`` a new file with the tensors of ``source``, which can be sought in.

    Raises WeightsMalformedError; what was written until then is of no use.
    """
    tensors = read(source, size_bytes)
    begin = source.tell()
    # As libraries order them, so that each lies at a multiple of its own width.
    ordered = sorted(tensors, key=lambda t: (-ITEM_BYTES[t.dtype], t.name))
    target.write(_header(ordered))
    for tensor in ordered:
        source.seek(begin + tensor.start)
        for piece in _pieces(source, tensor.size_bytes):
            if tensor.dtype == "BOOL" and piece.translate(None, b"\0\1"):
                raise WeightsMalformedError("a truth value is neither 0 nor 1")
            target.write(piece)


def _tensor(name: str, told: Any) -> Tensor:
    if _NAME.fullmatch(name) is None:
        raise WeightsMalformedError("a tensor's name is not plain: letters, digits, _ . / : -")
    if not isinstance(told, dict) or told.keys() != {"dtype", "shape", "data_offsets"}:
        raise WeightsMalformedError("a tensor has dtype, shape and data_offsets", where=name)
    dtype, shape, offsets = told["dtype"], told["shape"], told["data_offsets"]
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        raise WeightsMalformedError(f"a dtype is one of {', '.join(ITEM_BYTES)}", where=name)
    if not _counts(shape) or len(shape) > MAX_DIMENSIONS or math.prod(shape) > MAX_NUMBERS:
        raise WeightsMalformedError("a shape is a short list of whole numbers", where=name)
    size = math.prod(shape) * ITEM_BYTES[dtype]
    if not _counts(offsets) or len(offsets) != 2 or offsets[1] - offsets[0] != size:
        raise WeightsMalformedError("its place does not hold what dtype and shape say", where=name)
    return Tensor(name, dtype, tuple(shape), offsets[0], size)


def _counts(found: Any) -> bool:
    return isinstance(found, list) and all(type(one) is int and 0 <= one <= MAX_NUMBERS * 8 for one in found)


def _header(ordered: list[Tensor]) -> bytes:
    told, start = {}, 0
    for tensor in ordered:
        place = [start, start + tensor.size_bytes]
        told[tensor.name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": place}
        start += tensor.size_bytes
    raw = json.dumps(told, separators=(",", ":")).encode("ascii")
    raw += b" " * (-len(raw) % _ALIGNED_TO)
    return len(raw).to_bytes(_LENGTH_BYTES, "little") + raw


def _exactly(stream: BinaryIO, size: int) -> bytes:
    found = stream.read(size)
    if len(found) != size:
        raise WeightsMalformedError("it ends in the middle")
    return found


def _pieces(stream: BinaryIO, size: int) -> Iterator[bytes]:
    for start in range(0, size, _PIECE_BYTES):
        yield _exactly(stream, min(_PIECE_BYTES, size - start))
