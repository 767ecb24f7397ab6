"""Initials of the people whom an object names.

A letter says something in a description (``T`` of 3 T, ``L`` of L knee), so that initials go only where they are known
as such: beside a name that goes, with a point, all together where that is no term, or as all that is left of a text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from itertools import permutations

_WORD = re.compile(r"[^\W_]+")
_BETWEEN = re.compile(r"[\s.,^_/'’-]{0,3}")
_MOST = 5


class Initials:
    """Of persons given as the words of their names."""

    def __init__(self, persons: Iterable[Sequence[str]]) -> None:
        letters: set[str] = set()
        together: set[str] = set()
        for words in persons:
            firsts = [word[0] for word in words if word and word[0].isalpha()][:_MOST]
            letters.update(firsts)
            for count in range(2, len(firsts) + 1):
                together.update("".join(some) for some in permutations(firsts, count))
        self._letters, self._together = frozenset(letters), frozenset(together)

    def all_of(self, token: str) -> bool:
        """Whether a word is two or more of somebody's initials, in any order."""
        return token.casefold() in self._together

    def are_letters(self, text: str) -> bool:
        """Whether a text is one or two initials and nothing else."""
        return 0 < len(text) < 3 and all(letter in self._letters for letter in text)

    def places(self, text: str, is_name: Callable[[str], bool]) -> list[tuple[int, int]]:
        """Where ``text`` has initials beside words for which ``is_name`` holds, or with a point."""
        words = list(_WORD.finditer(text))
        marked = [is_name(word.group()) for word in words]
        for order in (range(len(words)), range(len(words) - 1, -1, -1)):
            before = None
            for place in order:
                if not marked[place] and self._may_be(words[place].group()):
                    near = before is not None and marked[before] and _adjoin(text, words, before, place)
                    marked[place] = near or self._is_dotted(text, words[place])
                before = place
        return [
            word.span() for word, one in zip(words, marked, strict=True) if one and self._may_be(word.group())
        ]

    def _may_be(self, token: str) -> bool:
        # Several letters in one word are left to :meth:`all_of`: AP and PA are views as well as people.
        return len(token) == 1 and token.casefold() in self._letters

    def _is_dotted(self, text: str, word: re.Match[str]) -> bool:
        follows = text[word.end() : word.end() + 2]
        return len(word.group()) == 1 and follows[:1] == "." and not follows[1:].isdigit()


def are_all(text: str) -> bool:
    """Whether nothing but single letters is left of a text."""
    words = _WORD.findall(text)
    return bool(words) and all(len(word) == 1 and word.isalpha() for word in words)


def _adjoin(text: str, words: Sequence[re.Match[str]], one: int, other: int) -> bool:
    first, second = sorted((words[one].span(), words[other].span()))
    return _BETWEEN.fullmatch(text[first[1] : second[0]]) is not None
