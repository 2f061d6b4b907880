"""Programs that are kept: equal ones serve again, others never do, and the user's are let go."""

import dataclasses
import gc
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adlab.core import _programs
from adlab.core._programs import as_program
from adlab.gradients import finite_difference, two_point

X = np.array([0.3, 0.7], np.float32)


@pytest.fixture(autouse=True)
def _none_kept(monkeypatch):
    monkeypatch.setattr(_programs, "_KEPT", type(_programs._KEPT)())


class Model:
    """A function whose numbers change between calls."""

    def __init__(self):
        self.k, self.numbers = 1.0, np.ones(2, np.float32)

    def loss(self, x):
        return jnp.sum(jnp.sin(self.k * x * self.numbers)) / self.k


@pytest.mark.parametrize("make", [finite_difference, two_point])
def test_what_a_function_reads_is_read_at_each_call(make):
    """The step fits what the function is now: with another's it would be off by far."""
    model, key = Model(), jax.random.key(0)
    gradient = make(model.loss)
    gradient(X, key=key)
    model.k = 1000.0
    fresh = Model()
    fresh.k = 1000.0
    np.testing.assert_array_equal(gradient(X, key=key), make(fresh.loss)(X, key=key))
    model.k = 1.0
    model.numbers *= 1000
    fresh.k, fresh.numbers = 1.0, fresh.numbers * 1000
    np.testing.assert_array_equal(gradient(X, key=key), make(fresh.loss)(X, key=key))
    if make is finite_difference:
        assert abs(gradient(X)[0] / (1000 * np.cos(300)) - 1) < 0.1


def test_nothing_of_the_users_is_kept():
    class Held:
        pass

    alive = []
    for make in (finite_difference, two_point):
        held = Held()
        alive.append(weakref.ref(held))
        gradient = make(lambda x, held=held: (jnp.sum(x**2), held)[0])
        gradient(X, key=jax.random.key(0))
        gradient.check(X, key=jax.random.key(0))
        del held, gradient
    gc.collect()
    assert [ref() for ref in alive] == [None, None]


def compiled(compute):
    """Return how many programs are kept after a call that finds as many as before, or one more."""
    found = as_program(lambda _: compute(), None, X)
    return len(_programs._KEPT), np.asarray(found)


def test_equal_operations_share_a_program_and_others_do_not():
    a, b = np.float32([1, 2]), np.float32([5, 7])
    for c in (a, b):
        kept, found = compiled(lambda c=c: jnp.sin(jnp.asarray(c)) * 2)
        assert kept == 1
        np.testing.assert_allclose(found, np.sin(c) * 2, rtol=1e-6)
    cases = [
        lambda: jnp.sin(jnp.asarray(a)) * 3,  # another literal
        lambda: jnp.cos(jnp.asarray(a)) * 2,
        lambda: jnp.sin(jnp.asarray(a)) * jnp.asarray(b),
        lambda: jnp.sin(jnp.asarray(b[:1])) * 2,  # another shape
        lambda: jnp.cumsum(jnp.asarray(a)),
        lambda: jnp.cumsum(jnp.asarray(a)[::-1]),
        lambda: jax.lax.scan(lambda c, x: (c + x, c * x), 0.0, jnp.asarray(a))[1],
        lambda: jax.lax.scan(lambda c, x: (c + x, c - x), 0.0, jnp.asarray(a))[1],
        lambda: jnp.where(jnp.asarray(a) > 1, jnp.asarray(a), 0),
        lambda: jax.jit(lambda y: y * np.float32([3, 4]))(jnp.asarray(a)),
        lambda: jax.jit(lambda y: y * np.float32([3, 5]))(jnp.asarray(a)),
    ]
    for number, compute in enumerate(cases, start=2):
        kept, found = compiled(compute)
        assert kept == number
        np.testing.assert_allclose(found, compute(), rtol=1e-6)
        assert compiled(compute)[0] == number


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Power:
    """A function with a constant, on which it may branch."""

    power: float
    branching: bool = dataclasses.field(default=False, metadata={"static": True})

    def __call__(self, x, scale):
        if self.branching and self.power > 2:
            return scale * jnp.sum(x)
        return scale * jnp.sum(x**self.power)


