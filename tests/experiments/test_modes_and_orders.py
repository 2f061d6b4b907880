"""The experiments on modes, orders and Newton steps: what bears their claims out, what refutes."""

import math
from pathlib import Path

import numpy as np
import pytest

from adlab.figures import style
from adlab.lab import config as configs

ROOT = Path(__file__).parents[2]


def job(name):
    return configs.load(ROOT / "configs" / f"{name}.toml", profile="smoke")


def memory():
    """Forward mode of 5 states whatever L, reverse mode of 3 per step and 4 more."""
    state, lengths = 4.0 * 8 * 8, np.array([4, 16])
    return {
        "scan_lengths": lengths,
        "scan_forward": np.full(2, 5 * state),
        "scan_reverse": state * (3 * lengths + 4.0),
        "scan_saved": state * 3.0 * lengths,
        "scan_derivatives": np.array([0.5, 0.5]),
        "control": np.array([1.0, 64.0]),
    }


def bottleneck():
    return {
        "sizes": np.array([16]),
        "sweeps": np.array([24, 40]),
        "eliminations": np.full(4, 15),
        "flops": 2.0 * 16**3 * np.array([[24.0, 40, 15]]),
        "error": np.array([1e-7]),
        "seconds_16": np.outer([2.4, 4.0, 1.5], np.linspace(0.99, 1.01, 9)),
    }


def newton():
    n = np.array([256.0, 1024.0])
    iterates = np.ones((3, 9, 256))
    return {
        "sizes": n.astype(int),
        "bytes": 8 * np.stack([2 * n, 2 * n, 5 * n, 2 * n**2, 2 * n**2], axis=1),
        "iterates": iterates,
        "gradients": np.outer([1e-15, 1e-15, 1e-2], np.ones(9)),
    }


def taylor():
    orders = np.arange(1, 7)
    series = (orders + 1) * (orders + 2) / 2
    return {
        "orders": orders,
        "written": np.stack([2.0**orders, 2.0**orders, series], axis=1) * [1, 1, 1.05],
        "compiled": np.stack([2.0**orders, orders, 2.0 * orders], axis=1)[:5],
        "values": np.ones((5, 4)),
        "seconds_5": np.outer([3.0, 1, 1.5, 0.5], np.linspace(0.99, 1.01, 9)),
    }


HELD = {"mode_memory": memory, "bottleneck": bottleneck, "second_order_memory": newton,
        "taylor_mode": taylor}  # fmt: skip
REFUTED = [
    ("mode_memory", "forward", "scan_forward", lambda a: a * [1, 1.5]),
    ("mode_memory", "reverse", "scan_reverse", lambda a: a / 4),
    ("mode_memory", "saved", "scan_saved", lambda a: a / 2),
    ("mode_memory", "agree", "scan_derivatives", lambda a: a * [1, 1.001]),
    ("mode_memory", "control", "control", lambda a: a * 0 + 1),
    ("bottleneck", "sweeps", "sweeps", lambda a: a[::-1]),
    ("bottleneck", "orders", "eliminations", lambda a: a + np.eye(4)[1]),
    ("bottleneck", "counts", "flops", lambda a: a * [1, 1.2, 1]),
    ("bottleneck", "error", "error", lambda a: a + 1e-3),
    ("bottleneck", "reverse_quicker", "seconds_16", lambda a: a / [[1], [2], [1]]),
    ("bottleneck", "reverse_seconds", "seconds_16", lambda a: a * [[1], [2], [1]]),
    ("bottleneck", "mixed_quicker", "seconds_16", lambda a: a * [[1], [1], [2]]),
    ("bottleneck", "mixed_seconds", "seconds_16", lambda a: a / [[1], [1], [2]]),
    ("second_order_memory", "square", "bytes", lambda a: a / [[1], [2]]),
    ("second_order_memory", "linear", "bytes", lambda a: a * [[1], [2]]),
    ("second_order_memory", "vectors", "bytes", lambda a: a * [1, 1, 20, 1, 1]),
    ("second_order_memory", "same", "iterates", lambda a: a * [[[1]], [[1.001]], [[1]]]),
    ("second_order_memory", "lecture", "bytes", lambda a: a * [1, 1, 1, 1, 0.1]),
    ("second_order_memory", "control_lecture", "bytes", lambda a: a * [1, 1, 1e3, 1, 1]),
    ("second_order_memory", "control_descent", "gradients", lambda a: a * 0 + 1.0),
    ("taylor_mode", "doubles", "written", lambda a: a ** [0.5, 1, 1]),
    ("taylor_mode", "taylor", "written", lambda a: a * [1, 1, 1.5]),
    ("taylor_mode", "control", "written", lambda a: a / [2.5, 1, 1]),
    ("taylor_mode", "compiled", "compiled", lambda a: a ** [0.5, 1, 1]),
    ("taylor_mode", "values", "values", lambda a: a + 1e-6 * np.eye(4)[0]),
    ("taylor_mode", "seconds", "seconds_5", lambda a: a / [[3], [1], [1], [1]]),
]


