"""Where the data zone reads a dataset from, one model per type of source.

A credential is always the name of a file in the data zone, never a value: registrations are signed, kept and
shown.  The same places can be written on a command line, see :func:`location_from_text`.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, Self
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from hdrs_hpc.core.errors import BadDocumentError, UsageError
from hdrs_hpc.documents.sshkeys import parse_line
from hdrs_hpc.forms.document import BadValueError, Items, Part, fault
from hdrs_hpc.forms.words import Line, parse_day

Port = Annotated[int, Field(ge=1, le=65535)]
Host = Annotated[str, Field(pattern=r"^([A-Za-z0-9][A-Za-z0-9.-]{0,252}|[0-9A-Fa-f:.]{2,45})$")]
AeTitle = Annotated[str, Field(pattern=r"^[!-\[\]-~]([ -\[\]-~]{0,14}[!-\[\]-~])?$")]
"""PS3.5 6.2, VR AE: up to 16 characters, no backslash, not blank at the ends."""
Modality = Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]{0,15}$")]


def _good_key(line: str) -> str:
    """The same rules as for people's keys: with a key of small order anybody could pose as the server."""
    try:
        parse_line(line)
    except BadDocumentError as error:
        fault(type(error), error.message)
    return line


HostKey = Annotated[
    str,
    Field(pattern=r"^(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521)) [A-Za-z0-9+/=]{1,1400}$"),
    AfterValidator(_good_key),
]
Day = Annotated[str, Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$")]


class SourceTextError(UsageError):
    code = "source-text"
    meaning = "What was given as a source is neither a path nor an address of a source."
    remedy = "docs/sources.md shows one of each type."


class StudySelection(Part):
    """Which studies of an archive are the dataset; criteria are joined by *and*.

    Nothing is asked for beyond them, and what the archive answers beyond them is dropped.
    """

    study_date_from: Day | None = None
    study_date_to: Day | None = None
    """First and last Study Date, both included."""
    modalities: Items[Modality] = ()
    """Series of these modalities."""
    patients_file: Line | None = None
    """File of Patient IDs, one a line."""
    studies_file: Line | None = None
    """File of Study Instance UIDs, one a line."""
    everything: Literal[True] | None = None
    """Said when the whole archive is meant: no criterion at all is more likely a slip."""

    @model_validator(mode="after")
    def _something(self) -> Self:
        for day in (self.study_date_from, self.study_date_to):
            if day is not None:
                parse_day(day)
        if self.study_date_from and self.study_date_to and self.study_date_to < self.study_date_from:
            fault(BadValueError, "the last study date is before the first")
        criteria = self.study_date_from or self.study_date_to or self.modalities
        if bool(criteria or self.patients_file or self.studies_file) == bool(self.everything):
            fault(BadValueError, "select by at least one criterion, or say `everything: true` and no other")
        return self


class FolderLocation(Part):
    """All files of a folder."""

    type: Literal["folder"]
    path: Line

    @property
    def text(self) -> str:
        """For people; nothing in it is secret."""
        return self.path


class ZipLocation(Part):
    """All files of one zip archive."""

    type: Literal["zip"]
    path: Line

    @property
    def text(self) -> str:
        return self.path


class DicomdirLocation(Part):
    """The files that a DICOMDIR refers to, no others (PS3.10 8, PS3.3 F)."""

    type: Literal["dicomdir"]
    path: Line

    @property
    def text(self) -> str:
        return self.path


class DicomwebLocation(Part):
    """A DICOMweb service: QIDO-RS finds, WADO-RS brings (PS3.18)."""

    type: Literal["dicomweb"]
    url: Annotated[str, Field(max_length=400, pattern=r"^https?://[^\s/?#@]+(/[^\s?#]*)?$")]
    """The service's root, to which ``/studies`` is appended."""
    select: StudySelection
    token_file: Line | None = None
    """A bearer token; read again when the service refuses the old one, so that another program can renew it."""
    login_file: Line | None = None
    """``user:password`` for basic authentication."""
    ca_file: Line | None = None
    """Authorities to trust (PEM) instead of the system's."""
    certificate_file: Line | None = None
    key_file: Line | None = None
    """Our certificate and its key (PEM), where the service asks for them."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.token_file and self.login_file:
            fault(BadValueError, "a token or a login, not both")
        if bool(self.certificate_file) != bool(self.key_file):
            fault(BadValueError, "certificate-file and key-file go together")
        host = urlsplit(self.url).hostname
        near = host in ("localhost", "127.0.0.1", "::1")
        if (self.token_file or self.login_file) and self.url.startswith("http:") and not near:
            fault(BadValueError, "a credential would cross the network in clear: use https")
        return self

    @property
    def text(self) -> str:
        return self.url


class DimseTls(Part):
    """TLS with certificates at both ends (PS3.15 B, the BCP 195 profiles)."""

    ca_file: Line
    certificate_file: Line | None = None
    key_file: Line | None = None
    server_name: Host | None = None
    """The name in the archive's certificate, where it isn't ``host``."""

    @model_validator(mode="after")
    def _pair(self) -> Self:
        if bool(self.certificate_file) != bool(self.key_file):
            fault(BadValueError, "certificate-file and key-file go together")
        return self


class DimseLocation(Part):
    """A DICOM archive over an association: C-FIND finds, C-GET brings (PS3.4 C)."""

    type: Literal["dimse"]
    host: Host
    port: Port = 104
    called_ae: AeTitle
    calling_ae: AeTitle = "HDRS-HPC"
    associations: Annotated[int, Field(ge=1, le=64)] = 4
    """Open at once, at most; an archive lets further ones wait or rejects them."""
    select: StudySelection
    tls: DimseTls | None = None

    @property
    def text(self) -> str:
        return f"{'dimses' if self.tls else 'dimse'}://{self.called_ae}@{self.host}:{self.port}"


class S3Location(Part):
    """Objects of an S3-compatible store below a prefix.

    Credentials come from where S3 clients look for them: a profile of the shared file, the instance's role.
    """

    type: Literal["s3"]
    bucket: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")]
    prefix: Annotated[str, Field(max_length=400)] = ""
    """Taken as it is: end it with ``/`` to mean a folder."""
    endpoint: Annotated[str, Field(max_length=400, pattern=r"^https?://[^\s/?#@]+/?$")] | None = None
    region: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,40}$")] | None = None
    profile: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")] | None = None
    credentials_file: Line | None = None
    """Another shared credentials file than the usual one."""
    ca_file: Line | None = None

    @property
    def text(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}"


class SftpLocation(Part):
    """All files below a folder of an SFTP server."""

    type: Literal["sftp"]
    host: Host
    port: Port = 22
    user: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._@-]{0,63}$")]
    host_key: HostKey
    """The server's public key; no other is accepted."""
    identity: Line
    """Our private key, without a passphrase, readable by its owner only."""
    path: Line

    @property
    def text(self) -> str:
        return f"sftp://{self.user}@{self.host}:{self.port}{self.path}"


SourceLocation = Annotated[
    FolderLocation
    | ZipLocation
    | DicomdirLocation
    | DicomwebLocation
    | DimseLocation
    | S3Location
    | SftpLocation,
    Field(discriminator="type"),
]
_LOCATION: TypeAdapter[SourceLocation] = TypeAdapter(SourceLocation, config=ConfigDict(defer_build=True))


def location_from_value(value: dict[str, Any]) -> SourceLocation:
    """A place as registrations and source files write it; raises :class:`SourceTextError`."""
    try:
        return _LOCATION.validate_python(value)
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(str(step) for step in item['loc'][1:]) or 'type'}: {item['msg']}"
            for item in error.errors(include_url=False, include_input=False)
        )
        raise SourceTextError(faults) from None


