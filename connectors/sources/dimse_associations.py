"""Associations with a DICOM archive: made for one purpose each, kept, lent to one thread at a time."""

from __future__ import annotations

import contextlib
import logging
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

import pydicom
from pydicom import uid as uids
from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import UID, AllTransferSyntaxes
from pynetdicom import AE, AllStoragePresentationContexts, _config, build_context, build_role, evt
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE

from connectors.sources import SourceLoginError, SourceRefusedError
from connectors.sources.credentials import tls_context
from connectors.sources.dimse_inflow import MAX_PDU_BYTES, Inflow
from connectors.sources.retrying import LineBrokenError
from connectors.sources.spool import Partial
from hdrs_hpc.core.errors import HdrsError
from hdrs_hpc.documents.models.source import DimseLocation

CONNECT_TIMEOUT_S = 15.0
STUDY_ROOT_FIND = UID("1.2.840.10008.5.1.4.1.2.2.1")
STUDY_ROOT_GET = UID("1.2.840.10008.5.1.4.1.2.2.3")
"""Query/Retrieve information models, PS3.4 C.6.2."""
Classes = tuple[str, ...]
"""SOP classes to be brought; none for searching."""
_ALERT_WAIT_S = 1.0
IMPLEMENTATION_UID = UID("2.25.281146541137834921716353541239911632271")
"""Ours, in the file meta information that we write: an item's bytes must not change with a library's version."""
_BLOCK = 1 << 20
_FOR_STREAMS_ONLY = ("1.2.840.10008.1.2.4.204", "1.2.840.10008.1.2.4.205", "1.2.840.10008.1.2.7.")
_NEWER = "1.2.840.10008.1.2.8.1"
"""Deflated Image Frame Compression."""
_SYNTAXES = list(
    dict.fromkeys(
        [
            # First, since some archives send by the first context of a class: the one that keeps the VRs.
            str(uids.ExplicitVRLittleEndian),
            *(str(uid) for uid in AllTransferSyntaxes if not uid.startswith(_FOR_STREAMS_ONLY)),
            _NEWER,
        ]
    )
)

# Instances go to a file as they arrive instead of into memory.  There is no such setting for one association.
_config.STORE_RECV_CHUNKED_DATASET = True
# Identifiers name patients: neither logs nor warnings may show them.
_config.LOG_REQUEST_IDENTIFIERS = False
_config.LOG_RESPONSE_IDENTIFIERS = False
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
pydicom.config.settings.writing_validation_mode = pydicom.config.IGNORE
logging.getLogger("pynetdicom").setLevel(logging.CRITICAL + 1)

CLASSES_AT_ONCE = 127 // len(_SYNTAXES)
"""PS3.8 9.3.2.2: an association has at most 128 presentation contexts."""
_COMMON = (
    uids.CTImageStorage,
    uids.MRImageStorage,
    uids.ComputedRadiographyImageStorage,
    uids.DigitalXRayImageStorageForPresentation,
    uids.SecondaryCaptureImageStorage,
    uids.EnhancedMRImageStorage,
    uids.EnhancedCTImageStorage,
    uids.UltrasoundImageStorage,
    uids.PositronEmissionTomographyImageStorage,
    uids.UltrasoundMultiFrameImageStorage,
    uids.DigitalMammographyXRayImageStorageForPresentation,
    uids.VLWholeSlideMicroscopyImageStorage,
    uids.ComprehensiveSRStorage,
    uids.EnhancedSRStorage,
    uids.SegmentationStorage,
    uids.RTDoseStorage,
    uids.RTStructureSetStorage,
    uids.NuclearMedicineImageStorage,
    uids.XRayAngiographicImageStorage,
)
_ALL = list(dict.fromkeys([*_COMMON, *(str(cx.abstract_syntax) for cx in AllStoragePresentationContexts)]))
GROUPS_OF_CLASSES: list[Classes] = [
    tuple(map(str, _ALL[at : at + CLASSES_AT_ONCE])) for at in range(0, len(_ALL), CLASSES_AT_ONCE)
]
"""Every storage class, the common ones first: for archives that don't tell an instance's class."""


@dataclass(slots=True)
class Lent:
    """An association while one thread has it.  ``wanted``: SOP instance and where its bytes go."""

    association: Association
    wanted: tuple[str, Partial] | None = None
    arrived: str | None = None
    """The SOP class of what came."""
    failure: HdrsError | None = None
    inflow: Inflow = field(default_factory=Inflow)

    def broken(self) -> HdrsError | LineBrokenError:
        """Why the association is over."""
        return self.inflow.failure or LineBrokenError("the association broke off")

    def abort(self) -> None:
        self.inflow.stop()
        self.association.abort()

    def release(self) -> None:
        self.inflow.stop()
        self.association.release()


