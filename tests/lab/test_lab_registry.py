"""Schemas from signatures: toy factories for the rules, then every kind that the package names."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import pydantic
import pytest

from adlab import lab
from adlab.lab import registries
from adlab.lab.errors import UsageError
from adlab.lab.registry import Registry, plain

LawName = Literal["sphere", "gaussian"]
Law = Callable[..., Any]


def probing(
    fun: Callable[..., Any],
    *,
    smoothing: float | Literal["auto"] = "auto",
    law: LawName | Law = "sphere",
    num_probes: int = 1,
    weights: Sequence[float] | None = None,
    hook: Callable[[int], int] | None = None,
    start: np.ndarray | None = None,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
) -> Any:
    """Probe.

    Args:
      smoothing: the step,
        in units of x.
      num_probes: how many.
    """
    if num_probes < 1:
        raise ValueError(f"num_probes must be >= 1, got {num_probes}")
    return fun, smoothing, law, num_probes, weights, hook, start, argnums, has_aux


def exact(fun: Callable[..., Any]) -> Any:
    return fun


@pytest.fixture
def registry(monkeypatch):
    module = types.ModuleType("toy_factories")
    module.probing, module.exact = probing, exact
    monkeypatch.setitem(sys.modules, "toy_factories", module)
    kinds = {"probing": "toy_factories:probing", "exact": "toy_factories:exact"}
    return Registry("estimator", kinds, stand_ins=(abs,))


def test_the_signature_is_the_schema(registry):
    spec = registry.spec("probing")
    assert list(spec.model_fields) == ["kind", "smoothing", "law", "num_probes", "weights"]
    assert spec.model_fields["law"].annotation == LawName  # the callable member dropped out
    assert spec.model_fields["smoothing"].description == "the step, in units of x."
    assert spec.model_fields["num_probes"].default == 1
    assert spec.__doc__ == "Probe."


def test_a_spec_calls_its_factory(registry):
    spec = registry.make("probing", num_probes=4, weights=[1.0])
    assert spec.build(abs) == (abs, "auto", "sphere", 4, [1.0], None, None, 0, False)
    assert registry.make("exact").build(abs) is abs


def test_names_show_what_differs_from_the_defaults(registry):
    assert registry.make("probing").name == "probing"
    spec = registry.make("probing", smoothing=0.5, law="gaussian", num_probes=1)
    assert spec.name == "probing(smoothing=0.5, law=gaussian)"
    registry.register("toy_factories:exact")
    assert registry.make("toy_factories:exact").name == "exact"


def test_specs_are_frozen_and_equal_by_value(registry):
    spec = registry.make("probing", num_probes=2)
    assert spec == registry.make("probing", num_probes=2)
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        spec.num_probes = 3


def test_make_names_every_problem(registry):
    with pytest.raises(ValueError, match="probing: num_probes must be >= 1, got 0"):
        registry.make("probing", num_probes=0)
    with pytest.raises(ValueError, match="num_probes") as caught:
        registry.make("probing", num_probes="1", num_probe=2)
    assert str(caught.value) == (
        "probing: `num_probes` must be an integer, got '1'; unknown key `num_probe`; "
        "did you mean `num_probes`? (known: kind, law, num_probes, smoothing, weights)"
    )
    with pytest.raises(UsageError) as caught:
        registry.make("probng")
    assert str(caught.value) == (
        "estimator kind 'probng' is not one of exact, probing; did you mean 'probing'?"
    )


def test_a_registry_of_one_kind_still_makes_a_field():
    one = Registry("problem", {"probing": f"{__name__}:probing"}, stand_ins=(abs,))
    assert one.union() is one.spec("probing")


def unannotated(fun, *, scale=1.0):
    return fun, scale


def needs_callable(fun: Any, *, law: Law) -> Any:
    return fun, law


def not_keyword_only(fun: Any, scale: float = 1.0) -> Any:
    return fun, scale


def taken(fun: Any, *, build: int = 1) -> Any:
    return fun, build


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        (unannotated, "unannotated: parameter `scale` must have an annotation"),
        (needs_callable, "needs_callable: required parameter `law` must be of a type that a file"),
        (
            not_keyword_only,
            "takes 1 positional parameter and the rest keyword-only, got fun, scale",
        ),
        (taken, "taken: parameter `build` must have another name, this one is taken"),
    ],
)
def test_signatures_that_are_no_schema_are_refused(factory, message):
    registry = Registry("estimator", {factory.__name__: f"{__name__}:{factory.__name__}"}, (abs,))
    with pytest.raises(TypeError, match=message):
        registry.spec(factory.__name__)


@pytest.mark.parametrize(
    ("annotation", "kept"),
    [
        (int, int),
        (Callable[..., int], None),
        (np.ndarray, None),
        (float | Callable[..., int], float),
        (float | Literal["auto"], float | Literal["auto"]),
        (list[float | np.ndarray], list[float]),
        (Sequence[int], list[int]),
        (tuple[int, ...], tuple[int, ...]),
        (tuple[int, int], None),
        (list[np.ndarray], None),
        (np.ndarray | None, None),
        (int | None, int | None),
        (Annotated[int, "note"], Annotated[int, "note"]),
    ],
)
def test_what_a_file_can_hold(annotation, kept):
    assert plain(annotation) == kept


@pytest.mark.parametrize(
    ("registry", "kind"),
    [(r, kind) for r in registries.REGISTRIES for kind in r.kinds],
    ids=lambda value: value if isinstance(value, str) else value.role,
)
def test_every_registered_kind_has_a_schema_with_help(registry, kind):
    spec = registry.spec(kind)
    assert spec.__doc__
    undocumented = [k for k, f in spec.model_fields.items() if k != "kind" and not f.description]
    assert undocumented == []
    assert not {"argnums", "has_aux"} & set(spec.model_fields)


def test_every_estimator_builds_from_its_defaults_alone():
    for kind in lab.estimators.kinds:
        assert callable(lab.estimators.make(kind).build(lambda x: x @ x))
