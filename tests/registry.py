"""Every kind of gradient, set up to be as good as it gets: one line here buys the whole battery."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

from adlab.core import trees
from adlab.core.cost import Cost
from adlab.gradients import (
    custom,
    finite_difference,
    forward_gradient,
    forward_mode,
    one_sided,
    reverse_mode,
    two_point,
)


class Kind(NamedTuple):
    """How to build a kind for a function of `dim` numbers, and what to expect of it.

    Attributes:
      make: (fun, dim, **options) -> GradientFn.
      error: relative error in float32 on a quadratic of numbers about 1.
      coarse: the same with some leaves in bfloat16, whose step then is 2^-7 to a power.
      random: whether it draws probes.
      calls: what of `fun` it calls: "evaluations", "jvps" or "vjps".
    """

    make: Callable
    error: float
    coarse: float
    random: bool = False
    calls: str = "evaluations"

    @property
    def values_only(self) -> bool:
        return self.calls == "evaluations"


def _probed(factory):
    def make(fun, dim, **options):
        return factory(fun, law="orthogonal", num_probes=dim, **options)

    return make


def _scheme(name):
    def make(fun, dim, **options):
        del dim
        return finite_difference(fun, scheme=name, **options)

    return make


def _exact(factory):
    def make(fun, dim, **options):
        del dim
        return factory(fun, **options)

    return make


def central_of_their_own(fun, x, key):
    """A user's estimator: central differences in a Python loop, along every coordinate."""
    del key
    flat, like, h = trees.ravel(x), trees.probe_like(x), 0.25
    units = jnp.eye(flat.size, dtype=flat.dtype)

    def slope(unit):
        ends = (trees.unravel(flat + sign * h * unit, x) for sign in (1, -1))
        ahead, behind = (fun(end) for end in ends)
        return (ahead - behind) / (2 * h)

    return trees.unravel(jnp.stack([slope(unit) for unit in units]), like)


def _their_cost(dim):
    return Cost(evaluations=2 * dim)


def _custom(fun, dim, **options):
    del dim
    return custom(fun, central_of_their_own, cost=_their_cost, **options)


KINDS = {
    "reverse_mode": Kind(_exact(reverse_mode), 1e-6, 1e-2, calls="vjps"),
    "forward_mode": Kind(_exact(forward_mode), 1e-6, 1e-2, calls="jvps"),
    "forward_gradient": Kind(_probed(forward_gradient), 1e-5, 3e-2, random=True, calls="jvps"),
    "two_point": Kind(_probed(two_point), 1e-3, 5e-2, random=True),
    "one_sided": Kind(_probed(one_sided), 1e-2, 5e-1, random=True),
    "finite_difference/forward": Kind(_scheme("forward"), 1e-2, 2e-1),
    "finite_difference/central": Kind(_scheme("central"), 1e-3, 1e-2),
    "finite_difference/richardson": Kind(_scheme("richardson"), 1e-3, 1e-2),
    "finite_difference/complex": Kind(_scheme("complex"), 1e-6, 1e-2),
    "custom": Kind(_custom, 1e-5, 1e-2),
}
RANDOM = [name for name, kind in KINDS.items() if kind.random]
VALUES_ONLY = [
    name for name, kind in KINDS.items() if kind.values_only and not name.endswith("complex")
]
