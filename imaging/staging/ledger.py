"""What a staging has refused so far: one cause an item, whichever worker ended first."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from hdrs_hpc.core.errors import NotAllowedError
from imaging.staging.refusals import REASONS, spelled, split


class TooManyFailedError(NotAllowedError):
    code = "too-many-failed"
    meaning = "More items of the dataset could not be read than the grant lets fail."
    remedy = "Read the staging report; mend the archive, or ask the custodian for a higher max-failed."


class Ledger:
    """Item number → reason code.

    An item can be refused by several volumes: a failure counts before a rule, then the cause of the lowest
    ``order`` (headers 0, tasks by their place from 1), so that the report does not depend on timing.
    """

    def __init__(self, max_failed: int) -> None:
        self._max_failed = max_failed
        self._causes: dict[int, tuple[bool, int, str]] = {}
        self._details: dict[int, tuple[str, ...]] = {}
        self._failed = 0

    @property
    def failed(self) -> int:
        """Items refused by a code that counts as failed."""
        return self._failed

    def __len__(self) -> int:
        return len(self._causes)

    def refuse(self, numbers: Iterable[int], code: str, order: int = 0) -> None:
        """``code`` may have details: ``code:detail,detail``.  Raises :class:`TooManyFailedError` at one too many."""
        code, details = split(code)
        cause = (not REASONS[code].failed, order, code)
        for number in numbers:
            earlier = self._causes.get(number)
            if earlier is not None and earlier <= cause:
                continue
            self._causes[number] = cause
            self._details[number] = details
            self._failed += REASONS[code].failed and (earlier is None or earlier[0])
            if self._failed > self._max_failed:
                last = " ".join([code, *map(spelled, details)])
                raise TooManyFailedError(
                    f"{self._failed} items failed so far where {self._max_failed} may; the last code is {last}",
                    where=f"item {number}",
                )

    def refuse_all(self, refused: Mapping[int, str], order: int = 0) -> None:
        """Several at once."""
        for number, code in refused.items():
            self.refuse((number,), code, order)

    def by_code(self) -> dict[str, tuple[int, ...]]:
        """Reason code → sorted item numbers."""
        found: dict[str, list[int]] = defaultdict(list)
        for number, (_, _, code) in sorted(self._causes.items()):
            found[code].append(number)
        return {code: tuple(numbers) for code, numbers in found.items()}

    def causes(self) -> dict[int, tuple[str, tuple[str, ...]]]:
        """Item number → code and details, of every item that is refused."""
        return {
            number: (code, self._details[number]) for number, (_, _, code) in sorted(self._causes.items())
        }

    def details(self) -> dict[int, tuple[str, ...]]:
        """Item number → what its refusal says beside the code, where it says something."""
        return {number: tuple(map(spelled, told)) for number, told in sorted(self._details.items()) if told}
