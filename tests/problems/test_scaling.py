"""Multidimensional scaling: gradients in closed form, the closed form itself, bad tables."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adlab.problems import classical_scaling, procrustes, raw_stress, squared_stress

RNG = np.random.default_rng(0)
POINTS = RNG.normal(size=(6, 2))
TABLE = np.linalg.norm(POINTS[:, None] - POINTS[None], axis=-1)
ELSEWHERE = POINTS + 0.3 * RNG.normal(size=POINTS.shape)


@pytest.fixture(autouse=True)
def _in_float64():
    with jax.enable_x64(True):
        yield


def known_gradient(points, table, raw):
    """Sum 8 R_ij (W_i - W_j), or 4 (1 - D_ij / |W_i - W_j|)(W_i - W_j), term by term."""
    found = np.zeros_like(points)
    for i in range(len(points)):
        for j in range(len(points)):
            if i != j:
                apart = points[i] - points[j]
                length = np.linalg.norm(apart)
                weight = (
                    4 * (1 - table[i, j] / length) if raw else 8 * (length**2 - table[i, j] ** 2)
                )
                found[i] += weight * apart
    return found


def test_values_are_sums_over_ordered_pairs():
    points = np.array([[0.0], [1.0], [3.0]])
    table = np.array([[0.0, 2, 3], [2, 0, 1], [3, 1, 0]])
    # |W_i - W_j|: 1, 3, 2; squared stress 2 ((1-4)^2 + (9-9)^2 + (4-1)^2), raw 2 (1 + 0 + 1).
    assert squared_stress(points, table) == 36
    assert raw_stress(points, table) == 4


@pytest.mark.parametrize(("stress", "raw"), [(squared_stress, False), (raw_stress, True)])
def test_gradients_are_those_of_the_closed_form(stress, raw):
    found = jax.grad(stress)(jnp.asarray(ELSEWHERE), TABLE)
    np.testing.assert_allclose(found, known_gradient(ELSEWHERE, TABLE, raw), rtol=1e-12)
    assert stress(POINTS, TABLE) < 1e-25
    assert stress(POINTS @ [[0, 1], [-1, 0]] + 5, TABLE) < 1e-25  # turned and shifted


def test_raw_stress_has_a_derivative_where_points_meet():
    found = jax.grad(raw_stress)(jnp.zeros((6, 2)), TABLE)
    np.testing.assert_array_equal(found, 0)


def test_classical_scaling_gives_principal_components_back():
    points, spectrum = classical_scaling(TABLE, dim=2)
    left, singular, _ = np.linalg.svd(POINTS - POINTS.mean(axis=0), full_matrices=False)
    np.testing.assert_allclose(spectrum, [*singular**2, 0, 0, 0, 0], atol=1e-13)
    np.testing.assert_allclose(np.abs(points), np.abs(left * singular), atol=1e-13)
    assert squared_stress(points, TABLE) < 1e-25


def test_more_dimensions_than_the_points_have_are_zero_columns():
    points, spectrum = classical_scaling(TABLE, dim=5)
    np.testing.assert_allclose(points[:, 2:], 0, atol=1e-6)  # square roots of rounding errors
    bent = np.sqrt(TABLE + 0.5 * (TABLE > 0))
    table = np.array([[0, 1, 1, 2.5], [1, 0, 1, 1], [1, 1, 0, 1], [2.5, 1, 1, 0]])  # no triangle
    points, spectrum = classical_scaling(table, dim=3)
    assert spectrum[-1] < -0.1
    np.testing.assert_array_equal(points[:, spectrum[:3] <= 0], 0)
    assert classical_scaling(bent, dim=2)[0].shape == (6, 2)


def test_procrustes_undoes_shift_rotation_and_reflection_but_no_stretching():
    angle = 0.7
    turn = np.array([[np.cos(angle), np.sin(angle)], [np.sin(angle), -np.cos(angle)]])
    laid = procrustes(POINTS @ turn + [3.0, -1.0], POINTS)
    np.testing.assert_allclose(laid.points, POINTS, atol=1e-14)
    assert laid.error < 1e-14
    centred = POINTS - POINTS.mean(axis=0)
    assert procrustes(1.1 * centred, centred).error == pytest.approx(0.1, rel=1e-12)


def changed(i, j, value, both=True):
    table = TABLE.copy()
    table[i, j] = value
    if both:
        table[j, i] = value
    return table


BAD_TABLES = [
    (TABLE[:4], r"distances must be a square table .* got shape \(4, 6\)"),
    (TABLE[0], r"distances must be a square table .* got shape \(6,\)"),
    (np.zeros((1, 1)), "at least 2 x 2"),
    (changed(1, 2, -1.0), r"distances must be >= 0, got -1 at \[1, 2\]"),
    (changed(2, 2, 0.5), r"distances must be zero on the diagonal, got 0.5 at \[2, 2\]"),
    (changed(0, 3, 9.0, both=False), r"must be symmetric, got 9 at \[0, 3\] and .*\[3, 0\].*mean"),
    (changed(1, 4, np.nan), r"distances must be finite, got nan at \[1, 4\]"),
    (changed(1, 4, np.inf), r"distances must be finite, got inf at \[1, 4\]"),
]


@pytest.mark.parametrize(("table", "message"), BAD_TABLES)
@pytest.mark.parametrize("take", ["squared_stress", "raw_stress", "classical_scaling"])
def test_what_is_no_table_of_distances_is_refused(table, message, take):
    calls = {
        "squared_stress": lambda: squared_stress(POINTS, table),
        "raw_stress": lambda: raw_stress(POINTS, table),
        "classical_scaling": lambda: classical_scaling(table, dim=1),
    }
    with pytest.raises(ValueError, match=message):
        calls[take]()


def test_more_dimensions_than_points_span_are_refused():
    with pytest.raises(ValueError, match=r"dim must be <= N - 1 = 5, .*got 6"):
        classical_scaling(TABLE, dim=6)
    with pytest.raises(ValueError, match="dim must be >= 1, got 0"):
        classical_scaling(TABLE, dim=0)
    with pytest.raises(ValueError, match=r"points must be <= N - 1 = 5, .*got 6"):
        squared_stress(np.zeros((6, 6)), TABLE)
    with pytest.raises(ValueError, match=r"points must be of shape \(6, d\)"):
        squared_stress(np.zeros((5, 2)), TABLE)


def test_shapes_are_checked_within_a_trace_and_values_let_pass():
    assert jnp.isnan(jax.jit(squared_stress)(POINTS, changed(1, 4, np.nan)))
    with pytest.raises(ValueError, match="square table"):
        jax.jit(squared_stress)(POINTS, TABLE[:4])


@pytest.mark.parametrize(
    ("points", "target", "message"),
    [
        (POINTS, POINTS[:3], "one shape"),
        (POINTS, np.full((6, 2), np.nan), "finite"),
        (POINTS, np.ones((6, 2)), "one place"),
    ],
)
def test_what_cannot_be_laid_over_is_refused(points, target, message):
    with pytest.raises(ValueError, match=message):
        procrustes(points, target)


def test_whole_numbers_do_not_cut_the_distances():
    corners, lengths = [[0, 0], [1, 0], [0, 1]], 1.5 * (1 - np.eye(3))
    expected = squared_stress(np.array(corners, float), lengths)
    assert squared_stress(corners, lengths) == pytest.approx(float(expected))
    assert expected == pytest.approx(2 * (2 * 1.25**2 + 0.25**2))
    with pytest.raises(TypeError, match="points must hold real numbers, got complex"):
        raw_stress(1j * np.array(corners), lengths)