def outcomes(name, data):
    """Return claim -> outcomes."""
    loaded, found = job(name), {}
    for verdict in loaded.module.verdicts(data, loaded.config):
        found.setdefault(verdict.claim.key.rpartition(".")[2], set()).add(verdict.outcome)
    return found


@pytest.mark.parametrize("name", HELD)
def test_all_hold_on_data_that_bear_them_out(name):
    found = outcomes(name, HELD[name]())
    assert set().union(*found.values()) == {"holds"}
    assert set(found) == {claim for experiment, claim, *_ in REFUTED if experiment == name}


@pytest.mark.parametrize(("name", "claim", "key", "change"), REFUTED)
def test_each_fails_on_data_that_refute_it(name, claim, key, change):
    data = HELD[name]()
    data[key] = change(data[key])
    assert "fails" in outcomes(name, data)[claim]


@pytest.mark.parametrize("name", ["mode_memory", "second_order_memory"])
def test_a_title_asks_where_the_finding_is_not_borne_out(name):
    loaded, titles = job(name), []
    data = HELD[name]()
    key = "scan_forward" if name == "mode_memory" else "bytes"
    for changed in (
        data[key],
        data[key] * np.array([1.0, 4.0]).reshape(2, *[1] * (data[key].ndim - 1)),
    ):
        found = data | {key: changed}
        judged = loaded.module.verdicts(found, loaded.config)
        with style.context():
            figures = loaded.module.plot(found, loaded.config, verdicts=judged)
        titles.append(figures["memory"].get_suptitle())
    assert [title.endswith("?") for title in titles] == [False, True]


@pytest.mark.parametrize("name", ["bottleneck", "taylor_mode"])
def test_times_of_few_repeats_are_not_drawn(name):
    loaded, data = job(name), HELD[name]()
    times = [key for key in data if key.startswith("seconds_")]
    if name == "taylor_mode":
        data |= {f"seconds_{k}": data["seconds_5"] for k in range(1, 5)}
    with style.context():
        assert "seconds" in loaded.module.plot(data, loaded.config)
        few = data | {key: data[key][:, :2] for key in times}
        assert "seconds" not in loaded.module.plot(few, loaded.config)


def test_cauchys_integral_is_the_derivative_in_closed_form():
    """One layer of one unit: tanh' = 1 - tanh^2, and so on."""
    module = job("taylor_mode").module
    t = math.tanh(0.3)
    exact = {1: 1 - t**2, 2: -2 * t * (1 - t**2), 3: (6 * t**2 - 2) * (1 - t**2)}
    for order, value in exact.items():
        found = module.cauchy([np.eye(1)], np.ones(1), np.array([0.3]), np.ones(1), order)
        assert found == pytest.approx(value, rel=1e-12)  # 64 points, and rounding


@pytest.mark.usefixtures("x64")
def test_the_gradient_in_numpy_is_that_of_the_loss():
    import jax

    loaded = job("second_order_memory")
    rng = np.random.default_rng(0)
    x, y, w = rng.normal(size=(5, 3)), np.sign(rng.normal(size=5)), rng.normal(size=(2, 3))
    mu = loaded.config.strong_convexity
    program = jax.jit(jax.grad(loaded.module.loss))
    exact = [np.linalg.norm(program(each, x, y, mu)) for each in w]
    found = loaded.module.gradient_norms(w, x, y, loaded.config)
    np.testing.assert_allclose(found, exact, rtol=1e-13)


def test_lengths_and_sizes_must_increase():
    for name, key in (("mode_memory", "lengths"), ("second_order_memory", "sizes")):
        with pytest.raises(Exception, match=f"{key} must increase"):
            configs.load(ROOT / "configs" / f"{name}.toml", changes={key: [64, 16]})
