"""Every kind of gradient, set up to be as good as it gets.

The kinds are read off `gradients.__all__`: a new estimator gets the whole battery of tests without
a line here. It is held to the bounds of `_COARSEST` until it states better ones in `_ERRORS`.
"""

import inspect
from collections.abc import Callable
from typing import NamedTuple, get_args, get_origin, get_type_hints

import jax.numpy as jnp

from adlab import gradients
from adlab.core import trees
from adlab.core.cost import Cost
from adlab.gradients import GradientFn


class Kind(NamedTuple):
    """How to build a kind for a function of `dim` numbers, and what to expect of it.

    Attributes:
      make: (fun, dim, **options) -> GradientFn.
      error: relative error in float32 on a quadratic of numbers about 1.
      coarse: the same with some leaves in bfloat16, whose step then is 2^-7 to a power.
      random: whether it draws probes.
      calls: what of `fun` it calls: "evaluations", "jvps" or "vjps".
      free: the option by which its step isn't measured; none where it has no step.
    """

    make: Callable
    error: float
    coarse: float
    random: bool
    calls: str
    free: dict[str, str]

    @property
    def values_only(self) -> bool:
        return self.calls == "evaluations"


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


# What a kind can't be made without.
_NEEDED = {"custom": {"estimate": central_of_their_own, "cost": _their_cost}}
_COARSEST = (1e-2, 5e-1)
_ERRORS = {
    "reverse_mode": (1e-6, 1e-2),
    "forward_mode": (1e-6, 1e-2),
    "forward_gradient": (1e-5, 3e-2),
    "two_point": (1e-3, 5e-2),
    "one_sided": (1e-2, 5e-1),
    "finite_difference/forward": (1e-2, 2e-1),
    "finite_difference/central": (1e-3, 1e-2),
    "finite_difference/richardson": (1e-3, 1e-2),
    "finite_difference/complex": (1e-6, 1e-2),
    "custom": (1e-5, 1e-2),
}


def factories():
    """Yield the name and the function of each factory of gradients that the package offers."""
    for name in gradients.__all__:
        member = getattr(gradients, name)
        if (
            inspect.isfunction(member)
            and get_origin(get_type_hints(member)["return"]) is GradientFn
        ):
            yield name, member


def _variants(name, factory):
    """Yield a factory's names and options: one for each of its schemes, where it has any."""
    schemes = get_args(get_type_hints(factory).get("scheme"))
    if not schemes:
        yield name, _NEEDED.get(name, {})
    for scheme in schemes:
        yield f"{name}/{scheme}", {"scheme": scheme}


def _kind(name, factory, given):
    parameters = inspect.signature(factory).parameters
    random = "law" in parameters
    steps = {"step", "smoothing"} & set(parameters)

    def make(fun, dim, **options):
        probes = {"law": "orthogonal", "num_probes": dim} if random else {}
        return factory(fun, **given, **probes, **options)

    free = {step: "relative" for step in steps if given.get("scheme") != "complex"}
    cost = make(jnp.sum, 2, **free).cost(jnp.ones(2))
    calls = next(calls for calls in ("evaluations", "jvps", "vjps") if getattr(cost, calls))
    return Kind(make, *_ERRORS.get(name, _COARSEST), random, calls, free)


KINDS = {
    name: _kind(name, factory, given)
    for kind, factory in factories()
    for name, given in _variants(kind, factory)
}
RANDOM = [name for name, kind in KINDS.items() if kind.random]
VALUES_ONLY = [
    name for name, kind in KINDS.items() if kind.values_only and not name.endswith("complex")
]
# One that draws probes, one that differentiates, one that takes differences: for what `GradientFn`
# does itself, and no kind can change.
SOME = ["two_point", "reverse_mode", "finite_difference/central"]
