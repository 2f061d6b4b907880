"""Registries: a `kind` in a TOML file names a factory, and the factory's signature is the schema.

Keyword-only parameters annotated with int, float, bool, str, Literal, lists and unions of these
become keys of the table; members of a union that a file can't hold (a callable, an array) drop
out. Nothing is declared twice: defaults come from the signature, help from the docstring, and
value errors from the factory itself, which is called once with a stand-in for the function when a
config is read.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, Union

import docstring_parser
import pydantic

from adlab.lab import refusals
from adlab.lab.boundary import foreign
from adlab.lab.errors import UsageError, brief, located, nearest

CALL_ONLY = frozenset({"argnums", "has_aux", "with_error"})  # about the call, not the method
_PLAIN = (int, float, bool, str, types.NoneType)
_TARGET = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


class Spec(pydantic.BaseModel):
    """A table with a `kind`: a factory and its parameters. Frozen; unknown keys are refused.

    Attributes:
      factory: what makes it; every kind has a class with its own.
      stand_ins: positional arguments for a trial call of the factory.
    """

    model_config = pydantic.ConfigDict(
        strict=True, frozen=True, extra="forbid", protected_namespaces=()
    )
    if typing.TYPE_CHECKING:
        kind: str
    factory: ClassVar[Callable[..., Any]]
    stand_ins: ClassVar[tuple[Any, ...]] = ()

    @property
    def params(self) -> dict[str, Any]:
        """The keyword arguments for the factory."""
        return {key: getattr(self, key) for key in type(self).model_fields if key != "kind"}

    @property
    def name(self) -> str:
        """A short readable label: the kind with the parameters that differ from their defaults.

        A plugin's kind is shortened to the function's name.
        """
        fields = type(self).model_fields
        changed = {k: v for k, v in self.params.items() if v != fields[k].default}
        kind = str(getattr(self, "kind", "")).rpartition(":")[2]
        shown = ", ".join(f"{k}={_short(v)}" for k, v in changed.items())
        return f"{kind}({shown})" if shown else kind

    def build(self, *args: Any) -> Any:
        """Call the factory: `factory(*args, **params)`."""
        return type(self).factory(*args, **self.params)

    @pydantic.model_validator(mode="after")
    def _the_factory_accepts_it(self) -> Spec:
        try:
            self.build(*type(self).stand_ins)
        except (TypeError, ImportError, OSError) as error:
            raise ValueError(str(error)) from error
        except (ValueError, KeyboardInterrupt):
            raise
        except BaseException as error:  # a plugin's own fault
            raise ValueError(located(error)) from error
        return self


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


class Registry:
    """Kinds and the factories they name, imported when first needed.

    Args:
      role: what a factory makes, for messages: "estimator".
      kinds: kind -> "module:function"; or what returns that, called when it is first needed.
      stand_ins: positional arguments for a trial call; their number tells factories of one
        registry from another's.

    Attributes:
      role: as given.
    """

    def __init__(
        self,
        role: str,
        kinds: Mapping[str, str] | Callable[[], Mapping[str, str]],
        stand_ins: Sequence[Any] = (),
    ) -> None:
        self.role = role
        self._kinds = kinds
        self._stand_ins = tuple(stand_ins)
        self._specs: dict[str, type[Spec]] = {}

    @functools.cached_property
    def _targets(self) -> dict[str, str]:
        return dict(self._kinds() if callable(self._kinds) else self._kinds)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The known kinds, sorted."""
        return tuple(sorted(self._targets))

    def spec(self, kind: str) -> type[Spec]:
        """Return the schema of `kind`.

        Raises:
          UsageError: the kind is unknown.
          TypeError: the factory's signature can't be a schema.
        """
        if kind not in self._targets:
            known = ", ".join(self.kinds)
            raise UsageError(
                f"{self.role} kind '{kind}' is not one of {known}{nearest(kind, self.kinds)}"
            )
        if kind not in self._specs:
            factory = resolve(self._targets[kind])
            kinds = [each for each in self.kinds if ":" not in each]
            about = f"One of {', '.join(kinds)}; another one starts from its own defaults."
            self._specs[kind] = schema(kind, factory, self._stand_ins, about=about)
        return self._specs[kind]

    def make(self, kind: str, **params: Any) -> Any:
        """Return the spec of `kind` with `params`, as a default in an experiment's Config.

        Raises:
          UsageError: the kind is unknown.
          ValueError: the parameters are wrong; all of them are named.
        """
        spec = self.spec(kind)
        try:
            return spec(kind=kind, **params)
        except pydantic.ValidationError as error:
            lines = refusals.explain(error, spec, {"kind": kind, **params})
            raise ValueError(f"{kind}: {'; '.join(lines)}") from None

    def union(self) -> Any:
        """Return the annotation "any of these kinds" for a field of a Config."""
        specs = tuple(self.spec(kind) for kind in self.kinds)
        if len(specs) == 1:
            return specs[0]
        return Annotated[Union[specs], pydantic.Field(discriminator="kind")]  # noqa: UP007

    def register(self, kind: str, target: str | None = None) -> None:
        """Add a kind; without a target, the kind itself is "module:function"."""
        self._targets[kind] = target or kind
        self._specs.pop(kind, None)

    def forget(self, kind: str) -> None:
        """Remove a kind that turned out to be unusable."""
        self._targets.pop(kind, None)
        self._specs.pop(kind, None)

    def accepts(self, factory: Callable[..., Any]) -> bool:
        """Whether the factory takes as many positional arguments as this registry passes."""
        return len(_positional(inspect.signature(factory))) == len(self._stand_ins)


