"""Values that coincide up to round-off: what is exact, and what is NaN rather than wrong."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from prescribed_matrices import derivative, orthonormal, with_singular_values

from adlab.rules import eigh, eigh_diagnostics, pinv, svd
from adlab.rules.eigenvalues import Eigh, factor_tangents

pytestmark = pytest.mark.usefixtures("x64")

SEEDS = 200
W = np.random.default_rng(0).normal(size=(3, 3))
Q = orthonormal(np.random.default_rng(1), 3, 3)
PAIR = Q * [2.0, 2.0, 1.0] @ Q.T
APART = Q * [2.0, 1.5, 1.0] @ Q.T
SPECTRA = {
    3: [[2, 2, 1], [2, 2, 0], [0, 2, 2], [1, 1, 1]],
    4: [[2, 2, 1, 0], [1, 1, 1, 2]],
}


def projector_slope(function, a, mask, m):
    """<m, P> for the projector on the vectors that a mask of 0 and 1 selects."""
    vectors = eigh(a).eigenvectors if function == "eigh" else svd(a).u
    kept = vectors * mask.astype(a.dtype)
    return jnp.real(jnp.sum(jnp.conj(m) * (kept @ jnp.conj(vectors).T)))


def adjoint(a):
    return np.conj(np.swapaxes(a, -1, -2))


def known_gradient(function, q, p, s, group, m):
    """The gradient of <m, P> at q diag(s) p^H, from first-order perturbations in exact factors."""
    seen, total = adjoint(q) @ m @ q, np.zeros_like(m)
    for i in group:
        for j in set(range(len(s))) - set(group):
            if function == "eigh":
                total[..., j, i] += seen[..., j, i] / (s[i] - s[j])
                total[..., i, j] += seen[..., i, j] / (s[i] - s[j])
            else:
                between = (s[i] - s[j]) * (s[i] + s[j])
                total[..., j, i] += 2 * seen[..., j, i] * s[i] / between
                total[..., i, j] += 2 * seen[..., i, j] * s[j] / between
    return q @ total @ adjoint(p)


@functools.cache
def matrices_with_copies(function, size, complex_):
    """200 matrices of each spectrum, the place of the copies, m, d and the gradient of <m, P>."""
    rng, given = np.random.default_rng(0), []

    def normal():
        parts = rng.normal(size=(2, SEEDS, size, size))
        return parts[0] + 1j * parts[1] if complex_ else parts[0]

    for s in SPECTRA[size]:
        copies = np.equal(s, max(s, key=s.count))
        order = np.argsort(s) if function == "eigh" else np.argsort(s)[::-1]
        q = np.linalg.qr(normal())[0]
        p = q if function == "eigh" else np.linalg.qr(normal())[0]
        m, d = normal(), normal()
        m = m + adjoint(m)
        d = d + adjoint(d) if function == "eigh" else d
        exact = known_gradient(function, q, p, s, np.flatnonzero(copies), m)
        mask = np.tile(copies[order], (SEEDS, 1))
        given.append(((q * np.asarray(s, float)) @ adjoint(p), mask, m, d, exact))
    return [np.concatenate(part) for part in zip(*given, strict=True)]


@pytest.mark.parametrize(
    ("function", "size", "dtype"),
    [
        *((f, 3, t) for f in ("eigh", "svd") for t in ("f4", "f8", "c8", "c16")),
        ("eigh", 4, "f8"),
        ("svd", 4, "c16"),
    ],
)
def test_copies_are_found_in_every_matrix(function, size, dtype):
    """Computed copies differ by more than n eps in a fifth of them."""
    complex_ = np.dtype(dtype).kind == "c"
    a, mask, m, d, exact = matrices_with_copies(function, size, complex_)

    @jax.jit
    @jax.vmap
    def run(a, mask, m, d):
        def loss(a):
            return projector_slope(function, a, mask, m)

        return jax.grad(loss)(a), jax.jvp(loss, (a,), (d,))[1]

    given = (a.astype(dtype), mask, m.astype(dtype), d.astype(dtype))
    pulled, pushed = map(np.asarray, run(*given))
    bound = 1e-6 if dtype in ("f8", "c16") else 1e-3  # wrong ones are off by 0.1 and more
    assert np.sum(~(np.abs(np.conj(pulled) - exact).max((1, 2)) < bound)) == 0
    slopes = np.sum(np.real(np.conj(exact) * d), axis=(1, 2))
    assert np.sum(~(np.abs(pushed - slopes) < bound)) == 0


def test_vectors_turn_by_an_exactly_antihermitian_matrix():
    """Even where rounding makes v^H da v less than Hermitian, and the gap magnifies that."""
    w = np.array([1.0, 2.0, 2.0 + 1e-11])
    da = np.random.default_rng(7).normal(size=(2, 3, 3)) * [[[1.0]], [[1e-15]]]
    c = da[0] + da[0].T + da[1] + 0j
    eye = np.eye(3)
    turn = jax.jit(factor_tangents)(c, w, eye + 0j, eye.astype(bool))[1]
    np.testing.assert_array_equal(turn, -np.conj(turn).T)


def rebuilding(f):
    """Losses that see how a cluster splits: the matrix and its functions from eigenvectors."""
    w, v = f

    def of(values):
        return jnp.sum(W * (v * values @ v.T))

    positive = jnp.maximum(w - 1.5, 0)
    return jnp.stack(
        [of(w), of(jnp.exp(w)), of(1 / w), of(jnp.sqrt(w)), of(positive), w[2] * of(w)]
    )


def rebuilding_singular(f):
    return jnp.stack([
        jnp.sum(W * (f.u * f.s @ f.vh)),
        jnp.sum(W * (f.u[:, :2] * f.s[:2] @ f.vh[:2])),
        jnp.sum(W * (f.u * f.s @ f.u.T)),
        jnp.sum(W * (f.vh.T / f.s @ f.u.T)),
    ])  # fmt: skip


def eigen_subspaces(f, w, v):
    """Losses that see clusters as wholes: scalar functions times projectors, at the pair on top."""
    pair = v[:, 1:] @ v[:, 1:].T
    other = v[:, :1] @ v[:, :1].T
    seen, left = f.sum(W * pair), f.sum(W * other)
    return f.stack([
        seen,
        seen * f.exp(w).sum(),
        w[1:].mean() * seen + w[0] * left,
        (w[1:] ** 2).sum() * left - seen**2,
        f.log(w).sum() + f.sin(seen),
        f.exp(w[1:] - 3).sum() ** 2 * seen,
        ((w - 2) ** 2).sum() + seen,  # the pair's cotangents are mere round-off
        f.sum((W @ pair @ W.T) * other) + (w**3).sum(),
        f.exp(30 * (w - 2)).sum() * seen,  # steep: copies have cotangents 1e-13 apart
        f.sum(W * (PAIR @ pair)) / w.sum(),
    ])  # fmt: skip


def singular_subspaces(f, u, s, vh):
    left, right = u[:, :2] @ u[:, :2].T, vh[:2].T @ vh[:2]
    polar, seen = u[:, :2] @ vh[:2], f.sum(W * left)
    return f.stack([
        seen,
        f.sum(W * right) * s.sum(),
        s[:2].mean() * f.sum(W * polar),
        f.sum(W * (u @ vh)) + f.exp(s).sum(),
        f.log(s).sum() * seen + s[2] * f.sum(W * (u[:, 2:] @ vh[2:])),
        ((s - 2) ** 2).sum() + f.sum(W * polar),
        f.sum(W * (left @ PAIR @ right)),
        s[:2].sum() ** 2 - s[2] * seen,
    ])  # fmt: skip


@pytest.mark.parametrize(
    ("function", "rebuild", "subspaces"),
    [(eigh, rebuilding, eigen_subspaces), (svd, rebuilding_singular, singular_subspaces)],
)
def test_losses_of_whole_clusters_are_exact_and_those_that_split_them_not_a_number(
    function, rebuild, subspaces
):
    """Reverse mode looks at each loss by itself; differences come from NumPy."""
    decompose = np.linalg.eigh if function is eigh else np.linalg.svd

    @jax.jit
    @jax.vmap
    def run(a):
        gradients = jax.jacrev(lambda a: rebuild(function(a)))(a)
        return gradients, jax.jacrev(lambda a: subspaces(jnp, *function(a)))(a)

    matrices = np.stack([PAIR, APART, np.eye(3)])
    split, whole = map(np.asarray, run(matrices))
    assert np.all(np.isnan(split[0]))
    assert np.all(np.isfinite(split[1]))  # its neighbour in the batch is not spoilt
    d = np.random.default_rng(2).normal(size=(3, 3))
    d = d + d.T if function is eigh else d
    expected = derivative(lambda t: subspaces(np, *decompose(PAIR + t * d)), 5e-4)
    found = np.sum(whole[0] * d, axis=(1, 2))
    np.testing.assert_allclose(found, expected, rtol=1e-7)  # differences of slopes up to 30
    if function is eigh:
        np.testing.assert_allclose(split[1, 0], (W + W.T) / 2, atol=1e-13)
        assert np.all(np.isnan(split[2, :4]))
    else:
        np.testing.assert_allclose(split[1, 0], W, atol=1e-13)
        assert np.all(np.isnan(split[2]))


def test_values_alone_keep_their_subgradient():
    """A vector that isn't seen has no cotangent; terms in separate calls don't meet."""
    x = np.stack([PAIR, 2 * np.eye(3), np.zeros((3, 3))])
    norms = jax.jit(jax.vmap(jax.grad(lambda a: eigh(a).eigenvalues[-1] + 2 * svd(a).s[0])))(x)
    np.testing.assert_allclose(np.trace(norms, axis1=1, axis2=2), 3, atol=1e-13)

    def apart(a):
        u = svd(a).u[:, :2]
        return svd(a).s[0] + jnp.sum(W * (u @ u.T))

    def together(a):
        u, s, _ = svd(a)
        return s[0] + jnp.sum(W * (u[:, :2] @ u[:, :2].T))

    def rebuilt(a):
        w, v = eigh(a)
        return jnp.sum(W * (v * w @ v.T))

    losses = (apart, together, rebuilt)
    run = jax.jit(lambda a: [jax.grad(loss)(a) for loss in losses])
    found = run(PAIR)
    assert np.all(np.isfinite(found[0]))
    assert np.all(np.isnan(found[1]))
    hidden = run(Q * [2.0, 0.0, 0.0] @ Q.T)[2]  # v diag(w) hides the cotangents of v at w = 0
    assert np.all(np.isnan(hidden))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
def test_single_vectors_of_a_cluster_have_no_gradient_and_its_projector_has(dtype):
    """Cotangents that see vectors turn; those of a projector on <W, P> may nearly cancel."""
    rng = np.random.default_rng(5)
    parts = rng.normal(size=(2, 3, 3))
    q = np.linalg.qr(parts[0] + 1j * parts[1] if dtype is np.complex128 else parts[0])[0]
    spectra = np.array([[2.0, 2, 1], [2, 1.5, 1], [0, 0, 1], [0, 0.5, 1]])
    a = (q * spectra[:, None, :] @ adjoint(q)).astype(dtype)
    w = (parts[1] @ q).astype(dtype)
    bent = (w - adjoint(w) + 1e-3 * (w + adjoint(w))).astype(dtype)

    def squares(vectors):
        return jnp.sum(jnp.abs(w[:1] @ vectors) ** 2)

    def projector(vectors):
        return jnp.real(jnp.sum(bent * (vectors @ jnp.conj(vectors).T)))

    def gradients(a):
        top, low = slice(1, 3), slice(0, 2)  # the cluster at 2, and that at 0, ascending
        return {
            "eigenvectors": jax.grad(lambda a: squares(eigh(a).eigenvectors[:, 1:2]))(a),
            "left": jax.grad(lambda a: squares(svd(a).u[:, 1:2]))(a),
            "right": jax.grad(lambda a: squares(jnp.conj(svd(a).vh).T[:, 1:2]))(a),
            "top": jax.grad(lambda a: projector(eigh(a).eigenvectors[:, top]))(a),
            "low": jax.grad(lambda a: projector(eigh(a).eigenvectors[:, low]))(a),
            "first": jax.grad(lambda a: projector(svd(a).u[:, :2]))(a),
            "null": jax.grad(lambda a: projector(svd(a).u[:, 1:]))(a),
        }

    found = jax.device_get(jax.jit(jax.vmap(gradients))(a))
    finite = {name: np.isfinite(g).all(axis=(1, 2)).tolist() for name, g in found.items()}
    for name in ("eigenvectors", "left", "right"):
        assert finite[name] == [False, True, False, True], name
    assert finite["top"][:2] == [True, True]
    assert finite["first"][:2] == [True, True]
    assert finite["low"][2:] == [True, True]
    assert finite["null"][2:] == [True, True]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_losses_that_are_stationary_in_a_cluster_keep_their_gradient(dtype):
    """A Rayleigh quotient over the whole cluster: the cotangents of its vectors are round-off."""
    q = orthonormal(np.random.default_rng(3), 5, 5)
    a = (q * np.array([1, 2, 2, 2, 3.0]) @ q.T).astype(dtype)

    def quotient(a):
        v = eigh(a).eigenvectors[:, 1:4]
        return jnp.trace(v.T @ a @ v) / jnp.trace(v.T @ v)

    expected = q[:, 1:4] @ q[:, 1:4].T / 3
    off = 1e-5 if dtype is np.float32 else 1e-13
    np.testing.assert_allclose(jax.jit(jax.grad(quotient))(a), expected, atol=off)


@pytest.mark.parametrize("full_matrices", [False, True])
def test_values_of_a_null_space_with_a_choice_of_bases_are_a_kink(full_matrices):
    """u diag(s) vh at rank two of (4, 3): s_3 = 0 hides the cotangents of its vectors."""
    a, w = with_singular_values([3, 2], 4, 3), np.random.default_rng(3).normal(size=(4, 3))

    @jax.jit
    def run(a):
        def loss(a, power):
            u, s, vh = svd(a, full_matrices=full_matrices)
            return jnp.sum(w * (u[:, :3] * s**power @ vh[:3]))

        nuclear = jax.grad(lambda a: jnp.sum(svd(a, full_matrices=full_matrices).s))(a)
        return jax.grad(loss)(a, 1), jax.grad(loss)(a + jnp.eye(4, 3), 1), nuclear

    rebuilt, regular, nuclear = run(a)
    assert np.all(np.isnan(rebuilt))
    np.testing.assert_allclose(regular, w, atol=1e-13)
    u, _, vh = np.linalg.svd(a, full_matrices=False)
    np.testing.assert_allclose((nuclear @ vh[:2].T), u[:, :2], atol=1e-13)


def test_no_second_derivative_at_a_cluster_is_a_number():
    """The Hessian of sum(w^2) at 2I has 1 between (0, 1) and (1, 0), which factors don't hold."""
    functions = (eigh, svd)
    points = np.stack([2 * np.eye(2), np.diag([2.0, 1.0]), np.zeros((2, 2)), np.diag([2.0, 0])])

    def squares(function):
        return lambda a: jnp.sum(function(a)[functions.index(function)] ** 2)

    pairs = [(f, g) for f in (jax.jacfwd, jax.jacrev) for g in (jax.jacfwd, jax.jacrev)]

    @jax.jit
    def run(a):
        return [
            [outer(inner(squares(function)))(a) for outer, inner in pairs] for function in functions
        ]

    found = np.moveaxis([run(a) for a in points], 0, 2)  # (functions, compositions, points, ...)
    assert np.all(np.isnan(found[:, :, [0, 2]]))
    unit = 2 * np.eye(4).reshape(2, 2, 2, 2)
    symmetric = (unit + unit.transpose(0, 1, 3, 2)) / 2
    for composition in range(4):
        np.testing.assert_allclose(found[0, composition, 1], symmetric, atol=1e-12)
        for point in (1, 3):  # one singular value 0 of a real square matrix leaves no choice
            np.testing.assert_allclose(found[1, composition, point], unit, atol=1e-12)


