"""What formulas say of memory and work."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from adlab import checkpointing, models

from .config import POLICIES, Config

Arrays = dict[str, np.ndarray]


def formula(config: Config) -> dict[str, np.ndarray]:
    """Return bytes in PARTS by the formulas, in numbers of two bytes.

    "none" and "layer" as in the module's text; "korthikanti" with all attention matrices.
    """
    size = models.gpt2_size(config.size)
    layers, heads, width = (size[name] for name in ("layers", "heads", "width"))
    state = config.batch_size * config.sequence * width
    matrix = heads * config.batch_size * config.sequence**2
    return {
        "none": np.array([0, 24 * state * layers, 0, 0.0]),
        "layer": np.array([2 * state * layers, 24 * state, 2 * matrix, 0.0]),
        "korthikanti": np.array([0, 34 * state * layers, 5 * matrix * layers, 0.0]),
    }


def repeated(config: Config) -> float:
    """Return by how much `jax.checkpoint` per layer multiplies the products of the gradient.

    Per token and layer there are 24 h^2 + 4 s h operations, 8 h^2 of them in the last product, and
    2 h V per token for the logits.
    """
    size, s, vocabulary = models.gpt2_size(config.size), config.sequence, 50257
    layers, width = size["layers"], size["width"]
    forward = layers * (24 * width**2 + 4 * s * width) + 2 * width * vocabulary
    return 1 + layers * (16 * width**2 + 4 * s * width) / (3 * forward)


def layers_alive(data: Arrays, config: Config, row: int, policy: str) -> np.ndarray:
    """Return the bytes in PARTS that are alive at once inside the layers.

    What is saved, and at most all that one layer makes when it is computed again. With checkpoints,
    the logits and the loss are done with by then.
    """
    saved = data["saved"][row, POLICIES.index(policy)].copy()
    if policy == "none":
        return np.asarray(saved)
    if policy == "dots":  # one state per layer, and products inside it
        states = data["saved"][row, POLICIES.index("layer"), 0]
        saved[:2] = states, saved[0] - states
    one = data["saved"][row, 0] / models.gpt2_size(config.size)["layers"]
    return np.asarray(saved + one) * np.array([1, 1, 1, 0])


def states(config: Config) -> np.ndarray:
    """Return the bytes of the states that each policy but "none" should keep, per dtype."""
    size = models.gpt2_size(config.size)
    schedules = (checkpointing.sqrt(), checkpointing.binomial(config.slots))
    # Beside the slots a scan keeps its first state, for derivatives of its gradient, and its last.
    kept = [size["layers"]] * 2 + [2 + schedule.slots(size["layers"]) for schedule in schedules]
    state = config.batch_size * config.sequence * size["width"]
    widths = np.array([jnp.dtype(dtype).itemsize for dtype in config.dtypes])
    return state * np.outer(widths, kept)
