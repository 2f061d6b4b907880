"""The matrices: three spectra in a random basis, and the Hessian of a small trained network."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from adlab import curvature, data, models

from .config import CLASSES, INPUTS, Config, Spectrum

EXAMPLES = 500


def eigenvalues(spectrum: Spectrum, dim: int, rng: np.random.Generator) -> np.ndarray:
    """Return i^-2, exp(-i/20), or numbers between 1 and 3; i = 1, ..., dim."""
    i = np.arange(1, dim + 1)
    if spectrum == "power":
        return i**-2.0
    return np.exp(-i / 20) if spectrum == "exponential" else rng.uniform(1, 3, dim)


def rotated(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the matrix with these eigenvalues in a basis drawn uniformly from all."""
    basis, triangle = np.linalg.qr(rng.normal(size=(values.size, values.size)))
    basis *= np.sign(np.diag(triangle))  # the law is uniform with a positive diagonal
    return (basis * values) @ basis.T


def network(config: Config) -> curvature.Hessian:
    """Return the Hessian of the mean loss of a network, at the end of its training."""
    inputs, classes = INPUTS[config.table], CLASSES[config.table]
    if config.table == "mixture":
        examples, _ = data.gaussian_mixture(
            classes=classes, dim=inputs, num_examples=EXAMPLES, separation=3.0, seed=config.seed
        )
    else:
        examples, _ = data.digits(seed=config.seed)
    x = jnp.asarray(examples.inputs[:EXAMPLES].reshape(-1, inputs), jnp.float64)
    y = jnp.asarray(examples.labels[:EXAMPLES], jnp.int64)
    model = models.mlp(inputs=inputs, hidden=[config.hidden], outputs=classes)
    loss = models.classification_loss(model)
    start = model.init(jax.random.key(config.seed), dtype=jnp.float64)
    return curvature.Hessian(loss, _train(loss, start, x, y, config.training_steps), x, y)


def _train(loss: Any, params: Any, x: jax.Array, y: jax.Array, steps: int) -> Any:
    rule = optax.sgd(0.1, momentum=0.9)

    def step(state: Any, _: None) -> tuple[Any, None]:
        params, memory = state
        updates, memory = rule.update(jax.grad(loss)(params, x, y), memory)
        return (optax.apply_updates(params, updates), memory), None

    def descend(params: Any) -> Any:
        return jax.lax.scan(step, (params, rule.init(params)), None, length=steps)[0][0]

    return jax.jit(descend)(params)