def location_from_text(text: str) -> SourceLocation:
    """A place as people write it on a command line; raises :class:`SourceTextError`.

    ``dicomweb+https://HOST/PATH?modalities=CT,MR&token-file=F`` · ``dimse://CALLED@HOST:PORT?everything=true`` ·
    ``dimses://…?ca-file=F`` · ``s3://BUCKET/PREFIX?endpoint=URL`` ·
    ``sftp://USER@HOST:PORT/PATH?identity=F&host-key=KEY`` · a path: a ``.zip`` file, a file named ``DICOMDIR``,
    else a folder.  What follows ``?`` are the fields of the models above.
    """
    scheme, separator, _ = text.partition("://")
    if not separator:
        return _path(text)
    reader = _SCHEMES.get(scheme)
    if reader is None:
        raise SourceTextError(f"there is no source of type {scheme[:40]!r}; these are: {', '.join(_SCHEMES)}")
    try:
        parts = urlsplit(text)
        port = parts.port
        fields = (
            dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True)) if parts.query else {}
        )
    except ValueError:
        raise SourceTextError("an address that can't be read") from None
    if parts.password is not None:
        raise SourceTextError(
            "a password in an address ends in histories and lists of processes",
            remedy="Put it into a file that only you can read, and name the file.",
        )
    value: dict[str, Any] = {"host": parts.hostname or "", "user": parts.username, "port": port}
    return location_from_value(reader(text, value, unquote(parts.path), fields))


