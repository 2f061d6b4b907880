"""The choices that a matrix leaves to its factors, and how a loss of them takes these choices.

NumPy throughout, but for the loss, its gradient, and the rules that are asked about: each of these
is one compiled program.
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adlab.rules import eigenvalues, singular_values
from adlab.rules._matrices import clusters, spread

__all__ = ["Eigen", "Gauge", "Singular"]

Bases = tuple[np.ndarray, ...]
"""Orthonormal bases in columns: (u, v) of a singular value decomposition, (v,) of eigenvectors."""


class Gauge(abc.ABC):
    """The factors of one matrix, and the choices among them."""

    bases: Bases
    s: np.ndarray

    def __init__(
        self, loss: Callable[..., jax.Array], a: jax.Array, values: jax.Array, tol: jax.Array
    ) -> None:
        self.rounding = float(jnp.finfo(a.dtype).eps) ** 0.5
        self.a, self._loss = a, loss
        self._differentiated: Callable[..., Any] | None = None
        self.s, self.k = np.asarray(values), values.shape[-1]
        self.tol = float(tol)
        self.top = float(np.max(abs(self.s))) or 1.0
        steps = abs(np.diff(self.s)) > self.tol
        self.clusters = np.split(np.arange(self.k), 1 + np.flatnonzero(steps))

    @abc.abstractmethod
    def zero(self, cluster: np.ndarray) -> bool:
        """Return whether the values of a cluster count as 0."""

    @abc.abstractmethod
    def columns(self, cluster: np.ndarray) -> tuple[np.ndarray, ...]:
        """Return the columns of each basis that a cluster mixes."""

    @abc.abstractmethod
    def factors(self, values: np.ndarray, bases: Bases) -> tuple[jax.Array, ...]:
        """Return what the loss takes."""

    @abc.abstractmethod
    def pulled(self, bases: Bases) -> tuple[float, np.ndarray, Bases]:
        """Return the loss, and its gradients in the values and in these bases."""

    @abc.abstractmethod
    def through(self) -> np.ndarray:
        """Return the gradient of the loss through the rule."""

    @abc.abstractmethod
    def moved(self, direction: np.ndarray, bases: Bases) -> Bases:
        """Return the tangents of these bases along a direction between clusters."""

    @abc.abstractmethod
    def free(self, cluster: np.ndarray) -> bool:
        """Return whether each basis turns by itself in a cluster."""

    @abc.abstractmethod
    def diagonal(
        self, cluster: np.ndarray, direction: np.ndarray
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
        """Return the rates of a cluster's values along a direction, and its factors' turning."""

    def differentiated(self, values: np.ndarray, bases: Bases) -> tuple[float, Bases]:
        """Return the loss and its gradients in what it takes."""
        factors = self.factors(values, bases)
        eager = jax.value_and_grad(self._loss, argnums=tuple(range(len(factors))))
        if self._differentiated is None:
            self._differentiated = jax.jit(eager)
            try:
                self._differentiated(*factors)
            except (jax.errors.JAXTypeError, jax.errors.JAXIndexError):
                self._differentiated = eager  # a loss may branch on the values of its factors
        value, gradients = self._differentiated(*factors)
        return float(value), tuple(map(np.asarray, gradients))

    def residual(self) -> float:
        """Return the derivative along turning coinciding factors, over the whole gradient.

        The larger of two: a loss may be stationary in the factors that the decomposition chose.
        """
        turned, _ = self._adapted(self._direction(np.random.default_rng(1)))
        return max(self._residual(self.bases), self._residual(turned))

    def _residual(self, bases: Bases) -> float:
        *_, gradients = self.pulled(bases)
        turned = 0.0
        for cluster in self.clusters:
            skew = []
            for basis, gradient, columns in zip(
                bases, gradients, self.columns(cluster), strict=True
            ):
                block = basis[:, columns].conj().T @ gradient[:, columns]
                skew.append(block - block.conj().T)
            parts = skew if self.free(cluster) else [sum(skew)]
            turned += float(sum(np.linalg.norm(part) ** 2 for part in parts))
        whole = sum(np.linalg.norm(gradient) ** 2 for gradient in gradients)
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
        between = self._symmetric(_generic(rng, self.a.shape, self.bases[0].dtype))
        for cluster in self.clusters:
            x, y = self._sides(cluster)
            between = between - x @ (x.conj().T @ between @ y) @ y.conj().T
        choices = [self.bases]
        choices += [self._adapted(self._direction(rng))[0] for _ in range(2)]
        slopes, scales = zip(*(self._between(bases, between) for bases in choices), strict=True)
        return float(np.ptp(slopes) / max(scales)) if max(scales) else 0.0

    def _between(self, bases: Bases, direction: np.ndarray) -> tuple[float, float]:
        """Return the derivative along a direction through these factors, and its terms' size."""
        *_, gradients = self.pulled(bases)
        slope = size = 0.0
        for gradient, moved in zip(gradients, self.moved(direction, bases), strict=True):
            slope += float(np.sum((gradient.conj() * moved).real))
            size += float(np.linalg.norm(gradient) * np.linalg.norm(moved))
        return slope, size

    def _symmetric(self, direction: np.ndarray) -> np.ndarray:
        return direction

    def _sides(self, cluster: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the columns of a cluster that a direction meets from the left and the right."""
        columns = self.columns(cluster)
        return self.bases[0][:, columns[0]], self.bases[-1][:, columns[-1]]

    def _direction(self, rng: np.random.Generator) -> np.ndarray:
        """Return a matrix that moves only what coinciding factors span, of norm about 1."""
        total = np.zeros(self.a.shape, self.bases[0].dtype)
        for cluster in self.clusters:
            x, y = self._sides(cluster)
            block = _generic(rng, (x.shape[1], y.shape[1]), total.dtype)
            if not self.free(cluster):
                block = block + block.conj().T
            total += x @ block @ y.conj().T
        return np.asarray(total / np.linalg.norm(total))

    def _along(self, direction: np.ndarray) -> tuple[float, float, float]:
        """Return the derivative along a direction within clusters, its kink, and its terms' size.

        A kink is what the gradient in s leaves between itself and one-sided differences: where
        terms of the loss tie, as in a maximum, its gradient is a compromise. The smaller of two
        lengths counts, less what rounding may do.
        """
        bases, rates = self._adapted(direction)
        start, ds, _ = self.pulled(bases)
        slope, kinks = float(ds @ rates), []
        for part in (1, 1 / 4):
            t = part * self.top * self.rounding ** (2 / 3)
            shifts = (self.s + k * t * rates for k in (1, 2))
            near, far = (self.differentiated(s, bases)[0] for s in shifts)
            slack = 16 * self.rounding**2 * max(abs(start), abs(near), abs(far)) / t
            kinks.append(abs((4 * near - 3 * start - far) / (2 * t) - slope) - slack)
        return slope, min(kinks), float(np.linalg.norm(ds) * np.linalg.norm(rates))

    def _adapted(self, direction: np.ndarray) -> tuple[Bases, np.ndarray]:
        """Return the bases for `a` that a direction within clusters keeps, and its rates.

        a + t direction has these bases and the values s + t rates for small t > 0: they make the
        direction diagonal on every cluster.
        """
        bases, rates = tuple(basis.copy() for basis in self.bases), np.zeros(self.k)
        rng = np.random.default_rng(4)
        for cluster in self.clusters:
            found, turns = self.diagonal(cluster, direction)
            rates[cluster] = found[: len(cluster)]
            if np.iscomplexobj(bases[0]) and not self.free(cluster):
                # LAPACK's phases make some entries real: there a loss may look stationary.
                phases = np.exp(2j * np.pi * rng.uniform(size=len(cluster)))
                turns = tuple(turn * phases.astype(bases[0].dtype) for turn in turns)
            for basis, old, columns, turn in zip(
                bases, self.bases, self.columns(cluster), turns, strict=True
            ):
                basis[:, columns] = old[:, columns] @ turn
        return bases, rates


class Singular(Gauge):
    """Singular factors: the cluster of 0, perhaps empty, has the null spaces as well."""

    def __init__(self, loss: Callable[..., jax.Array], a: jax.Array, full_matrices: bool) -> None:
        (u, s, vh), tol = _singular(a)
        super().__init__(loss, a, s, tol)
        self.full = full_matrices
        self.bases = np.asarray(u), np.asarray(vh).conj().T
        if not self.zero(self.clusters[-1]):
            self.clusters.append(np.arange(0))  # the null spaces alone

    def zero(self, cluster: np.ndarray) -> bool:
        """Return whether a cluster is that of 0."""
        return not len(cluster) or bool(self.s[cluster[-1]] <= self.tol)

    def free(self, cluster: np.ndarray) -> bool:
        """Return whether u and v turn apart: they do in null spaces."""
        return self.zero(cluster)

    def columns(self, cluster: np.ndarray) -> tuple[np.ndarray, ...]:
        """Return the columns of u and of v that a cluster mixes; that of 0 has the null spaces."""
        if not self.zero(cluster):
            return cluster, cluster
        first = cluster[0] if len(cluster) else self.k
        rows, columns = self.a.shape
        return np.arange(first, rows), np.arange(first, columns)

    def factors(self, values: np.ndarray, bases: Bases) -> tuple[jax.Array, ...]:
        """Return u, s and vh of the shapes asked for."""
        (u, v), dtype = bases, self.a.dtype
        rows, columns = self.a.shape if self.full else (self.k, self.k)
        vh = jnp.asarray(v[:, :columns].conj().T, dtype)
        return jnp.asarray(u[:, :rows], dtype), jnp.asarray(values, self.s.dtype), vh

    def through(self) -> np.ndarray:
        """Return the gradient of the loss through the rule of svd."""
        _, ds, (du, dv) = self.pulled(self.bases)
        return np.asarray(_through_svd(self.a, du.conj(), ds, dv.T))

    def pulled(self, bases: Bases) -> tuple[float, np.ndarray, Bases]:
        """Return the loss and its gradients in these factors, padded to square u and v."""
        value, (du, ds, dvh) = self.differentiated(self.s, bases)
        wide_u, wide_v = map(np.zeros_like, bases)
        wide_u[:, : du.shape[1]] = du.conj()
        wide_v[:, : len(dvh)] = dvh.T
        return value, ds, (wide_u, wide_v)

    def moved(self, direction: np.ndarray, bases: Bases) -> Bases:
        """Return the tangents of u and v."""
        u, v = bases
        du, _, dv = _moved_svd(self.a, direction.astype(self.a.dtype), u, self.s, v)
        return np.asarray(du), np.asarray(dv)

    def diagonal(
        self, cluster: np.ndarray, direction: np.ndarray
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
        """Return the rates of singular values, descending, and how u and v turn."""
        x, y = self._sides(cluster)
        block = x.conj().T @ direction @ y
        if not len(cluster):
            rng = np.random.default_rng(3)
            q, r = (np.linalg.qr(_generic(rng, (n, n), x.dtype))[0] for n in block.shape)
            return np.zeros(0), (q, r)
        if self.zero(cluster):
            q, rates, rh = np.linalg.svd(block)
            return rates, (q, rh.conj().T)
        ascending, q = np.linalg.eigh((block + block.conj().T) / 2)
        return ascending[::-1], (q[:, ::-1], q[:, ::-1])


class Eigen(Gauge):
    """Eigenvalues and eigenvectors of the Hermitian part of a matrix."""

    def __init__(self, loss: Callable[..., jax.Array], a: jax.Array) -> None:
        a, (w, v), tol = _eigen(a)
        super().__init__(loss, a, w, tol)
        self.bases = (np.asarray(v),)

    def zero(self, cluster: np.ndarray) -> bool:
        """Return whether a cluster is that of 0."""
        return bool(np.min(abs(self.s[cluster])) <= self.tol)

    def free(self, cluster: np.ndarray) -> bool:
        """Return False: there is one basis."""
        del cluster
        return False

    def columns(self, cluster: np.ndarray) -> tuple[np.ndarray, ...]:
        """Return the eigenvectors of a cluster."""
        return (cluster,)

    def factors(self, values: np.ndarray, bases: Bases) -> tuple[jax.Array, ...]:
        """Return eigenvalues and eigenvectors."""
        return jnp.asarray(values, self.s.dtype), jnp.asarray(bases[0], self.a.dtype)

    def through(self) -> np.ndarray:
        """Return the gradient of the loss through the rule of eigh."""
        _, dw, (dv,) = self.pulled(self.bases)
        return np.asarray(_through_eigh(self.a, dw, dv.conj()))

    def pulled(self, bases: Bases) -> tuple[float, np.ndarray, Bases]:
        """Return the loss and its gradients in these factors."""
        value, (dw, dv) = self.differentiated(self.s, bases)
        return value, dw, (dv.conj(),)

    def moved(self, direction: np.ndarray, bases: Bases) -> Bases:
        """Return the tangents of the eigenvectors."""
        along = direction.astype(self.a.dtype)
        return (np.asarray(_moved_eigh(along, self.s, bases[0], self.s.dtype.type(self.tol))),)

    def diagonal(
        self, cluster: np.ndarray, direction: np.ndarray
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
        """Return the rates of eigenvalues, ascending, and how their vectors turn."""
        x, _ = self._sides(cluster)
        block = x.conj().T @ direction @ x
        rates, q = np.linalg.eigh((block + block.conj().T) / 2)
        return rates, (q,)

    def _symmetric(self, direction: np.ndarray) -> np.ndarray:
        return np.asarray((direction + direction.conj().T) / 2)


@jax.jit
def _singular(a: jax.Array) -> tuple[singular_values.SVD, jax.Array]:
    """Return singular factors, and how far values that should be equal may be apart."""
    factors = singular_values.svd(a)
    return factors, spread(factors.s, a.shape)[0]


@jax.jit
def _through_svd(a: jax.Array, du: Any, ds: Any, dvh: Any) -> jax.Array:
    found: jax.Array = jax.vjp(singular_values.svd, a)[1](singular_values.SVD(du, ds, dvh))[0]
    return found


_moved_svd = jax.jit(singular_values.factor_tangents)


@jax.jit
def _eigen(a: jax.Array) -> tuple[jax.Array, eigenvalues.Eigh, jax.Array]:
    """Return the Hermitian part, its eigenvectors, and how far equal values may be apart."""
    a = eigenvalues.hermitian(a)
    factors = eigenvalues.eigh(a)
    return a, factors, spread(factors.eigenvalues, a.shape)[0]


@jax.jit
def _through_eigh(a: jax.Array, dw: Any, dv: Any) -> jax.Array:
    found: jax.Array = jax.vjp(eigenvalues.eigh, a)[1](eigenvalues.Eigh(dw, dv))[0]
    return found


@jax.jit
def _moved_eigh(along: jax.Array, w: jax.Array, v: jax.Array, tol: jax.Array) -> jax.Array:
    return eigenvalues.factor_tangents(along, w, v, clusters(w, tol[None]))[1]


def _generic(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    block, other = rng.normal(size=(2, *shape))
    complex_ = np.issubdtype(dtype, np.complexfloating)
    return np.asarray(block + 1j * other if complex_ else block, dtype)
