"""Whether the table of rates holds, cell by cell, and whether the controls violate it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from adlab import optimize
from adlab.lab import Text, Verdict
from adlab.lab.verdict import Basis
from adlab.optimize import Interval

from . import controls, effective, fits, real_data
from .cells import SMOOTH_SHARE, Arrays
from .claims import (
    COLLAPSE,
    EXACT,
    REAL,
    SLOPE,
    exactly,
    judged,
    over,
    scaled,
    slope_in_dimension,
)
from .config import Config, Part
from .theory import bound_iterations, exponent, lecture_factor, plain_two_point


def verdicts(data: Arrays, config: Config) -> list[Verdict]:
    """Judge every cell and every control."""
    judges: dict[Part, Callable[[Arrays, Config], list[Verdict]]] = {
        "smooth": _smooth,
        "convex": _convex,
        "worst_case": _worst_case,
        "strongly_convex": _strongly_convex,
        "lipschitz": _lipschitz,
        "real_data": _real_data,
        "controls": _controls,
        "full_dimension": _agreement,
        "effective_dimension": _effective,
    }
    found = [judge(data, config) for part, judge in judges.items() if part in config.parts]
    return [verdict for verdicts in found for verdict in verdicts]


def _smooth(data: Arrays, config: Config) -> list[Verdict]:
    """Judge the cell, and that averaging its iterates would hide the rate."""
    middle = len(config.dims) // 2
    k, averages = data["smooth_k"][middle], data["smooth_averages"][middle]
    slope = optimize.slope_interval(k, averages, seed=config.seed)
    claim = Text("rates.claim.control_average")
    return [
        *_tail(data, config, "smooth", exponent(config), 1 + SMOOTH_SHARE / (2 - SMOOTH_SHARE)),
        judged(claim, slope, exponent(config), SLOPE, control=True),
    ]


def _convex(data: Arrays, config: Config) -> list[Verdict]:
    return _tail(data, config, "convex", -1.0, 1.0)


def reference(data: Arrays, cell: str, tau: np.ndarray) -> np.ndarray:
    """Return gradient descent's curve at iterations tau, between those recorded."""
    logs = np.interp(np.log(tau), np.log(data[f"{cell}_gd_k"]), np.log(data[f"{cell}_gd"]))
    return np.exp(logs)


def crossing(data: Arrays, config: Config, cell: str) -> float:
    """Return the target that iterations are counted to: gradient descent's value mid-window."""
    return float(reference(data, cell, np.array([np.sqrt(np.prod(config.window))]))[0])


def _tail(data: Arrays, config: Config, cell: str, power: float, ratio: float) -> list[Verdict]:
    k, curves, gd_k = (data[f"{cell}_{field}"] for field in ("k", "curves", "gd_k"))
    inside = gd_k >= config.window[0]
    slope = exactly(float(optimize.slope(gd_k[inside], data[f"{cell}_gd"][inside])))
    slopes = [
        optimize.slope_interval(*pair, seed=config.seed) for pair in zip(k, curves, strict=True)
    ]
    dims = config.dims
    exact = [reference(data, cell, k_n / n) for k_n, n in zip(k, dims, strict=True)]
    ratios = [fits.collapse(*pair, seed=config.seed) for pair in zip(curves, exact, strict=True)]
    growth = slope_in_dimension(
        dims, list(k), list(curves), crossing(data, config, cell), seed=config.seed
    )
    number, shown = len(dims), f"{power:.3g}"
    return [
        judged(Text(f"rates.claim.{cell}_gd_slope", exponent=shown), slope, power, SLOPE),
        judged(
            Text(f"rates.claim.{cell}_slope", exponent=shown, number=number),
            optimize.farthest(slopes, power), power, SLOPE,
        ),
        judged(Text(f"rates.claim.{cell}_dimension"), growth, 1.0, SLOPE),
        judged(
            Text(f"rates.claim.{cell}_collapse", number=number),
            optimize.farthest(ratios, ratio),
            ratio,
            COLLAPSE * ratio,
        ),
    ]  # fmt: skip


