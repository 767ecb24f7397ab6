"""Associations with a DICOM archive: made for one purpose each, kept, lent to one thread at a time."""

from __future__ import annotations

import logging
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import pydicom
from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import UID, AllTransferSyntaxes
from pynetdicom import AE, _config, build_context, build_role, evt
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.sop_class import (  # type: ignore[attr-defined]  # the module makes its names when loaded
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
)

from connectors.sources import SourceLoginError, SourceRefusedError
from connectors.sources.credentials import tls_context
from connectors.sources.retrying import LineBrokenError
from connectors.sources.spool import Partial
from hdrs_hpc.core.errors import HdrsError
from hdrs_hpc.documents.models.source import DimsePlace

IDLE_KEPT = 8
MAX_PDU_BYTES = 1 << 20
CONNECT_TIMEOUT_S = 15.0
_ALERT_WAIT_S = 1.0
IMPLEMENTATION_UID = UID("2.25.281146541137834921716353541239911632271")
"""Ours, in the file meta information that we write: an item's bytes must not change with a library's version."""
_BLOCK = 1 << 20
_FOR_STREAMS_ONLY = ("1.2.840.10008.1.2.4.204", "1.2.840.10008.1.2.4.205", "1.2.840.10008.1.2.7.")
_NEWER = "1.2.840.10008.1.2.8.1"
"""Deflated Image Frame Compression."""
_SYNTAXES = [*(str(uid) for uid in AllTransferSyntaxes if not uid.startswith(_FOR_STREAMS_ONLY)), _NEWER]

# Instances go to a file as they arrive instead of into memory.  There is no such setting for one association.
_config.STORE_RECV_CHUNKED_DATASET = True
# Identifiers name patients: neither logs nor warnings may show them.
_config.LOG_REQUEST_IDENTIFIERS = False
_config.LOG_RESPONSE_IDENTIFIERS = False
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
pydicom.config.settings.writing_validation_mode = pydicom.config.IGNORE
logging.getLogger("pynetdicom").setLevel(logging.CRITICAL + 1)


@dataclass(slots=True)
class Lent:
    """An association while one thread has it.  ``wanted``: SOP instance and where its bytes go."""

    association: Association
    wanted: tuple[str, Partial] | None = None
    arrived: bool = False
    failure: HdrsError | None = None


class Associations:
    """By SOP class to be brought, or None for searching."""

    def __init__(self, place: DimsePlace, read_timeout_s: float) -> None:
        self._place = place
        self._read_timeout_s = read_timeout_s
        self._idle: list[tuple[str | None, Lent]] = []
        self._lock = threading.Lock()

    @contextmanager
    def lend(self, sop_class: str | None) -> Iterator[Lent]:
        """Raises :class:`LineBrokenError`, :class:`SourceLoginError`, :class:`SourceRefusedError`."""
        lent = self._take(sop_class) or self._open(sop_class)
        lent.wanted, lent.arrived, lent.failure = None, False, None
        try:
            yield lent
        except BaseException:
            lent.association.abort()
            raise
        lent.wanted = None
        with self._lock:
            self._idle.append((sop_class, lent))
            surplus = [self._idle.pop(0)] if len(self._idle) > IDLE_KEPT else []
        for _, old in surplus:
            old.association.release()

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for _, lent in idle:
            lent.association.release()

    def _take(self, sop_class: str | None) -> Lent | None:
        while True:
            with self._lock:
                at = next((at for at, (cls, _) in enumerate(self._idle) if cls == sop_class), None)
                if at is None:
                    return None
                _, lent = self._idle.pop(at)
            if lent.association.is_established:
                return lent

    def _open(self, sop_class: str | None) -> Lent:
        place = self._place
        ae = AE(place.calling_ae)
        ae.connection_timeout = ae.acse_timeout = CONNECT_TIMEOUT_S
        ae.dimse_timeout = ae.network_timeout = self._read_timeout_s
        ae.maximum_pdu_size = MAX_PDU_BYTES
        roles = []
        if sop_class is None:
            ae.add_requested_context(StudyRootQueryRetrieveInformationModelFind)
        else:
            ae.add_requested_context(StudyRootQueryRetrieveInformationModelGet)
            # One context a syntax: of several in one context the archive would choose, and decode to fit.
            storage = [build_context(sop_class, syntax) for syntax in _SYNTAXES]
            ae.requested_contexts = [*ae.requested_contexts, *storage]
            roles = [build_role(UID(sop_class), scp_role=True)]
        kept: list[Lent] = []
        association = ae.associate(
            place.host,
            place.port,
            ae_title=place.called_ae,
            max_pdu=MAX_PDU_BYTES,
            ext_neg=list(roles),
            tls_args=self._tls(),
            evt_handlers=[(evt.EVT_C_STORE, lambda event: _store(event, kept[0]))],
        )
        kept.append(Lent(association))
        if association.is_established:
            return kept[0]
        if association.is_rejected:
            raise SourceLoginError(
                "the archive rejected the association: it does not know the AE titles, or us"
            )
        if _tls_refused(place):
            raise SourceLoginError("the archive's certificate is not one we trust, or it does not trust ours")
        raise LineBrokenError("no association with the archive")

    def _tls(self) -> tuple[ssl.SSLContext, str] | None:
        tls = self._place.tls
        if tls is None:
            return None
        context = tls_context(tls.ca_file, tls.certificate_file, tls.key_file)
        return context, tls.server_name or self._place.host


