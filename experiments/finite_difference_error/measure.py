"""Errors against the step: of e^x sin 3x, and of functions drawn at random."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adlab import lab
from adlab.gradients import finite_difference

from . import many, zoo
from .config import Config
from .estimates import LEAST, RULES, UNOPTIMIZED, compiled, estimate, measured, regret, rms, steps
from .wave import SPAN, wave, wave_derivative

Arrays = dict[str, np.ndarray]
RESAMPLES = 200  # bootstrap draws of all points
COUNTED = (1, 7)  # unknowns of the functions whose evaluations are counted


def run(config: Config, progress: lab.Progress) -> Arrays:
    """Measure both precisions one after the other, and count evaluations."""
    data: Arrays = {}
    for precision in config.precisions:
        for name, part in (("curves", curves), ("zoo", regrets), ("many", many.regrets)):
            compute = functools.partial(part, config, precision)
            arrays = progress.stage(f"{precision}_{name}", compute)
            data |= {f"{precision}_{name}_{field}": array for field, array in arrays.items()}
    return data | progress.stage("counts", lambda: counts(config))


def curves(config: Config, precision: str) -> Arrays:
    """Return errors of e^x sin 3x over its derivative, root mean squares over all points.

    They are at (scheme, step), the same resampled at (draw, scheme, step), and at (scheme, rule);
    the complex step comes last. The control is its error through |x|, where it isn't holomorphic.
    """
    rng = np.random.default_rng([config.seed, 0])
    x = rng.uniform(*SPAN, config.num_points).astype(precision)
    exact = wave_derivative(1, x.astype(np.float64))
    h = jnp.asarray(steps(precision), precision)
    errors: list[Any] = []
    ruled: list[Any] = []
    noise: list[Any] = []
    for scheme in (*config.schemes, "complex"):
        *estimates, found = compiled(_at_points, scheme)(x, h)
        for kept, part in zip((errors, ruled), estimates, strict=True):
            kept.append(np.asarray(part, np.float64) - exact)
        if found is not None:
            noise.append([rms(np.asarray(found.noise, np.float64)), np.median(found.step)])
    size = rms(exact)
    weights = rng.multinomial(len(x), np.full(len(x), 1 / len(x)), RESAMPLES) / len(x)
    squares = np.stack(errors) ** 2
    return {
        "x": x,
        "error": rms(np.stack(errors)) / size,
        "resampled": np.sqrt(np.einsum("bn,skn->bsk", weights, squares)) / size,
        "ruled": rms(np.stack(ruled)) / size,
        "noise": np.array(noise)[:, 0],
        "measured_step": np.array(noise)[:, 1],
        "control": rms(_through_absolute(x, precision) - exact) / size,
        "refused": np.array(_refuses_absolute(x)),
    }


def _at_points(scheme: Any, x: jax.Array, h: jax.Array) -> tuple[jax.Array, jax.Array, Any]:
    """Return estimates of (e^x sin 3x)' by step and by rule, and what "auto" measured."""
    at = functools.partial(estimate, wave, scheme)
    tried = jax.lax.map(lambda h: jax.vmap(at(h))(x), h)
    ruled = jnp.stack([jax.vmap(at(rule))(x) for rule in RULES])
    if scheme == "complex":
        return tried, ruled, None
    return tried, ruled, jax.vmap(functools.partial(measured, wave, scheme))(x)


def _refuses_absolute(x: np.ndarray) -> bool:
    try:
        finite_difference(lambda x: jnp.exp(jnp.abs(x)), scheme="complex")(x[0])
    except ValueError:
        return True
    return False


def _through_absolute(x: np.ndarray, precision: str) -> np.ndarray:
    """Return the complex step of e^|x| sin 3x: the same function for real x > 0, coded amiss."""
    h = 2.0 ** LEAST[precision]
    moved = (x + 1j * h).astype(np.result_type(x, np.complex64))
    values = np.exp(np.abs(moved)) * np.sin(3 * moved)
    return values.imag.astype(np.float64) / h


