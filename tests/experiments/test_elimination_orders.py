"""Every verdict of `elimination_orders` fails on data that refute it; its programs are right."""

from pathlib import Path

import jax
import numpy as np
import pytest

from adlab import graphs
from adlab.figures import style
from adlab.lab import config as configs
from adlab.lab import start

ROOT = Path(__file__).parents[2]
CHANGES = {"num_graphs": 1000, "vertices": [8, 12], "programs": ["robot_arm"]}
# By hand: 3-1-5, the hourglasses, the lecture's function, the chains, the diamond.
KNOWN = [
    *[(15, 15, 15, 15), (24, 24, 16, 16), (105, 105, 55, 55), (144, 144, 64, 64)],
    *[(7, 4, 4, 4), (8, 5, 6, 5), (5, 8, 5, 5), (7, 11, 6, 6)],
]


@pytest.fixture(scope="module")
def job():
    return configs.load(ROOT / "configs" / "elimination_orders.toml", changes=CHANGES)


@pytest.fixture(scope="module")
def mixed(job):
    """Return the arrays of the graph that is drawn."""
    with start.precision(job.config.x64):
        return job.module.mixed.run()


def measured(beaten=150, greedy=500):
    """Of 1000 graphs each mode is best on about half of those where neither is beaten."""
    costs = np.full((1000, 4), 10)
    costs[:beaten, :2] = 12
    costs[beaten : beaten + 400, 0] = 11
    costs[beaten + 400 :, 1] = 11
    costs[:greedy, 2] = 11
    return {
        "known": np.array(KNOWN),
        "dense": np.array([(24, 40)] * len(KNOWN)),
        "random": np.stack([costs * 0 + 10, costs]),
        "robot_arm_costs": np.array([307, 370, 242]),
        "robot_arm_size": np.array([6, 6, 85]),
        "robot_arm_error": np.array(1e-15),
        "mixed_costs": np.array([12, 14, 9, 9]),
    }


def outcomes(job, data):
    """Return claim -> outcomes."""
    found = {}
    for verdict in job.module.verdicts(data, job.config):
        found.setdefault(verdict.claim.key.rpartition(".")[2], set()).add(verdict.outcome)
    return found


def changed(name, place, value):
    data = measured()
    data[name] = data[name].copy()
    data[name][place] = value
    return data


BAD = {
    "layers": changed("known", (2, 3), 56),
    "bottleneck": changed("known", (0, 1), 16),
    "beaten": measured(beaten=20),
    "dearer": measured(greedy=5),
    "control": changed("random", (1, slice(100), slice(3)), 9),
    "program": changed("robot_arm_costs", 2, 400),
    "mixed": changed("mixed_costs", 3, 12),
    "agrees": changed("robot_arm_error", (), 1e-6),
}


def test_all_hold_on_data_that_bear_them_out(job):
    found = outcomes(job, measured())
    assert set().union(*found.values()) == {"holds"}
    assert set(found) == set(BAD)


@pytest.mark.parametrize("claim", BAD)
def test_each_fails_on_data_that_refute_it(job, claim):
    assert "fails" in outcomes(job, BAD[claim])[claim]


def test_known_graphs_cost_what_they_do_by_hand(job):
    module = job.module
    known = [module._layered(*widths) for widths in module.LAYERS]
    known += [module.orders.dag(*graph) for graph in module.OTHERS.values()]
    assert [tuple(module._costs(graph)) for graph in known] == KNOWN
    assert module.closed_form((5, 3, 1, 3, 5)) == (105, 105, 55)


def test_shares_of_draws_have_the_interval_of_their_formula(job):
    share, low, high = job.module.interval(10, 100)
    # Wilson's interval: the roots of (p - 0.1)^2 = z^2 p (1 - p)/100
    roots = np.roots([1 + 1.96**2 / 100, -(0.2 + 1.96**2 / 100), 0.01])
    assert share == 0.1
    np.testing.assert_allclose([low, high], sorted(roots), rtol=1e-12)
    assert job.module.interval(0, 100)[:2] == (0, 0)


@pytest.mark.usefixtures("x64")
def test_the_flux_between_equal_states_is_that_of_the_gas(job):
    rho, u, p = 1.3, 0.4, 0.9
    state = (rho, rho * u, p / 0.4 + rho * u**2 / 2)
    flux = (rho * u, rho * u**2 + p, u * (state[2] + p))
    np.testing.assert_allclose(job.module.roe_flux(*state, *state), flux, rtol=1e-14)


