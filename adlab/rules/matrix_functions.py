"""Functions of Hermitian matrices, with derivatives at repeated eigenvalues.

With a = v diag(w) v^H and f[w_i, w_j] the divided differences of f, f' where both coincide, the
derivative of f(a) = v diag(f(w)) v^H along e is (Daleckii & Krein)

    D[e] = v (f[w_i, w_j] c_ij) v^H,                                  c = v^H e v,

and the second one along e and g, with c and d in the basis v,

    D[e, g] = v (sum_j f[w_i, w_j, w_k] (c_ij d_jk + d_ij c_jk)) v^H.

No difference of eigenvalues is divided by, nor do eigenvectors have to be those of one cluster or
another: both are constants here. How results depend on `a` is in rules for their derivatives: that
of f(a) is D[da], and that of D[e] is D[de] + D[e, da].

Reverse mode needs these maps transposed, and once more differentiated; see `_kept`. The map of
a direction to D[e] is symmetric, without conjugation, after a transposition of its result: the
trace of D[e] g doesn't change as e and g change places, nor does that of D[e, f] g.

Source: Higham (2008), Functions of Matrices, SIAM, doi:10.1137/1.9780898717778, section 3.2.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_derivatives import SymbolicZero

from adlab.core import checks, jaxprs
from adlab.core._programs import signature
from adlab.core.types import ArrayLike
from adlab.rules._divided_differences import Differences, by_quadrature
from adlab.rules._kept import applied, kept
from adlab.rules._matrices import adjoint, as_matrix, require_square, tolerance
from adlab.rules._scalar_functions import NAMES, named
from adlab.rules.eigenvalues import hermitian

__all__ = ["matrix_function"]


def matrix_function(
    a: ArrayLike,
    fun: str | Callable[[jax.Array], jax.Array],
    *,
    exponent: float | None = None,
) -> jax.Array:
    """Return f(a) = v diag(f(w)) v^H of the Hermitian part of a = v diag(w) v^H.

    Its first and second derivatives are exact in every mode, whatever eigenvalues coincide or
    nearly do: they take divided differences of f, and f' and f''/2 where eigenvalues meet. A loss
    that rebuilds f(a) from `eigh` has no derivative there.

    Names have divided differences in which nothing cancels:

    * "sqrt", "inv_sqrt", "log", "power" with `exponent`: eigenvalues within max(n, 8) eps max|w| of
      0 count as 0. "inv_sqrt", "log" and negative powers are undefined there; "sqrt" and powers
      below 1 are defined, but have no derivative. Negative eigenvalues take integer powers only.
      Second derivatives of powers next to 1 lose digits, 1 / |exponent - 1| in units of eps.
    * "exp".
    * "abs", and "positive_part", (w + |w|)/2. At an eigenvalue 0, neither has a derivative; f'
      counts as 0 and 1/2 there, the middle of its slopes, and f'' as 0.

    A function of your own is evaluated at scalars, with its derivatives by JAX. Where eigenvalues
    are near each other, f[x, y] is an integral of f'; where they are far, it is the quotient. The
    error is about eps max|f'| for a function that varies over distances like those of the
    eigenvalues, whatever their gaps. It may have kinks and steps between them.

    What `fun` closes over is a constant: derivatives with respect to it are refused.

    Costs an eigendecomposition, and O(n^3) for a second derivative, in O(n^2) memory; a function of
    your own is evaluated 35 n^2 and 140 n^3 times.

    >>> matrix_function(jnp.diag(jnp.array([1.0, 4.0])), "sqrt")
    Array([[1., 0.],
           [0., 2.]], dtype=float32)
    >>> jax.grad(lambda a: matrix_function(a, lambda w: w**3)[0, 1])(jnp.eye(2))
    Array([[0. , 1.5],
           [1.5, 0. ]], dtype=float32)

    Args:
      a: square matrix (..., n, n), real or complex; its Hermitian part (a + a^H)/2 is taken, so
        that gradients are Hermitian.
      fun: one of the names, or a function from a real scalar to a real scalar.
      exponent: any real number, with "power" alone.

    Returns:
      f(a), of the shape and dtype of `a`.

    Raises:
      ValueError: `a` isn't square, or holds NaN or infinity; an unknown name; f, or f'
        where derivatives are asked for, isn't finite at an eigenvalue. Values can't be read under a
        trace by jit or vmap: there the answer is NaN.
      TypeError: `a` holds no floating-point numbers; `fun` is no function of a scalar, `exponent`
        no number, or missing.
      NotImplementedError: a third derivative.

    Source: Higham (2008), doi:10.1137/1.9780898717778, section 3.2 (Daleckii-Krein).
    """
    checked = _kind(fun, exponent)
    a = jnp.asarray(a)
    if jnp.issubdtype(a.dtype, jnp.integer):
        raise TypeError(
            f"matrix_function: a must be floating-point or complex, got {a.dtype}; convert it by "
            ".astype(float)"
        )
    a = as_matrix("matrix_function", "a", a)
    require_square("matrix_function", "a", a)
    a = hermitian(a)
    w, v = _decomposed(lax.stop_gradient(a), isinstance(fun, str) and fun != "exp")
    kind, constants = checked.hoisted(w.dtype)
    frame = _Frame(w, v, constants)
    _require_finite(kind, frame, slope=False)
    if not checks.concrete(a):  # being differentiated, where eigenvalues can be read
        _require_finite(kind, frame, slope=True)
    found: jax.Array = _kept(kind, frame, a)
    return found


class _Frame(NamedTuple):
    """Eigenvalues and eigenvectors of `a`, and what `fun` closes over: constants to derivatives."""

    w: jax.Array
    v: jax.Array
    closed_over: tuple[jax.Array, ...]


@dataclass(frozen=True)
class _Kind:
    """A function: a name with its exponent, or a callable."""

    fun: str | Callable[..., jax.Array]
    exponent: float | None

    def hoisted(self, dtype: Any) -> tuple[_Kind, tuple[jax.Array, ...]]:
        """Return the program of the function as it is now, and the arrays that it closes over."""
        if isinstance(self.fun, str):
            return self, ()
        at = jax.ShapeDtypeStruct((), dtype)
        try:
            program, found = jax.make_jaxpr(self.fun, return_shape=True)(at)
        except (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError) as error:
            raise TypeError(
                "matrix_function: fun must be made of JAX's functions, as jnp.exp and jnp.where, "
                f"not of NumPy's, math's or conditions, got {self.fun!r}"
            ) from error
        if getattr(found, "shape", None) != () or not jnp.issubdtype(found.dtype, jnp.floating):
            raise TypeError(
                "matrix_function: fun must return a real scalar for a real scalar, got "
                f"{getattr(found, 'dtype', type(found))} of shape {getattr(found, 'shape', None)}"
            )
        inner = self.fun.func if isinstance(self.fun, functools.partial) else self.fun
        name = str(getattr(inner, "__name__", inner))
        return _Kind(_Program(program, name), None), tuple(program.consts)

    def differences(self, closed_over: tuple[jax.Array, ...]) -> Differences:
        """Return the divided differences."""
        if isinstance(self.fun, str):
            return named(self.fun, self.exponent)
        fun = self.fun
        return by_quadrature(lambda x: fun(*closed_over, x))

    def __str__(self) -> str:
        if isinstance(self.fun, str):
            return self.fun if self.exponent is None else f"power {self.exponent:g}"
        return str(getattr(self.fun, "__name__", self.fun))


class _Program:
    """A function of what it closes over and a scalar; equal to another of the same operations.

    So it is compiled once, though the user's function is read at each call, and nothing of the
    user's is kept with it.
    """

    def __init__(self, program: Any, name: str) -> None:
        self._run = jaxprs.hoisted(program, "fun")
        self._key = signature(program.jaxpr)
        self.__name__ = name

    def __call__(self, *args: Any) -> jax.Array:
        found: jax.Array = self._run(*args)[0]
        return found

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Program) or self._key is None:
            return self is other
        return bool(self._key == other._key)

    def __hash__(self) -> int:
        return id(self) if self._key is None else hash(self._key)


@functools.partial(jax.jit, static_argnums=1)
def _decomposed(a: jax.Array, settled: bool) -> tuple[jax.Array, jax.Array]:
    """Decompose `a`; if `settled`, eigenvalues that can't be told from 0 become 0."""
    w, v = jnp.linalg.eigh(a, symmetrize_input=False)
    if settled:
        w = jnp.where(jnp.abs(w) <= tolerance(w, a.shape), jnp.zeros((), w.dtype), w)
    return w, v