def _worst_case(data: Arrays, config: Config) -> list[Verdict]:
    exact = data["worst_case_gd"]
    gd = Interval(float(exact.mean()), float(exact.min()), float(exact.max()))
    means = optimize.mean_interval(np.moveaxis(data["worst_case_scaled"], 2, 0), seed=config.seed)
    cells = zip(*(np.ravel(end) for end in (means.estimate, means.low, means.high)), strict=True)
    found = [
        Interval(float(mean), float(low), float(high), means.enough) for mean, low, high in cells
    ]
    farthest = optimize.farthest(found, 1.0)
    return [
        judged(
            Text("rates.claim.worst_case_gd"), gd, 1.0, 1e-9, kind="range", basis="identity"
        ),
        judged(Text("rates.claim.worst_case", number=means.estimate.size), farthest, 1.0,
                 COLLAPSE),
    ]  # fmt: skip


def _strongly_convex(data: Arrays, config: Config) -> list[Verdict]:
    margins = data["strongly_convex_margins"]
    bound = margins.min()
    stiff = margins[data["strongly_convex_conditions"] >= 10]
    spare = Interval(float(stiff.mean()), float(stiff.min()), float(stiff.max()))
    claims = [Text(f"rates.claim.strongly_convex_{name}") for name in ("bound", "spare")]
    ends = (bound, bound, bound)  # of the exact recursion: nothing was run
    found = [
        Verdict.at_least(claims[0], *ends, 1 - 1e-9, basis="arithmetic"),
        judged(claims[1], spare, 2.0, SLOPE, kind="range", basis="arithmetic"),
    ]
    ratios = _over_exact(data, config, "curves", data["strongly_convex_exact"])
    if ratios:
        claim = Text("rates.claim.strongly_convex_exact", number=len(ratios))
        found.append(judged(claim, optimize.farthest(ratios, 1.0), 1.0, SLOPE))
    found += _squares(data, config)
    for i, spec in enumerate(config.estimators):
        found += _growth(data, config, i, spec)
    return found + _forward_gradient(data, config)


def _over_exact(data: Arrays, config: Config, field: str, exact: np.ndarray) -> list[Interval]:
    """Return iterations to the accuracy over those of the exact recursion, where it is known."""
    return [
        scaled(interval, 1 / predicted)
        for i in range(len(config.estimators))
        for interval, predicted in zip(_times(data, config, i, field), exact[i], strict=True)
        if np.isfinite(predicted)
    ]


def _squares(data: Arrays, config: Config) -> list[Verdict]:
    """Judge |x - x*|^2, of which the lecture's bound (1 - mu/(nL))^k speaks."""
    shares = [
        scaled(interval, 1 / bound_iterations(config, lecture_factor(spec, n, claimed)))
        for i, spec in enumerate(config.estimators)
        for n, claimed, interval in zip(
            config.full_dims, data["strongly_convex_factor"][i],
            _times(data, config, i, "squares"), strict=True,
        )
    ]  # fmt: skip
    greatest = max(shares, key=lambda each: np.nan_to_num(each.high, nan=np.inf))
    claim = Text("rates.claim.strongly_convex_square_bound", number=len(shares))
    found = [Verdict.at_most(claim, *greatest.ends, 1.0, basis="measured")]
    ratios = _over_exact(data, config, "squares", data["strongly_convex_exact_squares"])
    if ratios:
        claim = Text("rates.claim.strongly_convex_square_exact", number=len(ratios))
        found.append(judged(claim, optimize.farthest(ratios, 1.0), 1.0, SLOPE))
    place = plain_two_point(config)
    if place is not None:
        pair = hits(data, place, "squares")
        growth = slope_in_dimension(config.full_dims, *pair, config.accuracy, seed=config.seed)
        found.append(
            judged(Text("rates.claim.strongly_convex_square_dimension"), growth, 1.0, SLOPE)
        )
    return found


