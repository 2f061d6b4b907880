"""A scan whose backward pass follows a schedule of checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from adlab.checkpointing._scan_sweep import ScanSweep
from adlab.checkpointing._spread import axes_of, shared, spread
from adlab.checkpointing._sweeps import Leaves, is_smooth, run
from adlab.checkpointing.actions import Action, validate
from adlab.checkpointing.program import Program, compiled
from adlab.checkpointing.schedules import Fixed, Optimal, Schedule, as_schedule
from adlab.core import checks, jaxprs, trees
from adlab.core.types import PyTree

__all__ = ["checkpointed_scan"]


def checkpointed_scan(
    body: Callable[[PyTree, PyTree], tuple[PyTree, PyTree]],
    init: PyTree,
    xs: PyTree = None,
    *,
    schedule: Schedule | Sequence[Action],
    length: int | None = None,
    reverse: bool = False,
    unroll: int | bool = 1,
) -> tuple[PyTree, PyTree]:
    """Run `jax.lax.scan(body, init, xs)`, storing for its backward pass what `schedule` says.

    The backward pass holds `schedule.slots(L)` states, the first (which a compiler drops where
    nothing asks for derivatives of the gradient), the current one, and the intermediates of one
    step; it computes `schedule.extra_forward_steps(L)` steps again, beside the step within each
    backward step. Gradients are those of the plain scan, to rounding: the same operations on the
    same numbers, which the compiler may fuse in another way.

    `body` may close over arrays, traced ones too; their derivatives are summed in one copy each, of
    at least float32: in 16 bits a sum of 1,000 ones stalls at 256 (bfloat16), as that of the plain
    scan does. Leaves of the carry that `body` returns as they came are summed likewise.

    It works under jit and vmap, and in any composition of forward and reverse mode: `jax.jvp` and
    `jax.linearize` of it, which store nothing, and second derivatives either way, which store as
    many states as the schedule says for each of a few scans: gradient penalties,
    `curvature.hvp(mode="reverse_over_reverse")`, the gradient of a function of a gradient. Each
    further derivative stores about twice as much, at any length. In `jax.shard_map` what has
    derivatives comes back as varying along all axes that any of the arguments varies along.

    >>> from adlab.checkpointing import binomial
    >>> def loss(x):
    ...     return checkpointed_scan(
    ...         lambda c, t: (c * jnp.sin(t), None), x, jnp.arange(1.0, 5.0), schedule=binomial(2)
    ...     )[0]
    >>> expected = np.prod(np.sin(np.arange(1.0, 5.0)))
    >>> np.allclose(jax.grad(loss)(2.0), expected)
    True

    Args:
      body: (carry, x) -> (carry, y), as for `jax.lax.scan`.
      init: the first carry, a tree of arrays: numbers of any kind, booleans, keys of `jax.random`.
      xs: a tree of arrays (L, ...), or None.
      schedule: a schedule such as `binomial(8)`, or a tuple of actions for L steps.
      length: L >= 0, where there are no xs.
      reverse: whether to go through xs from the last to the first, as `jax.lax.scan` can.
      unroll: how many steps a turn of the loops takes, as for `jax.lax.scan`.

    Returns:
      (carry, ys), as `jax.lax.scan` does.

    Raises:
      TypeError: a carry that changes its structure, shapes or dtypes; not a schedule.
      ValueError: no xs and no length, or xs of other lengths; a schedule for another length, or one
        that isn't valid.
    """
    count = _length(xs, length)
    chosen = as_schedule(schedule)
    if count == 0:
        if isinstance(chosen, Fixed | Optimal):  # others serve any length
            chosen.actions(0)
        return lax.scan(body, init, xs, length=0, reverse=reverse, unroll=unroll)
    init, xs = _spread(jax.tree.map(_strong, init), jax.tree.map(jnp.asarray, xs))
    program = compiled(validate(chosen.actions(count), count), count)
    options = {"length": count, "reverse": reverse, "unroll": unroll}
    sweep, consts, out_tree = _sweep(body, init, xs, program, options)
    leaves, tree = jax.tree.flatten(init)
    carry, ys = run(sweep, (consts, leaves, jax.tree.leaves(xs)))
    return jax.tree.unflatten(tree, carry), jax.tree.unflatten(out_tree, ys)


def _spread(*given: PyTree) -> PyTree:
    leaves, tree = jax.tree.flatten(given)
    return jax.tree.unflatten(tree, spread(leaves, axes_of(leaves)))


def _strong(leaf: Any) -> jax.Array:
    leaf = jnp.asarray(leaf)
    weak = getattr(jax.typeof(leaf), "weak_type", False)
    return lax.convert_element_type(leaf, leaf.dtype) if weak else leaf  # a copy would be kept


def _length(xs: PyTree, length: int | None) -> int:
    must = "xs must be arrays with one first axis, as long as `length` where that is given"
    count = trees.first_axis(xs, must, length=length)
    checks.at_least("length", count, 0)
    return count


def _sweep(
    body: Callable[[PyTree, PyTree], tuple[PyTree, PyTree]],
    init: PyTree,
    xs: PyTree,
    program: Program,
    options: dict[str, Any],
) -> tuple[ScanSweep, Leaves, Any]:
    """Return the sweep, what the body closes over, and the structure of y."""
    x = jax.tree.map(lambda leaf: jax.eval_shape(lambda leaf: leaf[0], leaf), xs)
    closed, shapes = jax.make_jaxpr(body, return_shape=True)(init, x)
    if not isinstance(shapes, tuple) or len(shapes) != 2:
        raise TypeError(f"body must return (carry, y), got {jax.tree.structure(shapes)}")
    _check_carry(init, shapes[0])
    jaxpr = closed.jaxpr
    flat = jaxprs.hoisted(closed, "body of checkpointed_scan")
    num_carry = len(jax.tree.leaves(init))
    axes = axes_of([*closed.consts, *jax.tree.leaves((init, xs))])
    flat = shared(flat, closed.consts, axes)

    def step(consts: Leaves, carry: Leaves, x: Leaves) -> tuple[Leaves, Leaves]:
        out = flat(*consts, *carry, *x)
        return out[:num_carry], out[num_carry:]

    groups = (closed.consts, jax.tree.leaves(init), jax.tree.leaves(x))
    consts, carry, each = (tuple(map(is_smooth, group)) for group in groups)
    kept = frozenset(k for k in range(num_carry) if jaxpr.outvars[k] is jaxpr.invars[k])
    sweep = ScanSweep(step, program, kinds=(consts, carry, each), kept=kept, **options)
    return sweep, spread(closed.consts, axes), jax.tree.structure(shapes[1])


def _check_carry(init: PyTree, after: PyTree) -> None:
    before = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), init)
    structure: Any = jax.tree.structure(before)
    if structure != jax.tree.structure(after):
        raise TypeError(
            f"body must return a carry of the structure of init, {structure}, "
            f"got {jax.tree.structure(after)}"
        )
    pairs = zip(jax.tree_util.tree_leaves_with_path(before), jax.tree.leaves(after), strict=True)
    for (path, old), new in pairs:
        if (old.shape, old.dtype) != (new.shape, new.dtype):
            place = jax.tree_util.keystr(path) or "carry"
            raise TypeError(
                f"body must keep shape and dtype of the carry: {place} must be "
                f"{old.dtype}{list(old.shape)}, got {new.dtype}{list(new.shape)}"
            )
