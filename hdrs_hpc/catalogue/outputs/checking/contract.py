"""What the code that checks a class keeps to: stream in, stream out, nothing passed on that was not built anew."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from hdrs_hpc.catalogue.outputs.checking.refusal import Finding

if TYPE_CHECKING:
    from hdrs_hpc.catalogue.outputs.checking.additive import CountSheet
    from hdrs_hpc.catalogue.outputs.checking.declared import Declared
    from hdrs_hpc.catalogue.outputs.checking.disclosure import Pattern
    from hdrs_hpc.catalogue.outputs.checking.input_facts import InputFacts


class Rule(Protocol):
    """A class's rule in the grant, as plain data."""

    def as_dict(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class NoRule:
    """Of classes for which a grant sets nothing."""

    def as_dict(self) -> dict[str, Any]:
        return {}


@dataclass(frozen=True)
class Neighbour:
    """Another artefact of the same job, as far as it was judged."""

    cls: str
    refused: bool
    pattern: Pattern | None
    """Which of its counts are suppressed; None where it has none."""


class Parsed(Protocol):
    """One artefact that was parsed."""

    @property
    def findings(self) -> tuple[Finding, ...]:
        """For the reviewers."""

    def sheet(self) -> CountSheet | None:
        """Its counts, which are protected together with those of the job's other artefacts; None without any."""

    def compare(self, neighbours: Mapping[str, Neighbour]) -> None:
        """Raise the refusal that follows from the others; called once all counts are protected."""

    def rebuild(self, rule: Any, pattern: Pattern | None, out: BinaryIO) -> dict[str, Any]:
        """Write the new file; what was repaired, in numbers."""


Reads = Callable[["Declared", BinaryIO, str, Any, "InputFacts", BinaryIO], Parsed]


@dataclass(frozen=True)
class Checking:
    """The code of one class.

    ``read(declared, source, seen, rule, inputs, out)`` parses what ``source`` gives, once, from front to back, and
    raises a :class:`~hdrs_hpc.core.errors.BadDocumentError` with the reason why it may not leave.  ``seen`` is what
    its content was identified as.  A class whose artefacts are too large for memory writes to ``out`` while it reads:
    what is written counts only when nothing refuses the artefact later.
    """

    media_type: str
    rule: Callable[[Mapping[str, Any]], Rule]
    """The class's rule from a grant's ``outputs``; raises OutputRulesError."""
    read: Reads
