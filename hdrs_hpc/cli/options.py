"""Options that many commands share, so that they read and behave the same everywhere."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

if TYPE_CHECKING:
    from hdrs_hpc.broker.home import BrokerHome
    from hdrs_hpc.client.session import Session
    from hdrs_hpc.documents.models.trust_root import TrustRoot

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
NEW_FILE = click.Path(dir_okay=False, path_type=Path)
FOLDER = click.Path(file_okay=False, path_type=Path)

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
context = click.option("--context", help="Which login to use, where you have several.")
key_option = click.option(
    "--key",
    type=FILE,
    help="Your SSH key; its .pub where an agent or security key holds the private half.  [default: login's]",
)
trust_file = click.option("--trust", type=FILE, help="The trust root to count by.  [default: login's]")
out = click.option("--out", type=NEW_FILE, help="Where to write the signed file.")
home = click.option(
    "--home",
    type=FOLDER,
    envvar="HDRS_HPC_BROKER_HOME",
    help="The broker's home.  [env: HDRS_HPC_BROKER_HOME]",
)


@dataclass(frozen=True)
class Signing:
    """With which key a command signs, and how it asks before."""

    key: Path | None
    yes: bool
    show_json: bool


def signing[F: Callable[..., Any]](command: F) -> F:
    """The options of every command that signs, as its argument ``how``."""

    @functools.wraps(command)
    def signs(*, key: Path | None, yes: bool, show_json: bool, **others: Any) -> Any:
        return command(how=Signing(key, yes, show_json), **others)

    for option in (
        click.option("--show-json", is_flag=True, help="Show the exact JSON that is signed as well."),
        click.option("--yes", "-y", is_flag=True, help="Sign without asking."),
        key_option,
    ):
        option(signs)
    return cast("F", signs)


def session(name: str | None) -> Session:
    """The chosen context."""
    from hdrs_hpc.client.session import Session

    return Session.current(name)


def login(name: str | None) -> Session | None:
    """The context named, else the one at hand, else None."""
    from hdrs_hpc.client.session import Session

    return Session.current(name) if name else Session.at_hand()


def key_of(given: Path | None, name: str | None = None) -> Path:
    """The key given, else the login's."""
    if given is not None:
        return given
    at_hand = login(name)
    if at_hand is None or at_hand.key is None:
        raise click.UsageError("Give your SSH key with --key, or log in first.")
    return at_hand.key


def root_of(given: Path | None, name: str | None = None) -> TrustRoot | None:
    """The trust root given, else the login's, else none."""
    from hdrs_hpc.documents.trust import load_root

    if given is not None:
        return load_root(given.read_bytes(), None).document
    at_hand = login(name)
    return at_hand.root.document if at_hand else None


def broker_home(given: Path | None) -> BrokerHome:
    """A broker's home that is there."""
    from hdrs_hpc.broker.home import BrokerHome

    return BrokerHome.at(given).require()
