"""What is drawn: many estimates of each trace, and the two controls of a single key."""

from __future__ import annotations

import functools
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adlab import curvature, lab

from . import idea, matrices
from .config import LAWS, Config

Arrays = dict[str, np.ndarray]


def run(config: Config, progress: lab.Progress) -> Arrays:
    """Draw every estimator on every matrix at every number of products.

    With S spectra, M numbers of products and R draws, for each estimator: `<name>_estimates` and
    `<name>_errors` (their own standard errors), of shape (S, M, R). `trace`, `squares` |A|_F^2 and
    `diagonal` sum a_ii^2 are of shape (S,).
    """
    found = progress.stage("matrices", lambda: _matrices(config))
    stack = found.pop("stack")
    drawn = progress.stage("draws", lambda: _draws(config, stack, progress))
    moments = {
        "trace": np.trace(stack, axis1=1, axis2=2),
        "squares": (stack**2).sum(axis=(1, 2)),
        "diagonal": (np.diagonal(stack, axis1=1, axis2=2) ** 2).sum(axis=1),
    }
    return found | drawn | moments | idea.run(config.seed)


def _matrices(config: Config) -> Arrays:
    """Return the matrices (S, d, d), their eigenvalues (S, d), and what the controls gave."""
    rng = np.random.default_rng(config.seed)
    key = jax.random.split(jax.random.key(config.seed))[0]
    budget, rows, found = config.num_matvecs[0], [], {}
    for spectrum in config.spectra:
        if spectrum != "network":
            values = matrices.eigenvalues(spectrum, config.dim, rng)
            rows.append(matrices.rotated(values, rng))
            continue
        hessian = matrices.network(config)
        dense = np.asarray(hessian.to_dense().matrix)
        rows.append((dense + dense.T) / 2)
        pair = [
            float(curvature.trace(operator, key=key, num_matvecs=budget, loop="fused").value)
            for operator in (hessian, curvature.Matrix(jnp.asarray(rows[-1])))
        ]
        found["products"] = np.array(pair)
    values = matrices.eigenvalues("power", config.dim, rng)
    operator = curvature.Matrix(jnp.diag(jnp.asarray(values)))
    alone = curvature.trace(operator, key=key, num_matvecs=1, loop="fused").value
    found["diagonal_matrix"] = np.array([float(alone), values.sum()])
    return found | {"stack": np.stack(rows), "eigenvalues": np.linalg.eigvalsh(np.stack(rows))}


def _draws(config: Config, stack: np.ndarray, progress: lab.Progress) -> Arrays:
    key, operators = jax.random.split(jax.random.key(config.seed))[1], jnp.asarray(stack)
    pairs = [(name, budget) for name in config.estimators for budget in config.num_matvecs]
    drawn: dict[str, list[np.ndarray]] = {name: [] for name in config.estimators}
    for index, (name, budget) in enumerate(pairs):
        progress.update(index, len(pairs), f"{name}, {budget}")
        draws = config.num_draws if name in LAWS else config.num_other_draws
        keys = jax.random.split(jax.random.fold_in(key, index), (len(stack), draws))
        started = time.perf_counter()
        program = _repeat.lower(operators, keys, name=name, num_matvecs=budget).compile()
        compiled = time.perf_counter()
        drawn[name].append(np.asarray(program(operators, keys)))  # (2, S, R)
        progress.seconds("draws", compile=compiled - started, run=time.perf_counter() - compiled)
    both = {name: np.stack(rows, axis=2) for name, rows in drawn.items()}
    return {
        f"{name}_{what}": pair[row]
        for name, pair in both.items()
        for row, what in enumerate(("estimates", "errors"))
    }


@functools.partial(jax.jit, static_argnames=("name", "num_matvecs"))
def _repeat(stack: jax.Array, keys: jax.Array, *, name: str, num_matvecs: int) -> jax.Array:
    """Return estimates and their own standard errors, (2, S, R), for keys (S, R)."""
    settings = _settings(name)

    def one(matrix: jax.Array, key: jax.Array) -> jax.Array:
        operator = curvature.Matrix(matrix)
        found = curvature.trace(operator, key=key, num_matvecs=num_matvecs, **settings)
        return jnp.stack([found.value, found.standard_error])

    def many(pair: tuple[jax.Array, jax.Array]) -> jax.Array:
        matrix, own = pair
        return jax.lax.map(functools.partial(one, matrix), own).T

    return jnp.moveaxis(jax.lax.map(many, (stack, keys)), 1, 0)


def _settings(name: str) -> dict[str, Any]:
    """Return the estimator and the law of its probes; XTrace is unbiased with the sphere's."""
    if name in LAWS:
        return {"estimator": "hutchinson", "law": name}
    return {"estimator": name, "law": "sphere" if name == "xtrace" else "rademacher"}
