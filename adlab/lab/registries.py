"""The registries of this package: which kinds there are, and how a user's own code joins them."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from adlab.lab.errors import UsageError
from adlab.lab.registry import Registry, resolve


def _stand_in(*args: Any) -> float:
    del args
    return 0.0


estimators = Registry(
    "estimator",
    {
        kind: f"adlab.gradients:{kind}"
        for kind in (
            "reverse_mode",
            "forward_mode",
            "forward_gradient",
            "finite_difference",
            "two_point",
            "one_sided",
        )
    },
    stand_ins=(_stand_in,),
)

problems = Registry(
    "problem",
    {
        kind: f"adlab.problems:{kind}"
        for kind in (
            "quadratic",
            "lecture_quadratic",
            "rosenbrock",
            "nonconvex_tail",
            "logistic_tail",
            "huber",
            "norm",
            "logistic_regression",
        )
    },
)

REGISTRIES = (estimators, problems)


def admit(kind: str, plugins: Iterable[str]) -> Path | None:
    """Register a user's factory `kind = "module:function"`, and return the file it comes from.

    It joins the registry whose factories take as many positional arguments: an estimator takes
    the function, a problem none.

    Raises:
      UsageError: the module wasn't allowed by --plugin; it has no such function; no registry
        takes it.
    """
    module = kind.partition(":")[0]
    if module not in plugins:
        raise UsageError(f"'{kind}' is code of your own: allow it with --plugin {module}")
    factory = resolve(kind)
    registry = next((r for r in REGISTRIES if r.accepts(factory)), None)
    if registry is None:
        raise UsageError(
            f"'{kind}' must take one positional argument (an estimator: fun) or none (a problem)"
        )
    registry.register(kind)
    try:
        registry.spec(kind)
    except TypeError as error:
        registry.forget(kind)
        raise UsageError(str(error)) from None
    source = getattr(sys.modules[module], "__file__", None)
    return Path(source) if source else None


def forget_admitted() -> None:
    """Drop every kind that `admit` added, so that each run allows its own."""
    for registry in REGISTRIES:
        for kind in registry.kinds:
            if ":" in kind:
                registry.forget(kind)


def own_kinds(value: Any) -> Iterator[str]:
    """Yield every `kind = "module:function"` in nested tables and lists."""
    if isinstance(value, dict):
        kind = value.get("kind")
        if isinstance(kind, str) and ":" in kind:
            yield kind
        for item in value.values():
            yield from own_kinds(item)
    elif isinstance(value, list):
        for item in value:
            yield from own_kinds(item)
