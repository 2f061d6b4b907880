"""The loop around any optax optimiser and any gradient: compiled once, recorded sparsely.

One traceable function, `advance`, runs iterations `start` to `stop`; both are data, so that one
compilation serves every length and every grid of records. Outside a trace Python calls it from one
recorded iteration to the next, which leaves room for progress and for Ctrl-C; inside a trace a scan
does. The third way, one compiled iteration per call, is there for the CPU, whose compiler makes
gradients of convolutions many times slower inside loops.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from adlab.core import checks, jaxprs, trees
from adlab.core.types import Key, Loop, PyTree
from adlab.optimize import _iterations
from adlab.optimize._iterations import Metric, Metrics, Program, State, strong
from adlab.optimize.trajectory import Trajectory, record_grid

__all__ = ["minimize"]


class Optimizer(Protocol):
    """What `minimize` needs of an optimiser; every `optax.GradientTransformation` is one."""

    @property
    def init(self) -> Callable[[PyTree], PyTree]:
        """X -> the state of the optimiser at the start."""

    @property
    def update(self) -> Callable[[PyTree, PyTree, PyTree], tuple[PyTree, PyTree]]:
        """(gradient, state, x) -> (what is added to x, the next state)."""


def minimize(
    gradient: Callable[..., PyTree],
    x0: PyTree,
    *args: Any,
    optimizer: Optimizer,
    num_steps: int,
    key: Key | None = None,
    num_seeds: int | None = None,
    record_at: Sequence[int] | np.ndarray | None = None,
    metrics: Mapping[str, Metric] | None = None,
    average: Sequence[str] = (),
    loop: Loop = "auto",
    opt_state: PyTree | None = None,
    on_progress: Callable[[int, Metrics], None] | None = None,
) -> Trajectory:
    """Run x_{k+1} = apply_updates(x_k, optimizer.update(gradient(x_k, *args, key=key_k))).

    key_k = fold_in(key, k): the first k iterates don't depend on how many follow, nor on what is
    recorded. Never more than the recorded metrics is kept.

    Compiled once per shape, structure and function, ahead of time. Arrays are data wherever they
    stand: x0, args, keys, the steps inside a GradientFn, an `opt_state` of
    `optax.inject_hyperparams`. Functions count by identity: build the optimiser and the metrics
    once, outside loops, for a new `optax.sgd(...)` compiles anew.

    Args:
      gradient: a GradientFn, or any callable with (x, *args, key=).
      x0: the start, a pytree of floating-point arrays; the first argument of the objective.
      *args: the objective's other arguments, passed on to `gradient` and to the metrics.
      optimizer: any optax transformation that asks for nothing but gradients and params (x), as
        sgd or adam, but not lbfgs, whose line search wants values.
      num_steps: number K >= 1 of iterations.
      key: a random key, for a gradient that draws probes.
      num_seeds: run that many descents at once, on keys split off `key`; values, averages, x and
        opt_state get a leading axis of this length. None for one descent without that axis.
      record_at: increasing iterations within 0..K; by default 0 and 23 points of a log grid.
      metrics: name -> function of (x, *args) -> array; by default {"value": the objective}.
        What isn't finite is recorded as it is, for divergence is data.
      average: names of metrics whose running mean over every iterate is recorded too.
      loop: "fused" runs whole segments in one compiled loop, "host" calls one compiled iteration
        at a time; "auto" is "host" on a CPU whose gradient holds a convolution, else "fused".
      opt_state: the optimiser's state to start from, without seeds; by default its own for x0.
        Iterations count from 0 all the same: to go on with a descent, pass a key not used before.
      on_progress: called as (k, the metrics at x_k) after each recorded iteration; not in a trace.

    Returns:
      The Trajectory.

    Raises:
      ValueError: num_steps, num_seeds or record_at out of range; an unknown loop or average;
        "host" inside a trace; argnums other than 0; no metrics where the gradient doesn't know its
        objective; and what `gradient.check` finds at a concrete x0, such as NaN or a smoothing
        under the noise floor.
      TypeError: num_seeds without a key; an optimiser that asks for more than gradients; and what
        `gradient.check` finds.

    >>> import optax
    >>> from adlab import gradients, problems
    >>> problem = problems.quadratic(dim=3, condition=2.0)
    >>> g = gradients.reverse_mode(problem.fun)
    >>> run = minimize(g, problem.x0, optimizer=optax.sgd(1.0), num_steps=20)
    >>> [float(value) < 1e-8 for value in run.values["value"][[0, -1]]]
    [False, True]
    >>> run.cost
    Cost(evaluations=0, jvps=0, vjps=20)
    """
    grid = record_grid(num_steps, record_at)
    checks.one_of("loop", loop, ("auto", "host", "fused"))
    if num_seeds is not None:
        checks.at_least("num_seeds", num_seeds, 1)
        checks.require_key("minimize with num_seeds", key)
    x0, args = jax.tree.map(strong, (x0, args))
    program = _program(gradient, args, optimizer, metrics, average)
    traced = checks.in_trace((program, x0, key, opt_state))
    if traced:
        _refuse_host(loop, on_progress)
    elif hasattr(gradient, "check"):
        gradient.check(x0, *args, key=key)
    opt_state = optimizer.init(x0) if opt_state is None else opt_state
    _try_update(optimizer, x0, opt_state)
    state = _start(program, x0, opt_state)
    keys: Any = key
    if num_seeds is not None:
        state = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (num_seeds, *leaf.shape)), state)
        keys = jax.random.split(keys, num_seeds)
    calls = _Calls(program, keys, num_seeds is not None)
    if traced:
        state, (values, averages), seconds = _run_traced(calls, state, grid, num_steps)
    else:
        state, (values, averages), seconds = _run_concrete(
            calls, state, grid, num_steps, loop, on_progress
        )
    cost = gradient.cost(x0, *args) if hasattr(gradient, "cost") else None
    return Trajectory(
        grid, values, averages, state.x, state.opt_state, *seconds, num_steps, cost
    )  # fmt: skip


def _program(
    gradient: Callable[..., PyTree],
    args: tuple[Any, ...],
    optimizer: Optimizer,
    metrics: Mapping[str, Metric] | None,
    average: Sequence[str],
) -> Program:
    if not callable(gradient):
        raise TypeError(f"gradient must be callable, got {gradient!r}")
    if getattr(gradient, "argnums", 0) != 0:
        raise ValueError(
            f"gradient.argnums must be 0, got {gradient.argnums!r}: x0 is the first argument; "  # type: ignore[attr-defined]
            "gather what is to move into one pytree"
        )
    if not hasattr(optimizer, "update"):
        raise TypeError(f"optimizer must be an optax GradientTransformation, got {optimizer!r}")
    if metrics is None:
        metrics = {"value": _objective(gradient)}
    for name in average:
        checks.one_of("average", name, metrics)
    for name, metric in metrics.items():
        if not callable(metric):
            raise TypeError(f"metrics[{name!r}] must be callable, got {metric!r}")
    averaged = {name: metrics[name] for name in average}
    parts = (gradient, args, optimizer.update, dict(metrics), averaged)
    return Program(*jax.tree.map(_hold, parts))


def _try_update(optimizer: Optimizer, x0: PyTree, opt_state: PyTree) -> None:
    try:
        jax.eval_shape(optimizer.update, x0, opt_state, x0)
    except TypeError as error:
        if "keyword" not in str(error):
            raise
        raise TypeError(
            "optimizer must ask for nothing but gradients, state and params, got one whose update "
            f"says: {error}; use such as optax.sgd or optax.adam"
        ) from None


def _objective(gradient: Callable[..., PyTree]) -> Metric:
    if not hasattr(gradient, "fun"):
        raise ValueError(
            "metrics must be given where the gradient has no `fun`, got None; "
            'pass metrics={"value": fun}'
        )
    fun = gradient.fun
    return jax.tree_util.Partial(_first, fun) if getattr(gradient, "has_aux", False) else fun


def _first(fun: Callable[..., Any], *args: Any) -> Any:
    return fun(*args)[0]


def _hold(leaf: Any) -> Any:
    """Return a function as a pytree without leaves, compared by identity; anything else as data."""
    if callable(leaf):
        return jax.tree_util.Partial(leaf)
    return trees.as_array(leaf)


def _refuse_host(loop: Loop, on_progress: Any) -> None:
    if loop == "host":
        raise ValueError(
            'loop must be "auto" or "fused" inside jit, vmap or scan, got "host", which calls '
            "compiled programs from Python: call minimize outside of the trace for that"
        )
    if on_progress is not None:
        raise ValueError(
            f"on_progress must be None inside jit, vmap or scan, got {on_progress!r}: "
            "call minimize outside of the trace for that"
        )


def _start(program: Program, x0: PyTree, opt_state: PyTree) -> State:
    shapes = jax.eval_shape(lambda: _iterations.measure(program.averaged, x0, program.args))
    zeros = {name: jnp.zeros(at.shape, _iterations.mean_dtype(at)) for name, at in shapes.items()}
    return State(x0, jax.tree.map(strong, opt_state), zeros)


class _Calls(NamedTuple):
    """The compiled functions with what stays the same in all of a run's calls."""

    program: Program
    key: Any
    seeds: bool

    def step(self, state: State, k: int) -> State:
        after: State = _iterations.step(
            self.program, state, self.key, np.int32(k), seeds=self.seeds
        )
        return after

    def advance(self, state: State, start: Any, stop: Any) -> State:
        bounds = (jnp.asarray(start, jnp.int32), jnp.asarray(stop, jnp.int32))
        after: State = _iterations.advance(self.program, state, self.key, *bounds, seeds=self.seeds)
        return after

    def observe(self, state: State, k: Any) -> tuple[Metrics, Metrics]:
        k = jnp.asarray(k, jnp.int32)
        seen: tuple[Metrics, Metrics] = _iterations.observe(
            self.program, state, k, seeds=self.seeds
        )
        return seen

    def compile(self, state: State, loop: Loop) -> bool:
        """Compile ahead of the first call; return whether the loop is the host's."""
        zero = jnp.asarray(0, jnp.int32)
        _iterations.observe.lower(self.program, state, zero, seeds=self.seeds).compile()
        if loop != "host":
            fused = _iterations.advance.trace(
                self.program, state, self.key, zero, zero, seeds=self.seeds
            )
            on_cpu = jax.default_backend() == "cpu"
            if loop == "fused" or not (on_cpu and _holds_convolution(fused.jaxpr)):
                fused.lower().compile()
                return False
        _iterations.step.lower(self.program, state, self.key, zero, seeds=self.seeds).compile()
        return True


