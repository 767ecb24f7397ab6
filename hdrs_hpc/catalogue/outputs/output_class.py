"""What a class of output has to say for itself: its row in the table, and the models that its documents are made of."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag, WithJsonSchema, model_validator

from hdrs_hpc.core.errors import BadDocumentError
from hdrs_hpc.forms.document import Part, class_step, fault
from hdrs_hpc.forms.words import FileRef, Name, SizeBytes, size_text

if TYPE_CHECKING:
    from hdrs_hpc.catalogue.outputs.checking.contract import Checking

Keep = Literal["release", "project"]
Preview = Literal["text", "file"]
"""How a checker sees it in a terminal: its first lines, or only the file."""


class BadOutputPathError(BadDocumentError):
    code = "output-path-refused"
    meaning = "An output's path leaves the outputs folder, hides, or is not plain."
    remedy = "Use a relative path of letters, digits, - _ . such as `tables/cohort.csv`, without `..`."


class WrongSuffixError(BadDocumentError):
    code = "output-suffix"
    meaning = "An output's file name does not end as its class requires."
    remedy = "End the file name as the message says; docs/output-classes.md lists the endings of every class."


class OutputSizeError(BadDocumentError):
    code = "output-size-limit"
    meaning = "An output declares more bytes than the output check takes of its class."
    remedy = "Declare at most what the message says; summarise before writing."


_STEP = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}\Z")


def _output_path(text: str) -> str:
    parts = text.split("/")
    if not 1 <= len(parts) <= 5 or not all(_STEP.match(part) for part in parts):
        fault(BadOutputPathError, "an output's path is relative, plain and without `..`")
    return text


FileOfSpec = Annotated[
    Annotated[str, Field(min_length=1, max_length=1000), Tag(class_step("path"))]
    | Annotated[FileRef, Tag(class_step("digest"))],
    Discriminator(lambda value: class_step("path" if isinstance(value, str) else "digest")),
]
"""A file beside the spec: its path, relative to the spec, in a draft; its digest once signed."""
OutputPath = Annotated[
    str, AfterValidator(_output_path), WithJsonSchema({"type": "string", "maxLength": 500})
]


class GrantRule(Part):
    """What a grant says of one class; a class that a grant does not name may not leave."""

    @abstractmethod
    def sentence(self) -> str:
        """The line under "may leave" on a grant's page."""

    def may_leave(self) -> bool:
        """False where artefacts of the class stay in the project."""
        return True


class Declaration(Part):
    """One output as a job spec declares it.  What is not declared is never collected."""

    ENDS_IN: ClassVar[tuple[str, ...]] = ()
    """Endings of the file's name."""
    MOST_BYTES: ClassVar[int] = 0
    """The most that the output check takes of this class: the one place where a class's cap stands."""
    FILES: ClassVar[tuple[str, ...]] = ()
    """Fields that name a file beside the spec, which signing pins by its digest."""

    class_: str
    keep: Keep = "release"

    def not_built(self) -> Iterator[str]:
        """Where in the declaration this version refuses a part of it by name."""
        yield from ()

    def drawn_from(self) -> str | None:
        """The output of the same spec that this one shows, which must be a table."""
        return None


class WrittenDeclaration(Declaration):
    """An output that the workload writes as a file."""

    path: OutputPath
    max_size: SizeBytes
    """In bytes."""

    @model_validator(mode="after")
    def _fits_class(self) -> WrittenDeclaration:
        if PurePosixPath(self.path).suffix not in self.ENDS_IN:
            fault(WrongSuffixError, f"an output of class {self.class_} ends in {' or '.join(self.ENDS_IN)}")
        if self.max_size > self.MOST_BYTES:
            fault(
                OutputSizeError, f"one of class {self.class_} may declare up to {size_text(self.MOST_BYTES)}"
            )
        return self


class DrawnDeclaration(WrittenDeclaration):
    """An output that shows a table of the same spec."""

    data: Name | None = None
    """The table it was drawn from."""

    def drawn_from(self) -> str | None:
        return self.data


def no_checking() -> Checking:
    """Of classes of which none leaves: they are refused before anything of them is read."""
    raise AssertionError("a class without a check was let through to the output check")


@dataclass(frozen=True)
class OutputClass:
    """One row of the table: all that differs between classes of outputs."""

    name: str
    """As specs and grants write it."""
    rule: type[GrantRule]
    """What a grant says of it."""
    declaration: type[Declaration]
    """What a spec says of it."""
    checking: Callable[[], Checking]
    """Loads the code that parses, judges and rebuilds it: only the checker process does, since it is heavy."""
    sentences: Callable[[Mapping[str, Any]], list[str]]
    """What was repaired, from a check report, a sentence each."""
    written_in: frozenset[str]
    """What its file may be by content, in the words of ``identify``."""
    preview: Preview
    format: str
    """How it is written, for people: "CSV"."""
    holds: str
    """What it may hold, for people."""
    comes_out_as: str
    paragraph: str
    """For the page of all classes, in Markdown."""
    grant_example: str
    """Its rule in a new grant, as YAML."""
    spec_example: tuple[str, ...]
    """Its lines in a new spec."""
    begins_with: bytes = b""
    """First bytes by which its own type of file is known, where ``identify`` knows it from no other place."""
    built: bool = True
    """False: this version refuses it by name, in a spec and in a grant."""
    may_be_released: bool = True
    """False: this version has no check by which one could leave; it may stay in the project."""
    needs: str | None = None
    """The class of the output that it shows."""
    refused_sensitivities: frozenset[str] = frozenset()
    """Sensitivities of data of which none is made."""
    refused_isolation: frozenset[str] = frozenset()
    """Levels of isolation at which none is made."""

    @property
    def suffixes(self) -> tuple[str, ...]:
        return self.declaration.ENDS_IN

    @property
    def max_bytes(self) -> int:
        return self.declaration.MOST_BYTES
