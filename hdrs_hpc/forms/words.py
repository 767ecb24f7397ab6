"""The words that documents are written with: names, digests, sizes, times and Slurm's own quantities.

Each is a type for pydantic fields, with its own reason code, a JSON Schema, and the way back to text.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    Field,
    PlainSerializer,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    WrapValidator,
)

from hdrs_hpc.core import clock
from hdrs_hpc.core.errors import BadDocumentError
from hdrs_hpc.forms.document import BadValueError, Part, WrongTypeError, fault


class BadNameError(BadDocumentError):
    code = "bad-name"
    meaning = "A name is not written as names are: lower-case letters, digits and hyphens, a letter first."
    remedy = "Use up to 40 of a-z, 0-9 and -, beginning with a letter, such as `lung-fm`."


class BadDigestError(BadDocumentError):
    code = "bad-digest"
    meaning = "A digest is not `sha256:` and 64 hexadecimal digits in lower case."
    remedy = "Copy the digest whole from where it was shown."


class BadSizeError(BadDocumentError):
    code = "bad-size"
    meaning = "A size is not a whole number with a unit."
    remedy = "Write a number and B, KiB, MiB, GiB or TiB, such as `2MiB`."


class BadWalltimeError(BadDocumentError):
    code = "bad-walltime"
    meaning = "A run time is not written in Slurm's long form."
    remedy = 'Write hours:minutes:seconds or days-hours:minutes:seconds in quotes, such as "02:00:00".'


class BadMemoryError(BadDocumentError):
    code = "bad-memory"
    meaning = "An amount of memory is not written in Slurm's form."
    remedy = "Write a whole number and M, G or T (per node), such as `64G`."


class BadGresError(BadDocumentError):
    code = "bad-gres"
    meaning = "A generic resource is not written in Slurm's form, or is not a GPU."
    remedy = "Write `gpu:4` (per node) or `gpu:TYPE:4`; leave the field out for none."


class BadDateError(BadDocumentError):
    code = "bad-date"
    meaning = "A date or time is not one, or has no time zone."
    remedy = "Write a day as 2026-12-01, or a moment in UTC as 2026-12-01T09:00:00Z."


class BadDurationError(BadDocumentError):
    code = "bad-duration"
    meaning = "A duration is not a whole number of days, hours or minutes."
    remedy = "Write such as `14d`, `12h` or `30m`."


NAME_PATTERN = r"^[a-z][a-z0-9-]{0,39}$"
DIGEST_PATTERN = r"^sha256:[0-9a-f]{64}$"
HEX32_PATTERN = r"^[0-9a-f]{64}$"
NONCE_PATTERN = r"^[0-9A-HJKMNP-TV-Z]{26}$"
ID_PATTERN = r"^[0-9A-HJKMNP-TV-Z]{4,32}$"
VERSIONED_PATTERN = r"^[a-z][a-z0-9-]{0,39}@[1-9][0-9]{0,3}$"
SIZE_PATTERN = r"^[1-9][0-9]{0,14}(B|KiB|MiB|GiB|TiB)$"
WALLTIME_PATTERN = r"^([1-9][0-9]{0,2}-)?[0-9]{2}:[0-5][0-9]:[0-5][0-9]$"
MEMORY_PATTERN = r"^[1-9][0-9]{0,7}[MGT]$"
GRES_PATTERN = r"^gpu(:[a-z0-9][a-z0-9_.-]{0,29})?:[1-9][0-9]{0,2}$"
DAY_PATTERN = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"
MOMENT_PATTERN = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$"
DURATION_PATTERN = r"^(0|[1-9][0-9]{0,4})[dhm]$"

_UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_MEMORY_MIB = {"M": 1, "G": 1 << 10, "T": 1 << 20}
_DURATIONS = {"d": 86400, "h": 3600, "m": 60}
MAX_WALLTIME_S = 30 * 86400
"""As long as the agents of a job may be told to run."""


def _matching(pattern: str, error: type[BadDocumentError], text: str) -> AfterValidator:
    compiled = re.compile(pattern.removesuffix("$") + r"\Z", re.ASCII)

    def check(value: str) -> str:
        if not compiled.match(value):
            fault(error, text)
        return value

    return AfterValidator(check)


def _text_schema(pattern: str, example: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": pattern, "examples": [example]})


class _WrittenNumber(int):
    """A quantity that remembers how it was written: people are shown what they typed."""

    text = ""


class _WrittenDuration(timedelta):
    text = ""


def _from_text(parse: Callable[[str], Any]) -> WrapValidator:
    """Text in, value of the field out; a value that is already parsed stays (models made in code)."""

    def convert(value: Any, check: ValidatorFunctionWrapHandler) -> Any:
        found = check(parse(value) if isinstance(value, str) else _only_parsed(value))
        kept: _WrittenNumber | _WrittenDuration
        if isinstance(found, int):
            kept = _WrittenNumber(found)
        elif isinstance(found, timedelta):
            kept = _WrittenDuration(found.days, found.seconds)
        else:
            return found
        kept.text = value if isinstance(value, str) else getattr(value, "text", "")
        return kept

    return WrapValidator(convert)


def _as_written(quantity: int | timedelta) -> str:
    """How the document that it came from wrote it; empty for a quantity made in code."""
    return getattr(quantity, "text", "")


def _only_parsed(value: Any) -> Any:
    """In documents every such word is text; a bare number would hide its unit."""
    if isinstance(value, bool | int | float | list | dict | None):
        fault(WrongTypeError, "this must be text, in quotes where YAML would read a number")
    return value


def parse_size(text: str) -> int:
    """``2MiB`` as bytes."""
    found = re.fullmatch(SIZE_PATTERN.strip("^$"), text, re.ASCII)
    if not found:
        fault(BadSizeError, "a size is a whole number with its unit, such as 2MiB")
    unit = found[1]
    return int(text.removesuffix(unit)) * _UNITS[unit]


def size_text(size_bytes: int) -> str:
    """Bytes as they were written; those made in code in the largest unit that holds them exactly."""
    if written := _as_written(size_bytes):
        return written
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if size_bytes % _UNITS[unit] == 0 and size_bytes:
            return f"{size_bytes // _UNITS[unit]}{unit}"
    return f"{size_bytes}B"


def parse_walltime(text: str) -> int:
    """Slurm's ``[days-]hours:minutes:seconds`` in seconds."""
    if not re.fullmatch(WALLTIME_PATTERN.strip("^$"), text, re.ASCII):
        fault(BadWalltimeError, 'a run time is written "02:00:00" or "1-00:00:00"')
    days, _, clock_part = text.rpartition("-")
    hours, minutes, seconds = (int(part) for part in clock_part.split(":"))
    total = int(days or 0) * 86400 + hours * 3600 + minutes * 60 + seconds
    if not 60 <= total <= MAX_WALLTIME_S or (days and hours > 23):
        fault(BadWalltimeError, "a run time is at least one minute and at most 30 days")
    return total


