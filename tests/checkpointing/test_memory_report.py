"""The memory account against counts by hand, against JAX's own list, and against the compiler."""

import contextlib
import functools
import io
import re

import jax
import jax.ad_checkpoint
import jax.numpy as jnp
import numpy as np
import pytest

from adlab import checkpointing
from adlab.checkpointing import memory_report, plan
from adlab.core import jaxprs

LENGTH, WIDTH, BATCH = 16, 8, 64
STATE = 4 * WIDTH * BATCH
WS = jax.ShapeDtypeStruct((LENGTH, WIDTH, WIDTH), np.float32)
X = jax.ShapeDtypeStruct((BATCH, WIDTH), np.float32)
BINOMIAL = functools.partial(
    checkpointing.checkpointed_scan, schedule=checkpointing.binomial(3)
)  # fmt: skip


def step(c, w):
    return jnp.sin(c @ w), None


def loss(ws, x, *, body=step, scan=jax.lax.scan):
    return jnp.sum(scan(body, x, ws)[0])


def per_step(ws, x):
    return loss(ws, x, body=jax.checkpoint(step))


def by_schedule(ws, x):
    return loss(ws, x, scan=BINOMIAL)


def unrolled(ws, x):
    for k in range(LENGTH):
        x, _ = jax.checkpoint(step)(x, ws[k])
    return jnp.sum(x)


def chain_products(steps):
    """Operations of so many products of a state with a matrix."""
    return 2 * BATCH * WIDTH**2 * steps


@pytest.mark.parametrize(
    ("fun", "states"),
    [
        (loss, 2 * LENGTH),  # c, for the product, and cos(c @ w)
        (per_step, LENGTH),  # c
        (by_schedule, 3 + 1),  # the slots, and the last state
        (jax.checkpoint(loss), 0),
    ],
    ids=["none", "per_step", "schedule", "whole"],
)
def test_what_is_saved_is_what_a_count_by_hand_says(fun, states):
    report = memory_report(fun, WS, X, compile=False)
    assert report.saved_bytes == states * STATE
    assert sum(array.bytes for array in report.saved) == report.saved_bytes


def test_recomputation_is_counted_in_products():
    plain, steps, slots = (
        memory_report(fun, WS, X, compile=False) for fun in (loss, per_step, by_schedule)
    )
    assert plain.baseline is None
    # Beside the products: sin, cos and one more product by it, per state.
    assert plain.flops == pytest.approx(chain_products(3 * LENGTH), rel=0.15)
    repeated = checkpointing.binomial(3).extra_forward_steps(LENGTH) + LENGTH
    for report, again in ((steps, LENGTH), (slots, repeated)):
        assert report.baseline.flops == plain.flops
        assert report.baseline.saved_bytes == plain.saved_bytes
        extra = report.flops - plain.flops
        assert extra == pytest.approx(chain_products(again), rel=0.15)
        assert report.recomputation == report.flops / plain.flops


@pytest.mark.parametrize("fun", [loss, per_step, by_schedule, unrolled])
def test_the_bytes_and_lines_are_those_that_jax_prints(fun):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        jax.ad_checkpoint.print_saved_residuals(lambda ws, x: fun(ws, x), WS, X)
    told = re.findall(r"^f32\[([\d,]*)\] (?!from the argument)", printed.getvalue(), re.MULTILINE)
    expected = sum(4 * np.prod([int(n) for n in shape.split(",")]) for shape in told)
    report = memory_report(fun, WS, X, argnums=(0, 1), compile=False)
    assert report.saved_bytes == expected
    assert all(".py:" in array.source for array in report.saved)


def test_the_most_alive_at_once_is_that_of_a_count_by_hand():
    def straight(x):
        a = jnp.sin(x)
        b = jnp.cos(a)
        c = a * b  # a, b, c
        return jnp.sum(jnp.exp(jnp.exp(c)))

    def looped(
        x,
    ):  # the last state and all ys; inside, sin(c) and twice it, which is all it returns
        return jax.lax.scan(lambda c, _: ((y := jnp.sin(c)) * 2, y), x, None, length=5)

    x = np.ones(10, np.float32)
    for fun, arrays in [(straight, 3), (jax.jit(straight), 3), (looped, 1 + 5 + 2)]:
        assert jaxprs.peak_bytes(jax.make_jaxpr(fun)(x).jaxpr) == arrays * x.nbytes


