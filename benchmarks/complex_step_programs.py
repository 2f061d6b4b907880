"""The programs that `complex_step.py` sweeps: ways to call a function, and programs of their own.

Each takes x, four numbers, and does the same on real and on complex ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax.scipy.linalg
import jax.scipy.signal
import numpy as np
from jax import lax

_rng = np.random.default_rng(0)
MATRIX = np.array([[2.1, 0.3, -0.4], [0.2, 1.7, 0.5], [-0.3, 0.6, 1.4]])
DIRECTIONS = _rng.normal(size=(4, 3, 3)) * 0.3
NUMBERS = np.array([0.7, -1.2, 0.45, 1.6])
WEIGHTS = np.array([0.31, 0.77, 0.52, 0.18])
VECTOR = np.array([0.9, -0.4, 1.3])
LARGE = np.random.default_rng(5).normal(size=(80, 80))


def constant(a: Any, x: jax.Array) -> jax.Array:
    """Return data in the dtype of x."""
    return jnp.asarray(a).astype(x.dtype)


def matrix(x: jax.Array) -> jax.Array:
    """Return a regular 3 x 3 matrix that depends on x."""
    return jnp.tensordot(x, constant(DIRECTIONS, x), 1) + constant(MATRIX, x)


def gram(x: jax.Array) -> jax.Array:
    """Return a symmetric positive matrix that depends on x."""
    return matrix(x) @ matrix(x).T


TEMPLATES: dict[str, Callable[..., Any]] = {
    "x": lambda f, x: f(x),
    "scalar": lambda f, x: f(x[1]),
    "x,x": lambda f, x: f(x, x[::-1] * 1.1),
    "x,c": lambda f, x: f(x, constant(WEIGHTS, x)),
    "c,x": lambda f, x: f(constant(WEIGHTS, x), x),
    "x,real": lambda f, x: f(x, jnp.asarray(NUMBERS)),
    "x,2": lambda f, x: f(x, 2),
    "2,x": lambda f, x: f(2, x),
    "x,0": lambda f, x: f(x, 0),
    "x,ints": lambda f, x: f(x, np.array([2, 0, 1, 1])),
    "ints,x": lambda f, x: f(np.array([2, 0, 1, 1]), x),
    "x,(2,2)": lambda f, x: f(x, (2, 2)),
    "x,2.5": lambda f, x: f(x, jnp.asarray(2.5, x.dtype)),
    "m": lambda f, x: f(matrix(x)),
    "s": lambda f, x: f(gram(x)),
    "m,v": lambda f, x: f(matrix(x), constant(VECTOR, x)),
    "m,mv": lambda f, x: f(matrix(x), matrix(x)[0]),
    "c,mv": lambda f, x: f(constant(MATRIX, x), matrix(x)[0]),
    "m,m": lambda f, x: f(matrix(x), matrix(x).T + 1),
    "c,m": lambda f, x: f(constant(MATRIX, x), matrix(x)),
    "m,3": lambda f, x: f(matrix(x), 3),
    "s,v": lambda f, x: f(gram(x), constant(VECTOR, x)),
    "m,0": lambda f, x: f(matrix(x), 0),
    "[x,c]": lambda f, x: f([x, constant(WEIGHTS, x)]),
    "[m,m]": lambda f, x: f([matrix(x), matrix(x)]),
    "(m,1),v": lambda f, x: f((matrix(x), True), constant(VECTOR, x)),
    "x,x,x": lambda f, x: f(x, x[::-1] + 0.1, x * 1.3),
    "x,c,x": lambda f, x: f(x, constant(WEIGHTS, x), x[::-1]),
    "p,x,x": lambda f, x: f(np.array([1, 0, 1, 0], bool), x, x[::-1] * 2),
    "x,0,2": lambda f, x: f(x, 0, 2),
    "x,axis": lambda f, x: f(x, axis=0),
    "x,idx,x": lambda f, x: f(x, np.array([2, 0, 1, 1]), x[::-1]),
    "c,c,x": lambda f, x: f(constant(WEIGHTS, x), constant(WEIGHTS, x), x),
    "x,[0],[4]": lambda f, x: f(x, [1], [3]),
    "t": lambda f, x: f(matrix(x)[None, None], matrix(x)[None, None, :2, :2], (1, 1), "SAME"),
    "dims": lambda f, x: f(x, dimension=0),
    "x,axes": lambda f, x: f(x, axes=(0,)),
    "b": lambda f, x: f(matrix(x)[None], matrix(x)[None]),
    "x,1d": lambda f, x: f(x, x[:2] * 1.5),
    "x,y,x": lambda f, x: f(jnp.asarray(WEIGHTS), jnp.sort(jnp.asarray(WEIGHTS)), x),
}
ROWS = np.array([2, 0, 1])
EXTRA: dict[str, Callable[..., Any]] = {
    **{
        f"lax.linalg.triangular_solve left={l} lower={w} T={t} conj={k} unit={u}": (
            lambda x, l=l, w=w, t=t, k=k, u=u: lax.linalg.triangular_solve(
                matrix(x),
                gram(x),
                left_side=l,
                lower=w,
                transpose_a=t,
                conjugate_a=k,
                unit_diagonal=u,
            )
        )
        for l in (0, 1)
        for w in (0, 1)
        for t in (0, 1)
        for k in (0, 1)
        for u in (0, 1)
        if not (k and not t) or l
    },
    **{
        f"solve_triangular trans={t} a={a}": (
            lambda x, t=t, a=a: jax.scipy.linalg.solve_triangular(
                matrix(x) if a else constant(MATRIX, x), matrix(x)[0], trans=t
            )
        )
        for t in ("N", "T", "C")
        for a in (0, 1)
    },
    "cho_solve const": lambda x: jax.scipy.linalg.cho_solve(
        (constant(MATRIX, x), True), matrix(x)[0]
    ),
    "lu_solve const": lambda x: jax.scipy.linalg.lu_solve(
        jax.scipy.linalg.lu_factor(MATRIX), matrix(x)[0]
    ),
    **{
        f"lu_solve trans={t}": (
            lambda x, t=t: jax.scipy.linalg.lu_solve(
                jax.scipy.linalg.lu_factor(matrix(x)), matrix(x)[0], trans=t
            )
        )
        for t in (0, 1, 2)
    },
    **{
        f"convolve {m}": (lambda x, m=m: jnp.convolve(x, x[:3] * 2, mode=m))
        for m in ("full", "same", "valid")
    },
    "correlate": lambda x: jnp.correlate(x, x[:2]),
    "convolve const": lambda x: jnp.convolve(x, constant(WEIGHTS, x)),
    "conv strides": lambda x: lax.conv_general_dilated(
        matrix(x)[None, None],
        matrix(x)[None, None, :2, :2],
        (2, 1),
        ((1, 1), (0, 1)),
        lhs_dilation=(1, 2),
        rhs_dilation=(2, 1),
    ),
    "conv_transpose": lambda x: lax.conv_transpose(
        matrix(x)[None, :, :, None], matrix(x)[:2, :2, None, None], (2, 2), "SAME"
    ),
    "log minus log": lambda x: jnp.log(x - 3) - jnp.log(2 * x - 9),
    "sort by data": lambda x: x[jnp.argsort(jnp.asarray(WEIGHTS))],
    "conv scan": lambda x: lax.scan(
        lambda s, m: (jnp.convolve(s, m, mode="same"), None), x, jnp.stack([x, x * 2])
    )[0],
    "conv cond while": lambda x: lax.fori_loop(
        0, 2, lambda i, s: lax.cond(i > 0, lambda s: jnp.convolve(s, x, mode="same"), jnp.sin, s), x
    ),
    "conv remat vmap": lambda x: jax.checkpoint(jax.vmap(lambda a: jnp.convolve(a, x)))(matrix(x)),
    "debug print": lambda x: (jax.debug.callback(lambda _: None, x), x**2)[1],
    "conv groups": lambda x: lax.conv_general_dilated(
        jnp.stack([matrix(x), gram(x)])[None],
        jnp.stack([matrix(x)[:2, :2], gram(x)[:2, :2]])[:, None],
        (1, 1),
        "VALID",
        feature_group_count=2,
    ),
    **{
        f"at.{m}": (lambda x, m=m: getattr(gram(x)[0].at[ROWS[:2]], m)(x[:2] * x[2:]))
        for m in ("set", "add", "multiply", "divide", "power", "subtract", "min", "max")
    },
    "at.get fill": lambda x: x.at[np.array([0, 9])].get(mode="fill", fill_value=1.0),
    "at.apply": lambda x: x.at[1].apply(jnp.sin),
    "segment_sum": lambda x: jax.ops.segment_sum(x, np.array([0, 1, 0, 1]), 2),
    "segment_prod": lambda x: jax.ops.segment_prod(x, np.array([0, 1, 0, 1]), 2),
    "segment_max": lambda x: jax.ops.segment_max(x, np.array([0, 1, 0, 1]), 2),
    "dynamic_slice": lambda x: lax.dynamic_slice(x, (1,), (2,)) ** 2,
    "dynamic_update_slice": lambda x: lax.dynamic_update_slice(x, x[:2] ** 2, (1,)),
    "dynamic_index": lambda x: lax.dynamic_index_in_dim(x, jnp.argmax(jnp.asarray(WEIGHTS))) ** 2,
    "pad": lambda x: lax.pad(x, x[0] ** 2, ((1, 2, 1),)),
    "pad neg": lambda x: lax.pad(x, x[0] ** 2, ((-1, 2, 1),)),
    **{
        f"jnp.pad {m}": (lambda x, m=m: jnp.pad(x, 2, mode=m))
        for m in (
            "edge",
            "reflect",
            "symmetric",
            "wrap",
            "mean",
            "linear_ramp",
            "maximum",
            "median",
        )
    },
    "reduce custom": lambda x: lax.reduce(x, constant(1.0, x), lambda a, b: a * b, (0,)),
    "reduce add": lambda x: lax.reduce(x, constant(0.0, x), lax.add, (0,)),
    "reduce max": lambda x: lax.reduce(x, constant(0.0, x), lax.max, (0,)),
    "reduce_window add": lambda x: lax.reduce_window(
        x, constant(0.0, x), lax.add, (2,), (1,), "SAME"
    ),
    "reduce_window mul": lambda x: lax.reduce_window(
        x, constant(1.0, x), lax.mul, (2,), (1,), "SAME"
    ),
    "reduce_window max": lambda x: lax.reduce_window(
        x, constant(-9.0, x), lax.max, (2,), (1,), "SAME"
    ),
    "associative_scan mul": lambda x: lax.associative_scan(jnp.multiply, x),
    "associative_scan reverse": lambda x: lax.associative_scan(
        lambda a, b: a * b + a, x, reverse=True
    ),
    **{
        f"cum {n} {r}": (lambda x, n=n, r=r: getattr(lax, n)(x, 0, reverse=r))
        for n in ("cumsum", "cumprod", "cumlogsumexp", "cummax", "cummin")
        for r in (False, True)
    },
    "select_n": lambda x: lax.select_n(np.array([0, 1, 1, 0], bool), x, x**2),
    "where const": lambda x: jnp.where(np.array([0, 1, 1, 0], bool), x**2, 0),
    "sort pairs": lambda x: lax.sort((jnp.asarray(WEIGHTS), x**2))[1],
    "clamp": lambda x: lax.clamp(0.2, x, 0.6),
    "pow x^int array": lambda x: x ** np.array([2, 3, -1, 0]),
    "x**-3": lambda x: x**-3,
    "x**2.5": lambda x: x**2.5,
    "2.5**x": lambda x: 2.5**x,
    "x**x": lambda x: jnp.abs(WEIGHTS) ** x,
    "x^x": lambda x: x**x,
    "x**3.0": lambda x: x ** jnp.asarray(3.0, x.dtype),
    "x**0.5": lambda x: x**0.5,
    "integer_pow -1": lambda x: lax.integer_pow(x, -1),
    "integer_pow 7": lambda x: lax.integer_pow(x, 7),
    "lax.pow int": lambda x: lax.pow(x, np.array([2, 3, -1, 0])),
    "cos by exp": lambda x: (jnp.exp(1j * x) + jnp.exp(-1j * x)) / 2,
    "fft norm": lambda x: jnp.sum(jnp.fft.fft(x)[1:] ** 2),
    "fft convolution": lambda x: jnp.fft.ifft(jnp.fft.fft(x) * jnp.fft.fft(WEIGHTS)),
    "fftconvolve": lambda x: jax.scipy.signal.fftconvolve(x, x[:2]),
    "i*i*x": lambda x: (1j * x**2) * (-1j),
    "dct": lambda x: jax.scipy.fft.dct(x),
    "idct": lambda x: jax.scipy.fft.idct(x),
    "dct2": lambda x: jax.scipy.fft.dctn(matrix(x)),
    "expm": lambda x: jax.scipy.linalg.expm(matrix(x)),
    "expm small": lambda x: jax.scipy.linalg.expm(matrix(x) / 8),
    "sqrtm": lambda x: jax.scipy.linalg.sqrtm(gram(x)),
    "expm_frechet": lambda x: jax.scipy.linalg.expm_frechet(matrix(x), gram(x))[0],
    "funm": lambda x: jax.scipy.linalg.funm(matrix(x), jnp.exp),
    "sylvester": lambda x: jax.scipy.linalg.solve_sylvester(matrix(x), gram(x), matrix(x).T),
    "polyval": lambda x: jnp.polyval(x, 0.3),
    "polyval x": lambda x: jnp.polyval(WEIGHTS, x),
    "polyfit": lambda x: jnp.polyfit(WEIGHTS, x, 2),
    "roots": lambda x: jnp.real(jnp.sum(jnp.roots(x))),
    "polymul": lambda x: jnp.polymul(x, x),
    "interp fp": lambda x: jnp.interp(np.array([0.2, 0.4]), np.sort(WEIGHTS), x),
    "interp x": lambda x: jnp.interp(x, np.sort(WEIGHTS), NUMBERS),
    "einsum": lambda x: jnp.einsum("ij,jk,kl->il", matrix(x), gram(x), matrix(x)),
    "einsum trace": lambda x: jnp.einsum("ii", gram(x)),
    "tensordot": lambda x: jnp.tensordot(matrix(x), gram(x), 2),
    "dot_general batch": lambda x: lax.dot_general(
        jnp.stack([matrix(x), gram(x)]),
        jnp.stack([gram(x), matrix(x)]),
        (((2,), (1,)), ((0,), (0,))),
    ),
    "big matmul": lambda x: (
        jnp.ones((9, 70), x.dtype)
        * x[0]
        @ (jnp.outer(jnp.asarray(np.linspace(-1, 1, 70)).astype(x.dtype), jnp.tile(x, 20)) + 1)
    ),
    "big solve": lambda x: jnp.linalg.solve(
        jnp.asarray(LARGE + 9 * np.eye(80)).astype(x.dtype)
        + jnp.outer(jnp.tile(x, 20), jnp.tile(x, 20)),
        jnp.tile(x, 20),
    ),
    "big det": lambda x: jnp.linalg.det(
        jnp.asarray(LARGE[:40, :40] / 6 + np.eye(40)).astype(x.dtype)
        + jnp.outer(jnp.tile(x, 10), jnp.tile(x, 10))
    ),
    "det2": lambda x: jnp.linalg.det(matrix(x)[:2, :2]),
    "det5": lambda x: jnp.linalg.det(
        jnp.eye(5) * 2 + jnp.outer(jnp.tile(x, 2)[:5], jnp.arange(5.0))
    ),
    "tridiagonal_solve": lambda x: lax.linalg.tridiagonal_solve(
        jnp.asarray([0.0, 0.3, 0.2, 0.5]).astype(x.dtype),
        x + 2,
        jnp.asarray([0.3, 0.2, 0.5, 0.0]).astype(x.dtype),
        x[:, None],
    ),
    "householder_product": lambda x: lax.linalg.householder_product(matrix(x), x[:3]),
    "checkpoint": lambda x: jax.checkpoint(lambda y: jnp.sin(y) ** 2)(x),
    "custom_jvp": lambda x: jax.nn.silu(x),
    "log_softmax by hand": lambda x: x - jnp.log(jnp.sum(jnp.exp(x))),
    "while": lambda x: lax.while_loop(
        lambda s: s[0] < 3, lambda s: (s[0] + 1, jnp.sin(s[1])), (0, x)
    )[1],
    "fori": lambda x: lax.fori_loop(0, 3, lambda i, y: y * jnp.cos(y) + i, x),
    "switch": lambda x: lax.switch(
        jnp.argmax(jnp.asarray(WEIGHTS)), [jnp.sin, jnp.cos, jnp.exp], x
    ),
    "custom_root": lambda x: jnp.sin(x),
    "vmap": lambda x: jax.vmap(jnp.sin)(x),
    "map": lambda x: lax.map(lambda y: y * y, x),
    "grad inside": lambda x: jax.grad(lambda y: jnp.sum(y**3), holomorphic=jnp.iscomplexobj(x))(x),
    "ode step": lambda x: lax.scan(lambda y, _: (y + 0.1 * (jnp.tanh(y) - y**3), y), x, length=5)[
        1
    ],
    "linspace": lambda x: jnp.linspace(x[0], x[1], 5),
    "cross": lambda x: jnp.cross(x[:3], x[1:]),
    "quantile": lambda x: jnp.quantile(x, 0.3),
    "std": lambda x: jnp.std(x),
    "var": lambda x: jnp.var(x),
    "mean": lambda x: jnp.mean(x),
    "average": lambda x: jnp.average(x, weights=np.abs(WEIGHTS)),
    "cov": lambda x: jnp.cov(matrix(x)),
    "corrcoef": lambda x: jnp.corrcoef(matrix(x)),
    "lax.complex": lambda x: jnp.real(lax.complex(jnp.real(x), jnp.real(x))),
    "logcosh": lambda x: jnp.logaddexp(x, -x),
    "softplus": lambda x: jax.nn.softplus(x),
    "gelu": lambda x: jax.nn.gelu(x),
    "gelu exact": lambda x: jax.nn.gelu(x, approximate=False),
    "cast back": lambda x: (
        x.astype(jnp.float64) ** 2 if not jnp.iscomplexobj(x) else x.astype(jnp.complex128) ** 2
    ),
    "view": lambda x: x.view(jnp.float64).reshape(4, -1)[:, 0] ** 2,
    "bitcast": lambda x: x.conj() * x,
    "angle": lambda x: jnp.angle(x) + x,
}
