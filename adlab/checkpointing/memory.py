"""What a backward pass keeps in memory, known before anything runs, and schedules for a budget."""

from __future__ import annotations

import contextlib
import io
import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.ad_checkpoint
import jax.numpy as jnp
import numpy as np
from jax.extend import core as jex

from adlab.checkpointing import _remat
from adlab.checkpointing.schedules import Schedule, binomial, optimal, store_all
from adlab.core import checks, flops, jaxprs, trees
from adlab.core.types import PyTree, TreeFn

__all__ = ["MemoryReport", "SavedArray", "memory_report", "plan"]

_SAME = 0.01  # sizes that differ by less count as equal
_UNDONE = 0.1  # checkpoints that save less than this part of the compiled bytes save nothing
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")
_LISTED = 12  # arrays that a printed report shows


@dataclass(frozen=True)
class SavedArray:
    """An array that the forward pass leaves to the backward pass.

    Attributes:
      shape, dtype: of the array.
      source: what made it, and in which line; None where JAX doesn't tell.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    source: str | None = None

    @property
    def bytes(self) -> int:
        """Its size."""
        return jaxprs.num_bytes(self)

    def __str__(self) -> str:
        """Say dtype and shape as JAX does."""
        return f"{_short(self.dtype)}[{','.join(map(str, self.shape))}]"


@dataclass(frozen=True)
class MemoryReport:
    """The account of one function; `memory_report` says how it is taken. Printed, it is a table.

    Attributes:
      saved: what the forward pass leaves to the backward pass, the largest first; neither arguments
        nor what the function closes over.
      peak_bytes: the most that is alive at once while value and gradient are computed, beside the
        arguments, if every operation is run by itself and in the order of the program: what fusion
        doesn't save, this bounds.
      flops: of value and gradient; bodies of loops count as often as they run.
      recomputation: `flops` over those of the baseline's value and gradient; without a baseline,
        over three times those of the function: once forward, twice backward.
      temporary_bytes, output_bytes: of value and gradient as compiled; None where it wasn't
        compiled, or the compiler doesn't tell.
      baseline: the report on the function without checkpoints; None where it has none.
      wraps_all: whether a single `jax.checkpoint` holds all of the function.
    """

    saved: tuple[SavedArray, ...]
    peak_bytes: int
    flops: int
    recomputation: float
    temporary_bytes: int | None
    output_bytes: int | None
    baseline: MemoryReport | None = None
    wraps_all: bool = False

    @property
    def saved_bytes(self) -> int:
        """Bytes of all arrays saved."""
        return sum(array.bytes for array in self.saved)

    @property
    def verdict(self) -> str:
        """Say in words what the checkpoints save, and for how much more work."""
        base = self.baseline
        if base is None:
            return f"no checkpoints: saves all of {_written(self.saved_bytes)}"
        more = f"{100 * (self.recomputation - 1):.0f} % more work"
        lowered = self._lowers(base)
        if self.wraps_all and not lowered:
            return f"wraps the whole loss: saves nothing, for {more}"
        promised = base.saved_bytes - self.saved_bytes
        mine, its = self._compiled, base._compiled
        if promised < _SAME * base.saved_bytes or (mine and its and not lowered):
            return f"saves nothing, for {more}"
        if not lowered:
            return f"saves nothing unless operations are fused (compile=True tells), for {more}"
        if not (mine and its):
            return f"saves {_written(promised)} for {more}"
        compiled = f"{_written(mine)} as compiled, without checkpoints {_written(its)}"
        if mine > (1 - _UNDONE) * its:
            return f"undone by the compiler: {compiled}; run the steps in a scan"
        if its - mine < promised / 10:
            return f"saves less than promised, for {more}: {compiled}, which fuses what it can"
        return f"saves {_written(promised)} for {more}"

    def _lowers(self, base: MemoryReport) -> bool:
        """Tell whether less is alive at once than in the baseline, as written or as compiled.

        Zeros and sums with them, of which the derivative of a scan by a schedule has some as large
        as its inputs, count as written and are gone when compiled.
        """
        if self.peak_bytes < (1 - _SAME) * base.peak_bytes:
            return True
        mine, its = self._compiled, base._compiled
        return bool(mine and its and mine <= (1 - _UNDONE) * its)

    @property
    def _compiled(self) -> int | None:
        """Temporary and output bytes: intermediates may lie in the buffers of outputs."""
        if self.temporary_bytes is None or self.output_bytes is None:
            return None
        return self.temporary_bytes + self.output_bytes

    def __str__(self) -> str:
        """Write the account as aligned lines."""
        rows = [
            ("saved for the backward pass", _written(self.saved_bytes), _without(self, "saved")),
            *_listed(self.saved),
            ("alive at once, unfused", _written(self.peak_bytes), _without(self, "peak")),
        ]
        for name in ("temporary", "output"):
            size = getattr(self, f"{name}_bytes")
            if size is not None:
                rows.append((f"compiled: {name}", _written(size), _without(self, name)))
        usual = "those without checkpoints" if self.baseline else "three evaluations"
        rows.append(("operations", f"{self.flops:.3g}", f"{self.recomputation:.3f} x {usual}"))
        first, second = (max(len(row[k]) for row in rows) for k in (0, 1))
        lines = [f"{a:<{first}}  {b:>{second}}  {c}".rstrip() for a, b, c in rows]
        return "\n".join([*lines, self.verdict])


def _listed(saved: Sequence[SavedArray]) -> list[tuple[str, str, str]]:
    """Return a row per array, equal ones of one source together; small ones in a last row."""
    groups = sorted(Counter(saved).items(), key=lambda group: -group[0].bytes * group[1])
    rows = []
    for array, times in groups[:_LISTED]:
        name = f"  {array}" if times == 1 else f"  {array}, {times} times"
        rows.append((name, _written(array.bytes * times), array.source or ""))
    rest = groups[_LISTED:]
    if rest:
        size = sum(array.bytes * times for array, times in rest)
        rows.append((f"  {sum(times for _, times in rest)} others", _written(size), ""))
    return rows


def _without(report: MemoryReport, name: str) -> str:
    size = None if report.baseline is None else getattr(report.baseline, f"{name}_bytes")
    return "" if size is None else f"without checkpoints {_written(size)}"


def _written(size: float) -> str:
    """Write a number of bytes in decimal units, with three digits.

    >>> _written(5033164800), _written(12), _written(999_999)
    ('5.03 GB', '12 B', '1.00 MB')
    """
    unit = 0
    while unit + 1 < len(_UNITS) and round(size) >= 999.5:
        size, unit = size / 1000, unit + 1
    digits = 0 if unit == 0 else max(0, 2 - int(math.log10(max(size, 1))))
    return f"{size:.{digits}f} {_UNITS[unit]}"


def memory_report(
    fun: TreeFn,
    *args: PyTree,
    argnums: int | Sequence[int] = 0,
    baseline: TreeFn | MemoryReport | None = None,
    compile: bool = True,
) -> MemoryReport:
    """Account for the memory of `fun`'s gradient by its shapes; nothing is allocated or run.

    The arrays saved are exact: those that `jax.vjp` holds. The baseline is `fun` itself with every
    `jax.checkpoint`, `checkpointed_scan` and `checkpointed_chain` in it replaced by what it wraps,
    unless one is given.

    >>> step = jax.checkpoint(lambda c, w: (jnp.tanh(c @ w), None))
    >>> def loss(ws, x):
    ...     return jnp.sum(jax.lax.scan(step, x, ws)[0])
    >>> shapes = [jax.ShapeDtypeStruct(s, jnp.float32) for s in ((9, 8, 8), (100, 8))]
    >>> report = memory_report(loss, *shapes, compile=False)
    >>> report.saved_bytes == 9 * 100 * 8 * 4, str(report.saved[0])
    (True, 'f32[9,100,8]')

    Args:
      fun: a function of trees of arrays; its outputs are pulled back along ones, so that it needn't
        be scalar.
      *args: arrays, or `jax.ShapeDtypeStruct`s.
      argnums: which arguments are differentiated.
      baseline: a function of the same arguments to compare with, or the report on it.
      compile: whether to compile the gradient, and that of the baseline, for the default device.

    Raises:
      TypeError: arguments differentiated that aren't real floating-point.
    """
    places = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    shapes = jax.eval_shape(lambda *args: args, *args)
    checks.require_inexact("memory_report", [shapes[k] for k in places])
    leaves, tree = jax.tree.flatten(shapes)

    def flat(*leaves: Any) -> list[Any]:
        return jax.tree.leaves(fun(*jax.tree.unflatten(tree, leaves)))

    closed = jax.make_jaxpr(flat)(*leaves)
    if baseline is None and _remat.has_checkpoints(closed.jaxpr):
        baseline = _flattened(_remat.without_checkpoints(closed))
    if callable(baseline):
        baseline = _report(baseline, shapes, places, compile)
    wraps_all = _remat.wraps_all(closed.jaxpr)
    return _report(fun, shapes, places, compile, baseline, wraps_all)


def _flattened(closed: jex.ClosedJaxpr) -> Callable[..., list[Any]]:
    return lambda *args: jaxprs.walk(closed, jax.tree.leaves(args), jaxprs.run_equation)


def _report(
    fun: Callable[..., Any], args: tuple[Any, ...], places: tuple[int, ...], compile: bool,
    baseline: MemoryReport | None = None, wraps_all: bool = False,
) -> MemoryReport:  # fmt: skip
    def both(*args: Any) -> tuple[Any, Any]:
        out, pull = jax.vjp(_only(fun, args, places), *(args[k] for k in places))
        return out, pull(jax.tree.map(_one, out))

    traced = jax.jit(both).trace(*args)
    jaxpr = traced.jaxpr.jaxpr
    work = flops.count_jaxpr(jaxpr).flops
    usual = 3 * flops.count(fun, *args).flops if baseline is None else baseline.flops
    sizes = traced.lower().compile().memory_analysis() if compile else None
    return MemoryReport(
        saved=_saved(fun, args, places),
        peak_bytes=jaxprs.peak_bytes(jaxpr),
        flops=work,
        recomputation=work / usual if usual else math.nan,
        temporary_bytes=None if sizes is None else sizes.temp_size_in_bytes,
        output_bytes=None if sizes is None else sizes.output_size_in_bytes,
        baseline=baseline,
        wraps_all=wraps_all,
    )


def _only(fun: Callable[..., Any], args: Sequence[Any], places: tuple[int, ...]) -> TreeFn:
    """Return `fun` as a function of the arguments at `places`."""

    def partly(*some: Any) -> Any:
        full = list(args)
        for place, arg in zip(places, some, strict=True):
            full[place] = arg
        return fun(*full)

    return partly


def _one(leaf: Any) -> Any:
    if jnp.issubdtype(leaf.dtype, jnp.inexact):
        return jnp.ones_like(leaf)
    return np.zeros(leaf.shape, jax.dtypes.float0)


def _saved(
    fun: Callable[..., Any], args: tuple[Any, ...], places: tuple[int, ...]
) -> tuple[SavedArray, ...]:
    """Return what the closure of `jax.vjp` holds, and no argument is, the largest first."""
    found: list[SavedArray] = []

    def look(*args: Any) -> Any:
        some = [args[k] for k in places]
        sources = _sources(_only(fun, args, places), some)
        out, pull = jax.vjp(_only(fun, args, places), *some)
        seen = {id(leaf) for leaf in jax.tree.leaves(args)}
        for leaf in jax.tree.leaves(pull):
            if isinstance(leaf, jax.core.Tracer) and id(leaf) not in seen:
                seen.add(id(leaf))
                array = SavedArray(leaf.shape, leaf.dtype)
                told = sources[str(array)]
                found.append(SavedArray(leaf.shape, leaf.dtype, told.pop(0) if told else None))
        return out

    jax.eval_shape(look, *args)
    return tuple(sorted(found, key=lambda array: -array.bytes))


def _sources(fun: Callable[..., Any], args: list[Any]) -> dict[str, list[str]]:
    """Return for each "f32[2,3]" that is saved and no argument where such arrays come from."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        jax.ad_checkpoint.print_saved_residuals(fun, *args)
    found: dict[str, list[str]] = defaultdict(list)
    for line in printed.getvalue().splitlines():
        told = re.match(r"(\S+\[[\d,]*\]) (?!from )(.*)", line)
        if told:
            found[told[1]].append(told[2].removesuffix(" from"))
    return found