_Seconds = tuple[float | None, float | None]  # compiling, running


def _holds_convolution(jaxpr: Any) -> bool:
    return any(eqn.primitive.name == "conv_general_dilated" for eqn in jaxprs.equations(jaxpr))


def _run_concrete(
    calls: _Calls, state: State, grid: np.ndarray, num_steps: int, loop: Loop, on_progress: Any
) -> tuple[State, Any, _Seconds]:
    begin = time.perf_counter()
    host = calls.compile(state, loop)
    compiled = time.perf_counter()
    records: list[tuple[Metrics, Metrics]] = []
    k = 0
    for stop in [*grid, *([num_steps] if grid[-1] < num_steps else [])]:
        if host:
            for each in range(k, stop):
                state = calls.step(state, each)
        else:
            state = calls.advance(state, k, stop)
        k = int(stop)
        if len(records) < len(grid):
            records.append(jax.tree.map(np.asarray, calls.observe(state, k)))
            if on_progress is not None:
                on_progress(k, records[-1][0])
    jax.block_until_ready(state)
    axis = int(calls.seeds)
    recorded = jax.tree.map(lambda *rows: np.stack(rows, axis), *records)
    return state, recorded, (compiled - begin, time.perf_counter() - compiled)


def _run_traced(
    calls: _Calls, state: State, grid: np.ndarray, num_steps: int
) -> tuple[State, Any, _Seconds]:
    def segment(state: State, bounds: Any) -> tuple[State, Any]:
        state = calls.advance(state, *bounds)
        return state, calls.observe(state, bounds[1])

    bounds = np.stack([np.concatenate([[0], grid[:-1]]), grid], axis=1).astype(np.int32)
    state, recorded = lax.scan(segment, state, bounds)
    if grid[-1] < num_steps:
        state = calls.advance(state, grid[-1], num_steps)
    if calls.seeds:
        recorded = jax.tree.map(lambda rows: jnp.swapaxes(rows, 0, 1), recorded)
    return state, recorded, (None, None)
