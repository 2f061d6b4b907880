"""Learns steps by Adam on gradients through the descent, and tries them."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy import optimize

from adlab import gradients, lab
from adlab.core import flops
from adlab.curvature import hvp

from . import problems, theory
from .config import Config

Arrays = dict[str, np.ndarray]
REPEATED = 1e-4  # smoothing of the two-point estimate, in logarithms of steps


def run(config: Config, progress: lab.Progress) -> Arrays:
    """Learn on quadratics and on regressions, and descend on what was held out."""
    train = Training(config, progress)
    data = progress.stage("quadratic", lambda: _quadratic(config, train))
    data |= progress.stage("two_point", lambda: _two_point(config, data, train))
    return data | progress.stage("logistic", lambda: _logistic(config, train))


def first_steps(num_steps: int) -> np.ndarray:
    """Return the steps to start from: all different, about 1/L = 1."""
    return np.geomspace(0.5, 4.0, num_steps)


class Trained(NamedTuple):
    """What a training leaves: last steps (seeds, k), losses (seeds, iterations), calls before."""

    steps: np.ndarray
    losses: np.ndarray
    calls: np.ndarray


class Training:
    """Runs Adam on the logarithms of steps; one optimiser for all, so that programs are shared."""

    def __init__(self, config: Config, progress: lab.Progress) -> None:
        self._optimizer = _optimizer(config.learning_rate, config.iterations)
        self._config, self._progress = config, progress

    def __call__(self, gradient: Any, steps: np.ndarray, args: tuple, seeds: int = 1) -> Trained:
        """Train from the given steps; seeds tell random gradients apart."""
        keys = jax.random.split(jax.random.key(self._config.seed), seeds)
        iterations = self._config.iterations
        started = time.perf_counter()
        with jax.numpy_dtype_promotion("standard"):  # optax.adam mixes integers and floats
            found = _adam(
                gradient, np.log(steps), args, keys, optimizer=self._optimizer,
                iterations=iterations,
            )  # fmt: skip
        last, losses = jax.tree.map(np.asarray, found)
        self._progress.seconds("training", run=time.perf_counter() - started)
        calls = np.arange(iterations) * gradient.cost(steps, *args).calls
        return Trained(np.exp(last), np.exp(losses), calls)


@functools.cache
def _optimizer(learning_rate: float, iterations: int) -> Any:
    return optax.adam(optax.cosine_decay_schedule(learning_rate, iterations))


@functools.partial(jax.jit, static_argnames=("optimizer", "iterations"))
def _adam(
    gradient: Any, log_steps: Any, args: tuple, keys: Any, *, optimizer: Any, iterations: int
) -> tuple[jax.Array, jax.Array]:
    """Return the last point and the objective before each iteration, for every key."""

    def one(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        def iterate(carry: tuple, k: jax.Array) -> tuple[tuple, jax.Array]:
            x, state = carry
            value, slope = gradient.value_and_grad(x, *args, key=jax.random.fold_in(key, k))
            moves, state = optimizer.update(slope, state, x)
            return (optax.apply_updates(x, moves), state), value

        start = jnp.asarray(log_steps)
        (last, _), values = jax.lax.scan(
            iterate, (start, optimizer.init(start)), jnp.arange(iterations)
        )  # fmt: skip
        return last, values

    return jax.vmap(one)(keys)


def _quadratic(config: Config, train: Training) -> Arrays:
    drawn = problems.quadratic_data(config)
    spectrum, squares, k = drawn["spectrum"], drawn["squares"], config.num_steps
    args = (drawn["starts"], drawn["hessian"])
    gradient = gradients.reverse_mode(problems.quadratic_objective)
    learned = train(gradient, first_steps(k), args)
    equal = train(gradient, np.ones(k), args)
    mu, L = float(spectrum[0]), float(spectrum[-1])
    steps = {
        "learned": learned.steps[0],
        "equal": equal.steps[0],
        "best": theory.best_steps(spectrum, squares, k),
        "constant": np.full(k, theory.best_constant(spectrum, squares, k)),
        "classical": np.full(k, 2 / (mu + L)),
        "chebyshev": theory.chebyshev_steps(mu, L, k),
        "greedy": theory.greedy_steps(spectrum, squares, k),
    }
    steps["reversed"] = steps["learned"][::-1].copy()
    found: Arrays = {name: drawn[name] for name in ("spectrum", "squares", "starts", "hessian")}
    for name, chosen in steps.items():
        tried = _tried(chosen, drawn)
        found |= {f"{name}_steps": chosen} | {f"{name}_{k}": v for k, v in tried.items()}
    found |= _saddle(drawn, steps["constant"])
    price = flops.prices(problems.quadratic_objective, jnp.asarray(first_steps(k)), *args).vjp
    found |= _curves(learned, equal) | _gradients(drawn, steps["best"])
    return found | {"price": np.array(price)}


def _curves(learned: Trained, equal: Trained) -> Arrays:
    return {
        "learned_training": learned.losses[0],
        "equal_training": equal.losses[0],
        "learned_calls": learned.calls,
    }


def _tried(steps: np.ndarray, drawn: Arrays) -> Arrays:
    """Return losses on old and new starts, and max |x_k|/|x_0| over descents from eigenvectors."""
    values, vectors = np.linalg.eigh(drawn["hessian"])
    groups = (drawn["heldout"], drawn["starts"], vectors.T)
    along = problems.quadratic_losses(np.log(steps), np.concatenate(groups), drawn["hessian"])
    sizes = np.cumsum([len(group) for group in groups])[:-1]
    heldout, learned, single = np.split(np.asarray(along), sizes)
    return {
        "ends": heldout[:, -1],
        "curve": heldout.mean(axis=0),
        "loss": learned[:, -1].mean(),
        "contraction": np.sqrt(np.max(2 * single[:, -1] / values)),
    }


@jax.jit
def _product(v: Any, *args: Any) -> Any:
    return hvp(_mean_loss)(v, *args)


def _mean_loss(steps: jax.Array, starts: Any, hessian: Any) -> jax.Array:
    return jnp.mean(problems.quadratic_losses(jnp.log(steps), starts, hessian)[:, -1])


def _saddle(drawn: Arrays, constant: np.ndarray) -> Arrays:
    """Return curvatures of the mean loss at the best constant step.

    Along a difference of two steps, and along all at once, over that of a single one.
    """
    args = (drawn["starts"], drawn["hessian"])
    apart = jnp.zeros(len(constant)).at[:2].set(np.array([1.0, -1.0])) / np.sqrt(2.0)
    together = jnp.ones(len(constant)) / np.sqrt(float(len(constant)))
    curvatures = [v @ _product(v, jnp.asarray(constant), *args) for v in (apart, together)]
    single = theory.single_curvature(constant, drawn["spectrum"], drawn["squares"])
    return {"curvatures": np.array(curvatures) / single}


@jax.jit
def _by_modes(x: Any, *args: Any) -> list[Any]:
    fun = problems.quadratic_objective
    return [made(fun)(x, *args) for made in (gradients.reverse_mode, gradients.forward_mode)]


def _gradients(drawn: Arrays, steps: np.ndarray) -> Arrays:
    """Compare gradients with their closed form at steps far from the best; keep one at equal ones.

    Of the logarithm of the mean loss, by those of the steps.
    """
    x, at = np.log(steps), np.log(first_steps(len(steps)))
    log_steps = jnp.asarray((x + at) / 2)
    args = (drawn["starts"], drawn["hessian"])
    chosen = np.exp(np.asarray(log_steps))
    spectrum, squares = drawn["spectrum"], drawn["squares"]
    loss = theory.final_loss(chosen, spectrum, squares)
    expected = chosen * theory.loss_gradient(chosen, spectrum, squares) / loss
    errors = [np.linalg.norm(np.asarray(g) - expected) for g in _by_modes(log_steps, *args)]
    return {
        "equal_gradient": np.asarray(_by_modes(jnp.zeros(len(steps)), *args)[0]),
        "gradient_names": np.array(["reverse_mode", "forward_mode"]),
        "gradient_errors": np.array(errors) / np.linalg.norm(expected),
    }


def _two_point(config: Config, data: Arrays, train: Training) -> Arrays:
    """Learn the same by two-point estimates, one pair of evaluations per iteration."""
    gradient = gradients.two_point(problems.quadratic_objective, smoothing=REPEATED)
    found = train(
        gradient, first_steps(config.num_steps), (data["starts"], data["hessian"]),
        seeds=config.num_seeds,
    )  # fmt: skip
    return {
        "two_point_training": found.losses,
        "two_point_calls": found.calls,
    }


def _logistic(config: Config, train: Training) -> Arrays:
    drawn, tasks, k = problems.logistic_data(config), config.num_tasks, config.num_steps
    training = tuple(drawn[name][:tasks] for name in ("rows", "scales", "least"))
    heldout = tuple(drawn[name][tasks:] for name in ("rows", "scales", "least"))
    gradient = gradients.reverse_mode(problems.logistic_objective)
    learned = train(gradient, first_steps(k), training)
    objective, gaps = problems.logistic_objective, problems.logistic_gaps

    def least(value: Callable[[float], Any]) -> float:
        found = optimize.minimize_scalar(
            lambda log_step: float(value(log_step)), bounds=(-3.0, 4.0)
        )  # fmt: skip
        return float(found.x)

    constant = np.full(k, least(lambda s: objective(np.full(k, s), *training)))
    steps = {
        "learned": np.log(learned.steps[0]),
        "constant": constant,
        "greedy": _greedy(gaps, least, training, k),
        "reversed": np.log(learned.steps[0])[::-1],
    }
    found: Arrays = {"logistic_training": learned.losses[0]}
    for name, log_steps in steps.items():
        along = np.asarray(gaps(log_steps, *heldout))
        found |= {f"logistic_{name}_steps": np.exp(log_steps)}
        found |= {f"logistic_{name}_ends": along[:, -1]}
        found |= {f"logistic_{name}_curve": along.mean(axis=0)}
        found[f"logistic_{name}_loss"] = gaps(log_steps, *training)[:, -1].mean()
    return found | {"logistic_gradient_error": _agreement(steps["learned"], training)}


def _greedy(gaps: Callable, least: Callable, training: tuple, k: int) -> np.ndarray:
    """Return steps of which each makes the mean gap right after it least."""
    steps = np.zeros(k)
    for j in range(k):

        def after(log_step: float, j: int = j) -> float:
            steps[j] = log_step
            return float(gaps(steps, *training)[:, j + 1].mean())

        steps[j] = least(after)
    return steps


def _agreement(log_steps: np.ndarray, training: tuple) -> np.ndarray:
    """Return the largest distance of forward mode and differences from reverse mode, relative."""
    exact, *others = _by_all(jnp.asarray(log_steps + 0.1), *training)
    return np.max([np.linalg.norm(each - exact) for each in others]) / np.linalg.norm(exact)


@jax.jit
def _by_all(x: Any, *args: Any) -> list[Any]:
    fun = problems.logistic_objective
    made = (
        gradients.reverse_mode(fun),
        gradients.forward_mode(fun),
        gradients.finite_difference(fun, step=1e-5),
    )
    return [g(x, *args) for g in made]
