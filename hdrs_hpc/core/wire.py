"""Strict, bounded messages: dataclasses to JSON lines and back, with nothing unknown and nothing missing.

Field names are written in kebab-case and bytes in base 64.  Types are annotated with their bounds, for
example ``Annotated[str, Pattern(r"[a-z]+")]``; decoding enforces them, so a decoded message needs no further
checks of form.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import functools
import re
import types
import typing
from collections.abc import Hashable
from enum import StrEnum
from typing import Annotated, Any, Literal, cast, get_args, get_origin

from hdrs_hpc.core import strict_json
from hdrs_hpc.core.errors import BadDocumentError

MAX_LINE_BYTES = 1 << 20
MAX_TEXT = 64 << 10


class MessageError(BadDocumentError):
    code = "message-malformed"
    meaning = "A message between broker and node is not what the protocol says."
    remedy = "Check that the node runtime on the site is the one this broker installed (`cluster install`)."


@dataclasses.dataclass(frozen=True)
class Pattern:
    """The whole text must match this regular expression."""

    regex: str

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        """The same rule in a document's model: pydantic asks any annotation for it."""
        return handler(source) | {"pattern": rf"^(?:{self.regex})\z"}


@dataclasses.dataclass(frozen=True)
class Between:
    """A number's inclusive bounds; for text, bytes and collections the bounds of the length."""

    low: int
    high: int

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        """The same rule in a document's model; see :class:`Pattern`."""
        schema = handler(source)
        if schema["type"] in ("int", "float"):
            return schema | {"ge": self.low, "le": self.high}
        return schema | {"min_length": self.low, "max_length": self.high}


Count = Annotated[int, Between(0, (1 << 63) - 1)]
Name = Annotated[str, Pattern(r"[a-z][a-z0-9-]{0,39}")]
Digest = Annotated[str, Pattern(r"sha256:[0-9a-f]{64}")]
ReasonCode = Annotated[str, Pattern(r"[a-z][a-z0-9-]{0,59}")]
Moment = Annotated[str, Pattern(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")]
NodeName = Annotated[str, Pattern(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")]
Key32 = Annotated[bytes, Between(32, 32)]
PathPart = Annotated[str, Pattern(r"(?!\.\.?$)[A-Za-z0-9._-]{1,128}")]


def to_value(message: Any) -> dict[str, Any]:
    """A message as plain JSON values."""
    return {_kebab(field.name): _plain(getattr(message, field.name)) for field in dataclasses.fields(message)}


def to_bytes(message: Any) -> bytes:
    """Canonical JSON of a message: the same message is always the same bytes."""
    return strict_json.dumps(to_value(message))


def to_line(message: Any) -> bytes:
    """One line, as a courier carries it; raises MessageError where it would be over the bound."""
    raw = to_bytes(message) + b"\n"
    if len(raw) > MAX_LINE_BYTES:
        raise MessageError(f"a message of {len(raw)} bytes where {MAX_LINE_BYTES} are allowed")
    return raw


def from_value[T](cls: type[T], value: object, where: str = "message") -> T:
    """Build ``cls`` from plain JSON values; raises MessageError where anything is unknown or missing."""
    if not isinstance(value, dict):
        raise MessageError("expected an object", where=where)
    hints = _hints(cast(Hashable, cls))
    wanted = {_kebab(name): name for name in hints}
    for key in value:
        if key not in wanted:
            raise MessageError(f"unknown field {key[:60]!r}", where=where)
    for key in wanted:
        if key not in value:
            raise MessageError(f"missing field {key!r}", where=where)
    made = {name: _typed(hints[name], value[key], f"{where}.{key}") for key, name in wanted.items()}
    return cls(**made)


def from_bytes[T](cls: type[T], raw: bytes, max_bytes: int = MAX_LINE_BYTES) -> T:
    """Parse one message; raises BadDocumentError."""
    return from_value(cls, strict_json.loads(raw, max_bytes=max_bytes), cls.__name__)


@functools.cache
def _hints(cls: Hashable) -> dict[str, Any]:
    hints = typing.get_type_hints(cast(type, cls), include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(cast(Any, cls))}


def _kebab(name: str) -> str:
    return name.replace("_", "-")


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return to_value(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value


def _typed(hint: Any, value: Any, where: str) -> Any:
    origin = get_origin(hint)
    if origin is Annotated:
        inner, *rules = get_args(hint)
        made = _typed(inner, value, where)
        for rule in rules:
            _check(rule, made, where)
        return made
    if origin is Literal:
        if not any(
            value is choice or (type(value) is type(choice) and value == choice) for choice in get_args(hint)
        ):
            raise MessageError("not one of the values allowed", where=where)
        return value
    if origin is typing.Union or origin is types.UnionType:
        return _optional(hint, value, where)
    if origin is tuple:
        item_hint = get_args(hint)[0]  # only tuple[X, ...] is used
        return tuple(_typed(item_hint, item, f"{where}[{n}]") for n, item in enumerate(_list(value, where)))
    if origin is dict:
        key_hint, item_hint = get_args(hint)
        if not isinstance(value, dict):
            raise MessageError("expected an object", where=where)
        return {
            _typed(key_hint, k, where): _typed(item_hint, v, f"{where}.{k[:40]}") for k, v in value.items()
        }
    if hint is Any:
        return value
    return _scalar(hint, value, where)


def _scalar(hint: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return from_value(cast(type, hint), value, where)
    if hint is bytes:
        return _base64(value, where)
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        try:
            return hint(value)
        except ValueError:
            raise MessageError("not one of the values allowed", where=where) from None
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is not hint:  # exact, so that true is not 1
        raise MessageError(f"expected {hint.__name__}", where=where)
    if hint is str and len(value) > MAX_TEXT:
        raise MessageError("the text is too long", where=where)
    return value


def _optional(hint: Any, value: Any, where: str) -> Any:
    choices = [choice for choice in get_args(hint) if choice is not type(None)]
    if len(choices) != 1:
        raise TypeError(f"{hint}: only X | None can be written")
    return None if value is None else _typed(choices[0], value, where)


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise MessageError("expected a list", where=where)
    return value


def _base64(value: Any, where: str) -> bytes:
    if not isinstance(value, str):
        raise MessageError("expected base 64", where=where)
    try:
        raw = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise MessageError("not base 64", where=where) from None
    if base64.b64encode(raw).decode("ascii") != value:  # stray bits in the last sextet would be malleable
        raise MessageError("not canonical base 64", where=where)
    return raw


def _check(rule: Any, made: Any, where: str) -> None:
    if isinstance(rule, Pattern) and re.fullmatch(rule.regex, made, re.ASCII) is None:
        raise MessageError("the text has another form than the protocol says", where=where)
    if isinstance(rule, Between):
        size = made if isinstance(made, int | float) else len(made)
        if not rule.low <= size <= rule.high:
            raise MessageError(f"{size} is not between {rule.low} and {rule.high}", where=where)
