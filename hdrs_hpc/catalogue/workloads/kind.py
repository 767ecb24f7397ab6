"""What a module of this folder tells of its kind of workload: one :class:`Kind`."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, get_type_hints

from hdrs_hpc.catalogue.flavours import BASE, Flavour
from hdrs_hpc.catalogue.workloads.plan import Given, Plan
from hdrs_hpc.core import strict_json, wire
from hdrs_hpc.core.limits import MAX_PARAMETER_BYTES
from hdrs_hpc.core.wire import Between, Pattern

COMMON = ("kind", "bundle", "sweep", "flavour")
"""Fields of every workload in a job spec; all others are the kind's own (:attr:`Kind.fields`)."""

Builtin = Annotated[str, Pattern(r"[a-z][a-z0-9-]{0,39}@[0-9]{1,4}")]
Entry = Annotated[str, Between(1, 200)]
"""``package.module:function``; :func:`check_entry` tells of any other form."""
Parameters = dict[Annotated[str, Between(1, 100)], Any]

_ENTRY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*:[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


@dataclass(frozen=True)
class Fault:
    """A rule that a workload in a job spec breaks: its reason code, and a sentence for who wrote it."""

    code: str
    sentence: str
    field: str = ""
    """Which of the kind's own fields is wrong; empty for the workload as a whole."""


@dataclass(frozen=True)
class Use:
    """A name that a workload takes from another part of its spec."""

    section: str
    """``data``, ``inputs`` or ``outputs``."""
    name: str
    field: str
    """Which of the kind's own fields names it."""


def _uses_nothing(fields: Any) -> Iterable[Use]:
    return ()


def _finds_nothing(fields: Any, files: Mapping[str, bytes], executable: Collection[str]) -> Iterable[Fault]:
    return ()


@dataclass(frozen=True)
class Example:
    """What ``spec new`` writes: the kind's own fields of ``workload:``, and a bundle that runs."""

    fields: Mapping[str, Any]
    """As written in the spec, in kebab-case; ``kind`` and ``bundle`` are put before them."""
    bundle: Mapping[str, str]
    """File name → text of the code; empty where the example is a built-in workload."""
    writes: tuple[str, ...] = (".json",)
    """How the files end that the code writes; no other output is declared beside it."""


@dataclass(frozen=True)
class Kind:
    """One kind of workload: its part of the job spec, its rules, and what a node does for it."""

    name: str
    built: bool
    """Whether this version runs it; a spec or grant that needs one that is not is refused by name."""
    summary: str
    """One sentence, for people."""
    fields: type
    """A frozen dataclass of the fields beside :data:`COMMON`: simple types with the bounds of ``core.wire``.

    pydantic understands them as they are, so documents need no second list of them.
    """
    rules: Callable[[Any, bool], Iterable[Fault]]
    """What is wrong with such fields, given whether there is a bundle."""
    example: Example
    plan: Callable[[Any, Given], Plan]
    """What a node of an attempt runs, from the fields that the researcher signed.  Called in the node agent."""
    flavour: Flavour = BASE
    """The set of packages that it runs on, where the spec's ``workload.flavour`` names no other."""
    uses: Callable[[Any], Iterable[Use]] = _uses_nothing
    """What such fields name of the spec's other parts; what is not there is refused."""
    check_bundle: Callable[[Any, Mapping[str, bytes], Collection[str]], Iterable[Fault]] = _finds_nothing
    """What is wrong with a bundle for such fields: path → content of its files, and which of them may be run."""
    one_node: bool = False
    """Whether it can't run on several nodes yet; a spec that asks for more is refused by name."""

    def read(self, workload: Mapping[str, Any]) -> Any:
        """The kind's own fields, from ``workload`` of a signed job spec; raises BadDocumentError."""
        given = {name: value for name, value in workload.items() if name not in COMMON}
        for item in dataclasses.fields(self.fields):
            if item.default is not dataclasses.MISSING:
                given.setdefault(item.name.replace("_", "-"), item.default)
            elif item.default_factory is not dataclasses.MISSING:
                given.setdefault(item.name.replace("_", "-"), item.default_factory())
        return wire.from_value(self.fields, given, "workload")

    def own_fields(self) -> dict[str, tuple[Any, Any]]:
        """Name → (annotation, default) of each own field; ``...`` where it must be given.

        As ``pydantic.create_model`` wants them.
        """
        hints = get_type_hints(self.fields, include_extras=True)
        found: dict[str, tuple[Any, Any]] = {}
        for item in dataclasses.fields(self.fields):
            if item.default_factory is not dataclasses.MISSING:
                found[item.name] = (hints[item.name], item.default_factory())
            else:
                missing = item.default is dataclasses.MISSING
                found[item.name] = (hints[item.name], ... if missing else item.default)
        return found


def check_entry(entry: str) -> Iterable[Fault]:
    """An entry is written ``package.module:function``."""
    if not _ENTRY.fullmatch(entry):
        yield Fault("bad-entry", "an entry is written package.module:function", "entry")


def check_code(builtin: str | None, entry: str | None, has_bundle: bool) -> Iterable[Fault]:
    """Either a workload that we built in, or a bundle with an entry."""
    if has_bundle == (builtin is not None):
        yield Fault("workload-ambiguous", "give either builtin or bundle")
    elif has_bundle and entry is None:
        yield Fault(
            "missing-field",
            "a bundle needs an entry, package.module:function; `hdrs-hpc spec new --own-code` writes one",
            "entry",
        )
    elif not has_bundle and entry is not None:
        yield Fault("workload-ambiguous", "a built-in workload has its own entry")
    if entry is not None:
        yield from check_entry(entry)


def check_parameters(parameters: Mapping[str, Any]) -> Iterable[Fault]:
    """Parameters are small: larger content belongs into the bundle."""
    if len(strict_json.dumps(dict(parameters))) > MAX_PARAMETER_BYTES:
        message = f"parameters may have {MAX_PARAMETER_BYTES} bytes"
        yield Fault("parameters-too-large", message, "parameters")