@pytest.mark.usefixtures("x64")
def test_a_shock_that_stands_still_has_the_flux_of_both_sides(job):
    """Roe's flux keeps it exactly: by the jump conditions, F is the same on both sides."""
    mach, gamma = 2.0, 1.4
    rho, p = 1.0, 1.0
    u = mach * np.sqrt(gamma * p / rho)
    rho2 = rho * (gamma + 1) * mach**2 / ((gamma - 1) * mach**2 + 2)
    p2 = p * (1 + 2 * gamma / (gamma + 1) * (mach**2 - 1))
    states = [
        (r, r * v, q / 0.4 + r * v**2 / 2) for r, v, q in ((rho, u, p), (rho2, u * rho / rho2, p2))
    ]
    flux = (rho * u, rho * u**2 + p, u * (states[0][2] + p))
    found = job.module.roe_flux(*states[0], *states[1])
    np.testing.assert_allclose(found, flux, rtol=1e-13)


@pytest.mark.usefixtures("x64")
def test_the_arm_reaches_where_rotations_take_it(job):
    arm = jax.jit(job.module.robot_arm)
    stretched = arm(0.0, 0.0, 0.0)
    np.testing.assert_allclose(stretched, [1 + 1 / 2 + 1 / 3, 0, 0, 1, 0, 0], rtol=1e-14)
    angles = np.array([0.3, -0.8, 1.1])
    position, direction = np.zeros(3), np.array([1.0, 0, 0])
    for i in (2, 1, 0):
        c, s = np.cos(angles[i]), np.sin(angles[i])
        turn = [[c, 0, s], [0, 1, 0], [-s, 0, c]] if i % 2 else [[c, -s, 0], [s, c, 0], [0, 0, 1]]
        position = turn @ np.add(position, [1 / (i + 1), 0, 0])
        direction = turn @ direction
    np.testing.assert_allclose(arm(*angles), [*position, *direction], rtol=1e-13)


def test_times_are_drawn_where_they_are_given(job, mixed):
    data = measured() | mixed
    names = {"known", "random", "programs", "elimination"}
    with style.context():
        assert set(job.module.plot(data, job.config)) == names
        data["seconds_robot_arm"] = np.outer([2.0, 4, 3, 1, 6], [1, 5, 1])
        figure = job.module.plot(data, job.config)["seconds"]
        data["seconds_robot_arm"] = np.outer([2.0, 4, 3, 1, 6], [1.0, 1])
        assert set(job.module.plot(data, job.config)) == names  # two say nothing of the spread
    widths = [bar.get_width() for bar in figure.axes[0].patches]
    np.testing.assert_allclose(widths, [1, 2, 1.5, 0.5, 3])
    np.testing.assert_allclose(whiskers(figure), np.transpose([widths, widths]))  # slow together


def whiskers(figure):
    """Return the ends of the intervals, a row per bar."""
    (drawn,) = figure.axes[0].collections
    return np.array([segment[:, 0] for segment in drawn.get_segments()])


def test_times_have_the_intervals_of_their_repeats(job, mixed):
    data = measured() | mixed
    data["seconds_robot_arm"] = np.outer([1.0, 2, 2, 2, 2], np.ones(9))
    data["seconds_robot_arm"][3] = [1, 1, 1, 2, 2, 2, 4, 4, 4]
    with style.context():
        found = whiskers(job.module.plot(data, job.config)["seconds"])
    np.testing.assert_allclose(found, [[1, 1], [2, 2], [2, 2], [1, 4], [2, 2]])


@pytest.mark.usefixtures("x64")
def test_the_graph_that_is_drawn_costs_and_gives_what_it_does_by_hand(job, mixed):
    data, mixed = mixed, job.module.mixed
    assert data["mixed_costs"].tolist() == [4 + 2 + 2 + 4, 4 + 4 + 2 + 4, 9, 9]
    a, b = mixed.POINT  # v4 = a^2 b sin(a b)
    s, c = np.sin(a * b), np.cos(a * b)
    v4, slopes = (
        a * a * b * s,
        np.array([2 * a * b * s + a * a * b * b * c, a * a * (s + a * b * c)]),
    )
    exact = np.outer([1 / v4, 0.5 / np.sqrt(v4)], slopes)
    np.testing.assert_allclose(data["mixed_jacobian"], exact, rtol=1e-13)  # a dozen roundings
    graph = graphs.build(mixed.function, *mixed.POINT)
    fresh = graphs.eliminate(graph, "optimal").steps(*mixed.POINT)
    for kept, step in zip(mixed.stored(data), fresh, strict=True):
        assert (kept.vertex, kept.multiplications) == (step.vertex, step.multiplications)
        assert set(kept.edges) == set(step.edges)
        assert [p[:2] for p in kept.products] == [p[:2] for p in step.products]
        fills = [[p.before is None for p in each.products] for each in (kept, step)]
        assert fills[0] == fills[1]
    shown = fresh[mixed.SHOWN].products
    assert {p.before is None for p in shown} == {True, False}
