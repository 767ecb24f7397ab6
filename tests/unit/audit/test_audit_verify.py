"""The offline verification of a log: an honest one passes, and no change of any kind does."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import audit_life as make
import pytest
from audit_life import Life, digest, root_payload, signed

from hdrs_hpc.audit.contradictions import EntryContradictsError
from hdrs_hpc.audit.export import ExportInTheWayError, ExportLayoutError, ExportMissingError, write_export
from hdrs_hpc.audit.history import HistoryImpossibleError
from hdrs_hpc.audit.report import Mark
from hdrs_hpc.audit.trust_roots import EnvelopeNotExactError, ForeignRootError
from hdrs_hpc.audit.verify import (
    DocumentAlteredError,
    DocumentMissingError,
    LogCutBackError,
    ReleaseUnsupportedError,
    RootMismatchError,
    TailUncoveredError,
    verify_dir,
)
from hdrs_hpc.core.errors import HdrsError
from hdrs_hpc.documents.envelope import Envelope
from hdrs_hpc.documents.trust import SignerUnknownError, ThresholdNotMetError, TrustRootMismatchError


def test_an_honest_log_verifies_and_is_anchored_by_the_digest(
    closed: tuple[Life, bytes], tmp_path: Path
) -> None:
    life, _ = closed
    folder = life.write(tmp_path / "audit")
    report = verify_dir(folder, life.root, Envelope.parse(life.root).digest)
    assert report.anchored
    assert report.facts["entries"] == len(life.entries)
    assert report.facts["projects"] == {"lung-fm": {"state": "CLOSED", "certified": True}}


def test_without_a_digest_the_report_says_self_consistent_only(life: Life, tmp_path: Path) -> None:
    report = verify_dir(life.write(tmp_path / "audit"), life.root, None)
    assert not report.anchored
    assert any(
        line.mark is Mark.NOT_PROVEN and line.text.startswith("self-consistent only") for line in report.lines
    )


def test_another_digest_is_refused(life: Life, tmp_path: Path) -> None:
    with pytest.raises(TrustRootMismatchError):
        verify_dir(life.write(tmp_path / "audit"), life.root, digest("another"))


@pytest.mark.parametrize("seed", range(60))
def test_any_one_changed_bit_is_refused(seed: int, closed: tuple[Life, bytes], tmp_path: Path) -> None:
    life, _ = closed
    folder = life.write(tmp_path / "audit")
    chance = random.Random(seed)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    path = files[seed % len(files)]
    raw = bytearray(path.read_bytes())
    raw[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
    path.write_bytes(raw)
    with pytest.raises(HdrsError):
        verify_dir(folder, life.root, None)


@pytest.mark.parametrize("seed", range(20))
def test_a_trust_root_with_one_changed_bit_is_refused(seed: int, life: Life, tmp_path: Path) -> None:
    folder = life.write(tmp_path / "audit")
    chance = random.Random(seed)
    raw = bytearray(life.root)
    raw[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
    with pytest.raises(HdrsError):
        verify_dir(folder, bytes(raw), None)


@pytest.mark.parametrize("name", ["entries.jsonl", "checkpoints.jsonl"])
@pytest.mark.parametrize("where", ["first", "middle", "last"])
def test_a_removed_line_is_refused(name: str, where: str, life: Life, tmp_path: Path) -> None:
    folder = _exported(life, tmp_path / "audit")
    lines = (folder / name).read_bytes().splitlines(keepends=True)
    index = {"first": 0, "middle": len(lines) // 2, "last": len(lines) - 1}[where]
    del lines[index]
    (folder / name).write_bytes(b"".join(lines))
    with pytest.raises(HdrsError):
        verify_dir(folder, life.root, None)


@pytest.mark.parametrize("name", ["entries.jsonl", "checkpoints.jsonl"])
def test_a_repeated_line_is_refused(name: str, life: Life, tmp_path: Path) -> None:
    folder = _exported(life, tmp_path / "audit")
    lines = (folder / name).read_bytes().splitlines(keepends=True)
    (folder / name).write_bytes(b"".join([*lines, lines[-1]]))
    with pytest.raises(HdrsError):
        verify_dir(folder, life.root, None)


def test_any_one_removed_document_is_refused(closed: tuple[Life, bytes], tmp_path: Path) -> None:
    life, _ = closed
    folder = _exported(life, tmp_path / "audit")
    for path in sorted((folder / "documents").iterdir()):
        raw = path.read_bytes()
        path.unlink()
        with pytest.raises(DocumentMissingError):
            verify_dir(folder, life.root, None)
        path.write_bytes(raw)
    verify_dir(folder, life.root, None)


def test_swapped_entries_are_refused(life: Life, tmp_path: Path) -> None:
    folder = life.write(tmp_path / "audit")
    lines = (folder / "entries.jsonl").read_bytes().splitlines(keepends=True)
    lines[5], lines[6] = lines[6], lines[5]
    (folder / "entries.jsonl").write_bytes(b"".join(lines))
    with pytest.raises(HdrsError):
        verify_dir(folder, life.root, None)


def test_a_file_that_does_not_belong_is_refused(life: Life, tmp_path: Path) -> None:
    folder = life.write(tmp_path / "audit")
    (folder / "extra.txt").write_text("x")
    with pytest.raises(ExportLayoutError):
        verify_dir(folder, life.root, None)


def test_a_document_that_no_entry_accepted_is_refused(life: Life, tmp_path: Path) -> None:
    surplus = signed("closure", {"project": "lung-fm"}, "brandt")
    life.documents[surplus.digest] = surplus.to_bytes()
    with pytest.raises(DocumentAlteredError):
        verify_dir(life.write(tmp_path / "audit"), life.root, None)


def test_a_link_in_the_export_is_refused(life: Life, tmp_path: Path) -> None:
    folder = life.write(tmp_path / "audit")
    name = next((folder / "documents").iterdir())
    shutil.copy(name, tmp_path / "copy")
    name.unlink()
    name.symlink_to(tmp_path / "copy")
    with pytest.raises(ExportLayoutError):
        verify_dir(folder, life.root, None)


def test_a_missing_document_is_refused(life: Life, tmp_path: Path) -> None:
    grant = next(entry for entry in life.entries if entry.event == "grant-accepted")
    del life.documents[grant.subject["document"]]
    with pytest.raises(DocumentMissingError):
        verify_dir(life.write(tmp_path / "audit"), life.root, None)


def test_entries_after_the_last_checkpoint_are_refused(life: Life, tmp_path: Path) -> None:
    life.add("project-frozen", make.PROJECT, reason="closing")
    with pytest.raises(TailUncoveredError):
        verify_dir(life.write(tmp_path / "audit"), life.root, None)


def test_a_rewritten_past_under_an_old_checkpoint_is_refused(life: Life, tmp_path: Path) -> None:
    first = life.checkpoints[0]
    old = life.entries[4]
    life.entries[4] = type(old)(
        old.seq, old.at, old.event, old.subject, old.actor, {**old.detail, "reason": "x"}
    )
    life.checkpoints.clear()
    life.checkpoints.append(first)
    life.checkpoint()
    with pytest.raises(RootMismatchError):
        verify_dir(life.write(tmp_path / "audit"), life.root, None)


def test_a_log_cut_back_to_a_checkpoint_is_caught_by_a_held_one(life: Life, tmp_path: Path) -> None:
    held = life.checkpoints[-1]
    size = 5
    life.entries[size:] = []
    life.checkpoints[1:] = []
    kept = {entry.subject.get("document") for entry in life.entries}
    life.documents = {key: raw for key, raw in life.documents.items() if key in kept}
    folder = life.write(tmp_path / "audit")
    verify_dir(folder, life.root, None)
    with pytest.raises(LogCutBackError):
        verify_dir(folder, life.root, None, held=[held])


def test_a_forked_log_is_caught_by_a_held_checkpoint(life: Life, tmp_path: Path) -> None:
    other = Life()
    make.begin(other)
    other.add("login-refused", {}, code="x")
    held = other.checkpoint()
    with pytest.raises(LogCutBackError):
        verify_dir(life.write(tmp_path / "audit"), life.root, None, held=[held])


def test_a_held_checkpoint_that_the_log_extends_is_accepted(life: Life, tmp_path: Path) -> None:
    report = verify_dir(life.write(tmp_path / "audit"), life.root, None, held=[life.checkpoints[0]])
    assert any("extends the 1 checkpoints" in line.text for line in report.lines)


def test_a_checkpoint_by_another_of_the_brokers_keys_is_refused(life: Life, tmp_path: Path) -> None:
    life.add("login-refused", {}, code="x")
    life.checkpoint("broker certificate")
    with pytest.raises(SignerUnknownError):
        verify_dir(life.write(tmp_path / "audit"), life.root, None)


def test_a_checkpoint_of_another_broker_is_refused(life: Life, tmp_path: Path) -> None:
    life.add("login-refused", {}, code="x")
    life.checkpoint(audience="south")
    with pytest.raises(HdrsError, match="another broker"):
        verify_dir(life.write(tmp_path / "audit"), life.root, None)


def test_a_foreign_trust_root_is_refused(life: Life, tmp_path: Path) -> None:
    foreign = signed("trust-root", root_payload(audience="south"), "adeyemi", "brandt")
    with pytest.raises(ForeignRootError):
        verify_dir(life.write(tmp_path / "audit"), foreign.to_bytes(), None)


def test_a_trust_root_written_another_way_is_refused(life: Life, tmp_path: Path) -> None:
    with pytest.raises(EnvelopeNotExactError):
        verify_dir(life.write(tmp_path / "audit"), life.root + b"\n", None)


def test_a_grant_signed_by_one_custodian_is_refused(tmp_path: Path) -> None:
    life = Life()
    root = signed("trust-root", root_payload(), "adeyemi", "brandt")
    life.root = root.to_bytes()
    life.accept("trust-root-accepted", {}, root, version=1)
    life.accept(
        "grant-accepted",
        make.PROJECT,
        signed("grant", make.GRANT, "adeyemi"),
        version=1,
        signers=["adeyemi"],
        reviewers=2,
        run_until="2026-12-30T00:00:00Z",
        destroy_by="2027-01-30T00:00:00Z",
    )
    life.checkpoint()
    with pytest.raises(ThresholdNotMetError):
        verify_dir(life.write(tmp_path / "audit"), life.root, None)


def test_an_entry_that_misquotes_its_document_is_refused(tmp_path: Path) -> None:
    life = Life()
    root = signed("trust-root", root_payload(), "adeyemi", "brandt")
    life.root = root.to_bytes()
    life.accept("trust-root-accepted", {}, root, version=1)
    life.accept(
        "grant-accepted",
        make.PROJECT,
        signed("grant", make.GRANT, "adeyemi", "brandt"),
        version=1,
        signers=["adeyemi", "brandt"],
        reviewers=1,
        run_until="2026-12-30T00:00:00Z",
        destroy_by="2027-01-30T00:00:00Z",
    )
    life.checkpoint()
    with pytest.raises(EntryContradictsError, match="reviewers"):
        verify_dir(life.write(tmp_path / "audit"), life.root, None)


class TestSuccession:
    def test_a_new_root_signed_by_the_old_ones_people_continues_the_log(
        self, life: Life, tmp_path: Path
    ) -> None:
        new = self._succeed(life, "adeyemi", "brandt")
        folder = life.write(tmp_path / "audit")
        assert verify_dir(folder, new.to_bytes(), new.digest).facts["trust-root-versions"] == 2
        assert verify_dir(folder, life.root, None).facts["trust-root"] == new.digest

    def test_a_root_changed_below_the_threshold_is_refused(self, life: Life, tmp_path: Path) -> None:
        self._succeed(life, "adeyemi")
        with pytest.raises(ThresholdNotMetError):
            verify_dir(life.write(tmp_path / "audit"), life.root, None)

    def test_after_succession_the_old_checkpoint_key_is_refused(self, life: Life, tmp_path: Path) -> None:
        self._succeed(life, "adeyemi", "brandt", new_key="broker checkpoint 2", sign_with="broker checkpoint")
        with pytest.raises(SignerUnknownError):
            verify_dir(life.write(tmp_path / "audit"), life.root, None)

    def test_after_succession_the_new_checkpoint_key_is_good(self, life: Life, tmp_path: Path) -> None:
        self._succeed(
            life, "adeyemi", "brandt", new_key="broker checkpoint 2", sign_with="broker checkpoint 2"
        )
        verify_dir(life.write(tmp_path / "audit"), life.root, None)

    def test_what_a_compromised_key_signed_is_told(self, life: Life, tmp_path: Path) -> None:
        payload = root_payload()
        payload["people"]["chen"]["keys"] = [
            {"key": make.line("chen"), "compromised-from": 0},
            {"key": make.line("chen 2")},
        ]
        self._succeed(life, "adeyemi", "brandt", people=payload["people"])
        report = verify_dir(life.write(tmp_path / "audit"), life.root, None)
        assert any("compromised" in line.text and "chen" in line.text for line in report.lines)

    def _succeed(
        self,
        life: Life,
        *signers: str,
        new_key: str = "broker checkpoint",
        sign_with: str = "broker checkpoint",
        **changes: object,
    ) -> Envelope:
        old = Envelope.parse(life.root).digest
        payload = root_payload(version=2, supersedes=old, **changes)
        payload["broker-keys"]["checkpoint"] = [make.line(new_key)]
        if len(signers) == 1:
            payload["thresholds"]["trust-root"] = 1
        new = signed("trust-root", payload, *signers)
        life.accept("trust-root-accepted", {}, new, version=2, supersedes=old)
        life.checkpoint(sign_with)
        return new


class TestReleases:
    def test_a_release_on_decisions_about_other_bytes_is_refused(self, tmp_path: Path) -> None:
        self._refused(tmp_path, ("chen", {}), ("duarte", {"rebuilt": digest("other bytes")}))

    def test_a_release_against_a_refusal_is_refused(self, tmp_path: Path) -> None:
        self._refused(tmp_path, ("chen", {}), ("duarte", {"verdict": "refuse"}))

    def test_a_decision_replayed_from_another_job_is_refused(self, tmp_path: Path) -> None:
        life = self._until_review()
        with pytest.raises(EntryContradictsError, match="job"):
            self._release(life, tmp_path, ("chen", {}), ("duarte", {"job": "0THER2"}))

    def test_a_release_by_one_person_twice_is_refused(self, tmp_path: Path) -> None:
        self._refused(tmp_path, ("chen", {}), ("chen", {"verdict": "approve", "second": True}))

    def _until_review(self) -> Life:
        life = Life()
        make.begin(life)
        make.stage(life)
        make.run(life)
        return life

    def _refused(self, tmp_path: Path, *decisions: tuple[str, dict[str, object]]) -> None:
        life = self._until_review()
        with pytest.raises(ReleaseUnsupportedError):
            self._release(life, tmp_path, *decisions)

    def _release(self, life: Life, tmp_path: Path, *decisions: tuple[str, dict[str, object]]) -> None:
        artefact = {**make.JOB, "artefact": "cohort"}
        rebuilt = digest("rebuilt")
        life.add("artefact-checked", artefact, verdict="passed", content=digest("salted"))
        filed = []
        for checker, changes in decisions:
            second = changes.pop("second", False)
            envelope = make.decision(checker, **{"rebuilt": rebuilt, **changes})  # type: ignore[arg-type]  # a table
            if second:
                payload = envelope.payload.replace(b"fine", b"good")
                envelope = make.sign_in_process(make.KINDS["output-decision"], payload, make.private(checker))
            filed.append(life.accept("decision-filed", make.JOB, envelope))
        life.add("decisions-opened", make.JOB, documents=filed, checkers=["chen", "duarte"])
        life.add("artefact-released", artefact, content=rebuilt, size=1, class_="table", decisions=filed)
        life.checkpoint()
        verify_dir(life.write(tmp_path / "audit"), life.root, None)


def test_decisions_on_what_was_withheld_may_stay_sealed(tmp_path: Path) -> None:
    life = Life()
    make.begin(life)
    make.stage(life)
    make.run(life)
    envelope = make.decision("chen", digest("rebuilt"), verdict="refuse")
    filed = life.accept("decision-filed", make.JOB, envelope)
    del life.documents[filed]
    life.checkpoint()
    report = verify_dir(life.write(tmp_path / "audit"), life.root, None)
    assert any("1 decisions are logged by digest only" in line.text for line in report.lines)


def test_a_decision_that_is_not_open_yet_is_refused_in_an_export(tmp_path: Path) -> None:
    life = Life()
    make.begin(life)
    make.stage(life)
    make.run(life)
    life.accept("decision-filed", make.JOB, make.decision("chen", digest("rebuilt")))
    life.checkpoint()
    with pytest.raises(DocumentAlteredError, match="not open yet"):
        verify_dir(life.write(tmp_path / "audit"), life.root, None)


def test_an_export_replaces_an_earlier_export_whole(life: Life, tmp_path: Path) -> None:
    folder = life.write(tmp_path / "audit")
    make.close(life)
    life.write(folder)
    assert verify_dir(folder, life.root, None).facts["entries"] == len(life.entries)
    assert [path.name for path in tmp_path.iterdir()] == ["audit"]


def test_an_export_that_fails_leaves_the_earlier_one(life: Life, tmp_path: Path) -> None:
    folder = life.write(tmp_path / "audit")
    before = (folder / "entries.jsonl").read_bytes()
    with pytest.raises(HdrsError):
        write_export(folder, [b"{}"], life.checkpoints[0], [b"no envelope"])
    assert (folder / "entries.jsonl").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["audit"]


def test_an_export_never_replaces_another_folder(life: Life, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("mine")
    with pytest.raises(ExportInTheWayError):
        life.write(tmp_path / "home")


def test_a_folder_without_a_log_is_named(tmp_path: Path, life: Life) -> None:
    with pytest.raises(ExportMissingError):
        verify_dir(tmp_path, life.root, None)


def test_an_impossible_history_is_refused_even_when_signed(life: Life, tmp_path: Path) -> None:
    life.add("artefact-released", {**make.JOB, "artefact": "other"}, content=digest("x"), size=1, class_="table",
             decisions=[])  # fmt: skip
    life.checkpoint()
    with pytest.raises(HistoryImpossibleError):
        verify_dir(life.write(tmp_path / "audit"), life.root, None)


def _exported(life: Life, folder: Path) -> Path:
    """As the broker exports: the last checkpoint only, so that no line can be spared."""
    write_export(
        folder, [entry.to_bytes() for entry in life.entries], life.checkpoints[-1], life.documents.values()
    )
    return folder
