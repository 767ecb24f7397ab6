"""Signing as people do: passphrase, agent, wrong key."""

from __future__ import annotations

import os
import re
import subprocess

import pytest

from hdrs_hpc.documents import kinds, signing, sshsig
from hdrs_hpc.documents.envelope import pae

KIND = kinds.CLOSURE


def _key(path, passphrase="", *options):
    argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-f", str(path), *options]
    subprocess.run(argv, check=True)
    return path


def _check(signature, key):
    line = key.with_name(key.name + ".pub").read_text().strip()
    sshsig.verify(line, signature.sig, KIND.namespace, pae(KIND.payload_type, b"{}"))
    assert signature.keyid == sshsig.fingerprint(line)


def test_a_plain_key_signs(tmp_path):
    key = _key(tmp_path / "key")
    _check(signing.sign(KIND, b"{}", key), key)


def test_a_key_in_an_agent_signs_by_its_public_half(tmp_path, monkeypatch):
    key = _key(tmp_path / "key", "a long passphrase")
    started = subprocess.run(["ssh-agent", "-s"], capture_output=True, text=True, check=True).stdout
    socket, pid = re.findall(r"SSH_AUTH_SOCK=([^;]+);|SSH_AGENT_PID=(\d+);", started)
    monkeypatch.setenv("SSH_AUTH_SOCK", socket[0])
    try:
        asker = tmp_path / "ask"
        asker.write_text("#!/bin/sh\necho a long passphrase\n")
        asker.chmod(0o700)
        env = {**os.environ, "SSH_ASKPASS": str(asker), "SSH_ASKPASS_REQUIRE": "force"}
        subprocess.run(["ssh-add", "-q", str(key)], env=env, check=True, stdin=subprocess.DEVNULL)
        hidden = key.rename(tmp_path / "elsewhere")
        signature = signing.sign(KIND, b"{}", tmp_path / "key.pub")
        assert hidden.exists()
        _check(signature, tmp_path / "key")
    finally:
        os.kill(int(pid[1]), 15)


def test_a_passphrase_is_asked_for_and_used(tmp_path, monkeypatch):
    key = _key(tmp_path / "key", "a long passphrase")
    asker = tmp_path / "ask"
    asker.write_text("#!/bin/sh\necho a long passphrase\n")
    asker.chmod(0o700)
    monkeypatch.setenv("SSH_ASKPASS", str(asker))
    monkeypatch.setenv("SSH_ASKPASS_REQUIRE", "force")
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    _check(signing.sign(KIND, b"{}", key), key)


def test_a_key_that_is_not_there_is_named(tmp_path):
    with pytest.raises(signing.SigningFailedError, match="no key file"):
        signing.sign(KIND, b"{}", tmp_path / "none")


def test_a_file_that_is_no_key_does_not_sign(tmp_path, capfd):
    (tmp_path / "key").write_text("not a key\n")
    (tmp_path / "key").chmod(0o600)
    with pytest.raises(signing.SigningFailedError):
        signing.sign(KIND, b"{}", tmp_path / "key")
    assert capfd.readouterr().err  # ssh-keygen's own words reach the person


def test_without_ssh_keygen_the_remedy_is_told(tmp_path, monkeypatch):
    key = _key(tmp_path / "key")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(signing.SshKeygenMissingError):
        signing.sign(KIND, b"{}", key)
