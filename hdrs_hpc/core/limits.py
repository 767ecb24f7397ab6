"""How much a job may be, where a signed document and the hand-over of its keys must agree."""

from __future__ import annotations

from typing import Final

MAX_NODES: Final = 64
"""Of one attempt."""
MAX_PARAMETER_BYTES: Final = 64 << 10
"""Of a workload's parameters."""
MAX_SPEC_BYTES: Final = 256 << 10
"""Of a signed job spec that keys are handed over for: the parameters, and outputs with all their columns."""
