"""Descent along two-point estimates that moves x itself, there and back, instead of a copy.

x -> x + h u -> x - h u -> x + (h - a s) u, with s the slope between the two: as Malladi et al.
(2023), arXiv:2305.17333, train language models at the memory of inference. What it costs is digits.
Each of the three moves rounds every coordinate again, by at most half a unit in the last place of
what x + h u holds there, where a copy would be rounded once, by the last move alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp

from adlab.core._redrawn import Probe, Redrawn, added
from adlab.core.types import Array, Key, PyTree, ValueFn
from adlab.gradients.steps import end_and_run, quotient

__all__ = ["descended"]

Step: TypeAlias = Callable[[Probe], Array]
Draw: TypeAlias = Callable[[Key], Redrawn]


def descended(fun: ValueFn, x: PyTree, step: Step, draw: Draw, keys: Key, size: Array) -> PyTree:
    """Return x - size * (1/m) sum_i s_i u_i, where m is the number of keys.

    Args:
      fun: x -> its value.
      x: what is moved; its memory is used again where its caller gives it away.
      step: u -> the smoothing h.
      draw: key -> the probe.
      keys: of the probes, (m,).
      size: how far to go.
    """
    if len(keys) == 1:
        x, slope, h, probe = _there_and_back(fun, x, step, draw, keys[0])
        return end_and_run(x, h - size * slope, probe, False)[0]

    def one(x: PyTree, key: Key) -> tuple[PyTree, tuple[Array, Redrawn]]:
        x, slope, h, probe = _there_and_back(fun, x, step, draw, key)
        return end_and_run(x, _after(slope, h), probe, False)[0], (slope, probe)

    x, (slopes, stack) = jax.lax.scan(one, x, keys)
    return added(stack, -size * slopes / len(keys), x)


def _there_and_back(
    fun: ValueFn, x: PyTree, step: Step, draw: Draw, key: Key
) -> tuple[PyTree, Array, Array, Redrawn]:
    """Return x - h u, the slope, h and the probe."""
    probe = draw(key)
    h = step(probe)
    ahead, _ = end_and_run(x, h, probe, False)
    front = fun(ahead)
    behind, run = end_and_run(ahead, _after(front, -2 * h), probe, False)
    return behind, quotient(fun(behind), front, run), h, probe


def _after(value: Array, h: Array) -> Array:
    """Return h once the value is there, so that its point may be overwritten then.

    NaN where the value is, of which x would become NaN all the same.
    """
    return jnp.where(jnp.isnan(value), jnp.nan, h)
