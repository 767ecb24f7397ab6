"""Sealing a launch order to one agent, and to nothing else."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from hdrs_hpc.core.errors import BadDocumentError
from hdrs_hpc.protocol import handover, wire
from hdrs_hpc.protocol.handover import (
    AnswerUnreadableError,
    Hello,
    LaunchOrder,
    OutputOrder,
    Probe,
    SealedInput,
    TlsOrder,
    WorkloadOrder,
    satisfies,
)
from hdrs_hpc.protocol.ranks import plan_ranks
from hdrs_hpc.protocol.tls import make_tls

ATTEMPT = "hdrs-0123456789abcdefghjkmnpqrs"
KEY, OUTPUT_KEY = b"K" * 32, b"O" * 32
DIGEST = "sha256:" + "ab" * 32
NOW = datetime(2026, 12, 1, tzinfo=UTC)
GOOD_PROBE = Probe("sandboxed", (), True, True, 0)


@pytest.fixture(scope="module")
def private() -> X25519PrivateKey:
    return X25519PrivateKey.generate()


@pytest.fixture(scope="module")
def hello(private: X25519PrivateKey) -> Hello:
    return Hello(
        ATTEMPT, "n1", private.public_key().public_bytes_raw(), GOOD_PROBE, "10.77.0.11", 40000, DIGEST
    )


@pytest.fixture(scope="module")
def order() -> LaunchOrder:
    copy = SealedInput(("hdrs-hpc", "lung-fm", "copies", "C1"), "copy", "C1", "m-00", DIGEST, KEY)
    return LaunchOrder(
        project="lung-fm",
        attempt=ATTEMPT,
        job="7K3QW2",
        workload=WorkloadOrder("dask", "cohort-summary@1", None, None, {"bins": 64}),
        inputs={"ct": copy},
        output_key=OUTPUT_KEY,
        outputs=(OutputOrder("cohort", "table", "tables/cohort.csv", 1 << 20),),
        isolation="sandboxed",
        ranks=plan_ranks(["n1", "n2"], 4),
        scheduler="tls://10.77.0.11:40000",
        tls=TlsOrder("ca", "cert", "key"),
        not_after="2026-12-01T02:00:00Z",
        time_s=3600,
        mem_mb=4096,
        cpus=4,
    )


def test_the_agent_that_said_hello_opens_the_order(order: LaunchOrder, hello: Hello, private: Any) -> None:
    answer = handover.seal_order("north", order, hello)
    again = handover.parse_answer(wire.to_bytes(answer))
    assert handover.open_order(again, private) == order


def test_no_key_is_readable_in_an_answer(order: LaunchOrder, hello: Hello) -> None:
    raw = wire.to_bytes(handover.seal_order("north", order, hello))
    for key in (KEY, OUTPUT_KEY):
        assert key not in raw
        assert base64.b64encode(key) not in raw


def test_another_agents_key_opens_nothing(order: LaunchOrder, hello: Hello) -> None:
    answer = handover.seal_order("north", order, hello)
    with pytest.raises(AnswerUnreadableError):
        handover.open_order(answer, X25519PrivateKey.generate())


@pytest.mark.parametrize(
    "change",
    [
        {"audience": "south"},
        {"project": "other"},
        {"attempt": "hdrs-" + "0" * 26},
        {"node": "n2"},
        {"public_key": b"\1" * 32},
        {"nodes": ("n1",)},
        {"manifests": ("sha256:" + "cd" * 32,)},
        {"not_after": "2026-12-02T02:00:00Z"},
    ],
)
def test_every_field_of_the_binding_is_bound(
    order: LaunchOrder, hello: Hello, private: Any, change: dict[str, Any]
) -> None:
    answer = handover.seal_order("north", order, hello)
    assert set(change) < {field.name for field in dataclasses.fields(answer.binding)}
    with pytest.raises(AnswerUnreadableError):
        handover.open_order(replace(answer, binding=replace(answer.binding, **change)), private)


def test_an_order_that_contradicts_its_binding_is_refused(
    order: LaunchOrder, hello: Hello, private: Any
) -> None:
    binding = handover.bind("north", replace(order, not_after="2027-01-01T00:00:00Z"), hello)
    sealed = handover.SUITE.encrypt(wire.to_bytes(order), private.public_key(), binding.info())
    with pytest.raises(AnswerUnreadableError, match="contradicts"):
        handover.open_order(handover.Answer(binding, sealed), private)


def test_one_bit_anywhere_in_an_answer_is_refused_never_a_crash(
    order: LaunchOrder, hello: Hello, private: Any
) -> None:
    raw = wire.to_bytes(handover.seal_order("north", order, hello))
    for at in range(0, len(raw), 7):
        flipped = bytearray(raw)
        flipped[at] ^= 1 << (at % 8)
        with pytest.raises((BadDocumentError, AnswerUnreadableError)):
            handover.open_order(handover.parse_answer(bytes(flipped)), private)


def test_info_is_the_digest_of_the_canonical_binding(order: LaunchOrder, hello: Hello) -> None:
    binding = handover.bind("north", order, hello)
    written = (
        '{"attempt":"' + ATTEMPT + '","audience":"north","manifests":["' + DIGEST + '"],"node":"n1",'
        '"nodes":["n1","n2"],"not-after":"2026-12-01T02:00:00Z","project":"lung-fm","public-key":"'
        + base64.b64encode(hello.public_key).decode()
        + '","schema":"hdrs-hpc/protocol/1"}'
    )
    assert binding.info() == hashlib.sha256(written.encode()).digest()


def test_orders_and_inputs_show_no_key_when_printed(order: LaunchOrder) -> None:
    text = f"{order!r} {order.inputs!r} {order.tls!r} {order}"
    assert "KKKK" not in text
    assert "OOOO" not in text


@pytest.mark.parametrize(
    ("probe", "enough"),
    [
        (GOOD_PROBE, True),
        (replace(GOOD_PROBE, level="cooperative"), False),
        (replace(GOOD_PROBE, reached=("network",)), False),
        (replace(GOOD_PROBE, private_memory=False), False),
        (replace(GOOD_PROBE, not_dumpable=False), False),
    ],
)
def test_sandboxed_needs_every_part_of_the_evidence(probe: Probe, enough: bool) -> None:
    assert satisfies(probe, "sandboxed") is enough
    assert satisfies(probe, "cooperative")


def test_an_attempt_has_one_leaf_of_its_own_ca_and_no_longer_than_it_lives() -> None:
    made = make_tls(ATTEMPT, NOW, NOW + timedelta(hours=2))
    ca, leaf = (x509.load_pem_x509_certificate(text.encode()) for text in (made.ca, made.cert))
    public = ca.public_key()
    assert isinstance(public, EllipticCurvePublicKey)
    assert leaf.signature_hash_algorithm is not None
    public.verify(leaf.signature, leaf.tbs_certificate_bytes, ECDSA(leaf.signature_hash_algorithm))
    assert leaf.not_valid_after_utc <= NOW + timedelta(hours=2, minutes=10)
    assert leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    assert "PRIVATE" not in made.ca + made.cert


def test_the_first_node_runs_scheduler_and_client_and_all_run_workers() -> None:
    made = plan_ranks(["n1", "n2"], 16)
    assert [(rank.node, rank.first, rank.workers, rank.threads) for rank in made] == [
        ("n1", True, 4, 4),
        ("n2", False, 4, 4),
    ]
    assert [(rank.workers, rank.threads) for rank in plan_ranks(["n1"], 2)] == [(2, 1)]
