"""What each mode costs, from shapes alone, and which one is cheapest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from adlab.core import flops
from adlab.core.calls import check_arguments
from adlab.core.jaxprs import equations, num_bytes, subjaxprs
from adlab.core.types import Argnums, ChunkSize, PyTree, TreeFn
from adlab.jacobians import mixed, sweeps
from adlab.jacobians.selection import Selection, select

__all__ = ["ChunkSize", "JacobianCosts", "ModeCost", "cost_table", "jacobian_costs", "sweep_chunk"]

Sweep = Literal["forward", "reverse"]
Dense = Sweep | Literal["mixed"]
MEMORY = 1 << 26  # bytes that the widest intermediate of a chunk may take
STEPS = 200  # equations up to which an elimination is looked for
GAIN = 0.5  # what an elimination's work must be below, relative to the better sweep's
BYTE = 1.0  # operations that take as long as moving a byte
# How much longer a reverse sweep takes than a forward sweep of the same work: hardly where it is
# products of matrices, more in the rest, which is fused less.
ROW_PRODUCTS, ROW_REST = 1.05, 1.5
PRODUCTS = frozenset(["dot_general", "conv_general_dilated"])


@dataclass(frozen=True)
class ModeCost:
    """What one mode costs.

    Attributes:
      mode: its name.
      passes: sweeps: columns in forward mode, rows in reverse mode; 1 where there are none.
      flops: floating-point operations, the function's own included; a multiply-add counts two.
      bytes: bytes read and written if no two operations were fused: an upper bound of traffic.
      chunk: how many sweeps are done at a time with chunk_size="auto".
      exact: False where a loop of unknown length was counted once.
      slowness: how much longer this work takes than forward mode would take for as much.
    """

    mode: Dense
    passes: int
    flops: int
    bytes: int
    chunk: int
    exact: bool = True
    slowness: float = 1.0

    @property
    def effort(self) -> float:
        """Operations and bytes, by what they take, in one number: modes are compared by it."""
        return (self.flops + BYTE * self.bytes) * self.slowness


@dataclass(frozen=True)
class JacobianCosts:
    """A table of modes, the ways to a dense Jacobian of `outputs` times `inputs` numbers.

    Attributes:
      inputs: n, the numbers that are differentiated.
      outputs: m, the numbers that the function returns.
      rows: the modes in which the function can be differentiated; elimination ("mixed") only where
        the function is small enough for `best` to consider it.
    """

    inputs: int
    outputs: int
    rows: tuple[ModeCost, ...]

    def __getitem__(self, mode: str) -> ModeCost:
        """Return the row of a mode; KeyError where the table has none."""
        return {row.mode: row for row in self.rows}[mode]  # type: ignore[index]

    def __iter__(self) -> Iterator[ModeCost]:
        return iter(self.rows)

    @property
    def best(self) -> Dense:
        """The mode that "auto" takes under `jax.jit`.

        `best_sweep`, or elimination where its effort is below half of that.
        """
        sweep = self.best_sweep
        for row in self.rows:
            if row.mode == "mixed" and row.effort < GAIN * self[sweep].effort:
                return "mixed"
        return sweep

    @property
    def best_sweep(self) -> Sweep:
        """Forward or reverse, whichever is less effort, and forward of equals."""
        found = min((row for row in self.rows if row.mode != "mixed"), key=lambda row: row.effort)
        return "reverse" if found.mode == "reverse" else "forward"

    def __str__(self) -> str:
        head = ("mode", "passes", "flops", "bytes", "effort", "")
        lines = [head] + [
            (
                row.mode,
                f"{row.passes:,}",
                f"{'' if row.exact else '>= '}{row.flops:,}",
                f"{row.bytes:,}",
                f"{row.effort:,.0f}",
                "best" if row.mode == self.best else "",
            )
            for row in self.rows
        ]
        widths = [max(len(line[k]) for line in lines) for k in range(len(head))]
        rows = [
            "  ".join(
                cell.ljust(width) if k in (0, 5) else cell.rjust(width)
                for k, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        ]
        return "\n".join([f"Jacobian of {self.outputs:,} x {self.inputs:,} numbers", *rows])


def jacobian_costs(
    fun: TreeFn, *args: PyTree, argnums: Argnums = 0, has_aux: bool = False
) -> JacobianCosts:
    """Return what the Jacobian of `fun` at `args` costs in each mode; nothing is computed.

    Counted in the jaxpr of the sweeps, which the compiler may still simplify. Modes are compared by
    their effort: operations and bytes together, in reverse mode 1.05 to 1.5 times, since its work
    takes longer than as much in forward mode, the longer the less of it is products of matrices,
    and elimination must halve that of the better sweep. mode="sparse" isn't in the table: its
    sweeps are as many as its colouring has colours, whose search costs more than these counts.

    >>> print(jacobian_costs(lambda x, a: a @ x, jnp.ones(3), jnp.ones((2, 3))))
    Jacobian of 2 x 3 numbers
    mode     passes  flops  bytes  effort
    forward       3     48    128     176
    reverse       2     36    108     151
    mixed         1     12     44      56  best

    Args:
      fun: as for `jacobian`.
      *args: its arguments, or their shapes (`jax.ShapeDtypeStruct`).
      argnums: which of them to differentiate.
      has_aux: whether `fun` returns (value, auxiliary data).

    Returns:
      The table; `print` shows it aligned, and `best` is what mode="auto" takes
      under `jax.jit`.

    Raises:
      ValueError, TypeError: as `jacobian`.
    """
    check_arguments(argnums, has_aux)

    def measured(*traced: PyTree) -> JacobianCosts:
        return cost_table(select(fun, argnums, has_aux, traced, {}, "jacobian_costs"))

    return _outside(measured, args)


def _outside(measured: Callable[..., JacobianCosts], args: tuple[PyTree, ...]) -> JacobianCosts:
    """Call under an abstract evaluation where shapes stand for arguments."""
    if not any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(args)):
        return measured(*args)
    found: list[JacobianCosts] = []
    jax.eval_shape(lambda *traced: found.append(measured(*traced)), *args)
    return found[0]


def cost_table(chosen: Selection, *, elimination: bool = True) -> JacobianCosts:
    """Return the costs of all modes in which the function can be differentiated.

    elimination: whether it is looked for.

    Raises:
      Whatever JAX raises where it can be differentiated neither forward nor in reverse.
    """
    rows: list[ModeCost] = []
    problem: Exception | None = None
    for mode in get_args(Sweep):
        try:
            rows.append(_sweeps(chosen, mode))
        except (TypeError, ValueError, NotImplementedError) as error:
            problem = problem or error
    if problem and not rows:
        raise problem
    if elimination and (row := _elimination(chosen)):
        rows.append(row)
    return JacobianCosts(chosen.inputs, chosen.outputs, tuple(rows))


def sweep_chunk(chosen: Selection, mode: Sweep, chunk_size: ChunkSize) -> int:
    """Return how many of the sweeps of a mode to do at a time."""
    count = chosen.inputs if mode == "forward" else chosen.outputs
    if chunk_size == "auto":
        return 1 if count == 1 else _sweeps(chosen, mode).chunk
    return min(int(chunk_size), count)


def _sweeps(chosen: Selection, mode: Sweep) -> ModeCost:
    """Count one sweep and two: what differs is one sweep's, the rest is done once per chunk."""
    count = chosen.inputs if mode == "forward" else chosen.outputs
    one, two = (_jaxpr(chosen, mode, number) for number in (1, 2))
    single, double = flops.count_jaxpr(one), flops.count_jaxpr(two)
    chunk = _automatic(count, _width(one, two))
    times = -(-count // chunk) if mode == "forward" else 1
    totals = [
        times * (first - (both - first)) + count * (both - first)
        for first, both in ((single.flops, double.flops), (single.bytes, double.bytes))
    ]
    slowness = _row_slowness(two) if mode == "reverse" else 1.0
    return ModeCost(mode, count, totals[0], totals[1], chunk, single.exact, slowness)


def _row_slowness(jaxpr: Any) -> float:
    """Return ROW_PRODUCTS to ROW_REST by the share of products in a program, loops counted once."""
    eqns = [eqn for eqn in equations(jaxpr) if not list(subjaxprs(eqn))]
    parts = (eqns, [eqn for eqn in eqns if eqn.primitive.name in PRODUCTS])
    works = [flops.count_jaxpr(jaxpr.replace(eqns=part)) for part in parts]
    everything, products = (work.flops + BYTE * work.bytes for work in works)
    return ROW_REST + (ROW_PRODUCTS - ROW_REST) * products / max(everything, 1)


def _jaxpr(chosen: Selection, mode: Sweep, number: int) -> Any:
    """Return the program of so many sweeps at a time."""
    like, sweep = (chosen.x, sweeps.pushed) if mode == "forward" else (chosen.shape, sweeps.pulled)
    seeds = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((number, *np.shape(leaf)), jnp.result_type(leaf)), like
    )
    return jax.make_jaxpr(lambda x, seeds: sweep(chosen, x, seeds))(chosen.x, seeds).jaxpr