class Associations:
    """At most so many as the place says, each for searching (no classes) or for bringing some SOP classes."""

    def __init__(self, place: DimseLocation, read_timeout_s: float) -> None:
        self._place = place
        self._read_timeout_s = read_timeout_s
        self._idle: list[tuple[Classes, Lent]] = []
        self._count = 0
        self._changed = threading.Condition()

    @contextmanager
    def lend(self, classes: Classes) -> Iterator[Lent]:
        """Waits for its turn.  Raises :class:`LineBrokenError`, :class:`SourceLoginError`."""
        lent = self._take(classes)
        try:
            if lent is None:
                lent = self._open(classes)
            lent.wanted, lent.arrived, lent.failure = None, None, None
            yield lent
        except BaseException:
            if lent is not None:
                lent.abort()
            with self._changed:
                self._count -= 1
                self._changed.notify()
            raise
        lent.wanted = None
        with self._changed:
            self._idle.append((classes, lent))
            self._changed.notify()

    def close(self) -> None:
        with self._changed:
            idle, self._idle = self._idle, []
            self._count -= len(idle)
        for _, lent in idle:
            lent.release()

    def _take(self, classes: Classes) -> Lent | None:
        """An idle one, or None for leave to open one."""
        while True:
            with self._changed:
                while not self._idle and self._count >= self._place.associations:
                    self._changed.wait()
                at = next((at for at, (theirs, _) in enumerate(self._idle) if theirs == classes), None)
                if at is not None:
                    _, lent = self._idle.pop(at)
                elif self._count < self._place.associations:
                    self._count += 1
                    return None
                else:
                    _, lent = self._idle.pop(0)
            if at is not None and lent.association.is_established:
                return lent
            # Of no use, or dead: its place goes to another.
            lent.release()
            with self._changed:
                self._count -= 1

    def _open(self, classes: Classes) -> Lent:
        place = self._place
        ae = AE(place.calling_ae)
        ae.connection_timeout = ae.acse_timeout = CONNECT_TIMEOUT_S
        ae.dimse_timeout = ae.network_timeout = self._read_timeout_s
        ae.maximum_pdu_size = MAX_PDU_BYTES
        roles = []
        if not classes:
            # Not the deflated one, which makes a thousand bytes of one.
            ae.add_requested_context(
                STUDY_ROOT_FIND, [uids.ImplicitVRLittleEndian, uids.ExplicitVRLittleEndian]
            )
        else:
            # One context a syntax: of several in one context the archive would choose, and decode to fit.
            storage = [build_context(uid, syntax) for uid in classes for syntax in _SYNTAXES]
            ae.add_requested_context(
                STUDY_ROOT_GET, [uids.ImplicitVRLittleEndian, uids.ExplicitVRLittleEndian]
            )
            ae.requested_contexts = [*ae.requested_contexts, *storage]
            roles = [build_role(UID(uid), scp_role=True) for uid in classes]
        kept: list[Lent] = []
        inflow = Inflow()
        association = ae.associate(
            place.host,
            place.port,
            ae_title=place.called_ae,
            max_pdu=MAX_PDU_BYTES,
            ext_neg=list(roles),
            tls_args=self._tls(),
            evt_handlers=[
                *inflow.handlers(),
                (evt.EVT_C_STORE, lambda event: _store(event, kept[0])),
                (evt.EVT_CONN_OPEN, _hurry),
                (evt.EVT_DATA_SENT, _hurry),
                (evt.EVT_DATA_RECV, _hurry),
            ],
        )
        kept.append(Lent(association, inflow=inflow))
        _keep_answers_for_who_asked(association)
        if association.is_established:
            return kept[0]
        if association.is_rejected:
            raise SourceLoginError(
                "the archive rejected the association: it does not know the AE titles, or us"
            )
        if _tls_refused(place):
            raise SourceLoginError("the archive's certificate is not one we trust, or it does not trust ours")
        raise inflow.failure or LineBrokenError("no association with the archive")

    def _tls(self) -> tuple[ssl.SSLContext, str] | None:
        tls = self._place.tls
        if tls is None:
            return None
        context = tls_context(tls.ca_file, tls.certificate_file, tls.key_file)
        return context, tls.server_name or self._place.host


def _keep_answers_for_who_asked(association: Association) -> None:
    """pynetdicom's own thread of an association also takes messages from the queue, to serve requests of the peer, and
    drops what is none.  It is told to pause before we send; on a busy machine it may still believe that it pauses while
    it goes on, and then the first answer of a search is lost: one listing in 400 lacked an instance.  We serve nobody,
    so it gets nothing."""
    provider: Any = association.dimse
    take = provider.get_msg

    def get_msg(block: bool = False) -> tuple[Any, Any]:
        return (None, None) if threading.current_thread() is association else take(block=block)

    provider.get_msg = get_msg


def _hurry(event: evt.Event) -> None:
    """Send small PDUs and acknowledge theirs at once.  Command and data set go as two messages: the second waits
    for the acknowledgement of the first, which waits 40 ms for company, several times an instance (measured
    with Orthanc: 140 ms an instance, 8 ms without the waits)."""
    line = event.assoc.dul.socket
    if line is not None and line.socket is not None:
        with contextlib.suppress(OSError):  # closed meanwhile
            line.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # Linux forgets this one again and again.
            line.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


def _store(event: evt.Event, lent: Lent) -> int:
    """C-STORE of the instance that was asked for, into its partial.  The status is PS3.4 B.2.3."""
    path: Path = event.dataset_path
    with path.open("rb") as file:
        path.unlink()  # no patient data stays behind by name
        request = cast(C_STORE, event.request)
        if (
            lent.wanted is None
            or str(request.AffectedSOPInstanceUID) != lent.wanted[0]
            or lent.arrived is not None
        ):
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
    lent.arrived = str(request.AffectedSOPClassUID)
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


def _tls_refused(place: DimseLocation) -> bool:
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