def walltime_text(seconds: int) -> str:
    """A run time as it was written; one made in code as Slurm writes it."""
    if written := _as_written(seconds):
        return written
    days, rest = divmod(seconds, 86400)
    text = f"{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"
    return f"{days}-{text}" if days else text


def parse_memory(text: str) -> int:
    """``64G`` in MiB (what Slurm calls MB)."""
    if not re.fullmatch(MEMORY_PATTERN.strip("^$"), text, re.ASCII):
        fault(BadMemoryError, "memory per node is a whole number and M, G or T, such as 64G")
    return int(text[:-1]) * _MEMORY_MIB[text[-1]]


def memory_text(mebibytes: int) -> str:
    """Memory as it was written; that made in code in G where it is whole."""
    in_code = f"{mebibytes // 1024}G" if mebibytes % 1024 == 0 else f"{mebibytes}M"
    return _as_written(mebibytes) or in_code


def parse_day(text: str) -> date:
    if not re.fullmatch(DAY_PATTERN.strip("^$"), text, re.ASCII):
        fault(BadDateError, "a day is written 2026-12-01")
    try:
        return date.fromisoformat(text)
    except ValueError:
        fault(BadDateError, "there is no such day")


def parse_moment(text: str) -> datetime:
    if not re.fullmatch(MOMENT_PATTERN.strip("^$"), text, re.ASCII):
        fault(BadDateError, "a moment is written 2026-12-01T09:00:00Z")
    try:
        return clock.from_text(text)
    except ValueError:
        fault(BadDateError, "there is no such moment")


def _parse_start(text: str) -> datetime:
    """The first moment of a day in UTC, or a moment."""
    if "T" in text:
        return parse_moment(text)
    day = parse_day(text)
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _parse_end(text: str) -> datetime:
    """The first moment after a day in UTC (a last day counts whole), or a moment."""
    if "T" in text:
        return parse_moment(text)
    try:
        return _parse_start(text) + timedelta(days=1)
    except OverflowError:
        fault(BadDateError, "there is no such day")