def _width(one: Any, two: Any) -> int:
    """Return the bytes of the widest result that a further sweep adds."""
    single, double = ([_result_bytes(eqn) for eqn in equations(jaxpr)] for jaxpr in (one, two))
    if len(single) != len(double):
        return max(double, default=1)
    added = (both - first for first, both in zip(single, double, strict=True))
    return max(1, max(added, default=1))


def _result_bytes(eqn: Any) -> int:
    return sum(num_bytes(var.aval) for var in eqn.outvars)


def _automatic(count: int, width: int) -> int:
    """Return a chunk within memory, such that all chunks are nearly of the same length."""
    chunks = -(-count // max(1, min(count, MEMORY // width)))
    return -(-count // chunks)


def _elimination(chosen: Selection) -> ModeCost | None:
    """Return the cost of the cheapest elimination, or None where none is looked for or found."""
    if mixed.num_steps(chosen) > STEPS:
        return None
    try:
        found = mixed.cheapest(chosen)
        jaxpr = jax.make_jaxpr(found.jacobian)(chosen.x).jaxpr
    except (TypeError, ValueError, NotImplementedError):
        return None  # a step without the derivative that a product needs
    result = sum(leaf.dtype.itemsize for leaf in jax.tree.leaves(chosen.shape)) * chosen.inputs
    widest = max((_result_bytes(eqn) for eqn in equations(jaxpr)), default=0)
    if widest > max(MEMORY, 2 * chosen.outputs * result):
        return None  # products aren't taken in chunks
    work = flops.count_jaxpr(jaxpr)
    return ModeCost("mixed", 1, work.flops, work.bytes, 1, work.exact)