def test_second_derivatives_of_wide_and_complex_matrices_of_low_rank_are_not_numbers():
    wide, single = with_singular_values([2], 2, 3), with_singular_values([2], 2, 2, complex_=True)
    for a in (wide, single):

        def along(t, a=a):
            return jax.grad(lambda t: jnp.sum(svd(a + t * a, full_matrices=False).s ** 2))(t)

        assert np.isnan(jax.jit(jax.grad(along))(0.0))


def test_loops_checkpoints_and_third_derivatives_pass_through():
    def loss(a):
        w, v = eigh(a)
        return jnp.sum(W * (v * jnp.exp(w) @ v.T))

    @jax.jit
    def run(a):
        def body(a, _):
            return a - 0.01 * jax.grad(loss)(a), None

        def descended(a):
            return jnp.sum(jax.lax.scan(jax.checkpoint(body), a, None, length=3)[0] ** 2)

        def bent(t):
            return jax.grad(jax.grad(lambda t: loss(a + t * jnp.asarray(W + W.T))))(t)

        return jax.grad(descended)(a), jax.jvp(bent, (0.0,), (1.0,))

    spoilt, _ = run(PAIR)
    assert np.all(np.isnan(spoilt))
    gradient, (second, third) = run(APART)

    def value(t):
        w, v = np.linalg.eigh(APART + t * (W + W.T))
        return np.sum(W * (v * np.exp(w) @ v.T))

    def slope(fun):
        return lambda t: derivative(lambda h: fun(t + h), 2e-2)

    scale = abs(slope(slope(value))(0.0))
    np.testing.assert_allclose(second, slope(slope(value))(0.0), atol=1e-7 * scale)
    np.testing.assert_allclose(third, slope(slope(slope(value)))(0.0), atol=1e-4 * scale)
    assert np.all(np.isfinite(gradient))