def _store(event: evt.Event, lent: Lent) -> int:
    """C-STORE of the instance that was asked for, into its partial.  The status is PS3.4 B.2.3."""
    path: Path = event.dataset_path
    with path.open("rb") as file:
        path.unlink()  # no patient data stays behind by name
        request = cast(C_STORE, event.request)
        if lent.wanted is None or str(request.AffectedSOPInstanceUID) != lent.wanted[0] or lent.arrived:
            lent.failure = SourceRefusedError("the archive sent another instance than was asked for")
            return 0xA900
        instance, partial = lent.wanted
        try:
            _write_meta(partial, str(request.AffectedSOPClassUID), instance, event.context.transfer_syntax)
            _skip_meta(file)
            while block := file.read(_BLOCK):
                partial.write(block)
        except HdrsError as error:
            lent.failure = error
            return 0xA700
    lent.arrived = True
    return 0x0000


def _write_meta(partial: Partial, sop_class: str, instance: str, syntax: str) -> None:
    """Preamble and file meta information, PS3.10 7.1: an archive sends data sets without them."""
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = UID(sop_class)
    meta.MediaStorageSOPInstanceUID = UID(instance)
    meta.TransferSyntaxUID = UID(syntax)
    meta.ImplementationClassUID = IMPLEMENTATION_UID
    buffer = DicomBytesIO()
    write_file_meta_info(buffer, meta)
    partial.write(b"\0" * 128 + b"DICM" + buffer.getvalue())


def _skip_meta(file: BinaryIO) -> None:
    """Past the meta information that the library wrote: (0002,0000) tells the length of what follows it."""
    file.seek(132)
    head = file.read(12)
    file.seek(132 + 12 + int.from_bytes(head[8:12], "little"))


def _tls_refused(place: DimsePlace) -> bool:
    """Whether it is TLS that fails: the library's association does not tell."""
    tls = place.tls
    if tls is None:
        return False
    context = tls_context(tls.ca_file, tls.certificate_file, tls.key_file)
    try:
        with (
            socket.create_connection((place.host, place.port), CONNECT_TIMEOUT_S) as plain,
            context.wrap_socket(plain, server_hostname=tls.server_name or place.host) as line,
        ):
            line.settimeout(_ALERT_WAIT_S)
            # In TLS 1.3 the archive's judgement of our certificate comes after the handshake.
            line.recv(1)
    except ssl.SSLError:
        return True
    except OSError:
        return False
    return False