def regrets(config: Config, precision: str) -> Arrays:
    """Return the regret at (scheme, rule, kind, function), and measured over true noise.

    The latter at (scheme, noisy function, point).
    """
    rng = np.random.default_rng([config.seed, 1])
    dtype = np.dtype(precision)
    drawn = [zoo.draw(kind, config.functions, dtype, rng) for kind in zoo.KINDS]
    functions = zoo.Function(*[np.concatenate(parts) for parts in zip(*drawn, strict=True)])
    x = zoo.points(functions, config.neighbours, dtype, rng)
    exact = np.stack(
        [zoo.derivative(f, p) for f, p in zip(_each(functions), x.astype(np.float64), strict=True)]
    )
    args = zoo.Function(functions.shape, *[field.astype(dtype) for field in functions[1:]])
    scales = 2.0 ** np.floor(np.log2(np.maximum(np.abs(functions.center), 1)))
    found, noise = [], []
    noisy = slice(config.functions, 2 * config.functions)
    for scheme in config.schemes:
        program = compiled(_of_functions, scheme)
        *estimates, levels = program(args, scales, x)
        tried, ruled = (rms(np.asarray(part, np.float64) - exact) for part in estimates)
        found.append(regret(ruled, tried, rms(exact) * np.finfo(dtype).eps / 2))
        noise.append(np.asarray(levels, np.float64)[noisy] / functions.noise[noisy, None])
    shape = (len(config.schemes), len(RULES), len(zoo.KINDS), config.functions)
    return {"regret": np.stack(found).reshape(shape), "noise": np.stack(noise)}


def _each(functions: zoo.Function) -> list[zoo.Function]:
    return [zoo.Function(*fields) for fields in zip(*functions, strict=True)]


def _of_functions(
    scheme: str, functions: zoo.Function, scales: Any, x: Any
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return estimates at (step, function, point) and (rule, function, point), and the noise."""

    def over_all(compute: Callable) -> Any:
        return jax.vmap(lambda f, scale, x: jax.vmap(lambda x: compute(f, scale, x))(x))(
            functions, jnp.asarray(scales, x.dtype), x
        )

    def tried(h: jax.Array) -> jax.Array:
        return over_all(lambda f, scale, x: estimate(of(f), scheme, h * scale)(x))

    def ruled(rule: str) -> jax.Array:
        return over_all(lambda f, _, x: estimate(of(f), scheme, rule)(x))

    def of(function: zoo.Function) -> Callable:
        return functools.partial(zoo.value, function)

    h = jnp.asarray(steps(x.dtype.name), x.dtype)
    noise = over_all(lambda f, _, x: measured(of(f), scheme, x).noise)
    return jax.lax.map(tried, h), jnp.stack([ruled(rule) for rule in RULES]), noise


def counts(config: Config) -> Arrays:
    """Return evaluations that were counted while running, (scheme, rule, dimension)."""
    seen: list[int] = []
    cases = list(itertools.product(config.schemes, RULES, COUNTED))

    def counted(place: int, scheme: Any, rule: Any, dim: int) -> jax.Array:
        def fun(x: jax.Array) -> jax.Array:
            jax.debug.callback(lambda _: seen.append(place), x[0])  # its own call for each point
            return jnp.sum(jnp.sin(x))

        return finite_difference(fun, scheme=scheme, step=rule)(jnp.ones(dim, jnp.float32))

    def program() -> list[jax.Array]:
        return [counted(place, *case) for place, case in enumerate(cases)]

    jax.block_until_ready(jax.jit(program, compiler_options=UNOPTIMIZED)())
    jax.effects_barrier()
    calls = np.bincount(seen, minlength=len(cases))
    return {"calls": calls.reshape(len(config.schemes), len(RULES), len(COUNTED))}