def _path(text: str) -> SourceLocation:
    name = PurePosixPath(text).name
    kind = "zip" if name.lower().endswith(".zip") else "dicomdir" if name.upper() == "DICOMDIR" else "folder"
    return location_from_value({"type": kind, "path": text})


_SELECTION = tuple(
    field.alias or name for name, field in StudySelection.model_fields.items() if name != "modalities"
)


def _select(fields: dict[str, Any]) -> dict[str, Any]:
    """Take the criteria out of the query's fields."""
    select: dict[str, Any] = {name: fields.pop(name) for name in _SELECTION if name in fields}
    if "everything" in select:
        select["everything"] = select["everything"] == "true" or "?"
    if "modalities" in fields:
        select["modalities"] = fields.pop("modalities").split(",")
    return select


def _dicomweb(text: str, _: dict[str, Any], __: str, fields: dict[str, Any]) -> dict[str, Any]:
    url = text.removeprefix("dicomweb+").partition("?")[0].rstrip("/")
    return {"type": "dicomweb", "url": url, "select": _select(fields), **fields}


def _dimse(text: str, value: dict[str, Any], _: str, fields: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "type": "dimse",
        "host": value["host"],
        "called-ae": unquote(value["user"] or ""),
    }
    if value["port"] is not None:
        found["port"] = value["port"]
    if fields.get("associations", "").isdecimal():
        found["associations"] = int(fields.pop("associations"))
    found["select"] = _select(fields)
    if text.startswith("dimses:"):
        found["tls"] = {
            name: fields.pop(name)
            for name in ("ca-file", "certificate-file", "key-file", "server-name")
            if name in fields
        }
    return {**found, **fields}


def _s3(_: str, value: dict[str, Any], path: str, fields: dict[str, Any]) -> dict[str, Any]:
    return {"type": "s3", "bucket": value["host"], "prefix": path.removeprefix("/"), **fields}


def _sftp(_: str, value: dict[str, Any], path: str, fields: dict[str, Any]) -> dict[str, Any]:
    given = {name: item for name, item in value.items() if item is not None}
    return {"type": "sftp", **given, "path": path or "/", **fields}


_SCHEMES = {
    "dicomweb+https": _dicomweb,
    "dicomweb+http": _dicomweb,
    "dimse": _dimse,
    "dimses": _dimse,
    "s3": _s3,
    "sftp": _sftp,
}