def check_target(target: str) -> None:
    """Raise UsageError unless `target` reads "module:function"."""
    if not _TARGET.fullmatch(target):
        raise UsageError(f"'{brief(target, 60)}' must be MODULE:FUNCTION, such as mine:antithetic")


def resolve(target: str) -> Callable[..., Any]:
    """Import the factory that "module:function" names.

    Raises:
      UsageError: it isn't "module:function"; the module can't be imported, or has no such function.
    """
    check_target(target)
    module_name, _, name = target.partition(":")
    try:
        with foreign(f"cannot import '{target}'", usage=True):
            module = importlib.import_module(module_name)
    except UsageError as error:
        if not isinstance(error.__cause__, ModuleNotFoundError):
            raise
        raise UsageError(f"'{target}': {error.__cause__}") from error
    factory = getattr(module, name, None)
    if not callable(factory):
        names = [key for key, value in vars(module).items() if callable(value)]
        raise UsageError(f"'{target}': {module_name} has no function {name}{nearest(name, names)}")
    return typing.cast("Callable[..., Any]", factory)


def readable(factory: Callable[..., Any]) -> bool:
    """Whether the factory is Python code of somebody's, whose parameters can be read.

    A function or class of Python, whatever wraps it; no builtin, whose call might do anything.
    """
    inner = inspect.unwrap(factory)
    while isinstance(inner, functools.partial):
        inner = inner.func
    made = [getattr(inner, name, None) for name in ("__init__", "__new__")]
    own = inspect.isfunction(inner) or any(inspect.isfunction(each) for each in made)
    try:
        return own and inspect.signature(factory) is not None
    except (TypeError, ValueError):
        return False


def schema(
    kind: str, factory: Callable[..., Any], stand_ins: Sequence[Any], *, about: str | None = None
) -> type[Spec]:
    """Turn the signature of `factory` into a pydantic model with `kind` as its tag.

    Args:
      kind: the tag.
      factory: what is to be described.
      stand_ins: the positional arguments that it takes.
      about: help for the tag.

    Raises:
      TypeError: a parameter has no annotation, or is required and can't stand in a file, or isn't
        keyword-only.
    """
    signature = inspect.signature(factory)
    positional = _positional(signature)
    if len(positional) != len(stand_ins):
        expected = f"{len(stand_ins)} positional parameter{'' if len(stand_ins) == 1 else 's'}"
        raise TypeError(
            f"{kind}: a factory here takes {expected} and the rest keyword-only, "
            f"got {', '.join(p.name for p in positional) or 'none'}"
        )
    hints = typing.get_type_hints(factory, include_extras=True)
    doc = docstring_parser.parse(
        inspect.getdoc(factory) or "", style=docstring_parser.DocstringStyle.GOOGLE
    )
    told = {entry.arg_name: " ".join((entry.description or "").split()) for entry in doc.params}
    fields: dict[str, Any] = {"kind": (Literal[kind], pydantic.Field(..., description=about))}
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and parameter.name not in CALL_ONLY:
            annotation = _field_type(kind, parameter, hints)
            if annotation is not None:
                default = ... if parameter.default is parameter.empty else parameter.default
                field = pydantic.Field(default, description=told.get(parameter.name))
                fields[parameter.name] = (annotation, field)
    model = pydantic.create_model(
        kind, __base__=Spec, __module__=__name__, __doc__=doc.short_description, **fields
    )
    model.factory = staticmethod(factory)
    model.stand_ins = tuple(stand_ins)
    return model


def _positional(signature: inspect.Signature) -> list[inspect.Parameter]:
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [p for p in signature.parameters.values() if p.kind in kinds]


def _field_type(kind: str, parameter: inspect.Parameter, hints: Mapping[str, Any]) -> Any:
    name = parameter.name
    if name not in hints:
        raise TypeError(f"{kind}: parameter `{name}` must have an annotation")
    if name in ("kind", "factory") or hasattr(Spec, name):
        raise TypeError(f"{kind}: parameter `{name}` must have another name, this one is taken")
    annotation = plain(hints[name])
    if annotation is None and parameter.default is parameter.empty:
        raise TypeError(
            f"{kind}: required parameter `{name}` must be of a type that a file can hold "
            f"(int, float, bool, str, Literal, list), got {hints[name]}"
        )
    return annotation


def plain(annotation: Any) -> Any:
    """Return the part of `annotation` that a TOML file can hold, or None.

    >>> plain(float | Callable[[int], int])
    <class 'float'>
    """
    annotation = getattr(annotation, "__value__", annotation)  # a `type X = ...` alias
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation in _PLAIN or origin is Literal:
        return annotation
    if origin is Annotated:
        inner = plain(args[0])
        return None if inner is None else Annotated[(inner, *args[1:])]
    if origin in (Union, types.UnionType):
        return _union(plain(arg) for arg in args)
    if origin in (list, tuple, Sequence) and args:
        item = plain(args[0])
        if item is None or (origin is tuple and args[1:] != (...,)):
            return None
        return tuple[item, ...] if origin is tuple else list[item]  # type: ignore[valid-type]
    return None


def _union(members: Iterable[Any]) -> Any:
    kept = tuple(m for m in members if m is not None)
    if not kept or kept == (types.NoneType,):
        return None
    return Union[kept]  # noqa: UP007
