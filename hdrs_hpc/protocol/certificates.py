"""Certificates by which the nodes of one attempt know each other, under an authority of their own.

The authority's key is derived from the secret that keyd gives to the nodes of the attempt and to nobody else, so
all nodes trust the same key and none has to ask another.  Each node signs one certificate for itself and drops the
authority's key before this function returns: what runs in a sandbox sees its own certificate and key only, and can
make no further one.  Valid no longer than the attempt.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CLOCK_SKEW = timedelta(minutes=10)
_CURVE = ec.SECP256R1()
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""Of P-256 (SEC 2, 2.4.2)."""
_LABEL = b"hdrs-hpc certificate authority of an attempt"


@dataclass(frozen=True)
class NodeCertificate:
    """PEM texts: the attempt's authority, and this node's certificate and key under it."""

    ca: str
    cert: str
    key: str

    def __repr__(self) -> str:  # a key must not reach a log through a traceback
        return "NodeCertificate(…)"


def make_certificate(secret: bytes, attempt: str, now: datetime, not_after: datetime) -> NodeCertificate:
    """One node's certificate (ECDSA P-256) under the authority that ``secret`` and ``attempt`` stand for."""
    ca_key = _authority(secret, attempt)
    leaf_key = ec.generate_private_key(_CURVE)
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{attempt} ca")])
    ca = (
        _builder(ca_name, ca_name, ca_key.public_key(), now, not_after)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(cert_sign=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    leaf_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, attempt)])
    leaf = (
        _builder(leaf_name, ca_name, leaf_key.public_key(), now, not_after)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(cert_sign=False), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
            critical=False,
        )
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False
        )
        .sign(ca_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    return NodeCertificate(
        ca=ca.public_bytes(pem).decode("ascii"),
        cert=leaf.public_bytes(pem).decode("ascii"),
        key=leaf_key.private_bytes(
            pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode("ascii"),
    )


def _authority(secret: bytes, attempt: str) -> ec.EllipticCurvePrivateKey:
    """Sixteen bytes more than the group needs make the remainder as good as uniform (FIPS 186-5, A.2.1)."""
    raw = HKDF(hashes.SHA256(), 48, salt=None, info=_LABEL + attempt.encode("ascii")).derive(secret)
    return ec.derive_private_key(int.from_bytes(raw, "big") % (_ORDER - 1) + 1, _CURVE)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public: ec.EllipticCurvePublicKey,
    now: datetime,
    not_after: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(not_after + CLOCK_SKEW)
    )


def _key_usage(*, cert_sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not cert_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=cert_sign,
        crl_sign=cert_sign,
        encipher_only=False,
        decipher_only=False,
    )
