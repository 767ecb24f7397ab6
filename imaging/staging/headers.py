"""What a parser tells about a file: words shared by all kinds, checked again by the stager, since a parser's
word is not trusted.

Values are raw (real dates, real ids): they live in the stager's memory only and never reach a copy, a journal
or a report.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

Text = Annotated[str, Field(max_length=1024)]
Uid = Annotated[str, Field(max_length=128)]
Scalar = Text | int | FiniteFloat
Value = Scalar | Annotated[tuple[Scalar, ...], Field(max_length=64)]
Attributes = Annotated[dict[Text, Value], Field(max_length=256)]
"""Raw attributes by keyword; ``A.B`` is attribute B of the first item of sequence A."""
Vector3 = tuple[FiniteFloat, FiniteFloat, FiniteFloat]
Vector6 = tuple[FiniteFloat, FiniteFloat, FiniteFloat, FiniteFloat, FiniteFloat, FiniteFloat]


class Header(BaseModel):
    """A message from a parser: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class SeriesIdentity(Header):
    """To which series an instance belongs."""

    study: Uid
    series: Uid