def test_verdicts_say_what_came_of_it():
    none, steps, whole = (
        memory_report(fun, WS, X, compile=False) for fun in (loss, per_step, jax.checkpoint(loss))
    )
    assert none.verdict == "no checkpoints: saves all of 65.5 kB"
    more = [f"{100 * (r.flops / none.flops - 1):.0f} % more work" for r in (steps, whole)]
    assert steps.verdict == f"saves 32.8 kB for {more[0]}"
    assert whole.verdict == f"wraps the whole loss: saves nothing, for {more[1]}"
    assert whole.peak_bytes > 0.95 * none.peak_bytes
    assert none.peak_bytes - steps.peak_bytes == pytest.approx(LENGTH * STATE, rel=0.1)
    same = memory_report(loss, WS, X, baseline=loss, compile=False)
    assert same.verdict == "saves nothing, for 0 % more work"
    assert memory_report(loss, WS, X, baseline=none, compile=False) == same


def test_the_compiler_agrees_where_steps_are_scanned_and_undoes_it_where_they_are_not():
    scanned = memory_report(per_step, WS, X)
    saved = scanned.baseline.temporary_bytes - scanned.temporary_bytes
    assert saved == pytest.approx(LENGTH * STATE, rel=0.1)  # alignment, and one step's own
    assert scanned.output_bytes == pytest.approx(4 * LENGTH * WIDTH**2, rel=0.01)  # and the value
    assert scanned.verdict.startswith("saves ")

    def undone(ws, x):
        for k in range(LENGTH):  # what is computed twice is computed once again
            x, _ = jax.checkpoint(step, prevent_cse=False)(x, ws[k])
        return jnp.sum(x)

    assert memory_report(undone, WS, X).verdict.startswith("undone by the compiler: ")


def test_savings_that_the_compiled_program_shows_are_savings():
    """As much as the states are the gradients of xs here, zeros of which are written first."""
    ws, x = np.zeros((100, 8, 8), np.float32), np.zeros((8, 8), np.float32)

    def stepped(ws):
        return jnp.sum(
            checkpointing.checkpointed_scan(step, x, ws, schedule=checkpointing.binomial(4))[0]
        )

    report = memory_report(stepped, ws)
    assert report.peak_bytes > 0.99 * report.baseline.peak_bytes
    assert report.temporary_bytes < 0.1 * report.baseline.temporary_bytes
    promised = report.baseline.saved_bytes - report.saved_bytes
    assert report.verdict.startswith(f"saves {promised / 1000:.1f} kB for ")
    blind = memory_report(stepped, ws, compile=False).verdict
    assert blind.startswith("saves nothing unless operations are fused (compile=True tells)")


def test_checkpoints_are_found_in_branches_jitted_functions_and_chains():
    def branching(ws, x):
        return jax.lax.cond(x[0, 0] > 0, jax.jit(per_step), lambda _, x: jnp.sum(x), ws, x)

    report = memory_report(branching, WS, X, compile=False)
    assert report.baseline.saved_bytes - report.saved_bytes == LENGTH * STATE

    def by_chain(ws, x):
        steps = [lambda c, k=k: step(c, ws[k])[0] for k in range(LENGTH)]
        return jnp.sum(
            checkpointing.checkpointed_chain(steps, x, schedule=checkpointing.binomial(3))
        )

    assert memory_report(by_chain, WS, X, compile=False).baseline is not None


@jax.custom_vjp
def clipped(x):
    return x


clipped.defvjp(lambda x: (x, None), lambda _, g: (jnp.clip(g, -1, 1),))


def test_other_rules_of_derivatives_are_kept_in_the_baseline():
    def fun(ws, x):
        return jnp.sum(clipped(jax.checkpoint(loss)(ws, x) * x))

    base = memory_report(fun, WS, X, compile=False).baseline
    plain = memory_report(lambda ws, x: jnp.sum(clipped(loss(ws, x) * x)), WS, X, compile=False)
    assert base.flops == plain.flops
    assert base.saved_bytes == plain.saved_bytes


def test_arguments_and_what_is_closed_over_are_not_counted():
    data = np.ones((BATCH, WIDTH), np.float32)
    x = jnp.asarray(data)
    assert memory_report(lambda x: jnp.sum(x * data), x, compile=False).saved == ()
    (saved,) = memory_report(lambda x: jnp.sum(jnp.exp(x)), x, compile=False).saved
    assert str(saved) == f"f32[{BATCH},{WIDTH}]"


