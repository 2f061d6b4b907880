"""What a carry depends on, round after round: P(t + 1) = B P(t) + S(t).

B is the pattern of a body's carry in its carry, S(t) what else comes in in round t. Rounds are gone
through one after another, with the patterns as sparse matrices or, where they are small and fill
up, as rows of bits, 64 to a word. Where the same comes in in every round, P(t + 1) = P(t) means
that nothing changes any more. A long loop whose patterns grow too large is taken to stop after any
number of rounds: (1 + B + B^2 + ...) (P(0) + S(0) + S(1) + ...).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from adlab.jacobians._rows import Pattern, combined, grouped, matrix, selected, united

__all__ = ["Rounds", "carried", "reached"]

ROUNDS = 10_000  # a loop of no more than these is followed whatever that takes
ENTRIES = 50_000_000  # of the patterns of all rounds of a longer one
WORDS = 2_000_000_000  # of bits that are united in all rounds of a longer one
_STATE, _ROUND = 2**20, 2**22  # words of a carry, and of what is united for the next, at most


@dataclass(frozen=True, eq=False)
class Rounds:
    """The rounds of a loop, in the order in which they are done.

    local: of the carry in the carry of the round before. seen: of what a round returns in the
    carry that it gets. first: of the first carry. base: of what comes into every carry. drive: of
    what comes into the carry of each round, one after another. size, width: of the carry's pattern.
    """

    local: Pattern
    seen: Pattern
    first: Pattern
    base: Pattern
    drive: Pattern
    length: int
    size: int
    width: int

    @property
    def long(self) -> bool:
        """Tell whether the rounds are followed only as far as that is cheap."""
        return self.length > ROUNDS


def carried(rounds: Rounds) -> tuple[Pattern, Pattern]:
    """Return what all rounds return of their carries, one after another, and the last carry."""
    if rounds.first is rounds.base is rounds.drive is None:
        return None, None
    found = _in_bits(rounds) if _small(rounds) else _in_turn(rounds)
    return _any_number(rounds) if found is None else found


def _in_turn(rounds: Rounds) -> tuple[Pattern, Pattern] | None:
    """Go through the rounds by sparse matrices; None where that takes too many entries."""
    carry, looked, entries = rounds.first, [], 0
    for more in _incoming(rounds):
        looked.append(combined(rounds.seen, carry))
        old, carry = carry, united(combined(rounds.local, carry), more)
        if rounds.drive is None and _same(old, carry):
            break
        entries += sum(p.nnz for p in (carry, looked[-1]) if p is not None)
        if rounds.long and entries > ENTRIES:
            return None
    return _in_all(rounds, looked), carry


def _incoming(rounds: Rounds) -> Iterator[Pattern]:
    if rounds.drive is None:
        yield from itertools.repeat(rounds.base, rounds.length)
        return
    for start in range(0, rounds.length * rounds.size, rounds.size):
        yield united(rounds.drive[start : start + rounds.size], rounds.base)


def _same(one: Pattern, other: Pattern) -> bool:
    if one is None or other is None:
        return one is other
    return bool(one.nnz == other.nnz and (one != other).nnz == 0)


def _in_all(rounds: Rounds, looked: list[Pattern]) -> Pattern:
    """Return what is returned in all rounds, of which those not listed are as the last one."""
    if rounds.seen is None or all(part is None for part in looked):
        return None
    rows = rounds.seen.shape[0]
    empty = sparse.csr_matrix((rows, rounds.width), dtype=bool)
    filled = [empty if part is None else part for part in looked]
    rest = rounds.length - len(filled)
    filled += [repeated(filled[-1], rest)] if rest else []
    return sparse.vstack(filled, format="csr", dtype=bool)


def repeated(pattern: Pattern, length: int) -> Pattern:
    """Return a pattern's rows again and again."""
    if pattern is None:
        return None
    return selected(pattern, np.tile(np.arange(1, pattern.shape[0] + 1), length))


def _small(rounds: Rounds) -> bool:
    """Tell whether the carry is well kept as bits, and may be kept so for all rounds."""
    words = -(-rounds.width // 64)
    parts = [p.nnz for p in (rounds.local, rounds.seen) if p is not None]
    return (
        rounds.drive is None
        and rounds.length > 64
        and rounds.size * words <= _STATE
        and sum(parts) * words <= _ROUND
    )


def _in_bits(rounds: Rounds) -> tuple[Pattern, Pattern] | None:
    """Go through the rounds with a row of bits for each row of the carry's pattern."""
    carry, base = (_packed(p, rounds.size, rounds.width) for p in (rounds.first, rounds.base))
    looked, work, entries = [], 0, 0
    for _ in range(rounds.length):
        if rounds.seen is not None:
            looked.append(_bits_of(rounds.seen, carry))
            entries += 16 * looked[-1].size + int(np.bitwise_count(looked[-1]).sum())
        old, carry = carry, base | _bits_of(rounds.local, carry, rounds.size)
        if np.array_equal(old, carry):
            break
        work += 3 * carry.size
        work += carry.shape[1] * sum(p.nnz for p in (rounds.seen, rounds.local) if p is not None)
        if rounds.long and (work > WORDS or entries > ENTRIES):
            return None
    parts = [_unpacked(part, rounds.width) for part in looked]
    return _in_all(rounds, parts), _unpacked(carry, rounds.width)


def _packed(pattern: Pattern, size: int, width: int) -> Any:
    """Return a pattern as words (size, width / 64), rounded up."""
    full = np.zeros((size, -(-width // 64) * 64), bool)
    if pattern is not None:
        rows = np.repeat(np.arange(size), np.diff(pattern.indptr))
        full[rows, pattern.indices] = True
    return np.packbits(full, axis=1).view(np.uint64)


def _unpacked(words: Any, width: int) -> Pattern:
    rows, cols = np.nonzero(np.unpackbits(words.view(np.uint8), axis=1))
    return matrix(rows, cols, (len(words), width)) if len(rows) else None


def _bits_of(local: Pattern, words: Any, size: int = 0) -> Any:
    """Return the rows that a step makes of rows of bits; without one `size` rows of zeros."""
    found = np.zeros((size if local is None else local.shape[0], words.shape[1]), np.uint64)
    if local is not None and local.nnz:
        filled = np.flatnonzero(np.diff(local.indptr))  # of an empty row reduceat takes the next
        found[filled] = np.bitwise_or.reduceat(words[local.indices], local.indptr[filled])
    return found


def _any_number(rounds: Rounds) -> tuple[Pattern, Pattern]:
    """Take every carry to be what any number of rounds can reach."""
    drive = None
    if rounds.drive is not None:
        drive = grouped(rounds.drive, np.tile(np.arange(rounds.size), rounds.length), rounds.size)
    last = reached(rounds.local, united(rounds.first, rounds.base, drive))
    return repeated(combined(rounds.seen, last), rounds.length), last


def reached(local: Pattern, pattern: Pattern) -> Pattern:
    """Return the union of B^k P over all k >= 0.

    Numbers that reach one another are in one component, which reaches what any of them does. The
    sum is the product (1 + B) (1 + B^2) (1 + B^4) ...
    """
    if local is None:
        return pattern
    count, component = csgraph.connected_components(local, connection="strong")
    members = matrix(component, np.arange(len(component)), (count, len(component)))
    step, found = members @ local @ members.T.tocsr(), members @ pattern
    while True:
        more = found + step @ found
        if more.nnz == found.nnz:
            return selected(found, component + 1)
        found, step = more, step @ step
