"""SSHSIG against the oracle ``ssh-keygen -Y``, both ways, and attacks on the format."""

from __future__ import annotations

import base64
import hashlib
import shutil
import struct
import subprocess

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from hdrs_hpc.core.errors import BadDocumentError
from hdrs_hpc.documents import sshsig

NAMESPACE = "hdrs-hpc/grant@1"
KINDS = {
    "ed25519": ["-t", "ed25519"],
    "ecdsa-256": ["-t", "ecdsa", "-b", "256"],
    "ecdsa-384": ["-t", "ecdsa", "-b", "384"],
    "ecdsa-521": ["-t", "ecdsa", "-b", "521"],
    "rsa-2048": ["-t", "rsa", "-b", "2048"],
    "rsa-3072": ["-t", "rsa", "-b", "3072"],
}
SSH_KEYGEN = shutil.which("ssh-keygen") or "/usr/bin/ssh-keygen"


def _string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def _mpint(number: int) -> bytes:
    return _string(number.to_bytes(number.bit_length() // 8 + 1, "big"))


@pytest.fixture(scope="session")
def keys(tmp_path_factory):
    """Key files by kind, made by ssh-keygen."""
    folder = tmp_path_factory.mktemp("keys")
    made = {}
    for name, options in KINDS.items():
        made[name] = folder / name
        subprocess.run([SSH_KEYGEN, "-q", *options, "-N", "", "-C", "me", "-f", made[name]], check=True)
    return made


def oracle_sign(key, message: bytes, *options: str, namespace: str = NAMESPACE) -> bytes:
    argv = [SSH_KEYGEN, "-Y", "sign", "-f", str(key), "-n", namespace, *options]
    done = subprocess.run(argv, input=message, capture_output=True, check=True)
    return sshsig.unarmour(done.stdout.decode())


def oracle_accepts(folder, line: str, sig: bytes, namespace: str, message: bytes) -> bool:
    allowed, file = folder / "allowed", folder / "sig"
    allowed.write_text(f"me {line}\n")
    file.write_text(sshsig.armour(sig))
    argv = [SSH_KEYGEN, "-Y", "verify", "-f", str(allowed), "-I", "me", "-n", namespace, "-s", str(file)]
    return subprocess.run(argv, input=message, capture_output=True, check=False).returncode == 0


def _line(path) -> str:
    return path.with_name(path.name + ".pub").read_text().strip()


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("options", [(), ("-O", "hashalg=sha256")])
def test_what_ssh_keygen_signs_we_verify(keys, name, options):
    sig = oracle_sign(keys[name], b"the message", *options)
    line = _line(keys[name])
    sshsig.verify(line, sig, NAMESPACE, b"the message")
    with pytest.raises(sshsig.BadSignatureError):
        sshsig.verify(line, sig, NAMESPACE, b"the messagf")
    with pytest.raises(sshsig.WrongNamespaceError):
        sshsig.verify(line, sig, "hdrs-hpc/closure@1", b"the message")


def test_what_we_sign_ssh_keygen_verifies(tmp_path):
    key = Ed25519PrivateKey.generate()
    line = sshsig.public_line(key, "me")
    sig = sshsig.sign_ed25519(key, NAMESPACE, b"hello")
    assert oracle_accepts(tmp_path, line, sig, NAMESPACE, b"hello")
    assert not oracle_accepts(tmp_path, line, sig, NAMESPACE, b"hellp")
    sshsig.verify(line, sig, NAMESPACE, b"hello")


def test_we_sign_the_same_bytes_as_ssh_keygen(keys):
    from cryptography.hazmat.primitives.serialization import load_ssh_private_key

    private = load_ssh_private_key(keys["ed25519"].read_bytes(), None)
    assert isinstance(private, Ed25519PrivateKey)
    assert sshsig.sign_ed25519(private, NAMESPACE, b"m") == oracle_sign(keys["ed25519"], b"m")


@pytest.mark.parametrize("name", KINDS)
def test_fingerprints_are_those_that_ssh_keygen_shows(keys, name):
    shown = subprocess.run(
        [SSH_KEYGEN, "-l", "-f", keys[name]], capture_output=True, check=True
    ).stdout.decode()
    assert sshsig.fingerprint(_line(keys[name])) == shown.split()[1]


class SecurityKey:
    """A FIDO token in software: signs as PROTOCOL.u2f tells, with flags of the test's choice."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.application = b"ssh:"
        if kind == "ed25519":
            self.name = b"sk-ssh-ed25519@openssh.com"
            self.private = Ed25519PrivateKey.generate()
            raw = self.private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
            self.public = _string(self.name) + _string(raw) + _string(self.application)
        else:
            self.name = b"sk-ecdsa-sha2-nistp256@openssh.com"
            self.private = ec.generate_private_key(ec.SECP256R1())
            raw = self.private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
            self.public = _string(self.name) + _string(b"nistp256") + _string(raw) + _string(self.application)

    @property
    def line(self) -> str:
        return f"{self.name.decode()} {base64.b64encode(self.public).decode()} me"

    def sign(self, namespace: str, message: bytes, flags: int = 1) -> bytes:
        signed = b"SSHSIG" + b"".join(
            _string(part) for part in (namespace.encode(), b"", b"sha512", hashlib.sha512(message).digest())
        )
        tail = bytes([flags]) + struct.pack(">I", 7)
        data = hashlib.sha256(self.application).digest() + tail + hashlib.sha256(signed).digest()
        if self.kind == "ed25519":
            body = self.private.sign(data)
        else:
            r, s = decode_dss_signature(self.private.sign(data, ec.ECDSA(SHA256())))
            body = _mpint(r) + _mpint(s)
        inner = _string(self.name) + _string(body) + tail
        return (
            b"SSHSIG"
            + struct.pack(">I", 1)
            + b"".join(_string(part) for part in (self.public, namespace.encode(), b"", b"sha512", inner))
        )


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa"])
def test_a_touched_security_key_is_verified_as_by_ssh_keygen(kind, tmp_path):
    token = SecurityKey(kind)
    sig = token.sign(NAMESPACE, b"hello")
    assert oracle_accepts(tmp_path, token.line, sig, NAMESPACE, b"hello")
    sshsig.verify(token.line, sig, NAMESPACE, b"hello")
    with pytest.raises(sshsig.BadSignatureError):
        sshsig.verify(token.line, sig, NAMESPACE, b"hellp")


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa"])
def test_a_security_key_that_was_not_touched_is_refused(kind):
    token = SecurityKey(kind)
    with pytest.raises(sshsig.UserPresenceError):
        sshsig.verify(token.line, token.sign(NAMESPACE, b"hello", flags=4), NAMESPACE, b"hello")


def test_a_certificate_embedded_in_a_signature_is_refused(keys, tmp_path):
    ca = keys["ed25519"]
    for name in ("k", "k.pub"):
        (tmp_path / name).write_bytes(keys["ecdsa-256"].with_name("ecdsa-256" + name[1:]).read_bytes())
    argv = [SSH_KEYGEN, "-q", "-s", str(ca), "-I", "id", "-n", "me", str(tmp_path / "k.pub")]
    subprocess.run(argv, check=True)
    certificate = (tmp_path / "k-cert.pub").read_text().strip()
    with pytest.raises(BadDocumentError) as caught:
        sshsig.fingerprint(certificate)
    assert caught.value.code == "key-type-refused"
    (tmp_path / "k").chmod(0o600)
    forged = _rewrap(oracle_sign(tmp_path / "k", b"m"), base64.b64decode(certificate.split()[1]))
    with pytest.raises(BadDocumentError) as caught:
        sshsig.verify(_line(keys["ecdsa-256"]), forged, NAMESPACE, b"m")
    assert caught.value.code == "key-type-refused"


def _rewrap(sig: bytes, public: bytes) -> bytes:
    """The same signature, said to be by another key."""
    at = 10
    length = struct.unpack(">I", sig[at : at + 4])[0]
    return sig[:at] + _string(public) + sig[at + 4 + length :]


def test_a_signature_said_to_be_by_another_key_is_refused(keys):
    sig = oracle_sign(keys["ed25519"], b"m")
    with pytest.raises(sshsig.WrongKeyError):
        sshsig.verify(_line(keys["ecdsa-256"]), sig, NAMESPACE, b"m")
    victim = base64.b64decode(_line(keys["ecdsa-256"]).split()[1])
    with pytest.raises(BadDocumentError):
        sshsig.verify(_line(keys["ecdsa-256"]), _rewrap(sig, victim), NAMESPACE, b"m")


def test_a_weak_rsa_key_is_refused(tmp_path):
    subprocess.run(
        [SSH_KEYGEN, "-q", "-t", "rsa", "-b", "1024", "-N", "", "-f", tmp_path / "weak"], check=True
    )
    with pytest.raises(BadDocumentError) as caught:
        sshsig.fingerprint(_line(tmp_path / "weak"))
    assert caught.value.code == "weak-key"


def test_one_key_written_in_two_ways_has_one_fingerprint():
    private = ec.generate_private_key(ec.SECP256R1())
    lines = []
    for form in (PublicFormat.UncompressedPoint, PublicFormat.CompressedPoint):
        point = private.public_key().public_bytes(Encoding.X962, form)
        name = b"ecdsa-sha2-nistp256"
        blob = _string(name) + _string(b"nistp256") + _string(point)
        lines.append(f"{name.decode()} {base64.b64encode(blob).decode()} someone")
    assert lines[0] != lines[1]
    assert sshsig.fingerprint(lines[0]) == sshsig.fingerprint(lines[1])


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("", "malformed-key"),
        ("ssh-ed25519", "malformed-key"),
        ("ssh-ed25519 !!!!", "malformed-key"),
        ("ssh-ed25519 AAAA", "malformed-key"),
        (f"ssh-dss {base64.b64encode(_string(b'ssh-dss')).decode()}", "key-type-refused"),
        (
            "webauthn-sk-ecdsa-sha2-nistp256@openssh.com "
            + base64.b64encode(_string(b"webauthn-sk-ecdsa-sha2-nistp256@openssh.com")).decode(),
            "key-type-refused",
        ),
        (
            "ssh-ed25519 " + base64.b64encode(_string(b"ssh-ed25519") + _string(b"\xff" * 32)).decode(),
            "malformed-key",
        ),
        (
            "ssh-rsa " + base64.b64encode(_string(b"ssh-ed25519") + _string(b"\x05" * 32)).decode(),
            "malformed-key",
        ),
    ],
)
def test_key_lines_that_are_none_are_refused(line, code):
    with pytest.raises(BadDocumentError) as caught:
        sshsig.fingerprint(line)
    assert caught.value.code == code


@pytest.mark.parametrize("name", KINDS)
def test_every_flipped_bit_and_every_truncation_of_a_signature_is_refused(keys, name):
    sig, line = oracle_sign(keys[name], b"m"), _line(keys[name])
    for at in range(len(sig)):
        flipped = bytearray(sig)
        flipped[at] ^= 1 << (at % 8)
        for altered in (bytes(flipped), sig[:at]):
            with pytest.raises(BadDocumentError):
                sshsig.verify(line, altered, NAMESPACE, b"m")
    with pytest.raises(BadDocumentError):
        sshsig.verify(line, sig + b"\0", NAMESPACE, b"m")


@settings(max_examples=300)
@given(st.binary(max_size=400))
def test_random_bytes_as_a_signature_never_crash(raw):
    line = "ssh-ed25519 " + base64.b64encode(_string(b"ssh-ed25519") + _string(b"\x05" * 32)).decode()
    for blob in (raw, b"SSHSIG\0\0\0\1" + raw):
        with pytest.raises(BadDocumentError):
            sshsig.verify(line, blob, NAMESPACE, b"m")


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa"])
def test_a_security_keys_fingerprint_is_the_one_ssh_keygen_shows(kind, tmp_path):
    token = SecurityKey(kind)
    (tmp_path / "sk.pub").write_text(token.line + "\n")
    argv = [SSH_KEYGEN, "-l", "-f", str(tmp_path / "sk.pub")]
    shown = subprocess.run(argv, capture_output=True, check=True).stdout.decode()
    assert sshsig.fingerprint(token.line) == shown.split()[1]


def test_a_key_line_with_junk_in_its_base64_is_refused(keys):
    kind, base, *_ = _line(keys["ed25519"]).split()
    with pytest.raises(BadDocumentError):
        sshsig.fingerprint(f"{kind} {base[:20]}!!{base[20:]}")