def test_what_reverse_and_forward_mode_cannot_see_the_diagnostics_do():
    """At the identity a loss with equal diagonals hands over what <W, v v^T> would."""
    hollow = 1 - np.eye(3)

    def loss(w, v):
        return jnp.sum(hollow * (v * w @ v.T))

    gradient = jax.jit(jax.grad(lambda a: loss(*eigh(a))))(np.eye(3))
    np.testing.assert_array_equal(gradient, 0)
    found = eigh_diagnostics(loss, np.eye(3))
    assert found.differentiable
    assert not found.exact
    pushed = jax.jit(lambda d: jax.jvp(lambda a: loss(*eigh(a)), (jnp.eye(3),), (d,))[1])
    assert pushed(hollow) == 0  # right is 6


def diagnose(loss, a):
    return eigh_diagnostics(lambda *factors: loss(Eigh(*factors)), a)


def weighted(matrix):
    return jnp.real(jnp.sum(W.astype(matrix.dtype) * matrix))


@pytest.mark.parametrize(
    ("loss", "a", "differentiable", "exact"),
    [
        (lambda f: f[0].sum(), np.eye(3), True, True),
        (lambda f: f[0].max(), np.eye(3), False, False),
        (lambda f: f[0].max(), PAIR, False, False),
        (lambda f: f[0].min(), PAIR, True, True),
        (lambda f: weighted(f[1] * f[0] @ f[1].T), PAIR, True, False),
        (lambda f: weighted(f[1] * f[0] @ f[1].T), APART, True, True),
        (lambda f: weighted(f[1][:, 1:] @ f[1][:, 1:].T), PAIR, True, True),
        (lambda f: weighted(f[1][:, :2] @ f[1][:, :2].T), PAIR, False, False),
        (lambda f: f[1][0, 1] ** 2, PAIR, False, False),
        (lambda f: f[1][0, 0] ** 2, PAIR, True, True),
    ],
)
def test_losses_of_eigenvectors_are_told_apart(loss, a, differentiable, exact):
    found = diagnose(loss, a)
    assert (found.differentiable, found.exact) == (differentiable, exact), str(found)
    words = "exact through eigh" if exact else "not through eigh" if differentiable else "not diff"
    assert words in str(found)


