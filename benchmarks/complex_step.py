"""Sweep the functions of JAX by the complex step: each is right, or refused by name.

A function is called in the first two ways (`TEMPLATES`) that give floats. What is accepted is
compared with jax.grad to 1e-12, and where that fails or isn't finite, with extrapolated central
differences to 1e-8, at three points. The exit status is 1 if anything accepted is wrong.
`--record` writes the table to benchmarks/recorded/complex-step.txt.
"""

from __future__ import annotations

import functools
import inspect
import platform
import sys
import types
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import jax.scipy.linalg
import jax.scipy.signal
import jax.scipy.special
import numpy as np
from complex_step_programs import EXTRA, TEMPLATES

from adlab.gradients import finite_difference

RECORD = Path(__file__).parent / "recorded" / "complex-step.txt"
MODULES: dict[str, Any] = {
    "jnp": jnp,
    "jnp.linalg": jnp.linalg,
    "jnp.fft": jnp.fft,
    "lax": jax.lax,
    "lax.linalg": jax.lax.linalg,
    "special": jax.scipy.special,
    "scipy.linalg": jax.scipy.linalg,
    "nn": jax.nn,
    "signal": jax.scipy.signal,
}
# They read files, talk to devices, or return no numbers.
SKIP = set(
    [
        "save",
        "savez",
        "load",
        "fromfile",
        "frombuffer",
        "fromfunction",
        "fromstring",
        "from_dlpack",
        "printoptions",
        "set_printoptions",
        "get_printoptions",
        "pvary",
        "pcast",
        "infeed",
        "outfeed",
        "composite",
        "dce_sink",
        "after_all",
        "platform_dependent",
        "array_repr",
        "array_str",
        "array2string",
        "array_equal",
    ]
)
POINTS = np.array([[0.31, 0.77, 0.52, 0.18], [-1.3, 0.43, 2.71, -0.21], [1.7, 1.2, 3.1, 2.2]])
OUTCOMES = ("right", "refused by name", "no complex input", "NaN", "fails in real numbers", "wrong")
WAYS = 2  # in how many ways a function is called, at most


def weighted(fun: Callable[..., Any], x: jax.Array) -> jax.Array:
    """Return a sum, by fixed weights, of all floats that fun returns."""
    leaves = [jnp.asarray(a) for a in jax.tree.leaves(fun(x)) if hasattr(a, "dtype")]
    leaves = [a for a in leaves if jnp.issubdtype(a.dtype, jnp.inexact)]
    if not leaves:
        raise TypeError("fun returns no floats")
    total: Any = 0
    for n, leaf in enumerate(leaves):
        weights = np.cos(1 + n + 1.7 * np.arange(leaf.size)).reshape(leaf.shape)
        total = total + jnp.sum(jnp.asarray(weights).astype(leaf.dtype) * leaf)
    return total


def real(fun: Callable[..., Any], x: jax.Array) -> jax.Array:
    value = fun(x)
    return jnp.real(value) if jnp.iscomplexobj(value) else value


def traces(fun: Callable[..., Any]) -> bool:
    """Return whether fun takes four floats and returns one."""
    try:
        found = jax.eval_shape(fun, jax.ShapeDtypeStruct((4,), jnp.float64))
    except Exception:  # whatever a function says of arguments that aren't for it
        return False
    return jnp.issubdtype(found.dtype, jnp.floating)


def runs(fun: Callable[..., Any]) -> bool:
    """Return whether fun compiles and runs, as some programs that trace do not."""
    try:
        jax.jit(jax.vmap(fun))(POINTS).block_until_ready()
    except Exception:  # whatever a lowering says of arguments that aren't for it
        return False
    return True


def functions() -> Iterator[tuple[str, Callable[..., Any]]]:
    for name, module in MODULES.items():
        for attribute in sorted(dir(module)):
            found = getattr(module, attribute)
            hidden = attribute.startswith("_") or attribute.endswith("_p") or attribute in SKIP
            other = inspect.isclass(found) or isinstance(found, types.ModuleType)
            if callable(found) and not hidden and not other:
                yield f"{name}.{attribute}", found


