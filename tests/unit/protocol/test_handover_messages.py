"""Sealing a launch order to one agent, and to nothing else."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import hashlib
import ssl
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from hdrs_hpc.core import wire
from hdrs_hpc.core.errors import BadDocumentError
from hdrs_hpc.protocol import handover
from hdrs_hpc.protocol.certificates import NodeCertificate, make_certificate
from hdrs_hpc.protocol.handover import (
    AnswerUnreadableError,
    FlavourOrder,
    Hello,
    LaunchOrder,
    NodeList,
    OutputOrder,
    Probe,
    SealedInput,
    satisfies,
)

ATTEMPT = "hdrs-0123456789abcdefghjkmnpqrs"
KEY, OUTPUT_KEY, SECRET = b"K" * 32, b"O" * 32, b"S" * 32
DIGEST = "sha256:" + "ab" * 32
NOW = datetime(2026, 12, 1, tzinfo=UTC)
GOOD_PROBE = Probe("sandboxed", (), True, True, 0)


def digest(raw: bytes) -> str:
    return f"sha256:{hashlib.sha256(raw).hexdigest()}"


@pytest.fixture(scope="module")
def private() -> X25519PrivateKey:
    return X25519PrivateKey.generate()


@pytest.fixture(scope="module")
def hello(private: X25519PrivateKey) -> Hello:
    return Hello(
        ATTEMPT, "n1", private.public_key().public_bytes_raw(), GOOD_PROBE, "10.77.0.11", b"told", DIGEST
    )


@pytest.fixture(scope="module")
def order() -> LaunchOrder:
    copy = SealedInput(("hdrs-hpc", "lung-fm", "copies", "C1"), "copy", "C1", "m-00", DIGEST, KEY)
    return LaunchOrder(
        project="lung-fm",
        attempt=ATTEMPT,
        job="7K3QW2",
        spec=b'{"workload":{"kind":"dask","builtin":"cohort-summary@1"}}',
        inputs={"ct": copy},
        files={},
        bundle=None,
        flavour=FlavourOrder("base", DIGEST, 1000),
        output_key=OUTPUT_KEY,
        shared_secret=SECRET,
        outputs=(OutputOrder("cohort", "table", "tables/cohort.csv", 1 << 20),),
        isolation="sandboxed",
        not_after="2026-12-01T02:00:00Z",
        time_s=3600,
        mem_mb=4096,
        cpus=4,
    )


@pytest.fixture(scope="module")
def nodes(hello: Hello) -> NodeList:
    return handover.list_nodes([replace(hello, node="n2", public_key=b"2" * 32), hello])


def test_the_agent_that_said_hello_opens_the_order(
    order: LaunchOrder, hello: Hello, nodes: NodeList, private: Any
) -> None:
    answer, sealed = handover.seal_order("north", order, hello, nodes)
    again = handover.parse_answer(wire.to_bytes(answer))
    assert handover.open_order(again, sealed, private) == order


def test_the_list_names_every_node_in_order_with_all_that_it_said(hello: Hello, nodes: NodeList) -> None:
    assert [item.node for item in nodes.nodes] == ["n1", "n2"]
    assert nodes.nodes[0].hello == f"sha256:{hashlib.sha256(wire.to_bytes(hello)).hexdigest()}"
    assert nodes.first_told == b"told"
    for change in ({"told": b"else"}, {"address": "10.77.0.12"}, {"public_key": b"\1" * 32}):
        assert replace(hello, **change).digest() != hello.digest()


def test_nodes_that_are_more_than_a_hand_over_reaches_are_refused_in_a_sentence(hello: Hello) -> None:
    many = [replace(hello, node=f"n{number}") for number in range(65)]
    assert len(handover.list_nodes(many[:64]).nodes) == 64
    with pytest.raises(handover.HandoverTooLargeError, match="65 nodes"):
        handover.list_nodes(many)


def test_an_order_at_every_limit_is_one_line_of_a_courier_and_one_byte_more_is_refused(
    order: LaunchOrder, hello: Hello
) -> None:
    many = [
        replace(hello, node=f"n{number:062d}", address="100.100.100.100", told=b"t" * handover.MAX_TOLD_BYTES)
        for number in range(64)
    ]
    nodes = handover.list_nodes(many)
    big = replace(order, spec=b"s" * (256 << 10))
    one = OutputOrder("a", "table", "b", 1)
    room = handover.MAX_ORDER_BYTES - len(wire.to_bytes(big))
    big = replace(big, outputs=(*big.outputs, *[one] * (room // (len(wire.to_bytes(one)) + 1))))
    missing = handover.MAX_ORDER_BYTES - len(wire.to_bytes(big))
    big = replace(big, outputs=(*big.outputs[:-1], replace(big.outputs[-1], path="b" * (missing + 1))))
    assert len(wire.to_bytes(big)) == handover.MAX_ORDER_BYTES
    answer, sealed = handover.seal_order("north", big, many[0], nodes)
    envelope = b"e" * handover.MAX_ENVELOPE_BYTES
    assert len(wire.to_bytes(answer)) * 4 // 3 + 1024 < len(envelope)
    request = handover.Request("answer", handover.NodeAnswer(envelope, sealed), nodes.to_bytes())
    assert handover.parse_request(wire.to_line(request)) == request
    longer = replace(big, outputs=(*big.outputs[:-1], replace(big.outputs[-1], path="b" * (missing + 2))))
    for larger in (longer, replace(order, spec=b"s" * ((256 << 10) + 1))):
        with pytest.raises(handover.HandoverTooLargeError, match="are carried"):
            handover.seal_order("north", larger, hello, nodes)


def test_no_key_is_readable_in_an_answer(order: LaunchOrder, hello: Hello, nodes: NodeList) -> None:
    answer, sealed = handover.seal_order("north", order, hello, nodes)
    raw = wire.to_bytes(answer) + sealed
    for key in (KEY, OUTPUT_KEY, SECRET):
        assert key not in raw
        assert base64.b64encode(key) not in raw


def test_another_agents_key_opens_nothing(order: LaunchOrder, hello: Hello, nodes: NodeList) -> None:
    answer, sealed = handover.seal_order("north", order, hello, nodes)
    with pytest.raises(AnswerUnreadableError):
        handover.open_order(answer, sealed, X25519PrivateKey.generate())


@pytest.mark.parametrize(
    "change",
    [
        {"audience": "south"},
        {"project": "other"},
        {"attempt": "hdrs-" + "0" * 26},
        {"node": "n2"},
        {"public_key": b"\1" * 32},
        {"nodes": "sha256:" + "cd" * 32},
        {"manifests": ("sha256:" + "cd" * 32,)},
        {"not_after": "2026-12-02T02:00:00Z"},
    ],
)
def test_every_field_of_the_binding_is_bound(
    order: LaunchOrder, hello: Hello, nodes: NodeList, private: Any, change: dict[str, Any]
) -> None:
    answer, sealed = handover.seal_order("north", order, hello, nodes)
    assert set(change) < {field.name for field in dataclasses.fields(answer.binding)}
    with pytest.raises(AnswerUnreadableError):
        handover.open_order(replace(answer, binding=replace(answer.binding, **change)), sealed, private)


def test_an_order_that_contradicts_its_binding_is_refused(
    order: LaunchOrder, hello: Hello, nodes: NodeList, private: Any
) -> None:
    binding = handover.bind("north", replace(order, not_after="2027-01-01T00:00:00Z"), hello, nodes)
    sealed = handover.SUITE.encrypt(wire.to_bytes(order), private.public_key(), binding.info())
    with pytest.raises(AnswerUnreadableError, match="contradicts"):
        handover.open_order(handover.Answer(binding, digest(sealed)), sealed, private)


def test_one_bit_anywhere_in_an_answer_is_refused_never_a_crash(
    order: LaunchOrder, hello: Hello, nodes: NodeList, private: Any
) -> None:
    answer, sealed = handover.seal_order("north", order, hello, nodes)
    raw = wire.to_bytes(answer)
    for at in range(0, len(raw), 7):
        flipped = bytearray(raw)
        flipped[at] ^= 1 << (at % 8)
        with pytest.raises((BadDocumentError, AnswerUnreadableError)):
            handover.open_order(handover.parse_answer(bytes(flipped)), sealed, private)
    for at in range(0, len(sealed), 7):
        flipped = bytearray(sealed)
        flipped[at] ^= 1 << (at % 8)
        for named in (answer, replace(answer, sealed=digest(bytes(flipped)))):
            with pytest.raises(AnswerUnreadableError):
                handover.open_order(named, bytes(flipped), private)


def test_info_is_the_digest_of_the_canonical_binding(
    order: LaunchOrder, hello: Hello, nodes: NodeList
) -> None:
    binding = handover.bind("north", order, hello, nodes)
    written = (
        '{"attempt":"' + ATTEMPT + '","audience":"north","manifests":["' + DIGEST + '"],"node":"n1",'
        '"nodes":"' + digest(wire.to_bytes(nodes)) + '",'
        '"not-after":"2026-12-01T02:00:00Z","project":"lung-fm","public-key":"'
        + base64.b64encode(hello.public_key).decode()
        + '"}'
    )
    assert binding.info() == hashlib.sha256(written.encode()).digest()


def test_orders_and_inputs_show_no_key_when_printed(order: LaunchOrder) -> None:
    text = f"{order!r} {order.inputs!r} {order}"
    assert "KKKK" not in text
    assert "OOOO" not in text
    assert "SSSS" not in text


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


def test_nodes_trust_each_others_certificates_and_those_of_no_other_attempt_or_secret() -> None:
    until = NOW + timedelta(hours=2)
    one, two = (make_certificate(SECRET, ATTEMPT, NOW, until) for _ in range(2))
    assert one.key != two.key
    for ours, theirs in ((one, two), (two, one)):
        ca, leaf = (x509.load_pem_x509_certificate(text.encode()) for text in (ours.ca, theirs.cert))
        public = ca.public_key()
        assert isinstance(public, EllipticCurvePublicKey)
        assert leaf.signature_hash_algorithm is not None
        public.verify(leaf.signature, leaf.tbs_certificate_bytes, ECDSA(leaf.signature_hash_algorithm))
        assert leaf.not_valid_after_utc <= NOW + timedelta(hours=2, minutes=10)
        assert leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
        assert "PRIVATE" not in ours.ca + ours.cert
    for secret, attempt in ((KEY, ATTEMPT), (SECRET, "hdrs-" + "0" * 26)):
        other = x509.load_pem_x509_certificate(make_certificate(secret, attempt, NOW, until).ca.encode())
        assert other.public_key() != x509.load_pem_x509_certificate(one.ca.encode()).public_key()


def _says(client: ssl.SSLContext, server: ssl.SSLContext) -> None:
    """A whole TLS handshake in memory, both sides asking for a certificate."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [client.wrap_bio(back, there), server.wrap_bio(there, back, server_side=True)]
    for _ in range(4):
        for side in sides:
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
    sides[0].write(b"x")
    assert sides[1].read() == b"x"


