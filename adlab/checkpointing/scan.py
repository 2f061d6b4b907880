"""A scan whose backward pass follows a schedule of checkpoints."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from adlab.checkpointing.actions import Action, validate
from adlab.checkpointing.program import Program, compiled
from adlab.checkpointing.schedules import Schedule, as_schedule
from adlab.core import checks, jaxprs, trees
from adlab.core.types import PyTree

__all__ = ["checkpointed_scan"]

Leaves = list[Any]


def checkpointed_scan(
    body: Callable[[PyTree, PyTree], tuple[PyTree, PyTree]],
    init: PyTree,
    xs: PyTree = None,
    *,
    schedule: Schedule | Sequence[Action],
    length: int | None = None,
) -> tuple[PyTree, PyTree]:
    """Run `jax.lax.scan(body, init, xs)`, storing for its backward pass what `schedule` says.

    The backward pass holds `schedule.slots(L)` states, the current one, and the intermediates of
    one step; it computes `schedule.extra_forward_steps(L)` steps again, beside the step within each
    backward step. Gradients are those of the plain scan, to rounding: the same operations on the
    same numbers, which the compiler may fuse in another way.

    `body` may close over arrays, traced ones too; their derivatives are summed in one copy each, of
    at least float32: in 16 bits a sum of 1,000 ones stalls at 256 (bfloat16), as that of the plain
    scan does. Leaves of the carry that `body` returns as they came are summed likewise. It works
    under jit and vmap, in reverse mode, and in forward-over-reverse: `jax.jvp` of a gradient,
    as `curvature.hvp` does by default. `jax.jvp` of it, and so reverse-over-forward, can't work.

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
      init: the first carry, a tree of real floating-point arrays.
      xs: a tree of arrays (L, ...), or None.
      schedule: a schedule such as `binomial(8)`, or a tuple of actions for L steps.
      length: L, where there are no xs.

    Returns:
      (carry, ys), as `jax.lax.scan` does.

    Raises:
      TypeError: a carry that isn't real floating-point, or changes its structure, shapes or dtypes;
        not a schedule; in forward mode.
      ValueError: no xs and no length, or xs of other lengths; a schedule for another length, or one
        that isn't valid.
    """
    count = _length(xs, length)
    checks.require_inexact("checkpointed_scan (init)", init)
    init = jax.tree.map(_strong, init)
    xs = jax.tree.map(jnp.asarray, xs)
    chain, consts, out_tree = _chain(body, init, xs, schedule, count)
    leaves, tree = jax.tree.flatten(init)
    with refuse_forward_mode("checkpointed_scan", "jax.lax.scan"):
        carry, ys = _run(chain, consts, leaves, jax.tree.leaves(xs))
    return jax.tree.unflatten(tree, carry), jax.tree.unflatten(out_tree, ys)


@contextlib.contextmanager
def refuse_forward_mode(name: str, instead: str) -> Iterator[None]:
    """Say in terms of the function named why it has no forward mode, and what to take instead."""
    try:
        yield
    except TypeError as error:
        if "forward-mode" not in str(error):
            raise
        raise TypeError(
            f"{name} can't be differentiated in forward mode (jvp, jacfwd, or reverse-over-"
            "forward): take reverse mode (grad, vjp), or forward-over-reverse, jax.jvp of a "
            f"gradient; or {instead}, which needs no memory in forward mode"
        ) from error


def _strong(leaf: Any) -> jax.Array:
    leaf = jnp.asarray(leaf)
    return lax.convert_element_type(leaf, leaf.dtype)


def _length(xs: PyTree, length: int | None) -> int:
    must = "xs must be arrays with one first axis, as long as `length` where that is given"
    count = trees.first_axis(xs, must, length=length)
    checks.at_least("length", count, 1)
    return count


@dataclass(frozen=True, eq=False)
class _Chain:
    """One step as a function of (consts, carry, x), all lists of leaves, with the program."""

    step: Callable[..., Leaves]
    program: Program
    length: int
    num_carry: int
    kept: frozenset[int]  # places in the carry of what a step returns as it came

    def __call__(self, consts: Leaves, carry: Leaves, x: Leaves) -> tuple[Leaves, Leaves]:
        out = self.step(*consts, *carry, *x)
        return out[: self.num_carry], out[self.num_carry :]


def _chain(
    body: Callable[[PyTree, PyTree], tuple[PyTree, PyTree]],
    init: PyTree,
    xs: PyTree,
    schedule: Schedule | Sequence[Action],
    length: int,
) -> tuple[_Chain, Leaves, Any]:
    """Return the chain, what the body closes over, and the structure of y."""
    x = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), xs)
    closed, shapes = jax.make_jaxpr(body, return_shape=True)(init, x)
    if not isinstance(shapes, tuple) or len(shapes) != 2:
        raise TypeError(f"body must return (carry, y), got {jax.tree.structure(shapes)}")
    _check_carry(init, shapes[0])
    jaxpr = closed.jaxpr
    step = jaxprs.hoisted(closed, "body of checkpointed_scan")
    actions = validate(as_schedule(schedule).actions(length), length)
    program = compiled(actions, length)
    num_carry = len(jax.tree.leaves(init))
    kept = frozenset(k for k in range(num_carry) if jaxpr.outvars[k] is jaxpr.invars[k])
    chain = _Chain(step, program, length, num_carry, kept)
    return chain, list(closed.consts), jax.tree.structure(shapes[1])


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


def _at(xs: Leaves, index: Any) -> Leaves:
    return [lax.dynamic_index_in_dim(leaf, index, keepdims=False) for leaf in xs]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _run(chain: _Chain, consts: Leaves, init: Leaves, xs: Leaves) -> tuple[Leaves, Leaves]:
    """Run the scan where nothing is differentiated."""
    return lax.scan(lambda carry, x: chain(consts, carry, x), init, xs, length=chain.length)


def _forward(chain: _Chain, consts: Leaves, init: Leaves, xs: Leaves) -> tuple[Any, Any]:
    """Run the scan; keep the states that the schedule stores on the way, and x_{L-1}."""
    slots = _slots(chain, init)
    kept = np.append(chain.program.kept, -1)
    final = np.arange(chain.length) == chain.length - 1

    def step(state: Any, item: Any) -> tuple[Any, Leaves]:
        carry, slots, last = state
        slot, at_end, x = item
        slots = _write(slots, slot, carry)
        last = [jnp.where(at_end, new, old) for new, old in zip(carry, last, strict=True)]
        carry, y = chain(consts, carry, x)
        return (carry, slots, last), y

    start = (init, slots, trees.zeros_like(init))
    (carry, slots, last), ys = lax.scan(step, start, (kept, final, xs), length=chain.length)
    return (carry, ys), (consts, last, slots, xs)


def _slots(chain: _Chain, init: Leaves) -> Leaves:
    rows = chain.program.num_slots
    return [
        jnp.broadcast_to(zeros, (rows, *zeros.shape)) for zeros in trees.zeros_like(init)
    ]  # each where its leaf lies


def _write(slots: Leaves, slot: Any, carry: Leaves) -> Leaves:
    """Return the slots with the carry in one of them; with none written where slot < 0."""
    place = jnp.maximum(slot, 0)
    return [
        lax.dynamic_update_index_in_dim(
            held, jnp.where(slot < 0, lax.dynamic_index_in_dim(held, place, keepdims=False), leaf),
            place, 0,
        )
        for held, leaf in zip(slots, carry, strict=True)
    ]  # fmt: skip


def _read(slots: Leaves, slot: Any, carry: Leaves) -> Leaves:
    """Return the state in a slot, or the carry where slot < 0."""
    place = jnp.maximum(slot, 0)
    return [
        jnp.where(slot < 0, leaf, lax.dynamic_index_in_dim(held, place, keepdims=False))
        for held, leaf in zip(slots, carry, strict=True)
    ]


def _backward(chain: _Chain, kept: Any, cotangents: Any) -> tuple[Leaves, Leaves, Leaves]:
    consts, current, slots, xs = kept
    carry_bar, ys_bar = cotangents
    program = chain.program
    moves = jnp.asarray(program.moves) if len(program.moves) else jnp.zeros((1, 3), jnp.int32)
    smooth_consts, smooth_xs, smooth_ys = map(_smooth, (consts, xs, ys_bar))

    def move(place: Any, state: Any) -> Any:
        current, slots = state
        restored, stored, index = moves[place]
        current = _read(slots, restored, current)
        slots = _write(slots, stored, current)
        current, _ = chain(consts, current, _at(xs, index))
        return current, slots

    def step(state: Any, item: Any) -> tuple[Any, Leaves]:
        current, slots, carry_bar, consts_bar = state
        first, count, last, x, y_bar = item
        current, slots = lax.fori_loop(first, first + count, move, (current, slots))
        current = _read(slots, last, current)
        carry_bar, consts_added, x_bar = _pull(chain, consts, current, x, carry_bar, y_bar)
        consts_bar = [_added(a, b) for a, b in zip(consts_bar, consts_added, strict=True)]
        return (current, slots, carry_bar, consts_bar), x_bar

    dtypes = [leaf.dtype for leaf in carry_bar]
    carry_bar = [_wide(leaf) if k in chain.kept else leaf for k, leaf in enumerate(carry_bar)]
    zeros = [_wide(trees.zeros_like(consts[k])) for k in smooth_consts]
    items = (program.first, program.number, program.last, xs, [ys_bar[k] for k in smooth_ys])
    (_, _, carry_bar, consts_bar), xs_bar = lax.scan(
        step, (current, slots, carry_bar, zeros), items, reverse=True
    )
    carry_bar = [leaf.astype(dtype) for leaf, dtype in zip(carry_bar, dtypes, strict=True)]
    consts_bar = [
        leaf.astype(consts[k].dtype) for k, leaf in zip(smooth_consts, consts_bar, strict=True)
    ]
    return (
        _filled(consts, smooth_consts, consts_bar), carry_bar, _filled(xs, smooth_xs, xs_bar)
    )  # fmt: skip


def _wide(leaf: jax.Array) -> jax.Array:
    return leaf.astype(trees.wide_dtype(leaf))


def _added(total: jax.Array, part: jax.Array) -> jax.Array:
    """Add in the dtype of the sum, which is that of its terms or a wider one."""
    return total + part.astype(total.dtype)


def _smooth(leaves: Sequence[Any]) -> list[int]:
    """Return the places of the leaves that have derivatives."""
    return [k for k, leaf in enumerate(leaves) if jnp.issubdtype(leaf.dtype, jnp.inexact)]


def _filled(leaves: Leaves, places: list[int], values: Leaves) -> Leaves:
    """Return the cotangents of all leaves: zeros of dtype float0 for those without derivatives."""
    found = dict(zip(places, values, strict=True))
    return [
        found[k] if k in found else np.zeros(leaf.shape, jax.dtypes.float0)
        for k, leaf in enumerate(leaves)
    ]


def _pull(
    chain: _Chain, consts: Leaves, carry: Leaves, x: Leaves, carry_bar: Leaves, y_bar: Leaves
) -> tuple[Leaves, Leaves, Leaves]:
    """Return the cotangents of one step, of those leaves that have derivatives."""
    some, others = _smooth(consts), _smooth(x)

    def smooth(consts_in: Leaves, carry: Leaves, x_in: Leaves) -> tuple[Leaves, Leaves]:
        full_consts, full_x = list(consts), list(x)
        for k, value in zip(some, consts_in, strict=True):
            full_consts[k] = value
        for k, value in zip(others, x_in, strict=True):
            full_x[k] = value
        after, y = chain(full_consts, carry, full_x)
        passed = [leaf for k, leaf in enumerate(after) if k not in chain.kept]
        return passed, [y[k] for k in _smooth(y)]

    _, pull = jax.vjp(smooth, [consts[k] for k in some], carry, [x[k] for k in others])
    passed = [leaf for k, leaf in enumerate(carry_bar) if k not in chain.kept]
    consts_bar, added, x_bar = pull((passed, y_bar))
    carry_bar = [
        _added(carry_bar[k], leaf) if k in chain.kept else leaf for k, leaf in enumerate(added)
    ]
    return carry_bar, consts_bar, x_bar


_run.defvjp(_forward, _backward)
