"""Documents that a broker must not accept: each refused by name, nothing half accepted, nothing lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hdrs_hpc.broker.filing import cancellation
from hdrs_hpc.broker.store import documents, jobs
from hdrs_hpc.core import clock, strict_json
from hdrs_hpc.documents import kinds
from hdrs_hpc.documents.envelope import Envelope
from hdrs_hpc.documents.signing import sign_in_process
from hdrs_hpc.protocol import bundle
from tests.support import proofs, uploading
from tests.support.world import World

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def world(make_world: Callable[..., World]) -> World:
    made = make_world()
    made.grant()
    made.run_until(lambda: made.project_state() == "ACTIVE", 10)
    return made


def at(hours: float) -> str:
    return clock.to_text(clock.now() + timedelta(hours=hours))


def by_key(world: World, value: Any, key: Ed25519PrivateKey) -> bytes:
    kind = kinds.JOB_SPEC
    return sign_in_process(kind, strict_json.dumps(value), key).to_bytes()


def unsigned(world: World) -> bytes:
    return world.signed("job-spec", world.spec_value())


def signed_by_a_stranger(world: World) -> bytes:
    return by_key(world, world.spec_value(), Ed25519PrivateKey.generate())


def signed_by_a_custodian(world: World) -> bytes:
    return world.signed("job-spec", world.spec_value(), "abara")


def signed_over_other_words(world: World) -> bytes:
    honest = Envelope.parse(world.signed("job-spec", world.spec_value(), "okafor"))
    other = strict_json.dumps(world.spec_value(purpose="Something else altogether"))
    return Envelope(honest.payload_type, other, honest.signatures).to_bytes()


def signed_as_another_kind(world: World) -> bytes:
    honest = Envelope.parse(world.signed("job-spec", world.spec_value(), "okafor"))
    return Envelope(kinds.CLOSURE.payload_type, honest.payload, honest.signatures).to_bytes()


def expired(world: World) -> bytes:
    value = world.spec_value(**{"not-before": at(-48), "expires": at(-1)})
    return world.signed("job-spec", value, "okafor")


def not_yet_valid(world: World) -> bytes:
    return world.signed("job-spec", world.spec_value(**{"not-before": at(1), "expires": at(2)}), "okafor")


def for_another_broker(world: World) -> bytes:
    return world.signed("job-spec", world.spec_value(audience="south-sde"), "okafor")


def for_a_project_that_is_not(world: World) -> bytes:
    return world.signed("job-spec", world.spec_value(project="heart-demo"), "okafor")


def with_an_unknown_field(world: World) -> bytes:
    return world.signed("job-spec", world.spec_value(priority="high"), "okafor")


def with_a_doubled_key(world: World) -> bytes:
    payload = strict_json.dumps(world.spec_value()).replace(b'{"', b'{"project":"lung-demo","', 1)
    return signed_raw(world, payload)


def deeply_nested(world: World) -> bytes:
    payload = strict_json.dumps(world.spec_value()).rstrip(b"}") + b',"x":' + b"[" * 500 + b"]" * 500 + b"}"
    return signed_raw(world, payload)


def huge(world: World) -> bytes:
    return signed_raw(world, strict_json.dumps(world.spec_value(purpose="x" * (2 << 20))))


def no_json_at_all(world: World) -> bytes:
    return signed_raw(world, b"%PDF-1.7 \xff\xfe")


def no_envelope(world: World) -> bytes:
    return b'{"payload": "e30=", "payloadType": 7}'


def a_certificate_of_our_own_making(world: World) -> bytes:
    return Envelope(kinds.CERTIFICATE.payload_type, b"{}").to_bytes()


def bundle_never_uploaded(world: World) -> bytes:
    work = {"kind": "dask", "bundle": {"digest": "sha256:" + "7" * 64, "size": 10}, "entry": "mine:run"}
    return world.signed("job-spec", world.spec_value(workload=work), "okafor")


def bundle_of_another_size(world: World) -> bytes:
    content = packed(world, {"mine.py": "def run(ctx): pass\n"})
    uploading.bring(world.ctx.db, world.ctx.home, world.project, "okafor", content)
    work = {"kind": "dask", "bundle": {"digest": bundle.digest(content), "size": 1}, "entry": "mine:run"}
    return world.signed("job-spec", world.spec_value(workload=work), "okafor")


def bundle_under_our_names(world: World) -> bytes:
    folder = world.root / "shadow" / "inside"
    (folder / "imaging").mkdir(parents=True, exist_ok=True)
    (folder / "imaging" / "__init__.py").write_text("")
    content = raw_tar(folder)
    uploading.bring(world.ctx.db, world.ctx.home, world.project, "okafor", content)
    named = {"digest": bundle.digest(content), "size": len(content)}
    work = {"kind": "dask", "bundle": named, "entry": "imaging:run"}
    return world.signed("job-spec", world.spec_value(workload=work), "okafor")


def grant_by_one_custodian(world: World) -> bytes:
    return world.signed("grant", next_grant(world), "abara")


def grant_by_one_custodian_twice(world: World) -> bytes:
    return world.signed("grant", next_grant(world), "abara", "abara")


def grant_that_skips_a_version(world: World) -> bytes:
    return world.signed("grant", next_grant(world) | {"version": 7}, "abara", "bell")


def grant_whose_custodian_researches(world: World) -> bytes:
    people = {"lead": "bell", "researchers": ["okafor"]}
    return world.signed("grant", next_grant(world) | {"people": people}, "abara", "bell")


def next_grant(world: World) -> dict[str, Any]:
    with world.ctx.db.read() as tx:
        in_force = documents.of_kind(tx, "grant")[-1].digest
    return world.grant_value(version=2, supersedes=in_force)


def signed_raw(world: World, payload: bytes) -> bytes:
    from hdrs_hpc.documents.signing import sign

    kind = kinds.JOB_SPEC
    return (
        Envelope(kind.payload_type, payload)
        .with_signature(sign(kind, payload, world.key("okafor")))
        .to_bytes()
    )


def packed(world: World, files: dict[str, str]) -> bytes:
    folder = world.root / "packed"
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    return bundle.pack(folder)


def raw_tar(folder: Any) -> bytes:
    """A tar as somebody makes it who does not use our client."""
    import io
    import tarfile

    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path in sorted(folder.rglob("*.py")):
            info = tarfile.TarInfo(str(path.relative_to(folder)))
            info.size = path.stat().st_size
            info.mode = 0o644
            tar.addfile(info, io.BytesIO(path.read_bytes()))
    return sink.getvalue()


REFUSED = {
    unsigned: "unsigned",
    signed_by_a_stranger: "signer-unknown",
    signed_by_a_custodian: "signer-lacks-role",
    signed_over_other_words: "bad-signature",
    signed_as_another_kind: "wrong-namespace",
    expired: "spec-expired",
    not_yet_valid: "spec-not-yet-valid",
    for_another_broker: "wrong-audience",
    for_a_project_that_is_not: "not-found",
    with_an_unknown_field: "unknown-field",
    with_a_doubled_key: "duplicate-key",
    deeply_nested: "document-too-deep",
    huge: "document-too-large",
    no_json_at_all: "malformed-document",
    no_envelope: "malformed-envelope",
    a_certificate_of_our_own_making: "not-for-filing",
    bundle_never_uploaded: "bundle-missing",
    bundle_of_another_size: "bundle-missing",
    bundle_under_our_names: "bundle-shadows-names",
    grant_by_one_custodian: "threshold-not-met",
    grant_by_one_custodian_twice: "threshold-not-met",
    grant_that_skips_a_version: "grant-version",
    grant_whose_custodian_researches: "conflict-of-interest",
}


def state_of(world: World) -> tuple[Any, ...]:
    with world.ctx.db.read() as tx:
        return sorted(documents.all_raw(tx)), jobs.of_project(tx, world.project), world.project_state()


@pytest.mark.parametrize("make", REFUSED, ids=lambda make: make.__name__.replace("_", "-"))
def test_a_bad_document_is_refused_by_name_and_leaves_only_its_refusal(
    world: World, make: Callable[[World], bytes]
) -> None:
    raw = make(world)
    before, logged = state_of(world), len(proofs.entries(world))
    assert proofs.refusal(lambda: world.file_raw(raw)) == [REFUSED[make]]
    assert proofs.refusal(lambda: world.file_raw(raw)) == [REFUSED[make]], "and again"
    assert state_of(world) == before
    new = proofs.entries(world)[logged:]
    assert {entry.event for entry in new} == {"document-refused"}
    assert {entry.detail["code"] for entry in new} <= {REFUSED[make], "policy-refused", "invalid-document"}
    assert world.tick() == 0


def test_the_same_bytes_are_one_job_and_the_same_nonce_is_none(world: World) -> None:
    value = world.spec_value()
    raw = world.signed("job-spec", value, "okafor")
    first, second = world.file_raw(raw), world.file_raw(raw)
    assert first.job == second.job
    assert (first.known, second.known) == (False, True)
    signed_anew = world.signed("job-spec", value, "okafor")
    assert world.file_raw(signed_anew).job == first.job, "other signature bytes, the same document"
    replayed = world.signed("job-spec", value | {"purpose": "Another purpose, the same nonce"}, "okafor")
    assert proofs.refusal(lambda: world.file_raw(replayed)) == ["replayed"]
    with world.ctx.db.read() as tx:
        assert [job.id for job in jobs.of_project(tx, world.project)] == [first.job]
    cancellation.request(world.ctx.db, "okafor", str(first.job))
    ended = world.run_job(str(first.job), "PURGED", timeout_s=60)
    assert (ended.outcome, ended.reason) == ("CANCELLED", "cancelled")


POLICY: dict[str, dict[str, Any]] = {
    "nodes-over-limit": {"nodes": 3},
    "time-over-limit": {"time": "02:00:00"},
    "gpu-hours-exhausted": {"gres": "gpu:128", "time": "01:00:00"},
    "gpus-not-there": {"gres": "gpu:1"},
    "cpus-not-there": {"cpus-per-task": 4096},
    "memory-not-there": {"mem": "99T"},
    "cluster-not-granted": {"cluster": "isambard-ai"},
}


def refused_specs(world: World) -> Iterator[tuple[str, dict[str, Any]]]:
    resources = world.spec_value()["resources"]
    for code, change in POLICY.items():
        yield code, {"resources": resources | change}
    yield "dataset-not-granted", {"data": {"ct": {"dataset": "south-ct"}}}
    yield "workload-unknown", {"workload": {"kind": "dask", "builtin": "cohort-summary@2"}}
    yield (
        "not-built",
        {"workload": {"kind": "dask", "builtin": "cohort-summary@1", "sweep": {"bins": [1, 2]}}},
    )
    outputs = {"w": {"class": "weights", "path": "w.safetensors", "max-size": "1MiB"}}
    yield "output-class-not-granted", {"outputs": outputs}


def test_a_policy_refusal_is_a_job_that_ends_with_the_whole_decision(world: World) -> None:
    world.tick()  # so that the cluster told of its nodes
    for code, changes in refused_specs(world):
        job = world.run_job(world.submit(**changes), "PURGED", timeout_s=20)
        assert (job.outcome, job.cluster) == ("REFUSED", None), code
        assert job.decision is not None
        broken = {rule["code"] for rule in job.decision["rules"] if not rule["ok"]}
        assert code in broken, (code, broken)
        assert job.reason in broken
        assert len({rule["rule"] for rule in job.decision["rules"]}) == 31, "kept rules are told too"


def test_the_log_of_all_these_refusals_verifies(world: World) -> None:
    proofs.check_log(world)