def test_eigh_diagnostics_names_clusters_and_refuses_what_it_cannot_take():
    skew = W - W.T
    found = diagnose(lambda f: f[0].sum(), Q * [0.0, 0.0, -4.0] @ Q.T + skew)
    assert (found.clusters, found.rule) == (((0.0, 2),), "eigh")
    assert found.smallest < 1e-15
    assert diagnose(lambda f: f[0][0] ** 2, np.diag([4.0, 2.0, 1.0])).gap == 0.25
    q = orthonormal(np.random.default_rng(4), 3, 3, complex_=True)
    pair = q * [1.0, 2, 2] @ q.conj().T
    assert diagnose(lambda f: weighted(f[1][:, 1:] @ jnp.conj(f[1][:, 1:]).T), pair).exact
    # LAPACK makes that entry real, so that turning its phase seems to change nothing.
    assert not diagnose(lambda f: jnp.real(f[1][0, 0]), pair).differentiable
    with pytest.raises(TypeError, match="eigh_diagnostics: a must be concrete, got a traced array"):
        jax.jit(lambda a: diagnose(lambda f: f[0].sum(), a).gap)(jnp.eye(2))
    with pytest.raises(ValueError, match="eigh_diagnostics: a must be square"):
        diagnose(lambda f: f[0].sum(), np.ones((2, 3)))


