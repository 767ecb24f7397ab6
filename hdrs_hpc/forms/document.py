"""What all document models share: strict, parsed from exact bytes, with every fault as a finding."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Annotated, Any, ClassVar, NoReturn, Self, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, Tag, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from hdrs_hpc.core import strict_json
from hdrs_hpc.core.errors import BadDocumentError, all_errors

Path = tuple[str | int, ...]
T = TypeVar("T")

Items = Annotated[tuple[T, ...], Field(strict=False)]
"""A JSON list, kept as an immutable tuple."""


class UnknownFieldError(BadDocumentError):
    code = "unknown-field"
    meaning = (
        "The document has a field that its format does not know; a slip of the pen must not pass unseen."
    )
    remedy = "Check the spelling, or remove the field."


class MissingFieldError(BadDocumentError):
    code = "missing-field"
    meaning = "A field that the format requires is not there."
    remedy = "Add the field; `hdrs-hpc spec new` shows a whole example."


class WrongTypeError(BadDocumentError):
    code = "wrong-type"
    meaning = "A value is of another type than the format requires, such as a number where text is due."
    remedy = "Write the value as its type; in YAML, quotes make text."


class BadValueError(BadDocumentError):
    code = "bad-value"
    meaning = "A value is of the right type but not one that the format allows."
    remedy = "Choose an allowed value."


class UnknownSchemaError(BadDocumentError):
    code = "unknown-schema"
    meaning = "The document's `schema` names another format or version than the one expected here."
    remedy = "Check that this is the right file; a newer format needs a newer hdrs-hpc."


@dataclass(frozen=True)
class Finding:
    """One fault in a document: where it is, its reason code, what is wrong and how to mend it."""

    code: str
    path: Path
    message: str
    remedy: str

    @property
    def where(self) -> str:
        """``outputs.cohort.path`` or ``people.researchers[1]``; empty for the whole document."""
        return path_text(self.path)

    def as_dict(self) -> dict[str, Any]:
        return {"code": self.code, "where": self.where, "message": self.message, "remedy": self.remedy}


class InvalidDocumentError(BadDocumentError):
    """A well-formed document that breaks its schema; ``findings`` holds every fault at once."""

    code = "invalid-document"
    meaning = "The document does not follow its format; every fault is listed."
    remedy = "Mend each fault listed."

    def __init__(self, findings: tuple[Finding, ...], *, where: str | None = None) -> None:
        count = f"{len(findings)} faults" if len(findings) > 1 else "1 fault"
        listed = "; ".join(f"{item.where or 'document'}: {item.code}" for item in findings[:8])
        super().__init__(f"{count}: {listed}", where=where)
        self.findings = findings

    def as_dict(self) -> dict[str, Any]:
        return {**super().as_dict(), "findings": [item.as_dict() for item in self.findings]}

    def __reduce__(self) -> tuple[Any, ...]:
        return (InvalidDocumentError, (self.findings,))


class Part(BaseModel):
    """A piece of a document: strict types, no unknown fields, immutable, kebab-case in JSON."""

    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        frozen=True,
        alias_generator=lambda name: name.rstrip("_").replace("_", "-"),
        validate_by_name=False,
        validate_by_alias=True,
        serialize_by_alias=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,
        defer_build=True,  # a command that reads one kind of document does not pay for the others
    )


class Document(Part):
    """A whole signed payload.  ``SCHEMA`` is the value its ``schema`` field must have."""

    SCHEMA: ClassVar[str]
    SINCE_BEFORE: ClassVar[str] = ""
    """What a document of the version before lacks, in a clause; empty where there was none."""

    schema_: str = Field(alias="schema")

    @classmethod
    def from_payload(cls, payload: bytes) -> Self:
        """Parse exact payload bytes.  Raises BadDocumentError; for schema faults, all of them at once."""
        return cls.from_value(strict_json.loads(payload))

    @classmethod
    def from_value(cls, value: Any) -> Self:
        """Check a value that strict JSON or strict YAML gave.  Raises BadDocumentError."""
        if not isinstance(value, dict):
            raise InvalidDocumentError((finding(WrongTypeError, (), "a document is a mapping of fields"),))
        strict_json.check_text(value)
        _check_numbers(value, ())
        if value.get("schema") != cls.SCHEMA:
            if "schema" not in value:
                fault = finding(MissingFieldError, ("schema",), f"the first field is `schema: {cls.SCHEMA}`")
            else:
                fault = finding(UnknownSchemaError, ("schema",), cls._other_schema(value["schema"]))
            # Nothing else can be judged by the rules of a format that the document does not claim.
            raise InvalidDocumentError((fault,))
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            faults = error.errors()
            meant = {item["loc"]: _meant(cls, value, item, faults) for item in faults}
            raise InvalidDocumentError(
                tuple(_translate(item, meant[item["loc"]]) for item in faults)
            ) from None

    @classmethod
    def _other_schema(cls, named: Any) -> str:
        """That it is another format; of an older version of this one, what to change."""
        said = f"here `schema` must be {cls.SCHEMA}"
        format_, _, version = cls.SCHEMA.rpartition("/")
        older = {f"{format_}/{number}" for number in range(1, int(version))}
        if cls.SINCE_BEFORE and isinstance(named, str) and named in older:
            return f"{said}: {cls.SINCE_BEFORE}"
        return said

    def in_log(self, people: tuple[str, ...]) -> dict[str, Any]:
        """What an entry of the log that accepts it may repeat, by the names that entries use; ``people``: who signed.

        Whoever verifies a log compares the two.  Here: every field that is one word or number, under its own name.
        """
        fields = (
            (field.alias or name, getattr(self, name)) for name, field in type(self).model_fields.items()
        )
        return {name: value for name, value in fields if isinstance(value, str | int | None)}

    def to_payload(self) -> bytes:
        """Canonical bytes to be signed; ``from_payload`` gives an equal document back."""
        return strict_json.dumps(self.model_dump(mode="json", by_alias=True, exclude_none=True))


def finding(error: type[BadDocumentError], path: Path, message: str, remedy: str | None = None) -> Finding:
    return Finding(error.code, path, message, remedy or error.remedy)


def fault(error: type[BadDocumentError], message: str) -> NoReturn:
    """Called inside a validator: the field at hand breaks the rule that ``error`` names."""
    # PydanticCustomError reads braces as a template; none of ours has any.
    raise PydanticCustomError(error.code, "{message}", {"message": message})


def path_text(path: Path) -> str:
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else str(step)
    return text


def _check_numbers(value: Any, path: Path) -> None:
    """Refuse numbers that JSON can not carry onwards; parsers refuse them too, values made in code meet them here."""
    if isinstance(value, dict):
        for key, item in value.items():
            _check_numbers(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _check_numbers(item, (*path, index))
    elif isinstance(value, float) and not math.isfinite(value):
        raise strict_json.MalformedDocumentError("a number out of range", where=path_text(path))


_BY_PYDANTIC_TYPE: dict[str, type[BadDocumentError]] = {
    "extra_forbidden": UnknownFieldError,
    "missing": MissingFieldError,
}


def class_step(name: str) -> str:
    """How pydantic's paths call the choice of a class among several models; findings leave it out."""
    return f"[class {name}]"


