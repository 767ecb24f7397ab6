"""Merkle tree hashes and proofs as in RFC 6962, section 2.1, with SHA-256.

Leaves are bytes; hashes are 32 bytes; proofs are lists of hashes ordered from the leaves towards the root.
The generating side follows RFC 6962's recursive definitions, the verifying side the iterative algorithms that
RFC 9162, section 2.1, later wrote down for the same tree, so the two share no code and check each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from typing import Protocol

from hdrs_hpc.core.errors import BadDocumentError

HASH_BYTES = 32
EMPTY_ROOT = sha256(b"").digest()
"""RFC 6962 §2.1: the hash of an empty list is the hash of an empty string."""


class ProofInvalidError(BadDocumentError):
    code = "merkle-proof-invalid"
    meaning = "A Merkle proof does not lead from what it starts with to the root it claims."
    remedy = "Fetch the proof again; if it fails again, the log was changed or forked."


def leaf_hash(leaf: bytes) -> bytes:
    """RFC 6962 §2.1: ``SHA-256(0x00 ‖ leaf)``; the prefix keeps leaves from posing as inner nodes."""
    return sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """RFC 6962 §2.1: ``SHA-256(0x01 ‖ left ‖ right)``."""
    return sha256(b"\x01" + left + right).digest()


class Frontier:
    """The right edge of a growing tree: enough to append and to tell the root, in O(log n) memory.

    ``peaks`` are the roots of the perfect subtrees that the leaves so far fall into, largest first; their
    sizes are the powers of two in ``size``.  A log that stores (size, peaks) need never read old leaves.
    """

    __slots__ = ("_peaks", "_size")

    def __init__(self, size: int = 0, peaks: Sequence[bytes] = ()) -> None:
        if size < 0 or size.bit_count() != len(peaks) or any(len(p) != HASH_BYTES for p in peaks):
            raise ValueError(f"{len(peaks)} peaks do not make a tree of {size} leaves")
        self._size = size
        self._peaks = list(peaks)

    @property
    def size(self) -> int:
        return self._size

    @property
    def peaks(self) -> tuple[bytes, ...]:
        return tuple(self._peaks)

    def append(self, hashed_leaf: bytes) -> None:
        """Add one leaf, given as its :func:`leaf_hash`; amortised O(1), at most O(log n) hashes."""
        carry = hashed_leaf
        for _ in range(((self._size + 1) & -(self._size + 1)).bit_length() - 1):
            carry = node_hash(self._peaks.pop(), carry)
        self._peaks.append(carry)
        self._size += 1

    def root(self) -> bytes:
        """The root over all leaves so far."""
        if not self._peaks:
            return EMPTY_ROOT
        root = self._peaks[-1]
        for peak in reversed(self._peaks[:-1]):
            root = node_hash(peak, root)
        return root


def root_hash(hashed_leaves: Iterable[bytes]) -> bytes:
    """MTH of RFC 6962 §2.1 over leaves that are already hashed."""
    frontier = Frontier()
    for hashed in hashed_leaves:
        frontier.append(hashed)
    return frontier.root()


class Tree(Protocol):
    """The perfect subtrees of a log, by their place: a proof needs O(log n) of them and no leaf besides.

    ``node(0, i)`` is the hash of leaf ``i``; ``node(level, i)`` the one over the ``2**level`` leaves from
    ``i * 2**level`` on.  Such a hash never changes once its leaves are there, so it can be stored.
    """

    def node(self, level: int, index: int) -> bytes: ...


class Leaves:
    """A tree over leaves in memory that are already hashed."""

    def __init__(self, hashed_leaves: Sequence[bytes]) -> None:
        self._levels = [list(hashed_leaves)]

    def node(self, level: int, index: int) -> bytes:
        while len(self._levels) <= level:
            below = self._levels[-1]
            self._levels.append([node_hash(*pair) for pair in zip(below[::2], below[1::2], strict=False)])
        return self._levels[level][index]


def completed(tree: Tree, index: int, hashed_leaf: bytes) -> Iterator[tuple[int, int, bytes]]:
    """(level, index, hash) of the inner nodes that leaf ``index`` completes, lowest first.

    Reads only their left halves, which are complete already; amortised one node a leaf.
    """
    level = 0
    while index & 1:
        hashed_leaf = node_hash(tree.node(level, index - 1), hashed_leaf)
        level, index = level + 1, index >> 1
        yield level, index, hashed_leaf


def tree_root(tree: Tree, size: int) -> bytes:
    """MTH of RFC 6962 §2.1 over the first ``size`` leaves."""
    return _range_root(tree, 0, size) if size else EMPTY_ROOT


def inclusion_proof(tree: Tree, index: int, size: int) -> list[bytes]:
    """PATH(m, D[n]) of RFC 6962 §2.1.1 for the leaf at ``index`` (from 0) among the first ``size``."""
    if not 0 <= index < size:
        raise ValueError(f"leaf {index} of {size}")
    proof: list[bytes] = []
    start, stop = 0, size
    while stop - start > 1:
        middle = start + _split(stop - start)
        if index < middle:
            proof.append(_range_root(tree, middle, stop))
            stop = middle
        else:
            proof.append(_range_root(tree, start, middle))
            start = middle
    return proof[::-1]


def consistency_proof(tree: Tree, old_size: int, size: int) -> list[bytes]:
    """PROOF(m, D[n]) of RFC 6962 §2.1.2: that the tree of the first ``old_size`` leaves is a prefix of ``size``."""
    if not 0 <= old_size <= size:
        raise ValueError(f"{old_size} of {size} leaves")
    if old_size in (0, size):
        return []
    proof: list[bytes] = []
    start, stop = 0, size
    whole = True  # SUBPROOF's flag b: the subtree is still the old tree itself, whose root the verifier has
    while stop != old_size:
        middle = start + _split(stop - start)
        if old_size <= middle:
            proof.append(_range_root(tree, middle, stop))
            stop = middle
        else:
            proof.append(_range_root(tree, start, middle))
            start = middle
            whole = False
    if not whole:
        proof.append(_range_root(tree, start, stop))
    return proof[::-1]


def verify_inclusion(hashed_leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """RFC 9162 §2.1.3.2; raises :class:`ProofInvalidError`."""
    if not 0 <= index < size:
        raise ProofInvalidError(f"leaf {index} can't be in a tree of {size}")
    node, last, found = index, size - 1, hashed_leaf
    for step in proof:
        if last == 0:
            raise ProofInvalidError("the proof is too long")
        if node & 1 or node == last:
            found = node_hash(step, found)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            found = node_hash(found, step)
        node, last = node >> 1, last >> 1
    if last != 0:
        raise ProofInvalidError("the proof is too short")
    if found != root:
        raise ProofInvalidError("the proof leads to another root")


def verify_consistency(
    old_size: int, old_root: bytes, new_size: int, new_root: bytes, proof: Sequence[bytes]
) -> None:
    """RFC 9162 §2.1.4.2; raises :class:`ProofInvalidError`."""
    if not 0 <= old_size <= new_size:
        raise ProofInvalidError(f"a log can't shrink from {old_size} to {new_size}")
    if old_size in (0, new_size):
        expected = EMPTY_ROOT if old_size == 0 else new_root
        if proof or old_root != expected:
            raise ProofInvalidError("two roots for one size")
        return
    steps = list(proof)
    if old_size & (old_size - 1) == 0:
        steps.insert(0, old_root)
    if not steps:
        raise ProofInvalidError("the proof is too short")
    node, last = old_size - 1, new_size - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    found_old = found_new = steps[0]
    for step in steps[1:]:
        if last == 0:
            raise ProofInvalidError("the proof is too long")
        if node & 1 or node == last:
            found_old, found_new = node_hash(step, found_old), node_hash(step, found_new)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            found_new = node_hash(found_new, step)
        node, last = node >> 1, last >> 1
    if last != 0:
        raise ProofInvalidError("the proof is too short")
    if found_old != old_root or found_new != new_root:
        raise ProofInvalidError("the proof leads to other roots")


def _split(size: int) -> int:
    """RFC 6962 §2.1: k, the largest power of two smaller than ``size``."""
    return 1 << ((size - 1).bit_length() - 1)


def _range_root(tree: Tree, start: int, stop: int) -> bytes:
    """Root over the leaves ``[start, stop)``; RFC 6962's ranges start at a multiple of the largest power of two
    in them, so they fall into perfect subtrees, the largest first."""
    peaks = []
    while start < stop:
        level = (stop - start).bit_length() - 1
        peaks.append(tree.node(level, start >> level))
        start += 1 << level
    root = peaks.pop()
    while peaks:
        root = node_hash(peaks.pop(), root)
    return root
