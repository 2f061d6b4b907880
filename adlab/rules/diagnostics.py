"""Whether a loss of singular factors has a derivative at a matrix, and whether `svd` gives it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adlab.core import checks
from adlab.rules.matrices import as_matrix, spread
from adlab.rules.singular_values import SVD, factor_tangents, svd

__all__ = ["Diagnostics", "svd_diagnostics"]


@dataclass(frozen=True)
class Diagnostics:
    """What stands between a loss of singular factors and its derivative. See `svd_diagnostics`."""

    gap: float
    """Smallest distance of two singular values, over the largest one; infinite if there is one."""
    smallest: float
    """Smallest singular value over the largest one."""
    clusters: tuple[tuple[float, int], ...]
    """Each singular value that is repeated or 0, with its multiplicity."""
    gauge_residual: float
    """How the loss changes as coinciding factors turn into one another, over its whole gradient."""
    differentiable: bool
    """Whether the loss is a function of the matrix, with a derivative there."""
    exact: bool
    """Whether the derivative through `svd` is that derivative, up to rounding."""

    def __str__(self) -> str:
        if self.exact:
            return f"differentiable, and exact through svd (gap {self.gap:.2g} s_1)"
        if self.differentiable:
            return (
                "differentiable, but not through svd: the loss sees how a cluster of singular "
                "values splits; write u_c diag(s_c) vh_c as u_c u_c^H a"
            )
        return (
            "not differentiable: the loss sees a choice that the matrix leaves open: of factors in "
            "a cluster of singular values, of a basis of a null space, or of complex phases"
        )


def svd_diagnostics(
    loss_of_factors: Callable[[jax.Array, jax.Array, jax.Array], Any],
    a: Any,
    *,
    full_matrices: bool = True,
) -> Diagnostics:
    """Tell whether `loss_of_factors(*svd(a))` has a derivative at `a`, and whether `svd` gives it.

    A loss of `a` may not see how coinciding factors are chosen. Its gauge residual, the derivative
    along turning them, must vanish: |skew(u_c^H du + v_c^H dv)| on each cluster c of coinciding
    singular values, |skew(u_0^H du)| and |skew(v_0^H dv)| on the null spaces, over |(du, dv)|. The
    derivative along directions between clusters must not depend on that choice, and along those
    within a cluster it must be linear in the direction: there it is taken exactly, in the factors
    that suit each direction, and compared with the one through `svd`.
    Costs some twenty values and gradients of the loss and a few decompositions; eager, for concrete
    matrices.

    >>> print(svd_diagnostics(lambda u, s, vh: s.sum(), jnp.eye(3)))
    differentiable, and exact through svd (gap 0 s_1)
    >>> print(svd_diagnostics(lambda u, s, vh: s.max(), jnp.eye(3)))  # doctest: +ELLIPSIS
    not differentiable: ...

    Args:
      loss_of_factors: a real scalar of (u, s, vh).
      a: matrix (m, n), real or complex.
      full_matrices: as in `svd`; the loss gets factors of these shapes.

    Returns:
      Diagnostics. For a real matrix whose singular values differ and aren't 0, a differentiable
      function of thin factors is differentiable.

    Raises:
      ValueError: not a matrix, an empty one, or one with NaN or infinity.
      TypeError: `a` is being traced, or the loss isn't a real scalar.
    """
    a = as_matrix("svd_diagnostics", "a", a, batched=False)
    if not checks.concrete(a):
        raise TypeError("svd_diagnostics: a must be concrete, got a traced array; call it outside")
    gauge = _Gauge(loss_of_factors, a, full_matrices)
    s = gauge.s
    top = s[0] or 1.0
    gap = float(np.min(abs(np.diff(s))) / top) if len(s) > 1 else np.inf
    repeated = [c for c in gauge.clusters if len(c) > 1 or (len(c) and gauge.zero(c))]
    values = tuple((0.0 if gauge.zero(c) else float(s[c].mean()), len(c)) for c in repeated)
    residual, (linear, exact) = gauge.residual(), gauge.linearity()
    differentiable = linear and residual < gauge.rounding and gauge.agreement() < gauge.rounding
    return Diagnostics(
        gap, float(s[-1] / top), values, residual, differentiable, differentiable and exact
    )


class _Gauge:
    """The factors of one matrix, and the choices among them."""

    def __init__(self, loss: Callable, a: jax.Array, full_matrices: bool) -> None:
        self.rounding = float(jnp.finfo(a.dtype).eps) ** 0.5
        self.a, self.k = a, min(a.shape)
        self.full = full_matrices
        self._loss, self._gradient = loss, jax.grad(loss, argnums=(0, 1, 2))
        (u, s, vh), self._pull = jax.vjp(svd, a)
        self.u, self.s, self.v = np.asarray(u), np.asarray(s), np.asarray(vh).conj().T
        self.tol = float(spread(s, a.shape)[0])
        self.clusters = np.split(np.arange(self.k), 1 + np.flatnonzero(-np.diff(self.s) > self.tol))

        if not self.zero(self.clusters[-1]):
            self.clusters.append(np.arange(0))  # the null spaces alone

    def zero(self, cluster: np.ndarray) -> bool:
        return not len(cluster) or bool(self.s[cluster[-1]] <= self.tol)

    def columns(self, cluster: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the columns of u and of v that a cluster mixes; that of 0 has the null spaces."""
        if not self.zero(cluster):
            return cluster, cluster
        first = cluster[0] if len(cluster) else self.k
        rows, columns = self.a.shape
        return np.arange(first, rows), np.arange(first, columns)

    def factors(self, u: np.ndarray, s: np.ndarray, v: np.ndarray) -> tuple[jax.Array, ...]:
        """Return what the loss takes: u, s and vh of the shapes asked for."""
        rows, columns = self.a.shape if self.full else (self.k, self.k)
        dtype = self.a.dtype
        vh = jnp.asarray(v[:, :columns].conj().T, dtype)
        return jnp.asarray(u[:, :rows], dtype), jnp.asarray(s, self.s.dtype), vh

    def through(self) -> np.ndarray:
        """Return the gradient of the loss through the rule of svd."""
        du, ds, dv = self.pulled(self.u, self.v)
        grads = SVD(jnp.asarray(du.conj()), jnp.asarray(ds), jnp.asarray(dv.T))
        return np.asarray(self._pull(grads)[0])

    def pulled(self, u: np.ndarray, v: np.ndarray) -> tuple[Any, Any, Any]:
        """Return the gradients of the loss in these factors, padded to square u and v."""
        du, ds, dvh = map(np.asarray, self._gradient(*self.factors(u, self.s, v)))
        wide_u, wide_v = np.zeros_like(u), np.zeros_like(v)
        wide_u[:, : du.shape[1]] = du.conj()
        wide_v[:, : len(dvh)] = dvh.T
        return wide_u, ds, wide_v

    def residual(self) -> float:
        """Return the derivative along turning coinciding factors, over the whole gradient.

        The larger of two: a loss may be stationary in the factors that the decomposition chose.
        """
        rng = np.random.default_rng(1)
        turned, _ = self._adapted(self._direction(rng))
        return max(self._residual(self.u, self.v), self._residual(*turned))

    def _residual(self, u: np.ndarray, v: np.ndarray) -> float:
        du, _, dv = self.pulled(u, v)
        turned = 0.0
        for cluster in self.clusters:
            left, right = self.columns(cluster)
            x, y = u[:, left].conj().T @ du[:, left], v[:, right].conj().T @ dv[:, right]
            x, y = x - x.conj().T, y - y.conj().T
            parts = (x, y) if self.zero(cluster) else (x + y,)
            turned += float(sum(np.linalg.norm(part) ** 2 for part in parts))
        whole = np.linalg.norm(du) ** 2 + np.linalg.norm(dv) ** 2
        return float(np.sqrt(turned / whole)) if whole else 0.0

    def linearity(self) -> tuple[bool, bool]:
        """Return whether derivatives within clusters are linear, and whether svd's are the same."""
        rng = np.random.default_rng(0)  # two directions, which need only be generic
        first, second = (self._direction(rng) for _ in range(2))
        combined = [self._along(d) for d in (first, second, first + second, -first)]
        one, two, both, back = (found for found, *_ in combined)
        scale = max(size for _, _, size in combined) or 1.0
        bent = max(abs(one + two - both), abs(one + back)) / scale
        kinked = max(kink for _, kink, _ in combined) / scale
        through = self.through()
        ruled = [np.sum((through * d).real) for d in (first, second)]
        missed = max(abs(ruled[0] - one), abs(ruled[1] - two)) / scale
        return bool(bent < self.rounding and kinked < 0.01), bool(missed < self.rounding)

    def agreement(self) -> float:
        """Return how the derivative between clusters varies with the choice of coinciding factors.

        A loss may be stationary as these turn, and yet its derivative depend on where they stand:
        that of another direction, which they follow, then isn't linear.
        """
        rng = np.random.default_rng(2)
        between = _generic(rng, self.a.shape, self.u.dtype)
        for cluster in self.clusters:
            left, right = self.columns(cluster)
            x, y = self.u[:, left], self.v[:, right]
            between -= x @ (x.conj().T @ between @ y) @ y.conj().T
        choices = [(self.u, self.v)]
        choices += [self._adapted(self._direction(rng))[0] for _ in range(2)]
        slopes, scales = zip(*(self._between(u, v, between) for u, v in choices), strict=True)
        return float(np.ptp(slopes) / max(scales)) if max(scales) else 0.0

    def _between(self, u: np.ndarray, v: np.ndarray, direction: np.ndarray) -> tuple[float, float]:
        """Return the derivative along a direction through these factors, and its terms' size."""
        du, _, dv = self.pulled(u, v)
        factors = (jnp.asarray(u, self.a.dtype), self.s, jnp.asarray(v, self.a.dtype))
        moved = factor_tangents(self.a, jnp.asarray(direction, self.a.dtype), *factors)
        moved_u, _, moved_v = map(np.asarray, moved)
        slope = np.sum((du.conj() * moved_u).real) + np.sum((dv.conj() * moved_v).real)
        size = np.linalg.norm(du) * np.linalg.norm(moved_u)
        return float(slope), float(size + np.linalg.norm(dv) * np.linalg.norm(moved_v))

    def _direction(self, rng: np.random.Generator) -> np.ndarray:
        """Return a matrix that moves only what coinciding factors span, of norm about 1."""
        total = np.zeros(self.a.shape, self.u.dtype)
        for cluster in self.clusters:
            left, right = self.columns(cluster)
            block = _generic(rng, (len(left), len(right)), total.dtype)
            if not self.zero(cluster):
                block = block + block.conj().T
            total += self.u[:, left] @ block @ self.v[:, right].conj().T
        return total / np.linalg.norm(total)

    def _along(self, direction: np.ndarray) -> tuple[float, float, float]:
        """Return the derivative along a direction within clusters, its kink, and its terms' size.

        A kink is what the gradient in s leaves between itself and one-sided differences: where
        terms of the loss tie, as in a maximum, its gradient is a compromise. The smaller of two
        lengths counts, less what rounding may do.
        """
        (u, v), rates = self._adapted(direction)
        _, ds, _ = self.pulled(u, v)
        slope, kinks = float(ds @ rates), []
        for part in (1, 1 / 4):
            t = part * float(self.s[0] or 1.0) * self.rounding ** (2 / 3)
            shifts = (self.s + k * t * rates for k in range(3))
            start, near, far = (float(self._loss(*self.factors(u, s, v))) for s in shifts)
            slack = 16 * self.rounding**2 * max(abs(start), abs(near), abs(far)) / t
            kinks.append(abs((4 * near - 3 * start - far) / (2 * t) - slope) - slack)
        return slope, min(kinks), float(np.linalg.norm(ds) * np.linalg.norm(rates))

    def _adapted(self, direction: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
        """Return the factors (u, v) of `a` that a direction within clusters keeps, and its rates.

        a + t direction has the factors u, s + t rates and v for small t > 0: they make the
        direction diagonal on every cluster.
        """
        u, v, rates = self.u.copy(), self.v.copy(), np.zeros(self.k)
        for cluster in self.clusters:
            left, right = self.columns(cluster)
            block = self.u[:, left].conj().T @ direction @ self.v[:, right]
            if not len(cluster):
                rng = np.random.default_rng(3)
                q, r = (np.linalg.qr(_generic(rng, (n, n), u.dtype))[0] for n in block.shape)
            elif self.zero(cluster):
                q, rates[cluster], r = np.linalg.svd(block)
                r = r.conj().T
            else:
                ascending, q = np.linalg.eigh((block + block.conj().T) / 2)
                rates[cluster], q = ascending[::-1], q[:, ::-1]
                r = q
            u[:, left], v[:, right] = self.u[:, left] @ q, self.v[:, right] @ r
        return (u, v), rates


def _generic(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    block, other = rng.normal(size=(2, *shape))
    return (block + 1j * other if np.issubdtype(dtype, np.complexfloating) else block).astype(dtype)