def cases() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yield the name of each case, and its function of x to a number."""
    for name, program in EXTRA.items():
        fun = functools.partial(weighted, program)
        if traces(functools.partial(real, fun)):
            yield f"program: {name}", fun
    for name, function in functions():
        ways = 0
        for arguments, template in TEMPLATES.items():
            fun = functools.partial(weighted, functools.partial(template, function))
            if ways < WAYS and traces(functools.partial(real, fun)):
                ways += 1
                yield f"{name} [{arguments}]", fun


def by_differences(fun: Callable[..., Any], x: jax.Array) -> jax.Array:
    """Return central differences at three steps, extrapolated twice."""

    def central(h: float) -> jax.Array:
        return jax.lax.map(lambda e: (fun(x + h * e) - fun(x - h * e)) / (2 * h), jnp.eye(4))

    coarse, middle, fine = central(1e-3), central(5e-4), central(2.5e-4)
    first, second = (4 * middle - coarse) / 3, (4 * fine - middle) / 3
    return (16 * second - first) / 15


def agrees(found: np.ndarray, truth: np.ndarray, tolerance: float, least: float) -> bool:
    return bool(np.max(np.abs(found - truth)) <= tolerance * max(np.max(np.abs(truth)), least))


def outcome(fun: Callable[..., Any]) -> str:
    """Return one of `OUTCOMES`, followed by what was said or seen."""
    step = finite_difference(fun, scheme="complex")
    restricted = functools.partial(real, fun)
    try:
        found = np.asarray(jax.jit(jax.vmap(step))(POINTS))
    except ValueError as error:
        said = str(error).splitlines()[0]
        if "accepts complex input" in said:
            return "no complex input"
        if "holomorphic" not in said:
            return f"wrong: {said[:100]}" if runs(restricted) else "fails in real numbers"
        return "refused by name: " + said.split("but ")[-1].split(" at /")[0].split(";")[0]
    except Exception as error:  # a crash is as bad as a wrong number
        if not runs(restricted):
            return "fails in real numbers"
        return f"wrong: {type(error).__name__}"
    exact = np.full_like(found, np.nan)
    if traces(lambda x: jnp.sum(jax.grad(restricted)(x))):
        exact = np.asarray(jax.jit(jax.vmap(jax.grad(restricted)))(POINTS))
    finite = np.all(np.isfinite(found), axis=1)
    differences = None
    for i in np.flatnonzero(finite):
        if agrees(found[i], exact[i], 1e-12, 1e-300):
            continue
        if differences is None:
            differences = np.asarray(
                jax.jit(jax.vmap(functools.partial(by_differences, restricted)))(POINTS)
            )
        if not agrees(found[i], differences[i], 1e-8, 1e-3):
            return f"wrong: {found[i].tolist()} for {exact[i].tolist()} at {POINTS[i].tolist()}"
    return "right" if finite.any() else "NaN"


def main() -> int:
    """Print the counts and what is wrong; write the table if asked to."""
    warnings.simplefilter("ignore")
    jax.config.update("jax_enable_x64", True)
    table: dict[str, str] = {}
    for name, fun in cases():
        table[name] = outcome(fun)
        if table[name].startswith("wrong"):
            print(f"{name}: {table[name]}", flush=True)
    counts = Counter(found.split(":")[0] for found in table.values())
    print(f"tried: {len(table)}")
    for kind in OUTCOMES:
        print(f"{kind}: {counts[kind]}")
    if "--record" in sys.argv[1:]:
        about = {
            "python": platform.python_version(),
            "jax": jax.__version__,
            "numpy": np.__version__,
            "device": jax.devices()[0].device_kind,
        }
        lines = [f"{key}: {value}" for key, value in about.items()]
        lines += [f"{name} -> {table[name]}" for name in sorted(table)]
        RECORD.write_text("\n".join(lines) + "\n")
    return int(counts["wrong"] > 0)


if __name__ == "__main__":
    sys.exit(main())
