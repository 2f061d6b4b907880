"""Derivatives of every order and mode, made of a forward sweep and a checkpointed backward sweep.

Let F be a computation of many steps. A *sweep* knows how to run F; how to run it and store states
on the way; and how to pull cotangents back from the stored states, c -> J(x)^T c. It also knows the
sweep of its tangent, F2(x, t) = (F(x), J(x) t), which has as many steps and the same schedule. This
is enough for all derivatives:

* F has the derivative J(x) t, the second half of F2. Its transpose is the backward sweep.
* The backward sweep, B(x, c) = J(x)^T c, has the derivative

      K(x, c) (t, s) = H t + J(x)^T s,     H = sum_i c_i (Hessian of F_i),

  and both K (t, s) and its transpose K^T t = (H t, J(x) t) come from one backward sweep of F2: that
  at (x, t), with cotangents s of F and c of J t, gives H t + J^T s for x.

So F2 is swept where F is differentiated twice, the tangent of F2 where it is three times, and so
on: 2^(n - 1) times as much is stored for the n-th derivative, however many steps there are.

So all that JAX must be told is linear maps with transposes of their own (`_linear.linear`).

Source: of K from a tangent and one backward sweep, Pearlmutter (1994),
doi:10.1162/neco.1994.6.1.147.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_derivatives import SymbolicZero

from adlab.checkpointing._linear import linear
from adlab.core import trees

__all__ = [
    "Groups",
    "Leaves",
    "Sweep",
    "is_smooth",
    "replaced",
    "run",
    "smooth",
    "with_tangent",
]

Leaves = list[Any]
Groups = tuple[Leaves, ...]
"""Arguments or results of a computation: some lists of arrays, such as constants, carry and xs."""


class Sweep(Protocol):
    """A computation of many steps."""

    @property
    def tangent(self) -> Sweep:
        """F2, whose groups are those of F, each followed by the tangents of its smooth leaves."""

    def run(self, inputs: Groups) -> Groups:
        """Return F(x)."""

    def save(self, inputs: Groups) -> tuple[Groups, Any]:
        """Return F(x) and what the backward sweep starts from."""

    def pull(self, inputs: Groups, saved: Any, bars: Groups) -> Groups:
        """Return cotangents of all smooth leaves of x from those of the smooth leaves of F(x)."""


def is_smooth(leaf: Any) -> bool:
    """Tell whether a leaf has derivatives: integers, booleans and keys have none."""
    return bool(jnp.issubdtype(leaf.dtype, jnp.inexact))


def smooth(leaves: Sequence[Any]) -> Leaves:
    """Return the leaves that have derivatives."""
    return [leaf for leaf in leaves if is_smooth(leaf)]


def _with_others(leaves: Sequence[Any], dots: Sequence[Any]) -> Leaves:
    """Return tangents of all leaves from those of the smooth ones: others get zeros of float0."""
    rest = iter(dots)
    return [
        next(rest) if is_smooth(leaf) else np.zeros(np.shape(leaf), jax.dtypes.float0)
        for leaf in leaves
    ]


def replaced(leaves: Sequence[Any], values: Sequence[Any]) -> Leaves:
    """Return the leaves with these values of the smooth ones."""
    rest = iter(values)
    return [next(rest) if is_smooth(leaf) else leaf for leaf in leaves]


def with_tangent(
    function: Callable[..., Groups], kinds: Sequence[Sequence[bool]]
) -> Callable[..., Groups]:
    """Return (f(x), J(x) t) as a function of groups, each followed by the tangents in it.

    Args:
      function: of some groups, one for each of `kinds`.
      kinds: which of the leaves of each group have derivatives.
    """

    def both(*joined: Leaves) -> Groups:
        pairs = [(leaves, len(kind)) for leaves, kind in zip(joined, kinds, strict=True)]
        primals = [leaves[:count] for leaves, count in pairs]
        dots = [_with_others(leaves[:count], leaves[count:]) for leaves, count in pairs]
        outputs, moved = jax.jvp(function, primals, dots)
        return _joined(outputs, _dots(outputs, moved))

    return both


def _smooth(groups: Sequence[Sequence[Any]]) -> Groups:
    return tuple(smooth(group) for group in groups)


def _filled(groups: Groups, dots: Groups) -> Groups:
    return tuple(_with_others(group, dot) for group, dot in zip(groups, dots, strict=True))


def _dots(groups: Groups, tangents: Groups) -> Groups:
    """Return the tangents of the smooth leaves."""
    return tuple(
        [dot for leaf, dot in zip(group, dots, strict=True) if is_smooth(leaf)]
        for group, dots in zip(groups, tangents, strict=True)
    )


def _joined(groups: Groups, dots: Groups) -> Groups:
    """Return arguments of F2 from those of F and tangents of their smooth leaves."""
    return tuple([*group, *dot] for group, dot in zip(groups, dots, strict=True))


def _tangents(joined: Groups) -> Groups:
    """Return the tangents among results of F2: half of the smooth leaves, the last ones."""
    return tuple(group[len(group) - len(smooth(group)) // 2 :] for group in joined)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def run(sweep: Sweep, inputs: Groups) -> Groups:
    """Return F(x), with the derivatives of the sweep."""
    return sweep.run(inputs)


@functools.partial(run.defjvp, symbolic_zeros=True)
def _run_jvp(sweep: Sweep, primals: Any, tangents: Any) -> tuple[Groups, Groups]:
    outputs, _, dots = _saved_and_pushed(sweep, *_arrays((primals[0], tangents[0])))
    return outputs, dots


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _save(sweep: Sweep, inputs: Groups) -> tuple[Groups, Any]:
    """Return F(x) and what is stored, which counts as constant: `_pull` has derivatives in x."""
    return sweep.save(inputs)


@functools.partial(_save.defjvp, symbolic_zeros=True)
def _save_jvp(sweep: Sweep, primals: Any, tangents: Any) -> tuple[Any, Any]:
    outputs, saved, dots = _saved_and_pushed(sweep, *_arrays((primals[0], tangents[0])))
    leaves, tree = jax.tree.flatten(saved)
    none = jax.tree.unflatten(tree, _with_others(leaves, trees.zeros_like(smooth(leaves))))
    return (outputs, saved), (dots, none)


def _arrays(tree: Any) -> Any:
    """Return the tree with numbers of Python, as `jax.jvp` hands them on, as arrays."""
    return jax.tree.map(
        lambda leaf: jnp.asarray(leaf) if isinstance(leaf, complex | float | int) else leaf, tree
    )


def _saved_and_pushed(sweep: Sweep, inputs: Groups, tangents: Groups) -> tuple[Groups, Any, Groups]:
    """Return F(x), what is stored, and J(x) t with the backward sweep as its transpose."""
    outputs, saved = _save(sweep, inputs)
    saved = lax.stop_gradient(saved)
    dots = _linear_in_some(
        functools.partial(_push, sweep, inputs),
        functools.partial(_pull, sweep, inputs, saved),
        _smooth(inputs),
        _dots(inputs, tangents),
        _smooth(outputs),
    )
    return outputs, saved, _filled(outputs, dots)


def _push(sweep: Sweep, inputs: Groups, dots: Groups) -> Groups:
    """Return J(x) t."""
    return _tangents(run(sweep.tangent, _joined(inputs, dots)))


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _pull(sweep: Sweep, inputs: Groups, saved: Any, bars: Groups) -> Groups:
    """Return J(x)^T c of the smooth leaves."""
    return sweep.pull(inputs, saved, bars)


@functools.partial(_pull.defjvp, symbolic_zeros=True)
def _pull_jvp(sweep: Sweep, primals: Any, tangents: Any) -> tuple[Groups, Groups]:
    inputs, saved, bars = _arrays(primals)
    dots = _dots(inputs, _arrays(tangents[0]))

    def forward(moved: tuple[Groups, Groups]) -> Groups:
        dots, more = moved
        return _second_order(sweep, inputs, dots, more, bars)[0]

    def transpose(dots: Groups) -> tuple[Groups, Groups]:
        return _second_order(sweep, inputs, dots, trees.zeros_like(bars), bars)

    pulled = _pull(sweep, inputs, saved, bars)
    given = (_smooth(inputs), bars)
    return pulled, _linear_in_some(forward, transpose, given, (dots, _arrays(tangents[2])), pulled)


def _second_order(
    sweep: Sweep, inputs: Groups, dots: Groups, more: Groups, bars: Groups
) -> tuple[Groups, Groups]:
    """Return H t + J^T s, and J t, from one backward sweep of F2: t = dots, s = more, c = bars."""
    both = _joined(inputs, dots)
    outputs, saved = _save(sweep.tangent, both)
    pulled = _pull(sweep.tangent, both, lax.stop_gradient(saved), _joined(more, bars))
    return tuple(group[: len(group) // 2] for group in pulled), _tangents(outputs)


def _linear_in_some(
    forward: Callable[[Any], Any], transpose: Callable[[Any], Any], given: Any, dots: Any, like: Any
) -> Any:
    """Return a linear map of the tangents of `given`; what is known to stand still isn't kept."""
    leaves, tree = jax.tree.flatten(dots, is_leaf=_stands_still)
    places = [place for place, leaf in enumerate(leaves) if not _stands_still(leaf)]

    def of_some(moved: Leaves) -> Any:
        found = dict(zip(places, moved, strict=True))
        full = [
            found[k] if k in found else trees.zeros_like(leaf)
            for k, leaf in enumerate(jax.tree.leaves(given))
        ]
        return forward(jax.tree.unflatten(tree, full))

    def to_some(bars: Any) -> Leaves:
        full = jax.tree.leaves(transpose(bars))
        return [full[place] for place in places]

    return linear(of_some, to_some, [leaves[place] for place in places], like)


def _stands_still(leaf: Any) -> bool:
    return isinstance(leaf, SymbolicZero)