def _parse_duration(text: str) -> timedelta:
    if not re.fullmatch(DURATION_PATTERN.strip("^$"), text, re.ASCII):
        fault(BadDurationError, "a duration is a whole number and d, h or m, such as 14d")
    return timedelta(seconds=int(text[:-1]) * _DURATIONS[text[-1]])


def duration_text(value: timedelta) -> str:
    """A duration as it was written; one made in code in the largest unit that holds it exactly."""
    seconds = int(value.total_seconds())
    unit = next((name for name, size in _DURATIONS.items() if seconds % size == 0), "m")
    return _as_written(value) or f"{seconds // _DURATIONS[unit]}{unit}"


Name = Annotated[
    str,
    _matching(NAME_PATTERN, BadNameError, "names are lower-case letters, digits and hyphens, a letter first"),
    WithJsonSchema({"type": "string", "pattern": NAME_PATTERN}),
]
Digest = Annotated[
    str,
    _matching(DIGEST_PATTERN, BadDigestError, "a digest is sha256: and 64 hexadecimal digits"),
    WithJsonSchema({"type": "string", "pattern": DIGEST_PATTERN}),
]
Hash = Annotated[
    str,
    _matching(HEX32_PATTERN, BadDigestError, "a hash is 64 hexadecimal digits"),
    WithJsonSchema({"type": "string", "pattern": HEX32_PATTERN}),
]
Nonce = Annotated[
    str,
    _matching(NONCE_PATTERN, BadValueError, "a nonce is 26 characters of Crockford base 32"),
    WithJsonSchema({"type": "string", "pattern": NONCE_PATTERN}),
]
"""130 random bits in Crockford base 32."""
ShortId = Annotated[
    str,
    _matching(ID_PATTERN, BadValueError, "an id is written as it is shown, such as 7K3QW2"),
    WithJsonSchema({"type": "string", "pattern": ID_PATTERN}),
]
"""A job's or artefact's id, Crockford base 32."""
Versioned = Annotated[
    str,
    _matching(VERSIONED_PATTERN, BadValueError, "write name and version, such as slide-basic@1"),
    WithJsonSchema({"type": "string", "pattern": VERSIONED_PATTERN}),
]
"""A name with its version: ``slide-basic@1``."""
# Control characters could rewrite a reader's terminal; marks of direction, breaks of lines that no line feed makes and
# letters that look like an empty place what a reader believes to read.
_CONTROLS = (
    r"\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u115f\u1160\u200e\u200f\u2028-\u202e\u2066-\u2069\u2800\u3164\uffa0"
)
Line = Annotated[str, Field(min_length=1, max_length=400, pattern=rf"^[^{_CONTROLS}\t\n]+$")]
"""One line of text for people."""
Prose = Annotated[str, Field(min_length=1, max_length=4000, pattern=rf"^[^{_CONTROLS}]+$")]
"""Text for people, of one or more lines."""

SizeBytes = Annotated[
    int, _from_text(parse_size), PlainSerializer(size_text), _text_schema(SIZE_PATTERN, "2MiB")
]
WalltimeS = Annotated[
    int,
    _from_text(parse_walltime),
    PlainSerializer(walltime_text),
    _text_schema(WALLTIME_PATTERN, "02:00:00"),
]
MemoryMb = Annotated[
    int, _from_text(parse_memory), PlainSerializer(memory_text), _text_schema(MEMORY_PATTERN, "64G")
]
Gres = Annotated[
    str,
    _matching(GRES_PATTERN, BadGresError, "a generic resource is gpu:4 or gpu:TYPE:4"),
    WithJsonSchema({"type": "string", "pattern": GRES_PATTERN, "examples": ["gpu:4"]}),
]
_WHEN = WithJsonSchema({"type": "string", "anyOf": [{"pattern": DAY_PATTERN}, {"pattern": MOMENT_PATTERN}]})
Moment = Annotated[
    datetime,
    _from_text(parse_moment),
    PlainSerializer(clock.to_text),
    _text_schema(MOMENT_PATTERN, "2026-12-01T09:00:00Z"),
]
Start = Annotated[datetime, _from_text(_parse_start), PlainSerializer(clock.to_text), _WHEN]
"""A day, from its first moment in UTC, or a moment."""
End = Annotated[datetime, _from_text(_parse_end), PlainSerializer(clock.to_text), _WHEN]
"""A day, up to its last moment in UTC, or a moment; the value is the first moment after."""
Duration = Annotated[
    timedelta,
    _from_text(_parse_duration),
    PlainSerializer(duration_text),
    _text_schema(DURATION_PATTERN, "14d"),
]


class FileRef(Part):
    digest: Digest
    size: Annotated[int, Field(ge=1, le=1 << 44)]
    """In bytes."""