def test_integer_arguments_and_outputs_that_are_not_scalar_pass():
    places = jax.ShapeDtypeStruct((5,), np.int32)
    report = memory_report(lambda x, k: (x[k] ** 2, k), X, places, compile=False)
    assert report.saved_bytes >= 4 * 5 * WIDTH
    with pytest.raises(TypeError, match=r"memory_report: .* must be real floating-point"):
        memory_report(lambda x, k: x[k], X, places, argnums=1)


def test_a_printed_report_has_its_columns_aligned():
    lines = str(memory_report(unrolled, WS, X, compile=False)).splitlines()
    assert lines[0].startswith("saved for the backward pass  ")
    ends = {re.match(r".*? [kM]?B(?=  |$)", line).end() for line in lines[:-2]}
    assert len(ends) == 1
    assert sum(f"  f32[{WIDTH},{WIDTH}]" in line for line in lines) == 1  # equal ones together


def test_a_plan_holds_its_budget_and_uses_it():
    init = jax.ShapeDtypeStruct((BATCH, WIDTH), np.float32)
    for budget, slots in [(STATE, 1), (3.5 * STATE, 3), (40 * STATE, LENGTH)]:
        schedule = plan(step, init, WS, budget=budget)
        assert schedule.slots(LENGTH) * STATE <= budget
        fewest = checkpointing.binomial(slots).extra_forward_steps(LENGTH)
        assert schedule.extra_forward_steps(LENGTH) == fewest
    assert plan(step, init, budget=STATE, length=3) == checkpointing.binomial(1)


def test_a_plan_for_steps_that_differ_is_the_optimal_one():
    costs, sizes = [1.0, 5.0, 1.0, 2.0, 1.0], [2.0, 1.0, 3.0, 1.0, 2.0]
    expected = checkpointing.optimal(costs, sizes, 4.0).actions(5)
    assert plan(costs, sizes, budget=4.0).actions(5) == expected


@pytest.mark.parametrize(
    ("size", "count"), [("100kB", 100_000), ("0.5 MiB", 2**19), ("90000", 90_000)]
)
def test_a_budget_may_have_a_unit(size, count):
    assert plan(step, X, WS, budget=size) == plan(step, X, WS, budget=count)
    costs, sizes = [1.0, 4.0, 1.0], [4e4, 4e4, 4e4]
    assert plan(costs, sizes, budget=size).actions(3) == plan(costs, sizes, budget=count).actions(3)


@pytest.mark.parametrize("size", ["5 parsecs", "", "-5MB", "nan", "1,5 GB", "64 MB/s", "1.2.3"])
def test_a_budget_that_cannot_be_read_is_refused(size):
    with pytest.raises(ValueError, match=r"budget must be bytes or a size such as '100MB'"):
        plan(step, X, WS, budget=size)
    with pytest.raises(TypeError, match=r"budget must be bytes or a size, got None"):
        plan(step, X, WS, budget=None)


def test_a_budget_that_is_too_small_names_the_least():
    with pytest.raises(ValueError, match=rf"budget must hold one state, {STATE} bytes, got 100"):
        plan(step, X, WS, budget=100)
    with pytest.raises(ValueError, match="budget must hold at least the first state, 2, got 1"):
        plan([1.0, 1.0], [2.0, 2.0], budget=1.0)
    with pytest.raises(ValueError, match="xs must have one first axis, or length must be given"):
        plan(step, X, budget=STATE)


def test_a_compiler_that_fuses_most_by_itself_undoes_nothing():
    """Sines of one array are fused: the plain gradient keeps one product of each step anyway."""

    def sines(h):
        return functools.reduce(lambda h, _: jnp.sin(h), range(8), h @ np.eye(100, dtype=h.dtype))

    def loss(x):
        schedule = checkpointing.sqrt()
        return jnp.sum(checkpointing.checkpointed_chain([sines] * 8, x, schedule=schedule))

    report = memory_report(loss, np.ones((1000, 100), np.float32))
    assert report.baseline is not None
    assert report.temporary_bytes + report.output_bytes < 0.6 * (
        report.baseline.temporary_bytes + report.baseline.output_bytes
    )
    assert report.verdict.startswith("saves less than promised, for ")
    assert not any((array.source or "").endswith(" from") for array in report.saved)