def _is_class_step(step: str | int) -> bool:
    return isinstance(step, str) and step.startswith("[class ") and step.endswith("]")


def _plain(loc: Path) -> Path:
    """Without pydantic's own steps such as ``[key]``."""
    return tuple(step for step in loc if step != "[key]" and not _is_class_step(step))


def _models(annotation: Any, tag: str | None = None) -> Iterator[tuple[type[BaseModel], str | None]]:
    """The models that a field may hold, also in lists and by name, each with what chooses it among several."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation, tag
        return
    arguments = get_args(annotation)
    own = next((item.tag for item in arguments if isinstance(item, Tag)), tag)
    for item in arguments:
        yield from _models(item, own)


def _fields_at(model: type[BaseModel], loc: Path) -> set[str]:
    """Every field that a document of ``model`` may have beside the one at ``loc``."""
    found: list[tuple[type[BaseModel], str | None]] = [(model, None)]
    for step in loc[:-1]:
        if _is_class_step(step):
            found = [item for item in found if item[1] == step] or found
            continue
        inner = [
            below
            for each, _ in found
            for name, field in each.model_fields.items()
            if (field.alias or name) == step
            for below in _models(field.annotation)
        ]
        found = inner or found  # a place in a list, or a name that the document gives
    return {field.alias or name for each, _ in found for name, field in each.model_fields.items()}


def _meant(model: type[BaseModel], value: Any, error: ErrorDetails, all_of: list[ErrorDetails]) -> str | None:
    """The field that is most likely meant by one that the format does not know: best one that is missing."""
    if error["type"] != "extra_forbidden":
        return None
    loc = error["loc"]
    step: Any
    for step in _plain(loc)[:-1]:
        value = value[step] if isinstance(value, list) or (isinstance(value, dict) and step in value) else {}
    missing = [
        item["loc"][-1] for item in all_of if item["type"] == "missing" and item["loc"][:-1] == loc[:-1]
    ]
    for names in (missing, _fields_at(model, loc) - value.keys()):
        close = get_close_matches(str(loc[-1]), [str(name) for name in names], 1, 0.6)
        if close:
            return close[0]
    return None


def _translate(error: ErrorDetails, meant: str | None) -> Finding:
    """A pydantic error as a finding.  ``meant``: the field that an unknown one stands for, perhaps."""
    kind, message = error["type"], error["msg"]
    path = _plain(error["loc"])
    field = error.get("ctx", {}).get("field")
    if field:  # a rule on a part as a whole that says which of its fields is wrong
        path = (*path, field)
    if kind in _BY_PYDANTIC_TYPE:
        cls = _BY_PYDANTIC_TYPE[kind]
        name = str(path[-1]) if path else "?"
        if cls is MissingFieldError:
            return finding(cls, path, f"{name!r} is missing")
        hint = f"; did you mean {meant!r}?" if meant else ""
        return finding(cls, path, f"the format has no field {name[:60]!r} here{hint}")
    own = all_errors().get(kind)
    if own is not None and issubclass(own, BadDocumentError):
        return finding(own, path, message)
    if kind == "tuple_type":
        return finding(WrongTypeError, path, "a list is due, such as [a, b]")
    if kind.endswith(("_type", "_parsing")) or kind in ("model_attributes_type", "is_instance_of"):
        return finding(WrongTypeError, path, message)
    return finding(BadValueError, path, message)
