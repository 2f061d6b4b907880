"""Derivatives of least squares and factorisations beside those of jax.numpy.linalg.

Run by `make bench`. A gradient costs mostly the decomposition, which both call alike: the rules for
coinciding singular values must come for next to nothing. Every figure is a ratio of two medians
taken in turn in this process; targets are asserted for what the rules replace.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from measure import Target, report, seconds, with_one_malloc

from adlab import rules

Rows = list[tuple[str, str, float]]
Found = tuple[Rows, list[Target]]
ROWS, COLUMNS = 500, 100
REPEATS = 31


def arrays(dtype: Any) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    shapes = {"a": (ROWS, COLUMNS), "b": (ROWS,), "w": (ROWS, COLUMNS), "z": (COLUMNS, COLUMNS)}
    found = {name: jnp.asarray(rng.normal(size=shape), dtype) for name, shape in shapes.items()}
    return found | {"h": found["z"] + found["z"].T}


def losses(given: dict[str, Any]) -> dict[str, tuple[dict[str, Callable], Any]]:
    """Return for each function the same loss through both libraries, and where it is taken."""
    b, w, z = given["b"], given["w"], given["z"]
    libraries: dict[str, Any] = {"jnp": jnp.linalg, "rules": rules}

    def of(loss: Callable) -> dict[str, Callable]:
        return {name: (lambda a, lib=lib: loss(lib, a)) for name, lib in libraries.items()}

    def least_squares(lib: Any, a: Any) -> Any:
        x = lib.lstsq(a, b)
        return jnp.sum((x if lib is rules else x[0]) ** 2)

    def singular(lib: Any, a: Any) -> Any:
        u, s, vh = lib.svd(a, full_matrices=False)
        return jnp.sum(w * (u @ vh)) + jnp.sum(jnp.sqrt(s))

    def eigen(lib: Any, a: Any) -> Any:
        values, vectors = lib.eigh(a)
        return jnp.sum(z * (vectors[:, :10] @ vectors[:, :10].T)) + jnp.sum(values**2)

    return {
        "lstsq": (of(least_squares), given["a"]),
        "svd, thin": (of(singular), given["a"]),
        "pinv": (of(lambda lib, a: jnp.sum(w.T * lib.pinv(a))), given["a"]),
        "eigh, 100 x 100": (of(eigen), given["h"]),
    }


MOST = {"lstsq": 1.1, "svd, thin": 1.05}
"""Most that a value with its gradient may take, in times of jax.numpy.linalg's."""


def compared(dtype: Any) -> Found:
    """Time values with gradients, and forward derivatives."""
    rows: Rows = []
    targets: list[Target] = []
    for name, (both, at) in losses(arrays(dtype)).items():
        tangent = jnp.cos(at)
        for kind in ("value and gradient", "jvp"):
            programs = {
                library: jax.jit(
                    jax.value_and_grad(loss)
                    if kind != "jvp"
                    else lambda a, t, loss=loss: jax.jvp(loss, (a,), (t,))
                )
                for library, loss in both.items()
            }
            given = (at,) if kind != "jvp" else (at, tangent)
            times = seconds(
                {k: lambda run=run, given=given: run(*given) for k, run in programs.items()},
                REPEATS,
            )
            where = f"{name}, {dtype.__name__}, {kind}"
            rows += [(where, library, value) for library, value in times.items()]
            most = MOST.get(name, 1.1) if kind != "jvp" else 1.1
            targets.append(Target(f"{where}: rules / jnp", times["rules"] / times["jnp"], most))
    return rows, targets


def main() -> int:
    """Run in both precisions and print the tables."""
    jax.config.update("jax_enable_x64", True)
    rows: Rows = []
    targets: list[Target] = []
    for dtype in (jnp.float32, jnp.float64):
        found = compared(dtype)
        rows, targets = rows + found[0], targets + found[1]
    return report(rows, targets)


if __name__ == "__main__":
    with_one_malloc()
    sys.exit(main())
