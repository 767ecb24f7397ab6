"""Sources that are DICOM archives, against real ones: Orthanc over DICOMweb and DIMSE, dcmtk's over DIMSE."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest
from dicomweb_client import DICOMwebClient
from dicomweb_client.session_utils import create_session_from_user_pass

from connectors.sources import (
    Source,
    SourceCredentialError,
    SourceItemMissingError,
    SourceLoginError,
    SourceRefusedError,
)
from connectors.sources.contract import RemoteSourceContract
from connectors.sources.dicom_archive import InstanceRef
from connectors.sources.opening import open_source
from hdrs_hpc.documents.models.source import location_from_value
from imaging.staging import inventory
from tests.conftest import require
from tests.support import pacs
from tests.support.pacs import LARGE_SERIES, OTHER_STUDY, STUDY, Orthanc, TlsFiles

pytestmark = pytest.mark.root_parts

HELD = pacs.instances()
PLAIN = pacs.instances(("MR_small.dcm", "MR_small_implicit.dcm", "MR_small_bigendian.dcm", "test-SR.dcm"))
LARGE_PATH, LARGE = pacs.large_instance()
EVERYTHING = {"everything": True}
SMALL = {"modalities": ["MR", "OT", "CT", "SR"]}
LIMITS = RemoteSourceContract.LIMITS


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    return pacs.make_tls(tmp_path_factory.mktemp("tls") / "files")


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    require(Path(pacs.ORTHANC).exists() and any(pacs.PLUGINS.glob("libOrthancDicomWeb.so*")), "no Orthanc")
    with pacs.orthanc(tmp_path_factory.mktemp("orthanc")) as server:
        for data in (*HELD.values(), LARGE):
            server.store(data)
        yield server


@pytest.fixture(scope="module")
def safe_orthanc(tmp_path_factory: pytest.TempPathFactory, tls: TlsFiles) -> Iterator[Orthanc]:
    """The same with TLS on both of its ports."""
    require(Path(pacs.ORTHANC).exists() and any(pacs.PLUGINS.glob("libOrthancDicomWeb.so*")), "no Orthanc")
    with (
        pacs.orthanc(tmp_path_factory.mktemp("safe"), tls) as server,
        pacs.tls_in_front(server.http_port, tls) as https_port,
    ):
        yield dataclasses.replace(server, http_port=https_port)


@pytest.fixture(scope="module")
def dcmtk_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    require(Path(pacs.DCMQRSCP).exists(), "no dcmqrscp")
    with pacs.dcmqrscp(tmp_path_factory.mktemp("dcmtk") / "archive", PLAIN | {LARGE_PATH: LARGE}) as port:
        yield port


class ArchiveContract(RemoteSourceContract):
    RESUMES = False

    @pytest.fixture
    def held(self) -> dict[str, bytes]:
        return HELD

    @pytest.fixture
    def large(self) -> tuple[str, bytes]:
        return LARGE_PATH, LARGE

    def at(self, port: int, **select: Any) -> Source:
        raise NotImplementedError

    def through(self, port: int, tmp_path: Path) -> Source:
        return self.at(port, **EVERYTHING)

    @pytest.fixture
    def source(self, peer_port: int) -> Iterator[Source]:
        made = self.at(peer_port, **EVERYTHING)
        yield made
        made.close()

    @pytest.fixture
    def empty_source(self, peer_port: int) -> Iterator[Source]:
        made = self.at(peer_port, **{"study-date-from": "2031-01-01"})
        yield made
        made.close()

    def test_every_item_is_listed_once_with_its_size(self, source: Source, held: dict[str, bytes]) -> None:
        assert sorted(item.path for item in source.items()) == sorted([*held, LARGE_PATH])

    def test_a_pickled_source_reads_the_same(self, source: Source, held: dict[str, bytes]) -> None:
        super().test_a_pickled_source_reads_the_same(source, held | {LARGE_PATH: LARGE})

    @pytest.mark.parametrize(
        ("select", "studies"),
        [
            ({"study-date-from": "2020-01-01"}, {OTHER_STUDY}),
            ({"study-date-to": "2019-12-31"}, {STUDY}),
            ({"study-date-from": "2019-01-15", "study-date-to": "2020-02-29"}, {STUDY, OTHER_STUDY}),
            ({"modalities": ["SR"]}, {OTHER_STUDY}),
            ({"modalities": ["SR", "US", "MR"]}, {STUDY, OTHER_STUDY}),
            ({"modalities": ["SR"], "study-date-to": "2019-12-31"}, set()),
        ],
    )
    def test_only_what_is_selected_is_listed(
        self, peer_port: int, select: dict[str, Any], studies: set[str]
    ) -> None:
        source = self.at(peer_port, **select)
        assert {item.path.split("/")[1] for item in source.items()} == studies
        source.close()

    def test_series_of_other_modalities_in_a_selected_study_stay_out(self, peer_port: int) -> None:
        source = self.at(peer_port, modalities=["MR"])
        listed = [item.path for item in source.items()]
        assert listed
        assert not any(LARGE_SERIES in path for path in listed)  # CT, in the same study
        source.close()

    def test_patients_and_studies_are_selected_by_lists(self, peer_port: int, tmp_path: Path) -> None:
        (tmp_path / "patients").write_text("P-2\nP-\nabsent\n")
        (tmp_path / "studies").write_text(f"{STUDY}\n2.25.99\n")
        for select, study in (
            ({"patients-file": str(tmp_path / "patients")}, OTHER_STUDY),
            ({"studies-file": str(tmp_path / "studies")}, STUDY),
        ):
            source = self.at(peer_port, **select)
            assert {item.path.split("/")[1] for item in source.items()} == {study}
            source.close()

    @pytest.mark.parametrize("line", ["*", "P-?", "a\\b"])
    def test_a_list_with_a_wildcard_would_select_everybody_and_is_refused(
        self, peer_port: int, tmp_path: Path, line: str
    ) -> None:
        (tmp_path / "patients").write_text(f"P-1\n{line}\n")
        with pytest.raises(SourceCredentialError, match="wildcard"):
            list(self.at(peer_port, **{"patients-file": str(tmp_path / "patients")}).items())

    def test_an_instance_that_is_not_there_is_missing(self, source: Source) -> None:
        with pytest.raises(SourceItemMissingError):
            source.open(f"studies/{STUDY}/series/2.25.21/instances/2.25.99999.dcm")

    def test_an_archive_is_scanned_to_a_version(self, peer_port: int) -> None:
        first, second = (self.at(peer_port, **EVERYTHING) for _ in range(2))
        assert inventory.digest(inventory.scan(first)) == inventory.digest(inventory.scan(second))
        first.close()
        second.close()


class TestOrthancDicomweb(ArchiveContract):
    @pytest.fixture(autouse=True)
    def _login(self, tmp_path: Path, orthanc: Orthanc) -> None:
        self.login = tmp_path / "login"
        self.login.write_text(orthanc.login + "\n")
        self.login.chmod(0o600)

    @pytest.fixture
    def peer_port(self, orthanc: Orthanc) -> int:
        return orthanc.http_port

    def at(self, port: int, **select: Any) -> Source:
        url = f"http://127.0.0.1:{port}/dicom-web"
        value = {"type": "dicomweb", "url": url, "login-file": str(self.login), "select": select}
        return open_source(location_from_value(value), LIMITS)

    def test_another_client_finds_and_brings_the_same(self, source: Source, orthanc: Orthanc) -> None:
        session = create_session_from_user_pass(*orthanc.login.split(":"))
        other = DICOMwebClient(f"http://127.0.0.1:{orthanc.http_port}/dicom-web", session=session)
        found = [
            InstanceRef(study, series, one["00080018"]["Value"][0]).path
            for study in (STUDY, OTHER_STUDY)
            for series in (row["0020000E"]["Value"][0] for row in other.search_for_series(study))
            for one in other.search_for_instances(study, series)
        ]
        assert sorted(found) == sorted(item.path for item in source.items())
        ref = InstanceRef.parse(min(HELD))
        brought = other.retrieve_instance(
            ref.study, ref.series, ref.instance, media_types=(("application/dicom", "*"),)
        )
        with source.open(ref.path) as file:
            assert pydicom.dcmread(file) == brought

    def test_a_pickle_holds_no_credential(self, source: Source, orthanc: Orthanc) -> None:
        import pickle

        list(source.items())
        assert orthanc.login.partition(":")[2].encode() not in pickle.dumps(source)

    def test_a_wrong_login_is_said_at_once_and_a_renewed_one_is_taken(self, orthanc: Orthanc) -> None:
        self.login.write_text("stager:wrong")
        source = self.at(orthanc.http_port, **EVERYTHING)
        with pytest.raises(SourceLoginError):
            list(source.items())
        self.login.write_text(orthanc.login)
        assert len(list(source.items())) == len(HELD) + 1

    @pytest.mark.parametrize("mode", [0o640, 0o604])
    def test_a_login_that_others_can_read_is_refused(self, orthanc: Orthanc, mode: int) -> None:
        self.login.chmod(mode)
        with pytest.raises(SourceCredentialError):
            list(self.at(orthanc.http_port, **EVERYTHING).items())

    def test_an_address_without_the_service_is_said(self, orthanc: Orthanc) -> None:
        value = {"type": "dicomweb", "url": f"http://127.0.0.1:{orthanc.http_port}/elsewhere"}
        value |= {"login-file": str(self.login), "select": EVERYTHING}
        with pytest.raises(SourceRefusedError, match="no search service"):
            list(open_source(location_from_value(value), LIMITS).items())


class _Dimse(ArchiveContract):
    AE: str

    def same(self, read: bytes, held: bytes) -> bool:
        return pacs.same_data_set(read, held)

    def at(self, port: int, **select: Any) -> Source:
        value = {"type": "dimse", "host": "127.0.0.1", "port": port, "called-ae": self.AE, "select": select}
        return open_source(location_from_value(value), LIMITS)


class TestOrthancDimse(_Dimse):
    AE = "ORTHANC"

    @pytest.fixture
    def peer_port(self, orthanc: Orthanc) -> int:
        return orthanc.dicom_port

    def test_an_archive_of_another_title_is_said_at_once(self, orthanc: Orthanc) -> None:
        value = {"type": "dimse", "host": "127.0.0.1", "port": orthanc.dicom_port, "called-ae": "OTHER"}
        with pytest.raises(SourceLoginError):
            list(open_source(location_from_value(value | {"select": EVERYTHING}), LIMITS).items())


class TestDcmtkDimse(_Dimse):
    AE = "DCMTK"

    @pytest.fixture
    def peer_port(self, dcmtk_port: int) -> int:
        return dcmtk_port

    @pytest.fixture
    def held(self) -> dict[str, bytes]:
        """What dcmtk's archive can send: it sends by one syntax, into which it can make no compressed pixels."""
        return PLAIN

    def same(self, read: bytes, held: bytes) -> bool:
        return pacs.same_values(read, held)


