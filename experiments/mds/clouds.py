"""Random clouds of growing size: calls to the target, and the closed form."""

from __future__ import annotations

from typing import Any

import numpy as np

from adlab import lab
from adlab.problems import classical_scaling

from .config import PAIR, SIMPLEXES, Config
from .descents import first_hit, race, relative, scale, simplex, work

Arrays = dict[str, np.ndarray]
NOISE = 0.3  # of a start, per sqrt(d)


def clouds(config: Config, case: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return points (S, N, d), their distances (S, N, N) and starts (S, N, d) near them.

    Distances have the root mean square 1.
    """
    count, dim = case
    rng = np.random.default_rng([config.seed, count, dim])
    points = rng.normal(size=(config.num_seeds, count, dim))
    apart = points[:, :, None] - points[:, None]
    tables = np.sqrt(np.sum(apart**2, axis=-1))
    size = np.sqrt(np.mean(tables**2, axis=(1, 2), keepdims=True))
    moves = NOISE / np.sqrt(dim) * rng.normal(size=points.shape)
    return points / size, tables / size, (points + moves) / size


def measure(config: Config, case: tuple[int, int], progress: lab.Progress) -> Arrays:
    """Return d_eff, calls to the target, last losses, simplexes, operations, and the closed form.

    Of shapes (S,), (2, S), (2, S), (simplexes, simplex_seeds), and (S,) each.
    """
    points, tables, starts = clouds(config, case)
    scales = [scale(*pair) for pair in zip(points, tables, strict=True)]
    slower = np.array([s.slower for s in scales])
    steps = config.step_fraction * np.array([s.longest for s in scales])
    hits, last, _ = race(
        config, starts, tables, steps, slower, progress, methods=PAIR, num_steps=config.num_steps
    )
    evaluations = np.full((len(SIMPLEXES), config.simplex_seeds), np.nan)
    for place, kind in enumerate(SIMPLEXES):
        progress.update(place, len(SIMPLEXES), kind)
        for k in range(config.simplex_seeds):
            size = float(np.linalg.norm(starts[k] - points[k]) / np.sqrt(points[k].size))
            edge = size if kind == "adaptive_wide" else None
            options: dict[str, Any] = {"adaptive": kind != "classic", "edge": edge}
            losses = simplex(starts[k], tables[k], budget=config.budget, **options)["loss"]
            evaluations[place, k] = first_hit(np.arange(1, len(losses) + 1), losses)
    return {
        "d_eff": np.array([s.d_eff for s in scales]),
        "slower": slower,
        "hits": hits,
        "last": last,
        "evaluations": evaluations,
        "flops": np.array(work(points[0])),
        **_closed_form(points, tables),
    }


def _closed_form(points: np.ndarray, tables: np.ndarray) -> Arrays:
    """Return how far classical scaling is from the principal components of the points, and so on.

    Each relative, of shape (S,): its spectrum against squared singular values, its points against
    scores (their signs are free), the loss that is left, and that of unsquared distances.
    """
    rows = []
    for cloud, table in zip(points, tables, strict=True):
        found, spectrum = classical_scaling(table, dim=cloud.shape[1])
        centred = cloud - cloud.mean(axis=0)
        left, singular, _ = np.linalg.svd(centred, full_matrices=False)
        scores = left * singular
        signs = np.sign(np.sum(found * scores, axis=0))
        padded = np.zeros(len(cloud))
        padded[: len(singular)] = singular**2
        unsquared = classical_scaling(np.sqrt(table), dim=cloud.shape[1])[0]
        rows.append(
            [
                np.max(np.abs(spectrum - padded)) / padded[0],
                np.max(np.abs(found - signs * scores)) / np.max(np.abs(scores)),
                float(relative(found, table)),
                float(relative(unsquared, np.sqrt(table))),
            ]
        )
    names = ("spectrum_error", "scores_error", "classical_loss", "unsquared_loss")
    return dict(zip(names, np.array(rows).T, strict=True))
