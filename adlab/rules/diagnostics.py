"""Whether a loss of factors has a derivative at a matrix, and whether `svd` or `eigh` gives it.

Let L(u, s, v) be the loss, (du, ds, dv) its gradients, a = u diag(s) v^H, and f(a) = L(svd(a)).
Where singular values coincide the factors are a choice, and f has a derivative only if that choice
doesn't matter. Three questions decide it.

1. Is f a function of a? On a cluster c of coinciding values (u_c Q, v_c Q) are factors for every
   unitary Q, on the null spaces (u_0 Q, v_0 R) for any two. With Q = I + t K, K antihermitian, L
   changes by t Re<u_c^H du + v_c^H dv, K>, and only the antihermitian part of the left side meets
   K. Its norm is the gauge residual, which must be 0. The null spaces have one for u and one for v.

2. Is the derivative one between clusters? Along directions with u_c^H da v_c = 0 for all c, factors
   move smoothly, and the chain rule gives the derivative. It must be the same for every choice: it
   is compared at three.

3. Is the derivative linear within clusters? Along da = u_c B v_c^H the values of a + t da, t > 0,
   are s_c + t lambda_i, lambda_i the eigenvalues of the Hermitian part of B, and its factors are
   u_c Q and v_c Q, where Q diagonalises that part (on the null spaces t sigma_i of B = Q sigma R^H,
   with u_0 Q and v_0 R). In these factors the derivative is sum_i ds_i lambda_i, without limits.
   The lambda_i aren't linear in B, so that the sum is linear only for a loss that treats the
   cluster as one: it is compared at two directions, their sum, and the opposite of one. Where L
   itself has a kink, such as a maximum of equal values, its gradient is none of its one-sided
   slopes: differences in s tell that.

The rule is exact if its gradient gives the derivatives of question 3. Directions and choices are
random ones, drawn once: a condition that fails, fails for almost all of them. Comparisons allow for
sqrt(eps) of the sizes of their terms. Eigenvalues of Hermitian matrices are the same with u = v.

Sources: Kato (1995), doi:10.1007/978-3-642-66282-9, chapter II, section 5, for the perturbation of
repeated eigenvalues; Lewis (1996), doi:10.1287/moor.21.3.576, and Lewis & Sendov (2005),
doi:10.1007/s11228-004-7197-7, for functions of eigenvalues and of singular values.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import jax
import numpy as np

from adlab.core import checks
from adlab.core.types import ArrayLike
from adlab.rules._gauge import Eigen, Gauge, Singular
from adlab.rules._matrices import as_matrix, require_square

__all__ = ["Diagnostics", "eigh_diagnostics", "svd_diagnostics"]


@dataclass(frozen=True)
class Diagnostics:
    """What stands between a loss of factors and its derivative.

    See `svd_diagnostics` and `eigh_diagnostics`. Printed, it says so in a sentence. Values are
    singular values, or eigenvalues; numbers are relative and have no units.

    Attributes:
      gap: smallest distance of two values, over the largest |value|; infinite if there is one.
      smallest: smallest |value| over the largest one.
      clusters: each value that is repeated, or a singular value 0, with its multiplicity.
      gauge_residual: how the loss changes as coinciding factors turn into one another, over its
        whole gradient.
      differentiable: whether the loss is a function of the matrix, with a derivative there.
      exact: whether the derivative through the rule is that derivative, up to rounding.
      rule: what the loss takes its factors from.
    """

    gap: float
    smallest: float
    clusters: tuple[tuple[float, int], ...]
    gauge_residual: float
    differentiable: bool
    exact: bool
    rule: Literal["svd", "eigh"] = "svd"

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
        "u_c u_c^H a, or u diag(f(s)) vh as u matrix_function(p, f) of u, p = polar(a)",
    ),
    "eigh": (
        "eigenvalues",
        "",
        "max|w|",
        "v_c diag(w_c) v_c^H",
        "v_c v_c^H a, or v diag(f(w)) v^H as matrix_function(a, f)",
    ),
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
    Costs some twenty-five values of the loss with its gradient, compiled unless it branches on the
    factors' values, and a few decompositions; for concrete matrices.

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
    a = as_matrix("svd_diagnostics", "a", a, single=True)
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
    differentiable, but not through eigh: ..., or v diag(f(w)) v^H as matrix_function(a, f)

    Args:
      loss_of_factors: a real scalar of (w, v).
      a: square matrix (n, n), real or complex; its Hermitian part is taken, as in `eigh`.

    Returns:
      Diagnostics, with the rule "eigh".

    Raises:
      ValueError: not a square matrix, an empty one, or one with NaN or infinity.
      TypeError: `a` is being traced, or the loss isn't a real scalar.
    """
    a = as_matrix("eigh_diagnostics", "a", a, single=True)
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