def _forward_gradient(data: Arrays, config: Config) -> list[Verdict]:
    """Judge what a forward gradient costs beside the two-point estimate of the same variance.

    In calls it would be half: one Jacobian-vector product in place of two evaluations.
    """
    found, kinds = [], [spec.kind for spec in config.estimators]
    factors = data["strongly_convex_factor"]
    pairs = [
        next(((i, j) for j, other in enumerate(kinds)
              if other == "two_point" and np.array_equal(factors[i], factors[j])), None)
        for i, kind in enumerate(kinds) if kind == "forward_gradient"
    ]  # fmt: skip
    for i, place in filter(None, pairs):
        spent = data["strongly_convex_evaluations"]
        ratios = [
            scaled(over(*pair), price)
            for *pair, price in zip(
                _times(data, config, i), _times(data, config, place), spent[i] / spent[place],
                strict=True,
            )
        ]  # fmt: skip
        least = min(ratios, key=lambda each: np.nan_to_num(each.low, nan=-np.inf))
        calls = data["strongly_convex_calls"]
        claim = Text(
            "rates.claim.strongly_convex_forward_gradient", number=len(ratios),
            calls=f"{calls[i, 0] / calls[place, 0]:.2g}",
        )  # fmt: skip
        found.append(Verdict.at_least(claim, *least.ends, 1.0, basis="measured"))
    return found


def _growth(data: Arrays, config: Config, i: int, spec: Any) -> list[Verdict]:
    """Judge the growth in n of iterations, and of evaluations where these aren't in proportion."""
    dims, calls = config.full_dims, data["strongly_convex_calls"][i]
    claimed = data["strongly_convex_factor"][i]
    factor = [lecture_factor(spec, n, c) for n, c in zip(dims, claimed, strict=True)]
    found = []
    evaluations = data["strongly_convex_evaluations"][i]
    for key, weight in (("iterations", np.ones_like(calls)), ("evaluations", evaluations)):
        if key == "evaluations" and np.all(calls == calls[0]):
            continue
        expected = float(optimize.slope(dims, factor * weight))
        claim = Text(
            f"rates.claim.strongly_convex_{key}", method=spec.name, exponent=f"{expected:.2g}"
        )
        growth = growth_in_dimension(data, config, i, weight)
        exact = bool(np.all(np.equal(factor, 1)))  # descends as gradient descent, whatever n
        tolerance = EXACT if exact else SLOPE
        basis: Basis = "identity" if exact else "measured"
        found.append(judged(claim, growth, expected, tolerance, basis=basis))
    return found


def _times(data: Arrays, config: Config, index: int, field: str = "curves") -> list[Interval]:
    """Return the iterations to the accuracy, per dimension."""
    pairs = zip(*hits(data, index, field), strict=True)
    return [
        fits.hitting_interval(k, curves, config.accuracy, seed=config.seed) for k, curves in pairs
    ]


