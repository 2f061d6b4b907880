"""The registries of this package: which kinds there are, and how a user's own code joins them."""

from __future__ import annotations

import inspect
import sys
import typing
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from adlab.lab.errors import UsageError, brief, located
from adlab.lab.registry import Registry, check_target, readable, resolve

__all__ = [
    "PACKAGES",
    "REGISTRIES",
    "estimators",
    "forget_plugins",
    "kinds_in",
    "problems",
    "register_plugin",
]

PACKAGES = ("adlab.gradients", "adlab.problems")
"""Where the kinds of this package are defined, each under its own name."""


def _stand_in(*args: Any) -> float:
    del args
    return 0.0


def _estimators() -> Mapping[str, str]:
    """Return the functions of `adlab.gradients` that make an estimator out of `fun` alone."""
    from adlab import gradients

    found = {name: getattr(gradients, name) for name in gradients.__all__}
    return {name: f"adlab.gradients:{name}" for name, f in found.items() if _estimates(f)}


def _estimates(factory: Any) -> bool:
    if not inspect.isfunction(factory):
        return False
    from adlab.gradients import GradientFn

    parameters = inspect.signature(factory).parameters.values()
    positional = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    returned = typing.get_type_hints(factory).get("return")
    return positional == ["fun"] and (typing.get_origin(returned) or returned) is GradientFn


estimators = Registry("estimator", _estimators, stand_ins=(_stand_in,))

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


def register_plugin(kind: str, plugins: Iterable[str]) -> Path | None:
    """Register a user's factory `kind = "module:function"`, and return the file it comes from.

    It joins the registry whose factories take as many positional arguments: an estimator takes
    the function, a problem none.

    Raises:
      UsageError: the module wasn't allowed by --plugin; it has no such function; no registry
        takes it.
    """
    check_target(kind)
    module = kind.partition(":")[0]
    if module not in plugins:
        told = brief(kind, 80), brief(module, 80)
        raise UsageError("'{}' is code of your own: allow it with --plugin {}".format(*told))
    factory = resolve(kind)
    if not readable(factory):
        raise UsageError(
            f"'{kind}' must be a function whose parameters can be read; wrap it in one"
        )
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
    except Exception as error:  # an annotation that can't be evaluated
        registry.forget(kind)
        raise UsageError(f"'{kind}': {located(error)}") from error
    source = getattr(sys.modules.get(module), "__file__", None)
    return Path(source) if source else None


def forget_plugins() -> None:
    """Drop every kind that `register_plugin` added, so that each run allows its own."""
    for registry in REGISTRIES:
        for kind in registry.kinds:
            if ":" in kind:
                registry.forget(kind)


def kinds_in(value: Any) -> Iterator[str]:
    """Yield the `kind` of every table in nested tables and lists."""
    if isinstance(value, dict):
        kind = value.get("kind")
        if isinstance(kind, str):
            yield kind
        for item in value.values():
            yield from kinds_in(item)
    elif isinstance(value, list):
        for item in value:
            yield from kinds_in(item)