def test_ranks_of_products_are_found_at_every_small_size():
    """Round-off leaves 2 eps of the largest singular value even in 2 x 2 products of rank one."""

    rng = np.random.default_rng(5)
    for rows, columns, rank in ((2, 2, 1), (3, 3, 2), (2, 3, 1)):
        b, c = rng.normal(size=(500, rows, rank)), rng.normal(size=(500, rank, columns))
        sizes = np.abs(jax.jit(pinv)(b @ c)).max((1, 2))
        expected = np.abs(np.linalg.pinv(c) @ np.linalg.pinv(b)).max((1, 2))
        np.testing.assert_allclose(sizes, expected, rtol=1e-6)  # condition numbers up to 1e5
    ill = with_singular_values([1.0, 1e-14], 2, 2)  # full rank: 45 eps
    assert np.linalg.norm(pinv(ill)) > 1e13


HIDDEN = {  # f, and a spectrum whose other values have far larger cotangents than the pair of ones
    "inverse": (lambda w: 1 / w, [1, 1, 0.01, 0.02]),
    "inverse, nearly singular": (lambda w: 1 / w, [1, 1, 1e-6, 2e-6]),
    "ridge": (lambda w: 1 / (w + 0.01), [1, 1, 0, 0.5]),
    "exponential": (jnp.exp, [1, 1, 8, 9]),
}


