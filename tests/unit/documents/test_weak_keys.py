"""Keys that anybody can sign with, and encodings that make one key or signature two: refused wherever they enter."""

from __future__ import annotations

import base64
import struct

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hdrs_hpc.core.errors import BadDocumentError, HdrsError
from hdrs_hpc.documents import kinds, sshsig, trust
from hdrs_hpc.documents.envelope import Envelope, Signature
from hdrs_hpc.documents.models.dataset import DatasetRegistration
from hdrs_hpc.protocol import handover
from hdrs_hpc.protocol.handover import Hello, NodeKeyError, Probe
from tests.support.party import REGISTRATION

ORDER = 2**252 + 27742317777372353535851937790883648493
EIGHTH = "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"
OTHER_EIGHTH = "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"
SMALL = [
    (1).to_bytes(32, "little"), bytes(32), (2**255 - 20).to_bytes(32, "little"), bytes.fromhex(EIGHTH),
    bytes.fromhex(OTHER_EIGHTH), (2**255 - 19).to_bytes(32, "little"), (2**255 - 18).to_bytes(32, "little"),
]  # fmt: skip
SMALL += [raw[:31] + bytes([raw[31] | 0x80]) for raw in SMALL]


def _string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def _mpint(number: int) -> bytes:
    return _string(number.to_bytes(number.bit_length() // 8 + 1, "big"))


def _line(name: str, *parts: bytes) -> str:
    blob = b"".join(_string(part) for part in (name.encode(), *parts))
    return f"{name} {base64.b64encode(blob).decode()} someone"


def _code(line: str) -> str:
    with pytest.raises(BadDocumentError) as caught:
        sshsig.fingerprint(line)
    return caught.value.code


@pytest.mark.parametrize("raw", SMALL)
def test_an_ed25519_key_of_small_order_is_refused(raw: bytes) -> None:
    assert _code(_line("ssh-ed25519", raw)) == "weak-key"
    assert _code(_line("sk-ssh-ed25519@openssh.com", raw, b"ssh:")) == "weak-key"


@pytest.mark.parametrize("y", [2, 7, 2**255 - 19 + 3, 2**255 - 1])
def test_an_ed25519_key_that_is_no_point_in_its_one_encoding_is_refused(y: int) -> None:
    assert _code(_line("ssh-ed25519", y.to_bytes(32, "little"))) == "malformed-key"


@pytest.mark.parametrize("raw", SMALL[:5])
def test_a_person_and_a_duty_of_the_broker_with_a_key_of_small_order_are_refused(party, raw: bytes) -> None:
    weak = _line("ssh-ed25519", raw)
    people = party.root_value()
    people["people"]["rae"]["keys"].append(weak)
    duties = party.root_value()
    duties["broker-keys"]["checkpoint"] = [party.line("checkpoint"), weak]
    for value in (people, duties):
        with pytest.raises(HdrsError) as caught:
            trust.load_root(party.sign("trust-root", value, "ada", "bob").to_bytes(), None)
        assert [item.code for item in caught.value.findings] == ["weak-key"]


@pytest.mark.parametrize("raw", SMALL[:5])
def test_everybodys_signature_under_a_key_of_small_order_is_refused(raw: bytes) -> None:
    """R the identity and S zero: OpenSSL takes it, for some of these keys and any message."""
    kind = kinds.JOB_SPEC
    everybodys = (1).to_bytes(32, "little") + bytes(32)
    blob = _blob(_string(b"ssh-ed25519") + _string(raw), kind.namespace, everybodys)
    with pytest.raises(BadDocumentError) as caught:
        sshsig.embedded_key(blob)
    assert caught.value.code == "weak-key"


def _blob(public: bytes, namespace: str, made: bytes) -> bytes:
    inside = _string(b"ssh-ed25519") + _string(made)
    parts = (public, namespace.encode(), b"", b"sha512", inside)
    return b"SSHSIG" + (1).to_bytes(4, "big") + b"".join(_string(part) for part in parts)


def _resigned(envelope: Envelope, private: Ed25519PrivateKey, alter) -> Envelope:
    """The same envelope, its one signature's 64 bytes altered."""
    sig = envelope.signatures[0].sig
    made = alter(sig[-64:])
    public = _string(b"ssh-ed25519") + _string(private.public_key().public_bytes_raw())
    kind = kinds.JOB_SPEC
    blob = _blob(public, kind.namespace, made)
    return Envelope(envelope.payload_type, envelope.payload, (Signature(envelope.signatures[0].keyid, blob),))


@pytest.mark.parametrize("times", [1, 2, 7, 15])
def test_a_second_spelling_of_a_signature_is_refused(party, times: int) -> None:
    """S and S plus the order are one number to a lax reader."""

    def shifted(made: bytes) -> bytes:
        s = int.from_bytes(made[32:], "little") + times * ORDER
        return made[:32] + (s % 2**256).to_bytes(32, "little")

    envelope = party.signed("job-spec")
    same = _resigned(envelope, party.keys["rae"], lambda made: made)
    assert trust.verify(same, kinds.JOB_SPEC, party.root()).people == ("rae",)
    with pytest.raises(BadDocumentError) as caught:
        trust.verify(_resigned(envelope, party.keys["rae"], shifted), kinds.JOB_SPEC, party.root())
    assert caught.value.code == "bad-signature"


@pytest.mark.parametrize("r", [2**255 - 19, 2**255 - 18, 1 | 1 << 255, 2**256 - 1])
def test_a_commitment_that_is_no_point_in_its_one_encoding_is_refused(party, r: int) -> None:
    altered = _resigned(
        party.signed("job-spec"), party.keys["rae"], lambda made: r.to_bytes(32, "little") + made[32:]
    )
    with pytest.raises(BadDocumentError) as caught:
        trust.verify(altered, kinds.JOB_SPEC, party.root())
    assert caught.value.code == "bad-signature"


@pytest.mark.parametrize("curve", ["nistp256", "nistp384", "nistp521"])
def test_an_ecdsa_point_at_infinity_or_off_the_curve_is_refused(curve: str) -> None:
    size = {"nistp256": 32, "nistp384": 48, "nistp521": 66}[curve]
    for point in (b"\x00", b"", b"\x04" + bytes(2 * size), b"\x04" + (b"\x00" * (size - 1) + b"\x05") * 2,
                  b"\x04" + b"\xff" * (2 * size), b"\x06" + bytes(2 * size), b"\x02" + b"\xff" * size):  # fmt: skip
        assert _code(_line(f"ecdsa-sha2-{curve}", curve.encode(), point)) == "malformed-key"


@pytest.mark.parametrize(
    ("exponent", "code"),
    [(0, "malformed-key"), (1, "weak-key"), (2, "malformed-key"), (3, "weak-key"), (17, "weak-key"),
     (35, "weak-key"), (65535, "weak-key"), (65536, "malformed-key"), (2**32 + 1, "malformed-key")],
)  # fmt: skip
def test_an_rsa_key_with_a_small_even_or_huge_exponent_is_refused(exponent: int, code: str) -> None:
    modulus = rsa.generate_private_key(65537, 2048).public_key().public_numbers().n
    written = _mpint(exponent) if exponent else _string(b"")
    blob = _string(b"ssh-rsa") + written + _mpint(modulus)
    assert _code(f"ssh-rsa {base64.b64encode(blob).decode()}") == code


def test_an_rsa_modulus_that_is_even_or_small_is_refused() -> None:
    modulus = rsa.generate_private_key(65537, 2048).public_key().public_numbers().n
    for number, code in ((modulus + 1, "malformed-key"), (modulus >> 1 | 1, "weak-key")):
        blob = _string(b"ssh-rsa") + _mpint(65537) + _mpint(number)
        assert _code(f"ssh-rsa {base64.b64encode(blob).decode()}") == code


@pytest.mark.parametrize("u", [0, 1, 2**255 - 20, 2**255 - 19, 2**255 - 18, 9 | 1 << 255])
def test_nothing_is_sealed_to_a_nodes_key_of_small_order_or_of_another_encoding(u: int) -> None:
    hello = Hello("hdrs-0123456789abcdefghjkmnpqrs", "n1", u.to_bytes(32, "little"),
                  Probe("sandboxed", (), True, True, 0), "127.0.0.1", 40000, "sha256:" + "1" * 64)  # fmt: skip
    with pytest.raises(NodeKeyError):
        handover.check_node_key(hello)


@pytest.mark.parametrize("raw", SMALL[:5])
def test_an_sftp_server_is_not_pinned_by_a_key_with_which_anybody_could_pose_as_it(raw: bytes) -> None:
    line = _line("ssh-ed25519", raw).rsplit(" ", 1)[0]
    place = {
        "type": "sftp",
        "host": "files",
        "user": "me",
        "host-key": line,
        "identity": "/k",
        "path": "/data",
    }
    with pytest.raises(HdrsError) as caught:
        DatasetRegistration.from_value(REGISTRATION | {"source": place})
    assert [item.code for item in caught.value.findings] == ["weak-key"]
