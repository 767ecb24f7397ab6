"""Login: a person signs the broker's challenge to read their own projects for a short while."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from hdrs_hpc.forms.document import Document
from hdrs_hpc.forms.words import Moment, Name


class Login(Document):
    SCHEMA: ClassVar[str] = "hdrs-hpc/login/1"

    audience: Name
    challenge: Annotated[str, Field(pattern=r"^[0-9A-Za-z_-]{20,128}$")]
    """As the broker sent it; good once."""
    at: Moment