def hits(
    data: Arrays, index: int, field: str = "curves"
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return, per dimension, the iterations recorded and the curves of an estimator.

    Those of f, or of |x - x*|^2 as "squares", relative to the start.
    """
    rows = zip(
        data["strongly_convex_k"][index], data[f"strongly_convex_{field}"][index], strict=True
    )
    pairs = [(k[k >= 0], curves[:, k >= 0]) for k, curves in rows]
    return [k for k, _ in pairs], [curves for _, curves in pairs]


def growth_in_dimension(data: Arrays, config: Config, index: int, weight: np.ndarray) -> Interval:
    """Return the slope in n of the iterations to the accuracy, each counting as `weight`."""
    k, curves = hits(data, index)
    grids = [grid * w for grid, w in zip(k, weight, strict=True)]
    return slope_in_dimension(config.full_dims, grids, curves, config.accuracy, seed=config.seed)


def _lipschitz(data: Arrays, config: Config) -> list[Verdict]:
    errors, lengths = data["lipschitz_errors"], data["lipschitz_lengths"]
    by_dim = optimize.slope_interval(config.dims, errors[:, -1].T, seed=config.seed)
    middle = errors[len(config.dims) // 2].T
    by_step = optimize.slope_interval(lengths, middle, seed=config.seed)
    return [
        judged(Text("rates.claim.lipschitz_dimension"), by_dim, 0.5, 0.03),
        judged(Text("rates.claim.lipschitz_steps"), by_step, -0.5, 0.03),
    ]


def _real_data(data: Arrays, config: Config) -> list[Verdict]:
    """Judge what the best step costs: the effective dimension, and not n."""
    found = []
    for table in config.tables:
        effective, worst = (
            float(data[f"real_data_{table}_{name}"]) for name in ("effective", "worst")
        )
        times = slowdowns(data, table, config.seed)
        best = times[int(np.nanargmin([time.estimate for time in times]))]
        parts = {"table": Text(f"rates.table.{table}"), "slowdown": f"{best.estimate:.3g}"}
        for key, factor, tolerance, control in (
            ("effective", effective, REAL, False), ("worst", worst, REAL, True)
        ):  # fmt: skip
            claim = Text(f"rates.claim.real_{key}", factor=f"{factor:.3g}", **parts)
            ratio = scaled(best, 1 / factor)
            found.append(judged(claim, ratio, 1.0, tolerance, control=control))
    return found


def slowdowns(data: Arrays, table: str, seed: int) -> list[Interval]:
    """Return, per factor, iterations of two-point descent over those of gradient descent."""
    fields = ("gd_k", "gd", "k", "curves")
    gd_k, gd, k, curves = (data[f"real_data_{table}_{field}"] for field in fields)
    scale = float(fits.hitting_time(gd_k, gd, real_data.TARGET))
    return [
        fits.hitting_interval(grid / scale, runs, real_data.TARGET, seed=seed)
        for grid, runs in zip(k, curves, strict=True)
    ]


def _controls(data: Arrays, config: Config) -> list[Verdict]:
    k, gaps = data["controls_chain_k"], data["controls_chain"]
    local = np.diff(np.log(gaps)) / np.diff(np.log(k))
    local = local[k[1:] >= 30]
    chain = Interval(float(np.median(local)), float(local.min()), float(local.max()))
    claim = Text("rates.claim.control_chain")
    found = [judged(claim, chain, -1.0, SLOPE, control=True, kind="range")]
    late = data["controls_power_k"] >= 3000
    for power in controls.POWERS:
        curve = data[f"controls_power_{power}"][late]
        slope = exactly(float(optimize.slope(data["controls_power_k"][late], curve)))
        claim = Text(
            "rates.claim.control_power", power=power, exponent=f"{-power / (power - 2):.3g}"
        )
        found.append(judged(claim, slope, -1.0, SLOPE, control=True))
    curves = list(data["controls_rank_one"])
    grids = [data["controls_rank_one_k"]] * len(curves)
    flat = slope_in_dimension(config.full_dims, grids, curves, 0.05, seed=config.seed)
    growth = data["controls_growth"].reshape(-1, config.num_seeds)
    least = growth[np.argmin(np.log(growth).mean(axis=1))]
    grown = optimize.ratio_interval(least, seed=config.seed)
    return [
        *found,
        judged(Text("rates.claim.control_rank_one"), flat, 1.0, SLOPE, control=True),
        Verdict.at_most(
            Text("rates.claim.control_step", steps=controls.DIVERGING), *grown.ends, 1.0,
            control=True, basis="measured",
        ),
    ]  # fmt: skip


def _agreement(data: Arrays, config: Config) -> list[Verdict]:
    del config
    full, reduced = data["full_dimension_full"], data["full_dimension_reduced"]
    error = np.sqrt(full.var(ddof=1) / full.size + reduced.var(ddof=1) / reduced.size)
    z = float((full.mean() - reduced.mean()) / error)
    claim = Text("rates.claim.reduction", dim=controls.FULL_DIM)
    return [Verdict(claim, z, z, z, 0.0, 3.0, basis="identity")]


def _effective(data: Arrays, config: Config) -> list[Verdict]:
    """Judge that the slowdown grows as the effective dimension, and is about that."""
    dims, factors = config.full_dims, data["effective_dimension_factors"]
    times = effective.slowdowns(data, config.seed)
    ratios = [
        scaled(time, 1 / factor)
        for row, claimed in zip(times, factors, strict=True)
        for time, factor in zip(row, claimed, strict=True)
    ]
    found = []
    rows = zip(effective.SPECTRA, factors, *(
        data[f"effective_dimension_{field}"] for field in ("k", "curves")
    ), strict=True)  # fmt: skip
    for spectrum, claimed, k, curves in rows:
        growth = slope_in_dimension(dims, list(k), list(curves), effective.TARGET, seed=config.seed)
        expected = round(float(optimize.slope(dims, claimed)), 4)
        claim = Text(f"rates.claim.effective_{spectrum}", exponent=f"{expected:.2f}")
        found.append(judged(claim, growth, expected, SLOPE))
    claim = Text("rates.claim.effective_factor", number=len(ratios))
    return [*found, judged(claim, optimize.farthest(ratios, 1.0), 1.0, REAL)]