class TestTls:
    @pytest.fixture(autouse=True)
    def _stored(self, safe_orthanc: Orthanc, tls: TlsFiles, tmp_path: Path) -> None:
        self.server, self.tls, self.tmp_path = safe_orthanc, tls, tmp_path

    def dimse(self, **tls: str) -> Source:
        value = {"type": "dimse", "host": "127.0.0.1", "port": self.server.dicom_port, "called-ae": "ORTHANC"}
        return open_source(location_from_value(value | {"select": EVERYTHING, "tls": tls}), LIMITS)

    def dicomweb(self, **fields: str) -> Source:
        login = self.tmp_path / "login"
        login.write_text(self.server.login)
        login.chmod(0o600)
        value = {"type": "dicomweb", "url": f"https://127.0.0.1:{self.server.http_port}/dicom-web"}
        value |= {"login-file": str(login), "select": EVERYTHING}
        return open_source(location_from_value(value | fields), LIMITS)

    def ours(self) -> dict[str, str]:
        return {
            "ca-file": str(self.tls.ca),
            "certificate-file": str(self.tls.client_certificate),
            "key-file": str(self.tls.client_key),
        }

    def test_an_association_with_certificates_at_both_ends_works(self) -> None:
        source = self.dimse(**self.ours())
        assert list(source.items()) == []
        source.close()

    def test_a_server_of_another_authority_is_turned_away(self, tmp_path: Path) -> None:
        other = pacs.make_tls(tmp_path / "other")
        with pytest.raises(SourceLoginError):
            list(self.dimse(**(self.ours() | {"ca-file": str(other.ca)})).items())
        with pytest.raises(SourceLoginError):
            list(self.dicomweb(**(self.ours() | {"ca-file": str(other.ca)})).items())

    def test_a_server_of_another_name_is_turned_away(self) -> None:
        with pytest.raises(SourceLoginError):
            list(self.dimse(**(self.ours() | {"server-name": "pacs.example"})).items())

    def test_without_our_certificate_the_archive_turns_us_away(self) -> None:
        with pytest.raises(SourceLoginError):
            list(self.dimse(**{"ca-file": str(self.tls.ca)}).items())

    def test_a_key_that_others_can_read_is_refused(self, tmp_path: Path) -> None:
        key = tmp_path / "open.key"
        shutil.copy(self.tls.client_key, key)
        key.chmod(0o644)
        with pytest.raises(SourceCredentialError):
            list(self.dimse(**(self.ours() | {"key-file": str(key)})).items())

    def test_dicomweb_over_https_trusts_the_named_authority(self) -> None:
        source = self.dicomweb(**self.ours())
        assert list(source.items()) == []
        source.close()


def test_an_instance_the_archive_stumbles_over_does_not_end_the_scan(orthanc: Orthanc) -> None:
    """Two patients' files under the same UIDs: found by Orthanc's search, not given by its retrieval."""
    source = open_source(
        f"dimse://ORTHANC@127.0.0.1:{orthanc.dicom_port}?everything=true", dataclasses.replace(LIMITS)
    )
    real = source.open
    refused = {min(HELD)}

    class Stumbling:
        items, local_path, close = source.items, source.local_path, source.close

        def open(self, path: str) -> Any:
            if path in refused:
                raise SourceRefusedError("as an archive would")
            return real(path)

    codes: list[str] = []
    table = inventory.scan(Stumbling(), unreadable=codes.append)
    assert codes == ["source-refused"]
    assert table.num_rows == len(HELD)
    refused |= HELD.keys()
    with pytest.raises(SourceRefusedError):
        inventory.scan(Stumbling())
    source.close()
