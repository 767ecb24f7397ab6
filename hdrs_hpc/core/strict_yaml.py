"""YAML 1.2 as people write it: no aliases, anchors, tags or merge keys; ``no`` and ``12:00:00`` stay text."""

from __future__ import annotations

import re
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import AliasEvent, MappingStartEvent, ScalarEvent, SequenceStartEvent
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from hdrs_hpc.core.errors import BadDocumentError
from hdrs_hpc.core.strict_json import (
    MAX_BYTES,
    MAX_DEPTH,
    DocumentTooDeepError,
    DocumentTooLargeError,
    DuplicateKeyError,
    MalformedDocumentError,
    check_text,
    number,
    whole_number,
)

Path = tuple[str | int, ...]

_INT = re.compile(r"[-+]?[0-9]+", re.ASCII)
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", re.ASCII)


class YamlFeatureError(BadDocumentError):
    code = "yaml-feature-refused"
    meaning = "An alias, anchor, tag, merge key or second document can hide what a document means."
    remedy = "Write the value out in full."


class TabIndentError(BadDocumentError):
    code = "yaml-tab"
    meaning = "A line is indented by a tab, which YAML forbids."
    remedy = "Use spaces: two for each level."


def load(
    raw: bytes, *, max_bytes: int = MAX_BYTES, max_depth: int = MAX_DEPTH
) -> tuple[Any, dict[Path, int]]:
    """Parse strict YAML; gives the value and, for error messages, the 1-based line of every path in it.

    Scalars become str, int, float, bool or None by YAML 1.2's core rules.  Raises BadDocumentError.
    """
    if len(raw) > max_bytes:
        raise DocumentTooLargeError(f"{len(raw)} bytes where {max_bytes} are allowed")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise MalformedDocumentError("not UTF-8") from None
    try:
        _check_events(text, max_depth)
        root = _yaml().compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else None
        if mark and ("\t" in _indent_of(text, mark.line) or "'\\t'" in str(error.problem)):
            raise TabIndentError("a tab where spaces belong", where=where) from None
        raise MalformedDocumentError(str(error.problem or error.context or "not YAML"), where=where) from None
    except (YAMLError, ValueError, RecursionError) as error:
        raise MalformedDocumentError(type(error).__name__) from None
    if root is None:
        raise MalformedDocumentError("the document is empty")
    lines: dict[Path, int] = {}
    value = _build(root, (), lines)
    check_text(value)
    return value, lines


def _indent_of(text: str, line: int) -> str:
    """What stands before the first word of a line, counted from 0."""
    lines = text.splitlines()
    found = lines[line] if line < len(lines) else ""
    return found[: len(found) - len(found.lstrip())]


def _yaml() -> YAML:
    yaml = YAML(typ="safe", pure=True)
    yaml.version = "1.2"
    return yaml


def _check_events(text: str, max_depth: int) -> None:
    """Refuse by events, before any object is built: an alias bomb costs nothing."""
    depth = documents = 0
    for event in _yaml().parse(text):
        where = f"line {event.start_mark.line + 1}" if getattr(event, "start_mark", None) else None
        name = type(event).__name__
        if name == "DocumentStartEvent":
            documents += 1
            if documents > 1:
                raise YamlFeatureError("a second document in the same file", where=where)
        if isinstance(event, AliasEvent):
            raise YamlFeatureError("an alias (*name)", where=where)
        if isinstance(event, ScalarEvent | SequenceStartEvent | MappingStartEvent):
            if event.anchor is not None:
                raise YamlFeatureError("an anchor (&name)", where=where)
            if getattr(event, "tag", None) not in (None, "") and not _implicit(event):
                raise YamlFeatureError("a tag (!name)", where=where)
        if isinstance(event, SequenceStartEvent | MappingStartEvent):
            depth += 1
            if depth > max_depth:
                raise DocumentTooDeepError(f"nested deeper than {max_depth} levels", where=where)
        elif name in ("SequenceEndEvent", "MappingEndEvent"):
            depth -= 1


def _implicit(event: Any) -> bool:
    implicit = event.implicit
    return bool(any(implicit) if isinstance(implicit, tuple) else implicit)


def _build(node: Node, path: Path, lines: dict[Path, int]) -> Any:
    lines[path] = node.start_mark.line + 1
    if isinstance(node, MappingNode):
        made: dict[str, Any] = {}
        for key_node, value_node in node.value:
            where = f"line {key_node.start_mark.line + 1}"
            if not isinstance(key_node, ScalarNode):
                raise MalformedDocumentError("a key must be plain text", where=where)
            key = str(key_node.value)
            if key == "<<":
                raise YamlFeatureError("a merge key (<<)", where=where)
            if key in made:
                raise DuplicateKeyError(f"the key {key[:60]!r} appears twice", where=where)
            made[key] = _build(value_node, (*path, key), lines)
            lines[(*path, key)] = key_node.start_mark.line + 1
        return made
    if isinstance(node, SequenceNode):
        return [_build(child, (*path, index), lines) for index, child in enumerate(node.value)]
    assert isinstance(node, ScalarNode)
    try:
        return _scalar(node)
    except MalformedDocumentError as error:
        error.where = f"line {node.start_mark.line + 1}"
        raise


def _scalar(node: ScalarNode) -> Any:
    """The core schema of YAML 1.2 (chapter 10.3.2), less .inf and .nan, which JSON can't carry."""
    text: str = node.value
    if node.style in ("'", '"', "|", ">"):
        return text
    if text in ("", "~", "null", "Null", "NULL"):
        return None
    if text in ("true", "True", "TRUE", "false", "False", "FALSE"):
        return text.lower() == "true"
    if _INT.fullmatch(text):
        return whole_number(text)
    if _FLOAT.fullmatch(text):
        return number(text)
    return text