def test_constants_and_arguments_are_data():
    two_point(Power(2.0), smoothing="auto")(X, np.float32(1), key=jax.random.key(0))
    kept = len(_programs._KEPT)
    assert kept > 0
    two_point(Power(3.0), smoothing="auto")(X, np.float32(5), key=jax.random.key(1))
    assert len(_programs._KEPT) == kept
    found = finite_difference(Power(3.0, True))(X, np.float32(2))
    np.testing.assert_allclose(found, [2, 2], rtol=1e-2)


def test_programs_with_functions_of_their_own_are_not_kept():
    def host(y):
        return jax.pure_callback(lambda y: np.asarray(y), jax.ShapeDtypeStruct((2,), X.dtype), y)

    @jax.custom_jvp
    def ruled(y):
        return y * 2

    ruled.defjvp(lambda primals, tangents: (ruled(*primals), 2 * tangents[0]))
    large = jnp.arange(1000.0)
    inner = jax.jit(lambda y: y + large[:2])
    for fun, factor, shift in ((host, 1, 0), (ruled, 2, 0)):
        kept, found = compiled(lambda fun=fun: fun(jnp.asarray(X)))
        assert kept == 0
        np.testing.assert_allclose(found, factor * X + shift, rtol=1e-6)
    _, found = compiled(lambda: inner(jnp.asarray(X)))
    np.testing.assert_allclose(found, X + np.float32([0, 1]), rtol=1e-6)


def test_the_oldest_go_first(monkeypatch):
    monkeypatch.setattr(_programs, "_MOST", 2)
    for power in (2, 3, 2, 4, 2):
        kept, found = compiled(lambda p=power: jax.lax.integer_pow(jnp.asarray(X), p))
        np.testing.assert_allclose(found, X**power, rtol=1e-6)
        assert kept <= 2
    assert len(_programs._KEPT) == 2


def test_in_a_trace_nothing_is_compiled_apart():
    found = jax.jit(lambda x: as_program(lambda _: jnp.sin(x), None, x))(X)
    np.testing.assert_allclose(found, np.sin(X), rtol=1e-6)
    assert not _programs._KEPT
    slope = jax.grad(lambda c: jnp.sum(as_program(lambda _: c * jnp.sin(jnp.asarray(X)), None, X)))(
        2.0
    )
    np.testing.assert_allclose(slope, np.sum(np.sin(X)), rtol=1e-6)


def _indexed(mask, x):
    return jnp.sum(x[mask] ** 2)


def _looked_up(name, x):
    return jnp.sum({2: x**2, 3: x**3}[name][:2])


def _written(number, x):
    return jnp.sum(x[:2] ** 2) if f"{number:.1f}" == "2.5" else jnp.sum(x)


def _numbered(count, x):
    return jnp.sum(x[: count.item()] ** 2)


@pytest.mark.parametrize(
    ("fun", "constant"),
    [
        (_indexed, jnp.array([True, True, False])),
        (_looked_up, np.int32(2)),
        (_written, 2.5),
        (_numbered, jnp.int32(2)),
    ],
)
@pytest.mark.parametrize("how", ["partial", "argument"])
def test_a_function_may_read_its_constants_outside_of_a_trace(fun, constant, how):
    """Quotients of x^2 are exact to rounding, which is a few hundredths in single precision."""
    x, key = jnp.array([1.0, 2.0, 3.0]), jax.random.key(0)
    argnums, before = (1, (constant,)) if how == "argument" else (0, ())
    bound = fun if how == "argument" else jax.tree_util.Partial(fun, constant)
    for gradient in (
        finite_difference(bound, argnums=argnums),
        two_point(bound, law="orthogonal", num_probes=3, argnums=argnums),
    ):
        np.testing.assert_allclose(gradient(*before, x, key=key), [2.0, 4.0, 0.0], atol=0.05)
        gradient.check(*before, x, key=key)


def test_what_a_function_raises_with_its_constants_read_is_raised_alone():
    def refusing(mask, x):
        raise LookupError(f"{jnp.sum(x[mask]).shape} isn't in the table")

    refused = jax.tree_util.Partial(refusing, jnp.array([True, False]))
    with pytest.raises(LookupError, match=r"^\(\) isn't in the table") as error:
        finite_difference(refused)(X)
    assert error.value.__context__ is None  # without what the first try, which traces the mask, met
