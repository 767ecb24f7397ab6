"""Real DICOM archives of our own for tests: Orthanc, and dcmtk's as a second implementation."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import socketserver
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pydicom
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO

ORTHANC = "/usr/sbin/Orthanc"
PLUGINS = Path("/usr/lib/orthanc")
DCMQRSCP = "/usr/bin/dcmqrscp"
STUDY = "2.25.1000"
OTHER_STUDY = "2.25.10"
LARGE_SERIES = "2.25.3000"
# One file each of the transfer syntaxes that archives hold; all are in pydicom's wheel.
SAMPLES = (
    "MR_small.dcm",
    "MR_small_implicit.dcm",
    "MR_small_bigendian.dcm",
    "MR_small_RLE.dcm",
    "MR_small_jp2klossless.dcm",
    "MR_small_jpeg_ls_lossless.dcm",
    "SC_rgb_jpeg_dcmtk.dcm",
    "image_dfl.dcm",
    "JPGExtended.dcm",
    "test-SR.dcm",
)


def instances(samples: Sequence[str] = SAMPLES) -> dict[str, bytes]:
    """Path → Part 10 bytes: the samples as two studies under UIDs of our own."""
    found = {}
    for number, name in enumerate(samples, start=1):
        dataset = pydicom.dcmread(get_testdata_file(name))
        study = OTHER_STUDY if dataset.Modality == "SR" else STUDY
        path, data = _as_instance(dataset, study, f"2.25.{number % 3 + 20}", f"2.25.{number + 500}")
        found[path] = data
    return found


def large_instance(size_bytes: int = 20 << 20) -> tuple[str, bytes]:
    """Path and bytes of one instance with that many bytes of noise."""
    dataset = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
    columns = 2048
    dataset.Columns, dataset.Rows = columns, size_bytes // columns // 2
    dataset.PixelData = np.random.default_rng(7).bytes(dataset.Rows * columns * 2)
    return _as_instance(dataset, STUDY, LARGE_SERIES, "2.25.600")


def _as_instance(dataset: Dataset, study: str, series: str, instance: str) -> tuple[str, bytes]:
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.SOPInstanceUID = study, series, instance
    dataset.file_meta.MediaStorageSOPInstanceUID = instance
    dataset.PatientID, dataset.PatientName = ("P-2" if study == OTHER_STUDY else "P-1"), "Test^Archive"
    dataset.StudyDate = "20200229" if study == OTHER_STUDY else "20190115"
    buffer = DicomBytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return f"studies/{study}/series/{series}/instances/{instance}.dcm", buffer.getvalue()


def same_data_set(read: bytes, held: bytes) -> bool:
    """Equal in syntax, elements and encapsulated pixels.  DIMSE servers write data sets anew: lengths of
    sequences and groups, padding."""
    first, second = (pydicom.dcmread(DicomBytesIO(data)) for data in (read, held))
    if first.file_meta.TransferSyntaxUID != second.file_meta.TransferSyntaxUID:
        return False
    for dataset in (first, second):
        # Group lengths, and padding behind the data set.
        for tag in [item.tag for item in dataset if item.tag.element == 0 or item.tag == 0xFFFCFFFC]:
            del dataset[tag]
    pixels = [dataset.pop("PixelData", None) for dataset in (first, second)]
    bytes_ = [None if element is None else bytes(element.value) for element in pixels]
    return bool(first == second) and bytes_[0] == bytes_[1]


def same_values(read: bytes, held: bytes) -> bool:
    """Equal in elements and decoded pixels, in whichever uncompressed syntax."""
    first, second = (pydicom.dcmread(DicomBytesIO(data)) for data in (read, held))
    if "PixelData" in second and not np.array_equal(first.pixel_array, second.pixel_array):
        return False
    for dataset in (first, second):
        dataset.pop("PixelData", None)
        dataset.pop(0xFFFCFFFC, None)
        for tag in [item.tag for item in dataset if item.tag.element == 0]:
            del dataset[tag]
    return bool(first == second)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()[-2000:]
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise AssertionError(log.read_text()[-2000:])


@contextlib.contextmanager
def running(argv: Sequence[str | Path], port: int, folder: Path) -> Iterator[None]:
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=folder)
    try:
        wait_for(port, process, folder / "log")
        yield
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@dataclass(frozen=True)
class Orthanc:
    http_port: int
    dicom_port: int
    login: str

    def store(self, data: bytes) -> None:
        url = f"http://127.0.0.1:{self.http_port}/instances"
        user, _, password = self.login.partition(":")
        httpx.post(url, content=data, auth=(user, password), timeout=60, trust_env=False).raise_for_status()


@contextlib.contextmanager
def orthanc(folder: Path, tls: TlsFiles | None = None) -> Iterator[Orthanc]:
    """An Orthanc with nothing in it; ``tls`` for DIMSE with certificates at both ends."""
    folder.mkdir(exist_ok=True)
    http_port, dicom_port = free_port(), free_port()
    settings: dict[str, Any] = {
        "Name": "test",
        "StorageDirectory": str(folder / "db"),
        "IndexDirectory": str(folder / "db"),
        "HttpPort": http_port,
        "DicomPort": dicom_port,
        "DicomAet": "ORTHANC",
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": True,
        "RegisteredUsers": {"stager": "of-tests"},
        "Plugins": [str(next(PLUGINS.glob("libOrthancDicomWeb.so*")))],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        "DicomAlwaysAllowFind": True,
        "DicomAlwaysAllowGet": True,
        "DicomAlwaysAllowStore": True,
        "DicomCheckCalledAet": True,
        "DicomThreadsCount": 16,
    }
    if tls is not None:
        settings |= {
            "DicomTlsEnabled": True,
            "DicomTlsCertificate": str(tls.server_certificate),
            "DicomTlsPrivateKey": str(tls.server_key),
            "DicomTlsTrustedCertificates": str(tls.ca),
            "DicomTlsRemoteCertificateRequired": True,
        }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with running([ORTHANC, folder / "orthanc.json"], dicom_port, folder):
        yield Orthanc(http_port, dicom_port, "stager:of-tests")


@dataclass(frozen=True)
class TlsFiles:
    ca: Path
    server_certificate: Path
    server_key: Path
    client_certificate: Path
    client_key: Path


@contextlib.contextmanager
def tls_in_front(port: int, tls: TlsFiles) -> Iterator[int]:
    """HTTPS in front of a plain HTTP port, as a proxy gives it to an archive; asks for our certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls.server_certificate, tls.server_key)
    context.load_verify_locations(tls.ca)
    context.verify_mode = ssl.CERT_REQUIRED

    class Relay(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with (
                contextlib.suppress(OSError),
                context.wrap_socket(self.request, server_side=True) as near,
                socket.create_connection(("127.0.0.1", port)) as far,
            ):
                thread = threading.Thread(target=_copy, args=(far, near), daemon=True)
                thread.start()
                _copy(near, far)
                thread.join()

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Relay) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def _copy(giver: socket.socket, taker: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := giver.recv(65_536):
            taker.sendall(data)
        taker.shutdown(socket.SHUT_WR)


def make_tls(folder: Path) -> TlsFiles:
    """An authority with a server's and a client's certificate for 127.0.0.1, made by openssl."""
    folder.mkdir()

    def openssl(*arguments: str | Path) -> None:
        subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=60, cwd=folder)

    new_key = ["-newkey", "rsa:2048", "-nodes"]
    openssl(
        *["req", "-x509", *new_key, "-keyout", "ca.key", "-out", "ca.crt", "-days", "2", "-subj", "/CN=ca"],
        *["-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign"],
    )
    for name in ("server", "client"):
        (folder / f"{name}.ext").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
        openssl(
            *f"req -newkey rsa:2048 -nodes -keyout {name}.key -out {name}.csr -subj /CN={name}".split(),
        )
        openssl(
            *f"x509 -req -in {name}.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2".split(),
            *f"-out {name}.crt -extfile {name}.ext".split(),
        )
        (folder / f"{name}.key").chmod(0o600)
    return TlsFiles(
        *(folder / name for name in ("ca.crt", "server.crt", "server.key", "client.crt", "client.key"))
    )


@contextlib.contextmanager
def dcmqrscp(folder: Path, held: dict[str, bytes]) -> Iterator[int]:
    """dcmtk's archive with these instances in it; gives its port."""
    folder.mkdir()
    (folder / "db").mkdir()
    port = free_port()
    (folder / "config").write_text(
        f"NetworkTCPPort = {port}\nMaxPDUSize = 131072\nMaxAssociations = 32\n"
        "HostTable BEGIN\nHostTable END\nVendorTable BEGIN\nVendorTable END\n"
        f"AETable BEGIN\nDCMTK {folder}/db RW (1000, 1024mb) ANY\nAETable END\n"
    )
    files = folder / "files"
    files.mkdir()
    for number, data in enumerate(held.values()):
        (files / f"{number}.dcm").write_bytes(data)
        shutil.copy(files / f"{number}.dcm", folder / "db" / f"{number}.dcm")
    index = ["/usr/bin/dcmqridx", folder / "db", *sorted((folder / "db").glob("*.dcm"))]
    subprocess.run(index, check=True, capture_output=True, timeout=60)
    with running([DCMQRSCP, "-c", folder / "config"], port, folder):
        yield port
