"""Which losses of singular factors have a derivative at a matrix, and which one svd gives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from prescribed_matrices import orthonormal, with_singular_values

from adlab.rules import svd, svd_diagnostics
from adlab.rules.singular_values import SVD

pytestmark = pytest.mark.usefixtures("x64")

WEIGHTS = np.random.default_rng(0).normal(size=(6, 6))
TALL = orthonormal(np.random.default_rng(1), 4, 3)
REPEATED = with_singular_values([3, 1, 1], 3, 3)
SINGULAR = with_singular_values([3, 2], 4, 3)


def weighted(matrix):
    return jnp.sum(WEIGHTS[: matrix.shape[0], : matrix.shape[1]].astype(matrix.dtype) * matrix)


# Losses of SVD(u, s, vh).
def nuclear(f):
    return f.s.sum()


def squares(f):
    return jnp.sum(f.s**2)


def largest(f):
    return f.s.max()


def first_entry(f):
    return f.u[0, 0]


def polar(f):
    return weighted(f.u[:, : len(f.s)] @ f.vh[: len(f.s)])


def rebuilt(f):
    return weighted((f.u[:, : len(f.s)] * f.s) @ f.vh[: len(f.s)])


def first_projector(f):
    return weighted(jnp.outer(f.u[:, 0], f.u[:, 0]))


def leading_projector(f):
    return weighted(f.u[:, :2] @ f.u[:, :2].T)


def diagnose(loss, a, **options):
    return svd_diagnostics(lambda *factors: loss(SVD(*factors)), a, **options)


@pytest.mark.parametrize(
    ("loss", "a", "differentiable", "exact", "full_matrices"),
    [
        (nuclear, np.eye(3), True, True, False),
        (nuclear, SINGULAR, False, False, True),
        (squares, np.zeros((4, 3)), True, True, True),
        (largest, np.eye(3), False, False, False),
        (largest, REPEATED, True, True, False),
        (first_entry, np.eye(3), False, False, False),
        (polar, TALL, True, True, True),
        (polar, TALL, True, True, False),
        (polar, SINGULAR, False, False, False),
        (rebuilt, np.eye(3), True, False, False),
        (rebuilt, SINGULAR, True, False, True),
        (first_projector, REPEATED, True, True, False),
        (leading_projector, REPEATED, False, False, False),
        (leading_projector, SINGULAR, True, True, False),
        (leading_projector, SINGULAR, True, True, True),
    ],
)
def test_losses_are_told_apart(loss, a, differentiable, exact, full_matrices):
    found = diagnose(loss, a, full_matrices=full_matrices)
    assert (found.differentiable, found.exact) == (differentiable, exact), str(found)
    words = "exact" if exact else "not through svd" if differentiable else "not differentiable"
    assert words in str(found)


def test_a_loss_whose_slope_depends_on_the_chosen_factor_is_refused():
    """Stationary as u_2 and u_3 turn, but its derivative between u_1 and u_2 isn't."""
    u, v = orthonormal(np.random.default_rng(3), 4, 4), orthonormal(np.random.default_rng(4), 4, 4)
    a, mixed = u * [2.0, 1.0, 1.0, 0.5] @ v.T, np.outer(u[:, 0], u[:, 1])
    found = diagnose(lambda f: (mixed + mixed.T) @ f.u[:, 1] @ f.u[:, 1], a)
    assert found.gauge_residual < 1e-12
    assert not found.differentiable
    both = diagnose(lambda f: jnp.sum((mixed + mixed.T) * (f.u[:, 1:3] @ f.u[:, 1:3].T)), a)
    assert both.exact


@pytest.mark.parametrize("shape", [(4, 2), (2, 4)])
def test_bases_of_null_spaces_are_a_choice_at_full_rank_too(shape):
    a = np.random.default_rng(5).normal(size=shape)
    tall = shape[0] > shape[1]
    null = (lambda f: f.u[:, 2:]) if tall else (lambda f: f.vh[2:].T)
    assert not diagnose(lambda f: null(f)[0, 0] ** 2, a).differentiable
    assert diagnose(lambda f: weighted(null(f) @ null(f).T), a).exact
    assert diagnose(nuclear, a, full_matrices=False).exact


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_smooth_but_sharp_losses_have_no_kink(offset):
    with jax.enable_x64(False):
        a = np.eye(3, dtype=np.float32)
        found = diagnose(lambda f: jnp.sum(jnp.sin(100 * f.s)) + offset, a)
        assert found.exact, str(found)
        assert not diagnose(lambda f: f.s.max() + offset / 100, a).differentiable


def test_gap_clusters_and_residual_are_those_of_the_matrix():
    found = diagnose(leading_projector, with_singular_values([4, 2, 2, 0], 4, 4))
    assert found.gap < 1e-15
    assert found.smallest < 1e-15
    assert [(round(value, 12), count) for value, count in found.clusters] == [(2, 2), (0, 1)]
    assert found.gauge_residual > 0.1
    apart = diagnose(leading_projector, np.diag([4.0, 2.0, 1.0]))
    assert (apart.gap, apart.smallest, apart.clusters) == (0.25, 0.25, ())
    assert apart.differentiable
    assert apart.exact


def test_the_phase_of_complex_factors_is_a_gauge_too():
    rng = np.random.default_rng(2)
    a = rng.normal(size=(3, 3)) + 1j * rng.normal(size=(3, 3))
    assert not diagnose(lambda f: jnp.real(f.u[0, 0]), a).differentiable
    assert diagnose(lambda f: jnp.abs(f.u[0, 0]) ** 2, a).exact
    coinciding = with_singular_values([2, 2, 1], 3, 3, complex_=True)
    assert diagnose(lambda f: jnp.real(weighted(f.u @ f.vh)), coinciding).exact


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.complex64])
def test_single_precision_is_judged_by_its_own_rounding(dtype, wide):
    complex_ = dtype == np.complex64
    with jax.enable_x64(wide):
        a = with_singular_values([3, 1, 1], 3, 3, complex_=complex_).astype(dtype)
        assert diagnose(squares, a).exact
        assert not diagnose(lambda f: f.s[1], a).differentiable


def test_a_loss_may_branch_on_the_values_of_its_factors():
    def branching(f):
        return f.s.sum() if f.s[0] > 2 else f.s.max()

    assert diagnose(branching, 3 * np.eye(3)).exact
    assert not diagnose(branching, np.eye(3)).differentiable


def test_traced_matrices_and_losses_that_are_no_scalars_are_refused():
    with pytest.raises(TypeError, match="must be concrete, got a traced array"):
        jax.jit(lambda a: diagnose(nuclear, a).gap)(np.eye(2))
    with pytest.raises(TypeError, match="scalar"):
        diagnose(lambda f: f.s, np.eye(2))
    with pytest.raises(ValueError, match="finite"):
        diagnose(nuclear, np.full((2, 2), np.nan))


def test_what_is_said_exact_is_exact():
    """The derivative of a low-rank part at a cluster, against that of the matrix itself."""

    def as_projector(a):
        u = svd(a).u
        return weighted(u @ (u.T @ a))

    losses = (lambda a: rebuilt(svd(a)), as_projector)
    inexact, gradient = jax.jit(lambda a: [jax.grad(loss)(a) for loss in losses])(np.eye(3))
    assert not np.allclose(inexact, WEIGHTS[:3, :3])  # as svd_diagnostics says
    np.testing.assert_allclose(gradient, WEIGHTS[:3, :3], atol=1e-14)
