"""Signing: a person's key through ``ssh-keygen`` (agent, passphrase, security key), the broker's here."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hdrs_hpc.core.errors import NotFoundError, UsageError
from hdrs_hpc.documents import sshsig
from hdrs_hpc.documents.envelope import Envelope, Signature, pae
from hdrs_hpc.documents.kinds import DocumentKind


class SshKeygenMissingError(NotFoundError):
    code = "ssh-keygen-missing"
    meaning = "OpenSSH's ssh-keygen, which signs with your key, is not on this machine."
    remedy = "Install OpenSSH 8.2 or newer (Debian and Ubuntu: the package openssh-client)."


class SigningFailedError(UsageError):
    code = "signing-failed"
    meaning = "ssh-keygen did not sign: key not found, passphrase wrong, agent empty, or key not touched."
    remedy = "Try `ssh-keygen -y -f KEY`; with an agent, `ssh-add -L` must list the key."


def sign(kind: DocumentKind[Any], payload: bytes, key_path: Path) -> Signature:
    """Sign a payload as a document of ``kind`` with a person's key, and check the result.

    ``key_path`` is a private key, or a public one whose private half an ssh-agent or security key holds.
    ssh-keygen asks for passphrase or touch on the terminal by itself.  Raises SigningFailedError.
    """
    program = find_ssh_keygen()
    if not key_path.is_file():
        raise SigningFailedError(f"there is no key file {key_path}")
    message = pae(kind.payload_type, payload)
    with tempfile.TemporaryDirectory(prefix="hdrs-hpc-sign-") as folder, _terminal() as stdin:
        # A file rather than stdin: with stdin taken, ssh-keygen could not ask for the passphrase there.
        path = Path(folder) / "document"
        path.write_bytes(message)
        argv = [str(program), "-q", "-Y", "sign", "-f", str(key_path), "-n", kind.namespace, str(path)]
        done = subprocess.run(argv, stdin=stdin, stdout=subprocess.DEVNULL, check=False)
        signature = path.with_name("document.sig")
        if done.returncode or not signature.is_file():
            raise SigningFailedError(f"ssh-keygen did not sign with {key_path}; its own words are above")
        blob = sshsig.unarmour(signature.read_text("ascii", errors="replace"))
    line = sshsig.embedded_key(blob)
    # Says at once what the broker would say later: a certificate, or a key that needs no touch.
    sshsig.verify(line, blob, kind.namespace, message)
    return Signature(sshsig.fingerprint(line), blob)


def fingerprint_of(key_path: Path) -> str | None:
    """``SHA256:…`` of a key, private or public, without asking for a passphrase; None where it can't be told."""
    argv = [str(find_ssh_keygen()), "-l", "-E", "sha256", "-f", str(key_path)]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    words = done.stdout.split()
    return words[1] if done.returncode == 0 and len(words) > 1 else None


def sign_in_process(kind: DocumentKind[Any], payload: bytes, private: Ed25519PrivateKey) -> Envelope:
    """An envelope signed with one of the broker's own keys."""
    blob = sshsig.sign_ed25519(private, kind.namespace, pae(kind.payload_type, payload))
    keyid = sshsig.fingerprint(sshsig.public_line(private, ""))
    return Envelope(kind.payload_type, payload, (Signature(keyid, blob),))


def find_ssh_keygen() -> Path:
    """Absolute path of ssh-keygen; raises SshKeygenMissingError."""
    found = shutil.which("ssh-keygen")
    if found is None:
        raise SshKeygenMissingError()
    return Path(found).resolve()


@contextmanager
def _terminal() -> Iterator[IO[bytes] | int | None]:
    """What ssh-keygen reads a passphrase from: our terminal, even when our own stdin is a pipe."""
    if sys.stdin is not None and sys.stdin.isatty():
        yield None
        return
    try:
        tty = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        yield subprocess.DEVNULL
        return
    try:
        yield tty
    finally:
        os.close(tty)