def _context(made: NodeCertificate, folder: Path, purpose: ssl.Purpose) -> ssl.SSLContext:
    folder.mkdir(exist_ok=True)
    for name, text in (("ca", made.ca), ("cert", made.cert), ("key", made.key)):
        (folder / name).write_text(text)
    context = ssl.create_default_context(purpose, cafile=str(folder / "ca"))
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(folder / "cert", folder / "key")
    return context


def test_two_nodes_talk_by_tls_and_a_stranger_to_neither(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    made = [make_certificate(secret, ATTEMPT, now, now + timedelta(hours=1)) for secret in (KEY, KEY, SECRET)]
    clients = [_context(it, tmp_path / str(n), ssl.Purpose.SERVER_AUTH) for n, it in enumerate(made)]
    servers = [_context(it, tmp_path / str(n), ssl.Purpose.CLIENT_AUTH) for n, it in enumerate(made)]
    _says(clients[0], servers[1])
    _says(clients[1], servers[0])
    for client, server in ((clients[2], servers[0]), (clients[0], servers[2])):
        with pytest.raises(ssl.SSLError):
            _says(client, server)


GH200, A100 = "NVIDIA GH200 120GB", "NVIDIA A100-SXM4-80GB"


@pytest.mark.parametrize(
    ("asked", "models", "there"),
    [
        ("gh200", (GH200,), True),
        ("GH200", (GH200,), True),
        ("a100", (GH200,), False),
        ("a100_80g", (A100,), True),
        ("a100", (A100, GH200), True),
        ("h100", (A100, GH200), False),
        ("ampere", (A100,), True),  # a site's own word: it can't be compared
        ("a100", (), True),  # no driver tells a name
    ],
)
def test_a_type_of_gpu_is_looked_for_in_the_names_that_the_driver_tells(
    asked: str, models: tuple[str, ...], there: bool
) -> None:
    assert handover.is_of_type(asked, models) is there
