"""Whether a data set is the same at every pass: what a loader that shuffles may change, and not.

Every example is hashed by its bytes, over all arrays of the batch together, and the hashes are
added as integers modulo 2^64. The sum doesn't depend on the order of the examples, nor on how they
are cut into batches, and no rounding enters. Where the matrix depends on more than the set of
examples, a second sum holds that too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import jax
import numpy as np

__all__ = ["Arrangement", "Pass", "require_same"]

# What must stay beside the set of examples: nothing; which of them share a batch; that and the
# batches' order; the place of every example.
Arrangement = Literal["free", "cut", "batches", "examples"]
_MODULUS = 2**64
_ROWS = 2**12  # hashed at a time, so that the copies stay small


class Pass(NamedTuple):
    """What is known of one pass over a data set."""

    examples: int = 0
    contents: int = 0
    arranged: int = 0

    def after(self, batch: Any, index: int, size: int, arrangement: Arrangement) -> Pass:
        """Return the pass with one batch more."""
        hashes = list(_hashes(batch, size))
        contents = sum(hashes) % _MODULUS
        key = {
            "free": b"",
            "cut": b"%d" % contents,
            "batches": b"%d %d" % (index, contents),
            "examples": b"%d " % index + np.array(hashes, np.int64).tobytes(),
        }[arrangement]
        # hashes of bytes, for those of tuples nearly add up: sums of a quarter of them coincide
        return Pass(
            self.examples + size,
            (self.contents + contents) % _MODULUS,
            (self.arranged + hash(key)) % _MODULUS,
        )


def _hashes(batch: Any, size: int) -> Iterator[int]:
    """Yield a hash of 64 bits of every example's bytes."""
    columns = [column for leaf in jax.tree.leaves(batch) for column in _bytes(leaf, size)]
    if not columns:
        yield from [0] * size
        return
    for start in range(0, size, _ROWS):
        rows = np.concatenate([column[start : start + _ROWS] for column in columns], axis=1)
        yield from map(hash, rows.view(np.dtype((np.void, rows.shape[1])))[:, 0].tolist())


def _bytes(leaf: Any, size: int) -> Iterator[np.ndarray]:
    """Yield an array as rows of bytes, (size, bytes), unless no process holds it in full."""
    if isinstance(leaf, jax.Array):
        if not leaf.is_fully_addressable:
            return
        if jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
    array = np.asarray(leaf)
    if array.ndim == 0:
        array = np.broadcast_to(array, (size,))
    width = math.prod(array.shape[1:])
    if width:
        yield np.ascontiguousarray(array).reshape(size, width).view(np.uint8)


def require_same(now: Pass, first: Pass, arrangement: Arrangement) -> None:
    """Raise ValueError unless two passes brought the same examples, arranged as is needed."""
    if now.examples != first.examples:
        got = f"{now.examples} after {first.examples}"
    elif now.contents != first.contents:
        got = "others"
    elif now.arranged == first.arranged:
        return
    else:
        raise ValueError(_REARRANGED[arrangement])
    raise ValueError(
        f"batches must hold the same examples at every pass, got {got}; a loader with "
        "shuffle=True, drop_last=True leaves out others each time, and one that augments changes "
        "them: pass drop_last=False or switch shuffling and augmentation off, or pass "
        "list(loader), which is made once"
    )


_REARRANGED = {
    "cut": (
        "batches must be cut in the same way at every pass, for with batch_dependent=True the "
        "matrix depends on which examples share a batch, got other batches of the same examples; "
        "switch shuffling off, or pass list(loader)"
    ),
    "batches": (
        "batches must come in the same order at every pass, for weights= are numbers that go by a "
        "batch's position, got other batches; switch shuffling off, pass list(loader), or pass as "
        "weights a function of the batch"
    ),
    "examples": (
        "batches must come in the same order at every pass, for the labels drawn go by a batch's "
        "position, got another order; switch shuffling off, or pass list(loader)"
    ),
}
