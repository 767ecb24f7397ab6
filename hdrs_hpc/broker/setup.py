"""Making a broker's home, and the two things done to it while the broker is down: init and the first trust root."""

from __future__ import annotations

import functools
import json
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hdrs_hpc.broker.home import BrokerHome
from hdrs_hpc.broker.keyd import client, messages
from hdrs_hpc.broker.keyd.keyd import Keyd
from hdrs_hpc.broker.store.database import Database
from hdrs_hpc.core.errors import BadDocumentError, ConflictError, UsageError
from hdrs_hpc.documents.trust import VerifiedRoot

KEYS_FILE = "broker-keys.json"
_NAME = re.compile(r"[a-z][a-z0-9-]{0,39}", re.ASCII)


class BrokerExistsError(ConflictError):
    code = "broker-exists"
    meaning = "There is a broker's home in that folder already."
    remedy = "Nothing was changed; `hdrs-hpc broker status` shows it, or choose another folder with --home."


class RootForAnotherError(BadDocumentError):
    code = "trust-root-for-another"
    meaning = "The trust root was made for another broker."
    remedy = "Make one with this broker's name and keys: `hdrs-hpc trust init`."


def init(home: BrokerHome, *, audience: str, host: str, port: int, tick_s: float) -> Path:
    """Make the home (0700), the database, keyd's keystore and the broker's own keys.

    Gives the file with the broker's public keys, for ``trust init --broker-keys``.
    """
    if not _NAME.fullmatch(audience):
        raise UsageError(
            "the broker's name has up to 40 of a-z, 0-9 and -, a letter first", where="--audience"
        )
    if home.settings_file.exists():
        raise BrokerExistsError(where=str(home.root))
    home.make_folders()
    Database(home.database).migrate()
    lines = Keyd.open(home).answer(messages.SigningKeys()).lines
    keys_file = home.root / KEYS_FILE
    keys_file.write_text(json.dumps(lines, indent=2) + "\n", "utf-8")
    # Last, because it is what makes the folder a home: an init that was cut short can be run again.
    settings = (
        f"audience = {json.dumps(audience)}\n"
        f"host = {json.dumps(host)}\n"
        f"port = {port}\n"
        f"tick-s = {tick_s}\n"
        "\n# Needed for any host but loopback:\n"
        '# [tls]\n# certificate = "tls/cert.pem"\n# key = "tls/key.pem"\n'
    )
    home.settings_file.write_text(settings, "utf-8")
    return keys_file


def free_port() -> int:
    """A port that nothing listens on now, for ``--port 0``: written down, so that clients find it again."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def keyd_of(home: BrokerHome) -> Iterator[messages.AskKeyd]:
    """keyd as it is: the running one through its socket, else in this process under keyd's own lock."""
    import fcntl

    with (home.keyd_dir / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield functools.partial(client.ask, home.keyd_socket)
            return
        yield Keyd.open(home).answer


def check_audience(home: BrokerHome, root: VerifiedRoot) -> None:
    """A trust root is for one broker; another's would make every document here one for elsewhere."""
    audience = home.settings().audience
    if root.document.audience != audience:
        raise RootForAnotherError(f"it is for {root.document.audience}, this is {audience}")
