"""Matrices with prescribed singular values, and derivatives along curves by high-order differences.

All in NumPy, at float64: no expected value here comes from automatic differentiation.
"""

import jax
import numpy as np


def orthonormal(rng, rows, columns, complex_=False):
    a = rng.normal(size=(rows, columns))
    if complex_:
        a = a + 1j * rng.normal(size=(rows, columns))
    return np.linalg.qr(a)[0]


def with_singular_values(s, rows, columns, seed=0, complex_=False):
    """U diag(s) V^H with random factors; s may be shorter than min(rows, columns)."""
    rng = np.random.default_rng(seed)
    u = orthonormal(rng, rows, len(s), complex_)
    v = orthonormal(rng, columns, len(s), complex_)
    return (u * np.asarray(s, float)) @ v.conj().T


def derivative(fun, h=2e-3):
    """d fun(t) / dt at 0 from eight points: the error is of order h^8 |f^(9)|."""
    weights = {1: 4 / 5, 2: -1 / 5, 3: 4 / 105, 4: -1 / 280}
    return sum(w * (fun(k * h) - fun(-k * h)) for k, w in weights.items()) / h


def constant_rank_curve(rank, rows, columns, seed=0):
    """Return t -> B(t) C(t) of that rank, and its derivative at 0."""
    rng = np.random.default_rng(seed)
    b, db = rng.normal(size=(2, rows, rank))
    c, dc = rng.normal(size=(2, rank, columns))
    return (lambda t: (b + t * db) @ (c + t * dc)), db @ c + b @ dc


def two_orders(fun):
    """Return a function of t that gives both first and all four second derivatives of `fun` there.

    Those of forward and reverse mode, and of each over each.
    """

    def forward(f):
        return lambda t: jax.jvp(f, (t,), (1.0,))[1]

    def both(t):
        firsts = [forward(fun), jax.grad(fun)]
        seconds = [outer(first) for first in firsts for outer in (forward, jax.grad)]
        return [first(t) for first in firsts], [second(t) for second in seconds]

    return both


def assert_two_orders(found, value):
    """Compare derivatives of both orders with those of a NumPy function by differences."""
    firsts, seconds = found
    slope = derivative(value)
    bend = derivative(lambda t: derivative(lambda h: value(t + h), 1e-2), 1e-2)
    np.testing.assert_allclose(firsts, slope, rtol=1e-8)
    np.testing.assert_allclose(seconds, bend, rtol=1e-6)  # h^8 and eps/h^2 of the inner ones