@pytest.mark.parametrize("name", HIDDEN)
def test_large_cotangents_elsewhere_hide_no_split_of_a_cluster(name):
    f, spectrum = HIDDEN[name]
    weights = np.arange(16, dtype=np.float32).reshape(4, 4)

    def rebuilt(a):
        w, v = eigh(a)
        return jnp.sum(weights * ((v * f(w)) @ v.T))

    assert np.isnan(jax.jit(jax.grad(rebuilt))(np.diag(np.float32(spectrum)))).all()


def test_whole_clusters_raise_no_alarm_beside_large_cotangents():
    """The projector on the pair, beside steep functions of all values, in closed form."""
    rng = np.random.default_rng(0)
    q = np.linalg.qr(rng.normal(size=(40, 4, 4)))[0]
    values, weights = np.array([0.01, 1, 1, 3]), rng.normal(size=(40, 4, 4))
    a = np.einsum("sij,j,skj->sik", q, values, q).astype(np.float32)

    def loss(a, weights):
        w, v = eigh(a)
        return jnp.sum(weights * (v[:, 1:3] @ v[:, 1:3].T)) + jnp.sum(w**3 + jnp.exp(w))

    found = jax.jit(jax.vmap(jax.grad(loss)))(a, weights.astype(np.float32))
    inside = np.array([0, 1, 1, 0])
    gaps = values[None, :] - values[:, None]
    rates = (inside[None, :] - inside[:, None]) / np.where(gaps == 0, 1, gaps)
    turned = np.einsum("sji,sjk,skl->sil", q, (weights + weights.swapaxes(1, 2)) / 2, q)
    inner = turned * rates + np.diag(3 * values**2 + np.exp(values))
    exact = np.einsum("sij,sjk,slk->sil", q, inner, q)
    np.testing.assert_allclose(found, exact, atol=2e-4)  # float32, slopes of 47 and 1/gaps of 1
