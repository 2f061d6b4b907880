"""Equality by content for what a model holds besides arrays.

Two constructions of one architecture often differ in nothing but the identity of small functions:
an initializer made anew by each call of its factory, an activation written as a lambda. jit tells
static arguments apart by ==, so such models would be compiled again and again.
"""

from __future__ import annotations

import dataclasses
import functools
import types
from collections.abc import Hashable, Mapping, Set
from typing import Any

import jax
import numpy as np

__all__ = ["Structure"]

_ATOMS: tuple[type, ...] = (int, bool, str, bytes, complex, types.NoneType, type(...), type)
_ATOMS += (np.dtype, np.ufunc, types.BuiltinFunctionType, types.ModuleType)


class Structure:
    """A value without arrays, hashable and equal to another of the same content.

    Containers, frozen dataclasses and tree structures are compared part by part. Functions are
    equal when they have the same code, globals and defaults and close over equal immutable
    values; a function that closes over anything else, as an array or a list, only equals itself.
    Other objects are compared by their own ==, or by identity where they have no hash. Numbers of
    different types differ: 1, 1.0 and True.
    """

    __slots__ = ("_hash", "_key", "value")

    def __init__(self, value: Any) -> None:
        self.value = value
        self._key = _content(value, ())
        self._hash = hash(self._key)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Structure) and self._key == other._key

    def __deepcopy__(self, memo: dict[int, Any]) -> Structure:
        """Return itself, for it never changes; the key holds modules, which don't copy."""
        del memo
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the value alone, where it can be."""
        return Structure, (self.value,)


class _Itself:
    """Stands for an object that only equals itself, and keeps it alive."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def __hash__(self) -> int:
        return id(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Itself) and self._value is other._value


class _OpaqueError(Exception):
    """A function closes over something that may change."""


def _content(value: Any, inside: tuple[int, ...]) -> Hashable:
    """Return a key that is equal for values of equal content.

    `inside` holds the identities of the functions whose closures are being read; within them
    anything that isn't known to be immutable is refused.
    """
    read = functools.partial(_content, inside=inside)
    kind = type(value)
    if isinstance(value, float):
        return kind, value.hex()  # tells the zeros apart and finds NaN equal to itself
    if isinstance(value, _ATOMS):
        return kind, value
    if isinstance(value, tuple | list) and not (inside and isinstance(value, list)):
        return kind, tuple(map(read, value))
    if isinstance(value, types.FunctionType):
        return _function(value, inside)
    if isinstance(value, functools.partial):
        return kind, read(value.func), read(value.args), read(tuple(value.keywords.items()))
    if inside:
        raise _OpaqueError
    if isinstance(value, Mapping):
        return kind, frozenset((read(k), read(v)) for k, v in value.items())
    if isinstance(value, Set):
        return kind, frozenset(map(read, value))
    if isinstance(value, jax.tree_util.PyTreeDef):
        return kind, read(value.node_data()), tuple(map(read, value.children()))
    if _frozen(value):
        fields = dataclasses.fields(value)
        return kind, tuple(read(getattr(value, field.name)) for field in fields)
    try:
        hash(value)
    except TypeError:
        return _Itself(value)
    return kind, value


def _frozen(value: Any) -> bool:
    """Whether the value is a frozen dataclass that compares by its fields."""
    settings = getattr(type(value), "__dataclass_params__", None)
    return settings is not None and settings.frozen and settings.eq


def _function(function: types.FunctionType, inside: tuple[int, ...]) -> Hashable:
    if id(function) in inside or function.__dict__:  # recursive, or with attributes of its own
        return _Itself(function)
    read = functools.partial(_content, inside=(*inside, id(function)))
    try:
        cells = tuple(read(cell.cell_contents) for cell in function.__closure__ or ())
        defaults = read(function.__defaults__), read(tuple((function.__kwdefaults__ or {}).items()))
    except (_OpaqueError, ValueError):  # ValueError: a cell that is still empty
        return _Itself(function)
    return function.__code__, _Itself(function.__globals__), cells, defaults
