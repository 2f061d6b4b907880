"""Whether a loss of factors has a derivative at a matrix, and whether `svd` or `eigh` gives it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import jax
import numpy as np

from adlab.core import checks
from adlab.core.types import ArrayLike
from adlab.rules._gauge import Eigen, Gauge, Singular
from adlab.rules.matrices import as_matrix, require_square

__all__ = ["Diagnostics", "eigh_diagnostics", "svd_diagnostics"]


@dataclass(frozen=True)
class Diagnostics:
    """What stands between a loss of factors and its derivative.

    See `svd_diagnostics` and `eigh_diagnostics`; values are singular values, or eigenvalues.
    """

    gap: float
    """Smallest distance of two values, over the largest |value|; infinite if there is one."""
    smallest: float
    """Smallest |value| over the largest one."""
    clusters: tuple[tuple[float, int], ...]
    """Each value that is repeated, or a singular value 0, with its multiplicity."""
    gauge_residual: float
    """How the loss changes as coinciding factors turn into one another, over its whole gradient."""
    differentiable: bool
    """Whether the loss is a function of the matrix, with a derivative there."""
    exact: bool
    """Whether the derivative through the rule is that derivative, up to rounding."""
    rule: Literal["svd", "eigh"] = "svd"
    """What the loss takes its factors from."""

    def __str__(self) -> str:
        values, whole, largest, rebuilt, remedy = _WORDS[self.rule]
        if self.exact:
            return f"differentiable, and exact through {self.rule} (gap {self.gap:.2g} {largest})"
        if self.differentiable:
            return (
                f"differentiable, but not through {self.rule}: the loss sees how a cluster of "
                f"{values} splits; write {rebuilt} as {remedy}"
            )
        return (
            "not differentiable: the loss sees a choice that the matrix leaves open: of factors in "
            f"a cluster of {values}, {whole}or of complex phases"
        )


_WORDS = {
    "svd": (
        "singular values",
        "of a basis of a null space, ",
        "s_1",
        "u_c diag(s_c) vh_c",
        "u_c u_c^H a",
    ),
    "eigh": ("eigenvalues", "", "max|w|", "v_c diag(w_c) v_c^H", "v_c v_c^H a"),
}


def svd_diagnostics(
    loss_of_factors: Callable[[jax.Array, jax.Array, jax.Array], jax.Array],
    a: ArrayLike,
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
    _require_concrete("svd_diagnostics", a)
    return _diagnose(Singular(loss_of_factors, a, full_matrices), "svd")


def eigh_diagnostics(
    loss_of_factors: Callable[[jax.Array, jax.Array], jax.Array], a: ArrayLike
) -> Diagnostics:
    """Tell whether `loss_of_factors(*eigh(a))` has a derivative at `a`, and if `eigh` gives it.

    The derivative is that along Hermitian directions. The gauge residual is |skew(v_c^H dv)| on
    each cluster c of coinciding eigenvalues, over |dv|; all else is as in `svd_diagnostics`. It
    sees what the NaN of `eigh` can't: losses whose cotangents happen to be equal within a cluster,
    and what forward mode will get.

    >>> print(eigh_diagnostics(lambda w, v: w.sum(), jnp.eye(3)))
    differentiable, and exact through eigh (gap 0 max|w|)
    >>> rebuilt = lambda w, v: (v @ jnp.diag(w) @ v.T).sum()
    >>> print(eigh_diagnostics(rebuilt, jnp.eye(3)))  # doctest: +ELLIPSIS
    differentiable, but not through eigh: ... write v_c diag(w_c) v_c^H as v_c v_c^H a

    Args:
      loss_of_factors: a real scalar of (w, v).
      a: square matrix (n, n), real or complex; its Hermitian part is taken, as in `eigh`.

    Returns:
      Diagnostics, with the rule "eigh".

    Raises:
      ValueError: not a square matrix, an empty one, or one with NaN or infinity.
      TypeError: `a` is being traced, or the loss isn't a real scalar.
    """
    a = as_matrix("eigh_diagnostics", "a", a, batched=False)
    require_square("eigh_diagnostics", "a", a)
    _require_concrete("eigh_diagnostics", a)
    return _diagnose(Eigen(loss_of_factors, a), "eigh")


def _require_concrete(function: str, a: jax.Array) -> None:
    if not checks.concrete(a):
        raise TypeError(f"{function}: a must be concrete, got a traced array; call it outside")


def _diagnose(gauge: Gauge, rule: Literal["svd", "eigh"]) -> Diagnostics:
    s, top = gauge.s, gauge.top
    gap = float(np.min(abs(np.diff(s))) / top) if len(s) > 1 else np.inf
    open_ = [c for c in gauge.clusters if len(c) > 1 or (len(c) and gauge.free(c))]
    values = tuple((0.0 if gauge.zero(c) else float(s[c].mean()), len(c)) for c in open_)
    residual, (linear, exact) = gauge.residual(), gauge.linearity()
    differentiable = linear and residual < gauge.rounding and gauge.agreement() < gauge.rounding
    return Diagnostics(
        gap,
        float(np.min(abs(s)) / top),
        values,
        residual,
        differentiable,
        differentiable and exact,
        rule,
    )
