"""What `check` asks of a step: that the slope it gives is nearly that of the function.

`fun` is sampled along a few directions at displacements of every size. Where central quotients over
three neighbouring widths agree, they tell the slope; of all such places the one counts where they
agree best. The quotient that an estimator forms along the same direction must be near it.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from adlab.core import trees
from adlab.core._programs import as_program, one_program
from adlab.core.types import AnyArray, Array, ChunkSize, PyTree, ValueFn
from adlab.gradients import _ladders
from adlab.gradients._chunks import chunk_length, in_chunks
from adlab.gradients.host import searching

__all__ = ["DIRECTIONS", "require_accuracy"]

DIRECTIONS = 3
"""Directions along which `check` looks."""

_SHARE = 0.1  # of the slope, by which an estimate may be off
_UNSEEN = 0.2  # of the slope, by which the quotients that tell it best may differ
_MOVES = 16.0  # roundings of x: a shorter displacement of it is too uncertain


class _Slope(NamedTuple):
    """What samples along one direction tell: slope, its uncertainty, size to compare errors with.

    Attributes:
      slope: the derivative, per width.
      doubt: by how much the three quotients that tell it differ.
      size: the larger of |slope| and of what `fun` changes by, per width, over longer displacements
        on either side: at a stationary point the slope alone would be nothing to compare with.
      width: the middle one of the three.
    """

    slope: float
    doubt: float
    size: float
    width: float


def require_accuracy(
    name: str,
    given: str,
    fun: ValueFn,
    x: PyTree,
    tried: list[tuple[PyTree, float]],
    chunk_size: ChunkSize,
    *,
    automatic: bool,
) -> None:
    """Raise ValueError when slopes that were estimated are seen to be wrong by a tenth.

    Args:
      name: of the estimator.
      given: the step that is checked, in words.
      fun: the function.
      x: the point.
      tried: directions d, and what the estimator finds for the slope of `fun` along each.
      chunk_size: how many points are evaluated at a time.
      automatic: whether the step is; one that the user gives may move x in longer displacements
        than are looked at here.

    Reads values: for concrete input only. Costs 40 evaluations per direction.
    """
    if not all(np.isfinite(slope) for _, slope in tried):
        raise ValueError(
            f"{name}: fun must be finite within a step of x, got NaN or infinity at {given}; use "
            '"auto", or a shorter one'
        )
    lengths, least = zip(*(_lengths(d, x) for d, _ in tried), strict=True)
    widths, ahead, behind = _sampled(fun, x, [d for d, _ in tried], lengths, chunk_size)
    value = float(fun(x))
    sides = zip(ahead, behind, least, strict=True)
    seen = [_slope(widths, front, back, value, low) for front, back, low in sides]
    found = [slope * length for (_, slope), length in zip(tried, lengths, strict=True)]
    kept = [i for i, s in enumerate(seen) if np.isfinite(s.doubt)]
    if not kept and not automatic:
        return  # no width moves all of x: the check that a step moves x tells more
    if not kept:
        raise ValueError(
            f"{name}: x must be moved as a whole by some displacement of up to max(1, |x_i|), got "
            f"coordinates too unlike: the slope at {given} can't be seen; bring x to one scale, or "
            "pass a number"
        )
    seen, found = [seen[i] for i in kept], [found[i] for i in kept]
    error = _norm([f - s.slope for f, s in zip(found, seen, strict=True)])
    size, doubt = _norm([s.size for s in seen]), _norm([s.doubt for s in seen])
    if doubt > _UNSEEN * size:
        raise ValueError(
            f"{name}: fun must vary by more than its noise over some displacement that can be seen,"
            f" got slopes that differ by {doubt / size:.0%} at the best: {given} can't be right to "
            "10 %; make fun less noisy, or bring x to the scale on which it varies"
        )
    if error > _SHARE * size + doubt:
        raise ValueError(
            f"{name}: a step must give the slope of fun to 10 %, got an error of "
            f"{error / size:.0%} at {given}; fun is seen to vary evenly over {seen[0].width:.1g} "
            'max(1, |x|): use "auto" or about such a step, or bring x to the scale of fun'
        )


def _norm(values: list[float]) -> float:
    return float(np.linalg.norm(np.asarray(values)))


def _lengths(d: PyTree, x: PyTree) -> tuple[float, float]:
    """Return c for which c d moves no coordinate by more than max(1, |x_i|), and the least width.

    Leaves of less than 32 bits stay where they are.
    """
    pairs = list(zip(*map(jax.tree.leaves, (d, x)), strict=True))
    wide = [
        (np.abs(np.asarray(part, np.float64)), np.abs(np.asarray(leaf, np.float64)), leaf.dtype)
        for part, leaf in pairs
        if _ladders.measurable(leaf) and leaf.size
    ]
    longest = max(float(np.max(part / np.maximum(leaf, 1))) for part, leaf, _ in wide)
    count = sum(int(np.sum(part != 0)) for part, *_ in wide)
    square = sum(float(np.sum((part / longest) ** 2)) for part, *_ in wide)
    spacing = max(
        float(np.max(leaf, where=part != 0, initial=0.0)) * float(jnp.finfo(dtype).eps)
        for part, leaf, dtype in wide
    )
    return 1 / longest, _MOVES * spacing / float(np.sqrt(square / count))


def _sampled(
    fun: ValueFn,
    x: PyTree,
    directions: list[PyTree],
    lengths: tuple[float, ...],
    chunk_size: ChunkSize,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return widths, and values at (direction, width) ahead and behind, all in double precision."""
    size = _ladders.largest(x)
    rungs = _ladders.rungs(size.dtype.name)
    widths = rungs[-1] if _ladders.small(size) else rungs[0]
    signs = np.concatenate([widths, -widths])
    index = np.repeat(np.arange(len(directions)), len(signs))
    ends = np.tile(signs, len(directions)).astype(trees.common_dtype(x))

    with searching():
        scales = np.asarray(lengths, trees.common_dtype(x))
        values = as_program(
            lambda fun: _values(fun, x, directions, scales, index, ends, chunk_size), fun, x
        )
    found = np.asarray(values, np.float64).reshape(len(directions), 2, len(widths))
    return widths, found[:, 0], found[:, 1]


