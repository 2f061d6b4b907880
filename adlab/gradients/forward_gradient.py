"""The forward gradient: exact slopes along random probes, by forward mode."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax

from adlab.core._programs import one_program
from adlab.core._redrawn import Probe
from adlab.core.calls import Bound
from adlab.core.cost import Cost
from adlab.core.nodes import register
from adlab.core.probes import Law, LawName
from adlab.core.types import Argnums, Array, ChunkSize, Objective, Params, PyTree, Rest
from adlab.gradients._probed import Directional, Slope, probed
from adlab.gradients.autodiff import require_finite_slopes
from adlab.gradients.gradient_fn import GradientFn

__all__ = ["forward_gradient"]


@register()
@dataclass(frozen=True, eq=False)
class Tangent(Slope):
    """The Jacobian-vector product along a probe."""

    def arguments(self) -> dict[str, Any]:
        return {}

    def along(
        self, fun: Bound, x: PyTree, value: Array | None, chunk_size: ChunkSize
    ) -> Directional:
        del value, chunk_size

        def slope(probe: Probe) -> Array:
            along: Array = jax.jvp(fun, (x,), (_whole(probe, x),))[1]
            return along

        return slope

    def cost(self, x: PyTree, num_probes: int, *, value: bool) -> Cost:
        del x
        return Cost(jvps=num_probes, evaluations=int(value))

    def check(
        self, fun: Bound, x: PyTree, draw: Callable[[int], PyTree], chunk_size: ChunkSize
    ) -> None:
        del draw, chunk_size
        require_finite_slopes(fun, x)


@one_program()
def _whole(probe: Probe, x: PyTree) -> PyTree:
    return probe.tree(x)


def forward_gradient(
    fun: Objective[Params, Rest],
    *,
    law: LawName | Law = "rademacher",
    num_probes: int = 1,
    chunk_size: ChunkSize = "auto",
    argnums: Argnums = 0,
    has_aux: bool = False,
) -> GradientFn[Params, Rest]:
    """Estimate the gradient of `fun` from exact directional derivatives along random probes.

    g = (1/m) sum_i (grad fun(x) . u_i) u_i,   m = num_probes: `two_point` in the limit h -> 0.

    Unbiased for every differentiable `fun`. The mean squared error is (d - 1)/m * |grad|^2 for
    sphere, Rademacher and coordinate probes, (d + 1)/m for Gaussian ones, d/m - 1 for orthogonal
    ones (m <= d). Costs m Jacobian-vector products, stores no intermediates. Memory
    O(chunk_size * d), for a tangent is held; with law "orthogonal" O(min(m, d) * d).

    >>> g = forward_gradient(lambda x: jnp.sum(x**2), num_probes=2, law="orthogonal")
    >>> g(jnp.array([1.0, 2.0]), key=jax.random.key(0)).round(2)
    Array([2., 4.], dtype=float32)

    Args:
      fun: differentiable by JAX in forward mode; returns a real scalar, or (scalar, aux).
      law: distribution of the probes, with E[u u^T] = I: a name, or (like, *, key) -> probe.
      num_probes: number m of probes. Probe i is drawn from fold_in(key, i), as is block i of
        orthogonal ones; a single probe from the key itself.
      chunk_size: how many probes are evaluated at a time; doesn't change them.
      argnums: which positional argument to differentiate, or a tuple of several.
      has_aux: whether `fun` returns auxiliary data beside its value.

    Returns:
      A GradientFn with the signature of `fun` plus `key`. Inside of `jax.shard_map` the key is the
      same on all devices that share x, and may be each device's own where x is.

    Raises:
      ValueError: num_probes < 1; chunk_size < 1; an unknown law.
      TypeError: no key (when called); `fun` isn't scalar; a leaf isn't real floating-point.

    Source: Baydin et al. (2022), doi:10.48550/arXiv.2202.08587.
    """
    return probed(
        forward_gradient,
        Tangent(),
        fun,
        law=law,
        num_probes=num_probes,
        chunk_size=chunk_size,
        argnums=argnums,
        has_aux=has_aux,
    )