def _short(dtype: np.dtype) -> str:
    """Write a dtype as JAX does: f32, bf16, i32, bool.

    >>> _short(np.dtype("uint8")), _short(np.dtype("bool"))
    ('u8', 'bool')
    """
    name = re.sub(r"(?<=[a-z])(int|loat)(?=\d)", "", str(dtype))
    return re.sub(r"^int(?=\d)", "i", name)


def plan(
    body: Callable[[PyTree, PyTree], tuple[PyTree, PyTree]] | Sequence[float],
    init: PyTree,
    xs: PyTree = None,
    *,
    budget: float | str,
    length: int | None = None,
) -> Schedule:
    """Return the schedule that computes least again with the states it stores in `budget` bytes.

    `plan(body, init, xs, budget=...)` is for `checkpointed_scan(body, init, xs)`: `store_all` where
    all states fit, else `binomial` with as many slots as fit. Beside these the scan holds two more
    states, the current one and the last, and the intermediates of one step. `plan(costs, sizes,
    budget=...)` is for a chain of steps that differ: see `optimal`.

    >>> plan(lambda c, x: (c * x, None), jnp.ones(250), jnp.ones(64), budget=5000)
    Binomial(num_slots=5)

    Args:
      body: as for `checkpointed_scan`; or the cost of each step.
      init: the first carry, arrays or shapes; or the bytes of each state.
      xs: arrays or shapes with one first axis of L steps.
      budget: bytes for stored states; or a size with its unit, such as "100MB" or "1.5 GiB".
      length: L, where there are no xs.

    Raises:
      TypeError: a budget that is neither.
      ValueError: a budget that doesn't hold one state: the least that would is named; a size that
        can't be read; no length.
    """
    budget = _bytes(budget)
    if not callable(body):
        return optimal(body, init, budget)
    must = "xs must have one first axis, or length must be given"
    steps = trees.first_axis(xs, must, length=length)
    checks.at_least("length", steps, 1)
    leaves = jax.tree.leaves(jax.eval_shape(lambda init: init, init))
    state = sum(map(jaxprs.num_bytes, leaves))
    if not budget >= state:
        raise ValueError(f"budget must hold one state, {state} bytes, got {budget:g}")
    everything = store_all()
    if everything.slots(steps) * state <= budget:
        return everything
    return binomial(int(budget // state))


def _bytes(size: float | str) -> float:
    """Return the bytes of "100MB" (10^8), "1.5 GiB", "512" or a number."""
    if not isinstance(size, str):
        try:
            return float(size)
        except TypeError:
            raise TypeError(f"budget must be bytes or a size, got {size!r}") from None
    import pydantic

    what = f"budget must be bytes or a size such as '100MB' or '1.5GiB', got {size!r}"
    if not re.fullmatch(r"\s*\d*\.?\d+\s*[A-Za-z]*\s*", size):  # pydantic reads how it begins
        raise ValueError(f"{what}: a number, with a decimal point, and a unit")
    try:
        return int(pydantic.TypeAdapter(pydantic.ByteSize).validate_python(size))
    except pydantic.ValidationError as error:
        raise ValueError(f"{what}: {error.errors()[0]['msg']}") from None
