import jax
import jax.numpy as jnp
import numpy as np
import optax
import parts
import pytest
from jax.tree_util import Partial

from adlab import gradients, optimize, problems

radial = parts.part("rates", "radial")

pytestmark = pytest.mark.usefixtures("x64")
TAIL = problems.nonconvex_tail(dim=2)


def _simulate(**changes):
    options = {"dim": 16, "step": 1 / 64, "num_steps": 1100, "num_seeds": 4}
    options |= {"key": jax.random.key(0)} | changes
    return radial.simulate(TAIL.radial, **options)


@jax.jit
def _noise(key, dim):
    return radial._noise(key, dim, 64)


@pytest.mark.parametrize("n", [2, 3, 4, 8, 1000])
def test_the_noise_has_the_moments_of_a_projected_sphere(n):
    v1, v2 = map(np.asarray, _noise(jax.random.key(n), float(n)))
    expected = {
        (1, 0): 0, (0, 1): 0, (1, 1): 0, (2, 0): 1 / n, (0, 2): 1 / n,
        (4, 0): 3 / (n * (n + 2)), (2, 2): 1 / (n * (n + 2)), (6, 0): 15 / (n * (n + 2) * (n + 4)),
    }  # fmt: skip
    for (i, j), moment in expected.items():
        sample = v1**i * v2**j
        # z <= 5 on 65,536 draws; at n = 2 a product may be constant to float32 round-off
        assert abs(sample.mean() - moment) <= 5 * sample.std() / 256 + 1e-7
    if n == 2:
        np.testing.assert_allclose(v1**2 + v2**2, 1, rtol=1e-6)  # float32 sine and cosine


FULL = {
    "nonconvex": (problems.nonconvex_tail, 1.0),
    "logistic": (problems.logistic_tail, 0.0),
    "norm": (problems.norm, 1.0),
}


@pytest.mark.parametrize(
    ("kind", "n", "step"),
    [("nonconvex", n, 0.25 / n) for n in (2, 3, 32)]
    + [("logistic", 32, 1 / 32)]
    + [("norm", n, (300 * n) ** -0.5) for n in (2, 32)],
)
def test_the_reduction_agrees_with_full_dimension(kind, n, step):
    factory, start = FULL[kind]
    problem = factory(dim=n)
    g = gradients.two_point(problem.fun, smoothing=1e-5)
    options = {"num_steps": 300, "num_seeds": 400, "record_at": [30, 300], "average": ("value",)}
    full = optimize.minimize(
        g, problem.x0, optimizer=optax.sgd(step), key=jax.random.key(0), **options
    )
    options |= {"dim": n, "step": step, "key": jax.random.key(1), "start": start}
    if problem.radial is None:
        reduced = radial.simulate_norm(**options)
    else:
        reduced = radial.simulate(problem.radial, **options)
    for name in ("values", "averages"):
        a, b = (getattr(run, name)["value"] for run in (full, reduced))
        error = np.sqrt((a.var(axis=0) + b.var(axis=0)) / 400)
        # z <= 4; smoothing^2 and float32 noise show where the spread itself dies out
        assert np.all(np.abs(a.mean(axis=0) - b.mean(axis=0)) <= 4 * error + 1e-8)


def test_gradient_descent_on_the_norm_is_one_number():
    x, step, distances = np.array([0.6, 0.0, -0.8]), 0.017, [1.0]
    for _ in range(200):
        x = x - step * x / np.linalg.norm(x)
        distances.append(np.linalg.norm(x))
    found = radial.average_norm(step=step, num_steps=200)
    assert found == pytest.approx(np.mean(distances), rel=1e-11)  # round-off


