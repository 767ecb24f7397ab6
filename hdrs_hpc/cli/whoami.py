"""``hdrs-hpc whoami``."""

from __future__ import annotations

import click

from hdrs_hpc.cli import options, show


@click.command()
@options.context
@options.as_json
def whoami(context: str | None, as_json: bool) -> None:
    """Tell who you are, at which broker, and the fingerprint of the trust root that you hold it to.

    Needs no network: it tells what this machine keeps of your last login.

    \b
    Example:
      hdrs-hpc whoami
    """
    session = options.session(context)
    root = session.root
    expires = session.login_expires
    person = root.document.people.get(session.settings.person or "")
    told = {
        "person": session.settings.person,
        "name": person.name if person else None,
        "roles": list(person.roles) if person else [],
        "context": session.name,
        "broker": session.settings.audience,
        "url": session.settings.url,
        "key": session.settings.key,
        "login-until": expires,
        "trust-root": root.digest,
        "trust-root-version": root.document.version,
        "demo": root.document.demo,
    }
    if as_json:
        show.emit_json(told)
        return
    named = f"{person.name}, {session.settings.person} ({', '.join(person.roles)})" if person else None
    show.facts(
        [
            ("you", named or session.settings.person or "nobody yet; `hdrs-hpc login` says who"),
            ("broker", f"{session.settings.audience} at {session.settings.url}, context {session.name}"),
            ("key", session.settings.key),
            ("login", f"until {expires}" if expires else "none, or it has run out; `hdrs-hpc login`"),
            ("trust root", f"{root.digest} (version {root.document.version})"),
            ("demo", "yes: for trying out, never for patient data" if root.document.demo else None),
        ]
    )
