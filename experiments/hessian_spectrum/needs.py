"""What a run takes: the arrays that grow with the config, and evaluations."""

from __future__ import annotations

from adlab import lab

from .config import Config


def needs(config: Config) -> lab.Needs:
    """Return the bytes of the largest arrays, by the keys that they grow with."""
    side, channels, total = (32, 3, 60_000) if config.dataset == "cifar10" else (8, 1, 1797)
    blocks = (config.depth - 2) // 6
    # two convolutions per block, 3 x 3 from one width to the same
    parameters = sum(18 * blocks * width**2 for width in config.widths)
    batch = config.num_examples if config.whole else config.batch_size
    batch = min(batch, total)
    maps = sum(
        2 * blocks * width * (side // 2**stage) ** 2 for stage, width in enumerate(config.widths)
    )
    images = 4 * total * channels * side**2
    states = sum(config.num_seeds) * len(config.steps) * 2 * 4 * parameters
    spectra = sum(config.num_seeds) * len(config.steps) * config.num_probes
    basis = 4 * parameters * (config.num_matvecs + 8)
    return lab.Needs(
        {
            "widths, num_matvecs": basis,
            "num_examples, widths": images * 5 // 4 + 4 * 8 * batch * maps,
            "num_seeds, steps, widths": states + 24 * spectra * config.num_matvecs,
        },
        evaluations=4 * spectra * config.num_matvecs + sum(config.num_seeds) * config.steps[-1],
    )