@functools.partial(jax.jit, static_argnums=0)
def _kept(kind: _Kind, frame: _Frame, a: jax.Array) -> jax.Array:
    return kept(lambda: _derivative(kind, frame, a, ()))


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _derivative(
    kind: _Kind, frame: _Frame, a: jax.Array, directions: tuple[jax.Array, ...]
) -> jax.Array:
    """Return f(a), D[e], or D[e, g] for no, one, or two directions; `frame` is that of `a`."""
    del a
    found: jax.Array = _evaluated(kind, frame, directions)
    return found


@functools.partial(_derivative.defjvp, symbolic_zeros=True)
def _derivative_jvp(kind: _Kind, primals: Any, tangents: Any) -> tuple[jax.Array, Any]:
    (frame, a, directions), (constants, da, moved) = primals, tangents
    if not all(isinstance(tangent, SymbolicZero) for tangent in constants.closed_over):
        raise TypeError(
            "matrix_function: fun must not close over what is differentiated; take that derivative "
            "through w, v = eigh(jax.lax.stop_gradient(a)) and v diag(fun(w)) v^H"
        )
    value = _derivative(kind, frame, a, directions)
    terms = []
    if not isinstance(da, SymbolicZero):
        if len(directions) == 2:
            raise NotImplementedError(
                "matrix_function has first and second derivatives, got a request for a third; "
                "take differences of second ones"
            )
        terms.append(_linear(kind, frame, a, directions, da))
    for place, direction in enumerate(moved):
        if not isinstance(direction, SymbolicZero):
            others = directions[:place] + directions[place + 1 :]
            terms.append(_linear(kind, frame, a, others, direction))
    return value, sum(terms[1:], terms[0]) if terms else jnp.zeros_like(value)