def _values(
    fun: ValueFn,
    x: PyTree,
    directions: list[PyTree],
    scales: AnyArray,
    index: AnyArray,
    ends: AnyArray,
    chunk_size: ChunkSize,
) -> Array:
    """Return `fun` at x + t c d, for t of `ends`, d and its factor c of that index."""
    ladder = _ladder(directions, scales)
    chunk = chunk_length(chunk_size, fun, x, ends.size)

    def value(end: tuple[Array, Array]) -> Array:
        place, t = end

        def moved(leaf: Array, parts: Array) -> Array:
            if not _ladders.measurable(leaf):
                return leaf
            return leaf + t.astype(leaf.dtype) * parts[place].astype(leaf.dtype)

        return fun(jax.tree.map(moved, x, ladder))

    values: Array = in_chunks(value, (jnp.asarray(index), jnp.asarray(ends)), chunk)
    return values


@one_program()
def _ladder(directions: list[PyTree], scales: AnyArray) -> PyTree:
    """Return c d for all directions d and their factors c, one above the other."""
    scaled = [
        jax.tree.map(lambda part, c=c: c.astype(part.dtype) * part, d)
        for c, d in zip(scales, directions, strict=True)
    ]
    return jax.tree.map(lambda *parts: jnp.stack(parts), *scaled)


def _slope(
    widths: np.ndarray, ahead: np.ndarray, behind: np.ndarray, value: float, least: float
) -> _Slope:
    """Return the slope where three quotients agree best; where none do, where they differ least."""
    quotients = np.where(widths >= least, (ahead - behind) / (2 * widths), np.nan)
    near = np.lib.stride_tricks.sliding_window_view(quotients, 3)
    differ = np.max(near, axis=1) - np.min(near, axis=1)
    usable = np.isfinite(differ)
    if not np.any(usable):
        return _Slope(0.0, np.inf, 0.0, float(widths[-1]))
    sizes = np.where(usable & (near[:, 1] != 0), np.abs(near[:, 1]), np.nan)
    share = np.nan_to_num(differ / sizes, nan=np.inf, posinf=np.inf)
    place = np.argmin(share)
    if share[place] > _SHARE:
        place = np.argmin(np.where(usable, differ, np.inf))
    longer = widths >= widths[place + 1]
    sides = [np.abs(side - value)[longer] / widths[longer] for side in (ahead, behind)]
    changes = [np.max(side, initial=0.0, where=np.isfinite(side)) for side in sides]
    slope = float(near[place, 1])
    size = max(abs(slope), float(min(changes)))
    return _Slope(slope, float(differ[place]), size, float(widths[place + 1]))
