"""RFC 6962 trees: the known vectors of Certificate Transparency's own tests, then properties."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hdrs_hpc.audit.merkle import (
    Frontier,
    Leaves,
    ProofInvalidError,
    completed,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    root_hash,
    tree_root,
    verify_consistency,
    verify_inclusion,
)

# The eight leaves and the roots of their first n, as in certificate-transparency's merkle tree tests.
LEAVES = [
    bytes.fromhex(text) for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657")
] + [bytes.fromhex("606162636465666768696a6b6c6d6e6f")]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
A = "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7"
B = "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e"
C = "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4"
D = "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b"
E = "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0"
F = "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a"

HASHED = [leaf_hash(leaf) for leaf in LEAVES]


@pytest.mark.parametrize("size", range(9))
def test_roots_equal_the_published_vectors(size: int) -> None:
    assert root_hash(HASHED[:size]).hex() == ROOTS[size]


@pytest.mark.parametrize(
    ("index", "size", "path"),
    [
        (0, 1, []),
        (0, 8, [A, B, C]),
        (5, 8, [D, E, ROOTS[4]]),
        (2, 3, [ROOTS[2]]),
        (1, 5, [ROOTS[1], B, D]),
    ],
)
def test_inclusion_proofs_equal_the_published_vectors(index: int, size: int, path: list[str]) -> None:
    proof = inclusion_proof(Leaves(HASHED), index, size)
    assert [step.hex() for step in proof] == path
    verify_inclusion(HASHED[index], index, size, proof, bytes.fromhex(ROOTS[size]))


@pytest.mark.parametrize(
    ("old", "new", "path"),
    [(1, 1, []), (1, 8, [A, B, C]), (6, 8, [F, E, ROOTS[4]]), (2, 5, [B, D])],
)
def test_consistency_proofs_equal_the_published_vectors(old: int, new: int, path: list[str]) -> None:
    proof = consistency_proof(Leaves(HASHED), old, new)
    assert [step.hex() for step in proof] == path
    verify_consistency(old, bytes.fromhex(ROOTS[old]), new, bytes.fromhex(ROOTS[new]), proof)


leaves = st.lists(st.binary(max_size=6).map(leaf_hash), min_size=1, max_size=70)


@given(leaves, st.data())
def test_every_leaf_proves_its_place_and_no_other(hashed: list[bytes], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(hashed) - 1))
    root = root_hash(hashed)
    proof = inclusion_proof(Leaves(hashed), index, len(hashed))
    verify_inclusion(hashed[index], index, len(hashed), proof, root)
    with pytest.raises(ProofInvalidError):
        verify_inclusion(leaf_hash(b"never a leaf"), index, len(hashed), proof, root)
    with pytest.raises(ProofInvalidError):
        verify_inclusion(hashed[index], index, len(hashed), [*proof, root], root)
    if proof:
        with pytest.raises(ProofInvalidError):
            verify_inclusion(hashed[index], index, len(hashed), proof[:-1], root)


@given(leaves, st.data())
def test_every_prefix_is_consistent_and_a_rewritten_past_is_not(
    hashed: list[bytes], data: st.DataObject
) -> None:
    old = data.draw(st.integers(0, len(hashed)))
    old_root, new_root = root_hash(hashed[:old]), root_hash(hashed)
    proof = consistency_proof(Leaves(hashed), old, len(hashed))
    verify_consistency(old, old_root, len(hashed), new_root, proof)
    if old:
        forged = [leaf_hash(b"rewritten"), *hashed[1:]]
        if forged != hashed:
            with pytest.raises(ProofInvalidError):
                verify_consistency(old, root_hash(forged[:old]), len(hashed), new_root, proof)
            with pytest.raises(ProofInvalidError):
                proof = consistency_proof(Leaves(forged), old, len(hashed))
                verify_consistency(old, old_root, len(hashed), root_hash(forged), proof)


class Stored:
    """Only the nodes that an append gave, by their place: anything else that is read is an error."""

    def __init__(self) -> None:
        self.kept: dict[tuple[int, int], bytes] = {}
        self.size = 0

    def node(self, level: int, index: int) -> bytes:
        return self.kept[level, index]

    def append(self, leaf: bytes) -> None:
        self.kept[0, self.size] = leaf
        for level, index, node in completed(self, self.size, leaf):
            self.kept[level, index] = node
        self.size += 1


@given(leaves)
def test_nodes_kept_at_each_append_give_every_root_and_proof(hashed: list[bytes]) -> None:
    stored = Stored()
    for size, leaf in enumerate(hashed, start=1):
        stored.append(leaf)
        root = tree_root(stored, size)
        assert root == _by_definition(hashed[:size])
        verify_inclusion(hashed[size // 2], size // 2, size, inclusion_proof(stored, size // 2, size), root)
        half = size // 2
        proof = consistency_proof(stored, half, size)
        verify_consistency(half, root_hash(hashed[:half]), size, root, proof)
    assert len(stored.kept) < 2 * len(hashed)
    assert tree_root(stored, 0) == root_hash([])


@given(leaves, st.data())
def test_a_frontier_resumed_from_its_peaks_goes_on_to_the_same_root(
    hashed: list[bytes], data: st.DataObject
) -> None:
    stop = data.draw(st.integers(0, len(hashed)))
    first = Frontier()
    for leaf in hashed[:stop]:
        first.append(leaf)
    second = Frontier(first.size, first.peaks)
    for leaf in hashed[stop:]:
        second.append(leaf)
    assert second.root() == _by_definition(hashed)


def test_peaks_that_do_not_fit_the_size_are_refused() -> None:
    with pytest.raises(ValueError, match="peaks"):
        Frontier(3, [b"\0" * 32])


def test_a_log_can_not_shrink() -> None:
    with pytest.raises(ProofInvalidError):
        verify_consistency(5, bytes.fromhex(ROOTS[5]), 4, bytes.fromhex(ROOTS[4]), [])


def test_an_inner_node_can_not_pose_as_a_leaf() -> None:
    inner = HASHED[0] + HASHED[1]
    assert leaf_hash(inner) != root_hash(HASHED[:2])


def _by_definition(hashed: list[bytes]) -> bytes:
    """The recursive definition of RFC 6962 §2.1, written out."""
    if len(hashed) == 1:
        return hashed[0]
    split = 1
    while split * 2 < len(hashed):
        split *= 2
    return hashlib.sha256(b"\x01" + _by_definition(hashed[:split]) + _by_definition(hashed[split:])).digest()
