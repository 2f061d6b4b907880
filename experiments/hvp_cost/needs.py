"""What a run takes: the arrays that grow with the config, and evaluations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adlab import lab

if TYPE_CHECKING:
    from . import Config


def needs(config: Config) -> lab.Needs:
    """Return the bytes of the largest arrays, by the keys that they grow with."""
    batch, found = config.batch_size, {}
    if config.mlp_widths:
        width = max(config.mlp_widths)
        weights = 4 * config.mlp_depth * width**2
        states = 4 * batch * config.mlp_depth * width
        # parameters, vectors, what the linearisation keeps, and a product
        found["mlp_widths, mlp_depth, batch_size"] = 8 * (weights + states)
    if config.resnet_widths:
        width, blocks = max(config.resnet_widths), (config.resnet_depth - 2) // 6
        weights = 4 * 18 * blocks * 21 * width**2  # stages of w, 2 w and 4 w channels
        states = 4 * batch * 2 * blocks * 112 * width  # 64 pixels, then 16 and 4 of wider maps
        found["resnet_widths, resnet_depth, batch_size"] = 8 * (weights + 2 * states)
    networks = len(set(config.mlp_widths)) + len(set(config.resnet_widths))
    return lab.Needs(found, evaluations=networks * config.repeats * 20)
