"""Functions whose Jacobians have zeros, for each kind of operation: with the shape of x."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

MASK = np.array([[1, 0, 1], [0, 0, 1]], np.float32)
BAND = np.eye(5, dtype=np.float32) - 2 * np.eye(5, k=1, dtype=np.float32)
TAPS = np.array([1.0, 0.0, -1.0], np.float32).reshape(1, 1, 3)
ORDER = np.array([2, 0, 2, 1])


@jax.custom_jvp
def straight_through(x):
    return jnp.round(x)


straight_through.defjvp(lambda x, t: (straight_through(*x), t[0]))


@jax.custom_vjp
def reversed_rule(x):
    return jnp.round(x)


reversed_rule.defvjp(lambda x: (jnp.round(x), None), lambda _, s: (jnp.flip(s),))


def conv(x, kernel, **options):
    options = {"window_strides": (1,) * (x.ndim - 2), "padding": "VALID"} | options
    return lax.conv_general_dilated(x, kernel, **options)


def batched_lu(x):
    a = x.reshape(2, 2, 2) + 3 * jnp.eye(2)
    return lax.linalg.lu(a)[0]


def while_doubling(x):
    return lax.while_loop(
        lambda c: c[0] < 3, lambda c: (c[0] + 1, c[1].at[c[0]].add(c[1][0])), (0, x)
    )[1]


def until_small(x):
    """Hand each number on to its right until their sum, of unknown size, is small."""
    shift = lambda x: x.at[1:].add(0.1 * x[:-1] ** 2) * 0.5  # noqa: E731
    return lax.while_loop(lambda x: jnp.sum(lax.stop_gradient(x)) > 1e-2, shift, x)


def long_scan(x):
    """Carry what no value is known of, over rows."""
    return lax.scan(lambda c, r: (c * r[0] + r[1], c), x[0, 0], x)[1]


def delayed(x):
    return lax.scan(lambda c, r: (r, c * r), x[0], x, reverse=True)


def counted(x):
    return lax.fori_loop(0, 3, lambda i, y: y.at[i].multiply(x[i + 1]), x)


def partly_known(x):
    """Take from each row an element that data choose."""
    return x[jnp.arange(2), jnp.argmax(x, axis=1)]


def dynamic(x):
    start = jnp.argmax(x[0])
    return lax.dynamic_slice(x, (1, start), (1, 2))


def updated(x):
    start = jnp.argmax(x[0])
    return lax.dynamic_update_slice(x, x[:1, :2] ** 2, (1, start))


def scattered(x):
    return jnp.zeros((2, 3)).at[:, jnp.argmax(x[0])].add(x[:, 0])


def summed_into(x):
    return jax.ops.segment_sum(x, jnp.array([0, 2, 0, 1, 2]), 3)


def branches(x):
    return lax.cond(x[0] > 0, lambda x: x, lambda x: x[::-1], x)


def known_branch(x):
    return lax.switch(jnp.int32(1), [lambda x: x, lambda x: x[::-1] ** 2], x)


def dot_batched(x):
    a = x.reshape(2, 3, 2)
    return jnp.einsum("bij,bjk->bik", a, jnp.sin(a[:, :2]))


def windows(x):
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 2), (1, 1), ((0, 0), (1, 0)))


def sum_windows(x):
    return lax.reduce_window(x, 0.0, lax.add, (2, 2), (1, 2), "VALID", (1, 2), (1, 1))


def pooled_gradient(x):
    return jax.grad(lambda x: jnp.sum(windows(x) ** 3))(x)


def tridiagonal_systems(x):
    d = 4 + x[0]
    return lax.linalg.tridiagonal_solve(0 * d, d, 0 * d, x[1][:, None])


def triangular(x):
    a = jnp.eye(3) + 0.1
    return lax.linalg.triangular_solve(a, x.T, left_side=True, lower=True)


def masked_draw(x):
    return jnp.float32(jax.random.bernoulli(jax.random.key(3), 0.5, x.shape)) * x


def assembled(x):
    """A matrix of numbers of x in known places, times numbers of x."""
    a = jnp.zeros((4, 4)).at[np.arange(3), np.arange(1, 4)].add(x[:3])
    return (a + jnp.diag(x)) @ x


def masked_in_part(x):
    mask = jnp.concatenate([x[:2] > 0.7, jnp.array([True, False])])
    return jnp.where(mask, 1.0, 0.0) * x[::-1]


EXACT = {
    **{
        name: (getattr(lax, name), (2, 3))
        for name in ("sin", "cos", "tan", "tanh", "exp", "exp2", "log", "log1p", "expm1", "sqrt")
    },
    **{
        name: (getattr(lax, name), (2, 3))
        for name in ("rsqrt", "cbrt", "neg", "abs", "square", "logistic", "erf", "erfc", "erf_inv")
    },
    **{
        name: (getattr(lax, name), (2, 3))
        for name in ("asin", "acos", "atan", "asinh", "atanh", "sinh", "cosh", "lgamma", "digamma")
    },
    **{name: (getattr(lax, name), (2, 3)) for name in ("bessel_i0e", "bessel_i1e")},
    "acosh": (lambda x: lax.acosh(1 + x), (2, 3)),
    "integer power": (lambda x: x**3, (3,)),
    "power": (lambda x: x ** x[::-1], (4,)),
    "difference, quotient": (lambda x: (x - x[::-1]) / (1 + x[:, :1]), (2, 3)),
    "remainder": (lambda x: jnp.fmod(x, 0.3), (3,)),
    "atan2": (lambda x: lax.atan2(x, jnp.roll(x, 1)), (4,)),
    "maximum": (lambda x: jnp.maximum(x, x[::-1]), (4,)),
    "clamp": (lambda x: jnp.clip(x, 0.4, 1.0), (4,)),
    "zeta": (lambda x: jax.scipy.special.polygamma(1, x), (3,)),
    "incomplete gamma": (lambda x: lax.igamma(jnp.float32(1.5), x), (3,)),
    "incomplete beta": (lambda x: jax.scipy.special.betainc(1.5, 2.0, x), (3,)),
    "complex": (lambda x: jnp.real(jnp.conj(lax.complex(x, x[::-1])) * (1 + 2j)), (4,)),
    "no derivative": (lambda x: x[0] + jnp.floor(x) + jnp.round(x) + jnp.sign(x), (3,)),
    "argmax": (lambda x: x * jnp.float32(jnp.argmax(x)), (3,)),
    "stopped": (lambda x: lax.stop_gradient(x[::-1]) * x, (3,)),
    "precision": (lambda x: lax.reduce_precision(x, 8, 10), (3,)),
    "conversion": (lambda x: x.astype(jnp.bfloat16).astype(jnp.float32), (3,)),
    "through integers": (lambda x: jnp.float32(jnp.int32(3 * x)) * x[::-1], (3,)),
    "broadcast": (lambda x: x[:, None] * x[None], (3,)),
    "reshape": (lambda x: x.reshape(3, 2).T.reshape(6), (2, 3)),
    "transpose": (lambda x: x.transpose(2, 0, 1), (2, 3, 2)),
    "flip": (lambda x: x[:, ::-1], (2, 3)),
    "pad": (lambda x: lax.pad(x, x[0, 0], ((0, 1, 1), (-1, 0, 0))), (2, 3)),
    "concatenate": (lambda x: jnp.concatenate([x, jnp.ones((2, 1)), 2 * x[:, ::-1]], 1), (2, 3)),
    "stack, split": (lambda x: jnp.stack(jnp.split(x, 3, axis=1)), (2, 3)),
    "tile, repeat": (lambda x: jnp.repeat(jnp.tile(x, (2, 1)), 2, axis=1), (2, 3)),
    "roll": (lambda x: jnp.roll(x, 1) - x, (5,)),
    "select by a mask": (lambda x: jnp.where(MASK > 0, x, x[:, ::-1]), (2, 3)),
    "select by data": (lambda x: jnp.where(x > 0.7, x, x[:, ::-1]), (2, 3)),
    "a mask that is known in part": (masked_in_part, (4,)),
    "times a mask": (lambda x: MASK * x, (2, 3)),
    "slice": (lambda x: x[::2] * x[1:4], (5,)),
    "gather": (lambda x: x[ORDER], (3, 2)),
    "gather beyond the end": (
        lambda x: x.at[jnp.array([0, 9])].get(mode="fill", fill_value=2),
        (3,),
    ),
    "gather by clipped places": (lambda x: x.at[jnp.array([0, 9])].get(mode="clip"), (3,)),
    "take along an axis": (lambda x: jnp.take_along_axis(x, ORDER[None, :3], 1), (1, 3)),
    "gather partly by data": (partly_known, (2, 3)),
    "dynamic slice": (dynamic, (2, 3)),
    "dynamic update": (updated, (2, 3)),
    "dynamic slice at a constant": (lambda x: lax.dynamic_slice(x, (jnp.int32(4),), (2,)), (5,)),
    "dynamic update at a constant": (lambda x: lax.dynamic_update_slice(x, x[3:], (1,)), (5,)),
    "scatter add": (lambda x: x.at[ORDER].add(x[::-1][ORDER]), (3,)),
    "scatter": (lambda x: x.at[1].set(x[0] * x[2]), (3,)),
    "scatter by several": (lambda x: x.at[0, np.array([1, 1])].set(2 * x[1, :2]), (2, 3)),
    "whole scatter": (lambda x: x.at[:].set(x[::-1] ** 2), (3,)),
    "whole scatter into zeros": (lambda x: jnp.zeros(3).at[:].set(x), (3,)),
    "whole scatter add": (lambda x: x.at[:].add(x[::-1]), (4,)),
    "whole scatter of products": (lambda x: x.at[...].mul(x[::-1], mode="drop"), (4,)),
    "whole scatter of largest": (lambda x: x.at[:, :].max(x[::-1]), (2, 3)),
    "scatter of products": (lambda x: x.at[1].multiply(x[0]), (3,)),
    "scatter by data": (scattered, (2, 3)),
    "segments": (summed_into, (5,)),
    "sum": (lambda x: jnp.sum(x, axis=1), (2, 3)),
    "product": (lambda x: jnp.prod(x, axis=0), (2, 3)),
    "smallest": (lambda x: jnp.minimum(jnp.min(x, axis=1), x[:, 0]), (2, 3)),
    "largest": (lambda x: jnp.max(x, axis=1), (2, 3)),
    "logsumexp": (lambda x: jax.nn.logsumexp(x, axis=1), (2, 3)),
    "cumulative sum": (lambda x: jnp.cumsum(x, axis=1), (2, 3)),
    "cumulative sum from the end": (lambda x: lax.cumsum(x, 0, reverse=True), (4,)),
    "cumulative product": (lambda x: jnp.cumprod(x), (5,)),
    "cumulative logsumexp": (lambda x: lax.cumlogsumexp(x, 0), (4,)),
    "cumulative minimum": (lambda x: lax.cummin(x, 0, reverse=True), (4,)),
    "cumulative maximum": (lambda x: lax.cummax(x), (4,)),
    "sort": (lambda x: jnp.sort(x, axis=1), (2, 3)),
    "largest two": (lambda x: lax.top_k(x, 2)[0], (2, 3)),
    "matrix": (lambda x: BAND @ x, (5,)),
    "assembled matrix": (assembled, (4,)),
    "diagonal matrices": (lambda x: jnp.diag(x) @ jnp.diag(x[::-1]), (3,)),
    "matrix from the right": (lambda x: x @ BAND, (2, 5)),
    "matrices of a batch": (dot_batched, (12,)),
    "convolution": (lambda x: conv(x, jnp.ones((2, 1, 2)), padding="SAME"), (2, 1, 4)),
    "stencil": (lambda x: conv(x, TAPS, padding=((1, 1),)), (1, 1, 5)),
    "dilated": (
        lambda x: conv(
            x, jnp.ones((1, 1, 2)), lhs_dilation=(2,), rhs_dilation=(3,), padding=((1, 2),)
        ),
        (1, 1, 4),
    ),
    "kernel": (lambda x: conv(jnp.ones((1, 1, 4)), x, padding=((2, 0),)), (2, 1, 3)),
    "groups of features": (
        lambda x: conv(x, jnp.ones((4, 1, 2)), feature_group_count=2),
        (1, 2, 3),
    ),
    "groups of batches": (
        lambda x: conv(x, jnp.ones((4, 1, 2)), batch_group_count=2),
        (4, 1, 3),
    ),
    "windows": (windows, (2, 3)),
    "sums of windows": (sum_windows, (3, 3)),
    "fourier": (lambda x: jnp.real(jnp.fft.fft(x)) + jnp.imag(jnp.fft.fft(x)), (2, 3)),
    "solve": (lambda x: jnp.linalg.solve(x.reshape(2, 2, 2) + 3 * jnp.eye(2), jnp.ones(2)), (8,)),
    "eigenvalues": (lambda x: jnp.linalg.eigvalsh(x.reshape(2, 2, 2)), (8,)),
    "singular values": (lambda x: jnp.linalg.svd(x.reshape(2, 2, 2), compute_uv=False), (8,)),
    "inverse": (lambda x: jnp.linalg.inv(x.reshape(2, 2, 2) + 3 * jnp.eye(2)), (8,)),
    "triangular solve": (triangular, (2, 3)),
    "determinant": (lambda x: jnp.linalg.det(x.reshape(2, 2, 2)), (8,)),
    "jit": (lambda x: jax.jit(lambda y: y[::-1])(x) * x, (3,)),
    "checkpoint": (lambda x: jax.checkpoint(lambda y: jnp.sin(y)[::-1])(x), (3,)),
    "rule of its own": (straight_through, (3,)),
    "rule for reverse mode": (reversed_rule, (3,)),
    "relu": (lambda x: jax.nn.relu(x - 0.7), (4,)),
    "branches": (lambda x: branches(x - 0.7), (4,)),
    "branch that is known": (known_branch, (3,)),
    "vmap": (jax.vmap(lambda x: jnp.sum(x) * x[0]), (3, 2)),
    "map": (lambda x: lax.map(lambda r: r[::-1] ** 2, x), (3, 2)),
    "scan": (long_scan, (4, 2)),
    "scan from the end": (delayed, (3, 2)),
    "loop that counts": (counted, (4,)),
    "loop of known length": (while_doubling, (4,)),
    "draw": (masked_draw, (6,)),
}
# These patterns hold more than the Jacobian does.
WIDER = {
    "orthogonal factors": (lambda x: jnp.linalg.qr(x.reshape(2, 2, 2)), (8,)),
    "gradient of windows": (pooled_gradient, (2, 3)),
    "factors": (batched_lu, (8,)),
    "square root of matrices": (lambda x: jnp.linalg.cholesky(x[0] * jnp.eye(3)[None]), (2,)),
    "systems without a coupling": (tridiagonal_systems, (2, 3)),
    "loop of unknown length": (until_small, (4,)),
    "cancelled": (lambda x: x - x[::-1] + x[::-1], (3,)),
}
