"""Every composition of transformations of checkpointed scans and chains, beside the plain scan."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from jax import lax
from jax.sharding import AxisType, PartitionSpec

from adlab.checkpointing import (
    binomial,
    checkpointed_chain,
    checkpointed_scan,
    optimal,
    sqrt,
    store_all,
)
from adlab.checkpointing._sweeps import _pull
from adlab.checkpointing.actions import validate
from adlab.checkpointing.program import compiled
from adlab.checkpointing.scan import _sweep
from adlab.curvature import hvp

LENGTH = 4
ROUNDING = 1e-5  # float32: sums of a few terms in another order, differentiated up to three times
W = np.linspace(0.2, 0.9, LENGTH, dtype=np.float32)
X = np.array([0.3, -0.7], np.float32)


def scanned(schedule):
    return functools.partial(checkpointed_scan, schedule=schedule)


def chained(schedule):
    """A chain of the steps of a scan, whose ys are a part of the last state."""

    def scan(body, init, xs, *, reverse=False):
        def step(k):
            def run(state):
                carry, ys = state
                carry, y = body(carry, jax.tree.map(lambda leaf: leaf[k], xs))
                return carry, jax.tree.map(lambda all_, one: all_.at[k].set(one), ys, y)

            return run

        shapes = jax.eval_shape(body, init, jax.tree.map(lambda leaf: leaf[0], xs))[1]
        ys = jax.tree.map(lambda s: jnp.zeros((LENGTH, *s.shape), s.dtype), shapes)
        order = reversed(range(LENGTH)) if reverse else range(LENGTH)
        return checkpointed_chain([step(k) for k in order], (init, ys), schedule=schedule)

    return scan


def real(scan, w, x, scale):
    def body(h, factor):
        h = jnp.tanh(h * factor * scale) + 0.3 * h[::-1]
        return h, jnp.sum(h**2)

    end, ys = scan(body, x, w)
    return jnp.sum(end**3) + jnp.sum(jnp.sin(ys))


def complex_(scan, w, x, scale):
    def body(z, factor):
        z = z * jnp.exp(lax.complex(0 * scale, factor * scale)) + 0.1 * jnp.conj(z) ** 2
        return z, lax.complex(jnp.abs(z) ** 2, 0 * x) * z

    end, ys = scan(body, lax.complex(x, x[::-1] ** 2), w)
    return jnp.sum(jnp.abs(end) ** 2) + jnp.sum(jnp.real(ys * (1 - 2j)))


def mixed(scan, w, x, scale):
    """Numbers, a count, a flag and a key in one carry; integers, booleans and keys among the ys."""
    keys = jax.random.split(jax.random.key(1), LENGTH)

    def body(carry, item):
        factor, other = item
        key, mine = jax.random.split(carry["key"])
        noise = jax.random.uniform(mine) + jax.random.uniform(other)
        h = jnp.where(carry["flag"], jnp.tanh(carry["h"] * factor + scale * noise), carry["h"] ** 2)
        h = h + 0.1 * carry["count"].astype(h.dtype) * scale**2
        after = {"h": h, "count": carry["count"] + 1, "flag": ~carry["flag"], "key": key}
        return after, (h**2, carry["count"], carry["flag"], mine)

    init = {"h": x, "count": jnp.int32(1), "flag": jnp.bool_(True), "key": jax.random.key(0)}
    end, (squares, counts, flags, used) = scan(body, init, (w, keys))
    weights = (
        counts.astype(w.dtype) + jnp.where(flags, 2.0, 0.0) + jax.vmap(jax.random.uniform)(used)
    )
    more = jnp.where(end["flag"], 2.0, 1.0) + jax.random.uniform(end["key"])
    return jnp.sum(weights[:, None] * squares) + jnp.sum(end["h"] ** 3) * more


ARGS = (W, X, np.float32(0.8))
DOTS = (W[::-1].copy(), np.array([1.0, 0.5], np.float32), np.float32(-0.4))
BOTH = jax.device_put(np.stack([X, X + np.float32(0.2)]))


def every(fun):
    return jax.grad(fun, argnums=(0, 1, 2))


def squares(tree):
    return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(tree))


def through(linearized):
    value, push = linearized
    return value, push(*DOTS)


COMPOSITIONS = {
    "value": lambda f: f(*ARGS),
    "grad": lambda f: every(f)(*ARGS),
    "jvp": lambda f: jax.jvp(f, ARGS, DOTS),
    "linearize": lambda f: through(jax.linearize(f, *ARGS)),
    "linearize of jit": lambda f: through(jax.linearize(jax.jit(f), *ARGS)),
    "forward over reverse": lambda f: jax.jvp(every(f), ARGS, DOTS),
    "reverse over reverse": lambda f: every(lambda *args: squares(every(f)(*args)))(*ARGS),
    "reverse over forward": lambda f: every(lambda *args: jax.jvp(f, args, DOTS)[1])(*ARGS),
    "forward over forward": lambda f: jax.jvp(lambda *args: jax.jvp(f, args, DOTS), ARGS, DOTS),
    "vmap of grad": lambda f: jax.vmap(every(f), (None, 0, None))(W, BOTH, ARGS[2]),
    "vmap of reverse over reverse": lambda f: jax.vmap(
        jax.grad(lambda x: squares(jax.grad(f, argnums=1)(W, x, ARGS[2])))
    )(BOTH),
    "grad of vmap": lambda f: jax.grad(
        lambda w: jnp.sum(jax.vmap(f, (None, 0, None))(w, BOTH, ARGS[2]) ** 2)
    )(W),
    "step of a gradient, differentiated": lambda f: jax.grad(
        lambda x: f(W, x - 0.1 * jax.grad(f, argnums=1)(W, x, ARGS[2]), ARGS[2])
    )(X),
}
MODELS = {"real": real, "complex": complex_, "mixed": mixed}


def close(got, expected, rtol=ROUNDING):
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        np.testing.assert_allclose(a, b, atol=rtol * np.max(np.abs(b), initial=0), rtol=0)


def check(name, model, scan, **options):
    """Compare a composition with that of the plain scan."""
    ours, plain = (
        functools.partial(model, functools.partial(one, **options)) for one in (scan, lax.scan)
    )
    composition = COMPOSITIONS[name]
    found, expected = oracles.quickly_compiled(lambda: (composition(ours), composition(plain)))()
    close(found, expected)


OF_OTHERS = ["grad", "jvp", "linearize of jit", "forward over reverse", "reverse over reverse"]


@pytest.mark.parametrize(
    ("name", "model"),
    [(name, "real") for name in COMPOSITIONS]
    + [(name, model) for model in ("complex", "mixed") for name in OF_OTHERS],
)
def test_every_composition_of_a_scan_is_that_of_the_plain_scan(name, model):
    check(name, MODELS[model], scanned(binomial(2)))


SECOND_ORDER = ["forward over reverse", "reverse over reverse", "reverse over forward"]


@pytest.mark.parametrize(
    ("name", "model"),
    [(name, real) for name in ["jvp", *SECOND_ORDER, "vmap of grad"]] + [("grad", mixed)],
)
def test_every_composition_of_a_chain_is_that_of_the_plain_scan(name, model):
    check(name, model, chained(binomial(2)))


@pytest.mark.parametrize(
    "schedule", [binomial(1), store_all(), optimal([1] * LENGTH, [1] * LENGTH, 2)], ids=repr
)
def test_every_schedule_serves_the_second_order(schedule):
    check("reverse over reverse", real, scanned(schedule))


@pytest.mark.parametrize(
    ("name", "model"), [("jvp", mixed), ("grad", mixed), ("reverse over reverse", real)]
)
def test_options_are_those_of_the_plain_scan(name, model):
    check(name, model, scanned(binomial(2)), reverse=True, unroll=2)


def test_a_backward_sweep_is_linear_in_its_cotangents():
    """Its rule for them, which no composition above has a nonzero tangent for."""

    def body(h, factor):
        h = jnp.tanh(h * factor)
        return h, h**2

    program = compiled(validate(binomial(2).actions(LENGTH), LENGTH), LENGTH)
    options = {"length": LENGTH, "reverse": False, "unroll": 1}
    sweep, consts, _ = _sweep(body, jnp.asarray(X), jnp.asarray(W), program, options)
    inputs = (consts, [jnp.asarray(X)], [jnp.asarray(W)])
    (carry, ys), saved = sweep.save(inputs)
    rng = np.random.default_rng(0)
    one, other = (
        tuple([jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype) for leaf in group]
              for group in (carry, ys))
        for _ in range(2)
    )  # fmt: skip
    pull = functools.partial(_pull, sweep, inputs, saved)
    moved = oracles.quickly_compiled(lambda a, b: jax.jvp(pull, (a,), (b,))[1])(one, other)
    close(moved, pull(other))


def powers(scan, x):
    """x^(2^3): the square of the square of the square."""
    return scan(lambda c, _: (c**2, None), x, None, length=3)[0]


def powers_of_a_chain(x):
    """x^(2^2)."""
    return checkpointed_chain([jnp.square] * 2, x, schedule=binomial(1))


def grad_by_jvp_of(fun):
    return lambda x: jax.jvp(fun, (x,), (jnp.ones_like(x),))[1]


def grads(fun, order):
    """Return x -> derivatives of so many orders by reverse mode over itself, in one trace."""
    if order == 1:
        return lambda x: (jax.grad(fun)(x),)

    def last(x):
        found = grads(fun, order - 1)(x)
        return found[-1], found

    def every(x):
        slope, lower = jax.grad(last, has_aux=True)(x)
        return *lower, slope

    return every


@pytest.mark.parametrize(
    ("fun", "known"),
    [
        (functools.partial(powers, scanned(binomial(1))), [8.0, 56.0, 336.0]),
        (powers_of_a_chain, [4.0, 12.0, 24.0]),
    ],
    ids=["scan", "chain"],
)
def test_derivatives_of_a_power_are_those_of_the_formula(fun, known):
    @oracles.quickly_compiled
    def found(x):
        forward = grad_by_jvp_of(fun)
        slope, over_forward = jax.value_and_grad(forward)(x)
        over_reverse, third = jax.value_and_grad(grad_by_jvp_of(jax.grad(fun)))(x)
        seconds = (over_forward, over_reverse, grad_by_jvp_of(forward)(x))
        return grads(fun, 3)(x), slope, seconds, third

    reverse, slope, seconds, third = found(jnp.float32(1.0))
    assert [float(d) for d in reverse] == known
    assert float(slope) == known[0]
    assert [float(d) for d in seconds] == 3 * [known[1]]
    assert float(third) == known[2]


def test_a_complex_state_that_turns():
    """Re exp(i L w) = cos(L w), with a complex carry and a real weight closed over."""

    def turned(w):
        turn = jnp.exp(lax.complex(jnp.zeros_like(w), w))
        scan = scanned(binomial(2))
        return jnp.real(scan(lambda z, _: (z * turn, None), jnp.complex64(1), None, length=5)[0])

    w = np.float32(0.3)
    slope, bend, twist = -5 * math.sin(1.5), -25 * math.cos(1.5), 125 * math.sin(1.5)

    @oracles.quickly_compiled
    def found(w):
        forward = grad_by_jvp_of(turned)(w), grad_by_jvp_of(jax.grad(turned))(w)
        return *forward, *grads(turned, 3)(w)

    np.testing.assert_allclose(found(w), [slope, bend, slope, bend, twist], rtol=2e-5)  # float32


@pytest.mark.parametrize("mode", ["forward_over_reverse", "reverse_over_reverse"])
def test_hessian_products_of_both_modes(mode):
    losses = [functools.partial(real, scan) for scan in (scanned(sqrt()), lax.scan)]
    products = [hvp(loss, mode=mode) for loss in losses]
    close(*oracles.quickly_compiled(lambda *args: [one(*args) for one in products])(DOTS[0], *ARGS))


def test_a_second_derivative_in_a_direction_that_stands_still_is_zero():
    """The system behind a derivative leaves out the half that multiplies zeros; NaN stay NaN."""

    def fun(x):
        return scanned(binomial(1))(lambda c, _: (jnp.sqrt(c), None), x, None, length=2)[0]

    bends = jax.jit(lambda x, v: jax.jvp(jax.grad(fun), (x,), (v,))[1])
    assert float(bends(jnp.float32(1.0), jnp.float32(0.0))) == 0.0
    assert np.isnan(bends(jnp.float32(np.nan), jnp.float32(1.0)))
    assert np.isnan(bends(jnp.float32(1.0), jnp.float32(np.nan)))
    bend = -3 / 16  # of x^(1/4) at 1
    assert float(bends(jnp.float32(1.0), jnp.float32(1.0))) == bend


@functools.cache
def states(composition, schedule, length):
    """Return the temporary memory of a second derivative, in states; None is the plain scan."""
    scan = lax.scan if schedule is None else scanned(schedule)

    def loss(x, times):
        return jnp.sum(scan(lambda h, t: (jnp.tanh(h * t), None), x, times)[0] ** 2)

    def penalty(x, times):
        return jnp.sum(jax.grad(loss)(x, times) ** 2)

    def slope(x, times):
        return jax.jvp(lambda x: loss(x, times), (x,), (jnp.ones_like(x),))[1]

    def product(x, times):
        return jax.jvp(lambda x: jax.grad(loss)(x, times), (x,), (jnp.ones_like(x),))[1]

    taken = {"reverse over reverse": jax.grad(penalty), "reverse over forward": jax.grad(slope)}
    fun = (taken | {"forward over reverse": product, "forward": slope})[composition]
    shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in [(64, 256), (length,)]]
    program = jax.jit(fun).lower(*shapes).compile()
    return program.memory_analysis().temp_size_in_bytes / (4 * 64 * 256)


@pytest.mark.parametrize("name", SECOND_ORDER)
def test_memory_of_second_derivatives_is_that_of_the_slots_at_any_length(name):
    short, long = (states(name, binomial(4), length) for length in (16, 256))
    assert long <= short + 1  # beside the tables of the schedule, which are integers
    more = states(name, binomial(8), 256) - long
    assert 4 * 2 <= more <= 4 * 5.1  # of 4 slots more: states, with tangents, and copies
    assert states(name, None, 256) > 2 * 256 > 5 * long


def test_forward_mode_stores_nothing():
    assert states("forward", store_all(), 256) < 10


@pytest.mark.parametrize("carry", [(), {"n": np.int32(2)}, np.float32(1.5)], ids=repr)
def test_a_scan_of_no_steps(carry):
    xs = (np.zeros((0, 3), np.float32), np.zeros(0, np.int32))

    def body(carry, x):
        return carry, (x[0] * 2, x[1] > 0)

    expected = lax.scan(body, carry, xs)
    found = checkpointed_scan(body, carry, xs, schedule=sqrt())
    assert jax.tree.map(jnp.shape, found) == jax.tree.map(jnp.shape, expected)
    close(found, expected)


def test_what_has_no_floats_in_its_carry_has_derivatives_of_its_ys():
    def fun(scan, w):
        _, ys = scan(lambda n, x: (n + 1, n.astype(x.dtype) * x**2 * w), jnp.int32(0), W)
        return jnp.sum(ys)

    # d/dw of sum_n n W_n^2 w
    expected = sum(n * float(w) ** 2 for n, w in enumerate(W))
    assert float(jax.grad(lambda w: fun(scanned(binomial(1)), w))(2.0)) == pytest.approx(expected)


@pytest.mark.parametrize("name", ["grad", "forward over reverse", "reverse over reverse"])
@pytest.mark.parametrize("place", ["closed over", "xs"])
def test_weights_that_all_devices_share(name, place):
    """In `jax.shard_map`: cotangents of what is the same everywhere are summed once."""
    mesh = jax.make_mesh((2,), ("i",), devices=jax.devices()[:2], axis_types=(AxisType.Auto,))

    def loss(scan, w, x):
        closed = w[0] if place == "closed over" else jnp.float32(1)
        xs = W if place == "closed over" else w
        return jnp.sum(scan(lambda h, t: (jnp.tanh(h * t * closed), None), x, xs)[0] ** 2)

    def derivative(scan, w, x):
        grad = jax.grad(functools.partial(loss, scan))
        if name == "grad":
            return grad(w, x)
        if name == "reverse over reverse":
            return jax.grad(lambda w: squares(grad(w, x)))(w)
        return jax.jvp(lambda w: grad(w, x), (w,), (jnp.ones_like(w),))[1]

    def spread(scan):
        specs = {"in_specs": (PartitionSpec(), PartitionSpec("i")), "out_specs": PartitionSpec()}
        return jax.shard_map(functools.partial(derivative, scan), mesh=mesh, **specs)(W, X)

    close(*jax.jit(lambda: (spread(scanned(binomial(2))), spread(lax.scan)))())


@pytest.mark.parametrize("scan", [scanned(binomial(2)), chained(binomial(2))])
def test_numbers_of_python_are_differentiated_as_arrays_are(scan):
    """`jax.jvp` hands the numbers themselves to rules. With n steps the end is h s^(n + 1)."""
    s, h = 1.5, 0.3

    def power(scale):
        return scan(lambda c, _: (scale * c, c), h * scale, W)[0]

    first, second = jax.jit(
        lambda: (jax.jvp(power, (s,), (1.0,))[1], jax.jvp(jax.grad(power), (s,), (1.0,))[1])
    )()
    n = len(W)
    np.testing.assert_allclose(first, (n + 1) * h * s**n, rtol=ROUNDING)
    np.testing.assert_allclose(second, (n + 1) * n * h * s ** (n - 1), rtol=ROUNDING)