def test_what_is_recorded_and_the_length_leave_the_path_as_it_is():
    few = _simulate(record_at=[0, 7, 1024, 1050], num_steps=1050)
    many = _simulate(record_at=list(range(1101)), average=("value", "squared_gradient"))
    np.testing.assert_array_equal(many.record_at, np.arange(1101))
    for name in ("value", "squared_gradient"):
        values = many.values[name]
        # round-off: other programs, fused otherwise
        np.testing.assert_allclose(values[:, [0, 7, 1024, 1050]], few.values[name], rtol=1e-12)
        means = np.cumsum(values, axis=1) / np.arange(1, 1102)
        np.testing.assert_allclose(many.averages[name], means, rtol=1e-12)  # round-off of 1100 sums
    assert few.averages == {}


def test_blocks_of_noise_are_independent():
    block, step = radial.BLOCK, 1e-9
    line = problems.Radial(Partial(lambda t: t), Partial(jnp.ones_like))
    run = radial.simulate(
        line, dim=16, step=step, num_steps=3 * block, num_seeds=4, key=jax.random.key(5),
        start=0.0, record_at=range(3 * block + 1),
    )  # fmt: skip
    squares = -np.diff(run.values["value"]) / (16 * step)  # v_1^2 up to O(step): r stays near 0
    first, second, third = np.split(squares - 1 / 16, 3, axis=1)
    for a, b in [(first, second), (second, third), (first, third)]:
        product = a * b
        assert abs(product.mean()) <= 5 * product.std() / np.sqrt(product.size)  # z <= 5


def test_the_start_and_the_account():
    run = _simulate(start=2.0)
    t = jnp.asarray(2.0)
    np.testing.assert_allclose(run.values["value"][:, 0], TAIL.radial.profile(t), rtol=1e-15)  # ulp
    squared = TAIL.radial.slope(t) ** 2
    np.testing.assert_allclose(run.values["squared_gradient"][:, 0], squared, rtol=1e-15)  # ulp
    assert run.record_at[0] == 0
    assert run.record_at[-1] == 1100
    assert run.values["value"].shape == (4, run.record_at.size)
    assert run.cost == gradients.Cost(evaluations=2200)
    assert run.oracle_calls[-1] == 2200
    t, r = run.x
    np.testing.assert_allclose(
        run.values["squared_gradient"][:, -1], TAIL.radial.slope(t) ** 2 + r**2, rtol=1e-14
    )  # the last record is of the last state: an ulp or so


def test_dimensions_steps_lengths_and_profile_parameters_share_one_compilation():
    traces, counts = [], []

    def profile(power, t):
        traces.append(t)
        return power * t

    def slope(power, t):
        traces.append(t)
        return power + 0 * t

    for dim, power in [(8, 0.1), (32, 0.2), (512, 0.3)]:
        radial.simulate(
            problems.Radial(Partial(profile, power), Partial(slope, power)), dim=dim,
            step=0.1 / dim, num_steps=100 * dim, num_seeds=2, key=jax.random.key(dim),
            record_at=optimize.log_grid(100 * dim, 10, start=10 * dim),
        )  # fmt: skip
        counts.append(len(traces))
    # later runs only ask once, abstractly, which observables there are: one profile, one slope
    assert np.diff(counts).tolist() == [2, 2]


def test_a_step_without_the_dimension_diverges():
    run = _simulate(step=1.0)
    assert not np.all(run.values["value"][:, -1] < 1e6)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"dim": 1}, ValueError, "dim must be >= 2, got 1"),
        ({"step": 0.0}, ValueError, "step must be positive"),
        ({"num_steps": 0}, ValueError, "num_steps must be >= 1"),
        ({"num_seeds": 0}, ValueError, "num_seeds must be >= 1"),
        ({"record_at": [1, 1]}, ValueError, "record_at must increase"),
        ({"average": ("values",)}, ValueError, "did you mean 'value'"),
        ({"key": None}, TypeError, "key must be a jax.random key"),
    ],
)
def test_bad_arguments_are_named(changes, error, message):
    with pytest.raises(error, match=message):
        _simulate(**changes)


def test_without_float64_it_says_how_to_get_it():
    with jax.enable_x64(False), pytest.raises(ValueError, match="--x64"):
        _simulate()