@functools.partial(jax.jit, static_argnums=0)
def _linear(
    kind: _Kind, frame: _Frame, a: jax.Array, others: tuple[jax.Array, ...], last: jax.Array
) -> jax.Array:
    """Return D[..., last], to be transposed, and differentiated in `a` after that."""

    def transposed(direction: jax.Array) -> jax.Array:
        return _derivative(kind, frame, a, (*others, direction)).mT

    return applied(transposed, last).mT


@functools.partial(jax.jit, static_argnums=0)
def _evaluated(kind: _Kind, frame: _Frame, directions: tuple[jax.Array, ...]) -> jax.Array:
    w, v, closed_over = frame
    value, first, second = kind.differences(closed_over)
    turned = [adjoint(v) @ direction @ v for direction in directions]
    if not turned:
        return (v * _finite(value(w)).astype(v.dtype)[..., None, :]) @ adjoint(v)
    if len(turned) == 1:
        slopes = _finite(first(w[..., :, None], w[..., None, :]))
        return v @ (slopes.astype(v.dtype) * turned[0]) @ adjoint(v)
    c, d = turned

    def row(parts: tuple[jax.Array, ...]) -> jax.Array:
        """Return row i of the sum over j, from w_i and rows i of c and d: (..., k)."""
        w_i, c_i, d_i = parts
        bends = second(w_i[..., None, None], w[..., :, None], w[..., None, :])
        terms = c_i[..., :, None] * d + d_i[..., :, None] * c
        return jnp.sum(_finite(bends).astype(v.dtype) * terms, axis=-2)

    rows = [jnp.moveaxis(part, axis, 0) for part, axis in ((w, -1), (c, -2), (d, -2))]
    return v @ jnp.moveaxis(lax.map(row, tuple(rows)), 0, -2) @ adjoint(v)


def _finite(x: jax.Array) -> jax.Array:
    """Return x with infinities as NaN, so that no product with 0 or clipping hides them."""
    return jnp.where(jnp.isfinite(x), x, jnp.nan)


def _kind(fun: Any, exponent: Any) -> _Kind:
    if callable(fun):
        fun = functools.partial(fun)  # hashable, whatever it is; its program is what counts
    elif isinstance(fun, str):
        checks.one_of("matrix_function: fun", fun, NAMES)
    else:
        raise TypeError(
            "matrix_function: fun must be a name or a function of a real scalar, got "
            f"{type(fun).__name__}; names are {', '.join(NAMES)}"
        )
    if (fun == "power") != (exponent is not None):
        needed = 'given with fun="power"' if fun == "power" else 'left out unless fun is "power"'
        raise TypeError(f"matrix_function: exponent must be {needed}, got {exponent!r}")
    if exponent is None:
        return _Kind(fun, None)
    if not checks.concrete(exponent):
        raise TypeError(
            f"matrix_function: exponent must be a number known before tracing, got {exponent!r}; "
            "close over it in a function of your own"
        )
    dtype = np.asarray(exponent).dtype
    real = jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer)
    if np.ndim(exponent) or not real or not np.isfinite(exponent):
        raise TypeError(f"matrix_function: exponent must be a finite number, got {exponent!r}")
    return _Kind(fun, float(exponent))


def _require_finite(kind: _Kind, frame: _Frame, *, slope: bool) -> None:
    """Raise ValueError, naming the eigenvalue, unless f, or f', is finite; tracers pass."""
    if not checks.concrete(frame):
        return
    found = _at_eigenvalues(kind, frame, slope)
    if not checks.concrete(found):  # constants within a trace
        return
    bad = np.argwhere(~np.isfinite(found))
    if len(bad):
        place = tuple(int(i) for i in bad[0])
        raise ValueError(
            f"matrix_function: {'the derivative of ' if slope else ''}{kind} must be finite at "
            f"every eigenvalue of a, got {found[place]} at {frame.w[place]:.6g}, eigenvalue "
            f"{list(place)} in ascending order"
            + (f" and at {len(bad) - 1} more" if len(bad) > 1 else "")
            + "; add a multiple of the identity, or take a function that is defined there"
        )


@functools.partial(jax.jit, static_argnums=(0, 2))
def _at_eigenvalues(kind: _Kind, frame: _Frame, slope: bool) -> jax.Array:
    of = kind.differences(frame.closed_over)
    return of.first(frame.w, frame.w) if slope else of.value(frame.w)
