"""Whether the table of rates holds, cell by cell, and whether the controls violate it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from adlab import optimize
from adlab.lab import Text, Verdict
from adlab.lab.verdict import Basis, Kind
from adlab.optimize import Interval

from . import controls, fits, real_data
from .cells import SMOOTH_SHARE, Arrays
from .config import Config, Part
from .theory import exponent, lecture_factor

SLOPE = 0.05  # tolerance of an exponent
EXACT = 0.01  # tolerance of an exponent that no noise blurs
REAL = 0.35  # tolerance of what the best step costs on real data
COLLAPSE = 0.15  # tolerance of a constant


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
        _verdict(claim, slope, exponent(config), SLOPE, control=True),
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


def _verdict(
    claim: Text, interval: Interval, expected: float, tolerance: float, *,
    control: bool = False, kind: Kind = "interval", basis: Basis = "measured",
) -> Verdict:  # fmt: skip
    # equal runs differ by round-off
    estimate, low, high = (round(end, 12) + 0.0 for end in interval.ends)
    ends = (estimate, low, high)
    return Verdict(claim, *ends, expected, tolerance, control, kind=kind, basis=basis)


def _exact(value: float) -> Interval:
    return Interval(value, value, value)


def _slope_in_dimension(*args: Any, seed: int) -> Interval:
    """Return the slope of hitting times; NaN, hence undecided, where a curve misses the target."""
    try:
        return fits.dimension_slope(*args, seed=seed)
    except ValueError:
        return _exact(np.nan)


def _tail(data: Arrays, config: Config, cell: str, power: float, ratio: float) -> list[Verdict]:
    k, curves, gd_k = (data[f"{cell}_{field}"] for field in ("k", "curves", "gd_k"))
    inside = gd_k >= config.window[0]
    slope = _exact(float(optimize.slope(gd_k[inside], data[f"{cell}_gd"][inside])))
    slopes = [
        optimize.slope_interval(*pair, seed=config.seed) for pair in zip(k, curves, strict=True)
    ]
    dims = config.dims
    scaled = [reference(data, cell, k_n / n) for k_n, n in zip(k, dims, strict=True)]
    ratios = [fits.collapse(*pair, seed=config.seed) for pair in zip(curves, scaled, strict=True)]
    growth = _slope_in_dimension(
        dims, list(k), list(curves), crossing(data, config, cell), seed=config.seed
    )
    number, shown = len(dims), f"{power:.3g}"
    return [
        _verdict(Text(f"rates.claim.{cell}_gd_slope", exponent=shown), slope, power, SLOPE),
        _verdict(
            Text(f"rates.claim.{cell}_slope", exponent=shown, number=number),
            optimize.farthest(slopes, power), power, SLOPE,
        ),
        _verdict(Text(f"rates.claim.{cell}_dimension"), growth, 1.0, SLOPE),
        _verdict(
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
        _verdict(
            Text("rates.claim.worst_case_gd"), gd, 1.0, 1e-9, kind="range", basis="identity"
        ),
        _verdict(Text("rates.claim.worst_case", number=means.estimate.size), farthest, 1.0,
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
        _verdict(claims[1], spare, 2.0, SLOPE, kind="range", basis="arithmetic"),
    ]
    ratios = [
        _scaled(interval, 1 / exact)
        for i in range(len(config.estimators))
        for interval, exact in zip(
            _times(data, config, i), data["strongly_convex_exact"][i], strict=True
        )
        if np.isfinite(exact)
    ]
    if ratios:
        claim = Text("rates.claim.strongly_convex_exact", number=len(ratios))
        found.append(_verdict(claim, optimize.farthest(ratios, 1.0), 1.0, SLOPE))
    for i, spec in enumerate(config.estimators):
        found += _growth(data, config, i, spec)
    return found + _forward_gradient(data, config)


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
            _scaled(_over(*pair), price)
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


def _over(above: Interval, below: Interval) -> Interval:
    """Return the ratio of two independent positive estimates, within the ends of both."""
    ends = (above.estimate / below.estimate, above.low / below.high, above.high / below.low)
    return Interval(*ends, above.enough and below.enough)


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
        found.append(_verdict(claim, growth, expected, tolerance, basis=basis))
    return found


def _times(data: Arrays, config: Config, index: int) -> list[Interval]:
    """Return the iterations to the accuracy, per dimension."""
    pairs = zip(*hits(data, index), strict=True)
    return [
        fits.hitting_interval(k, curves, config.accuracy, seed=config.seed) for k, curves in pairs
    ]


def _scaled(interval: Interval, by: float) -> Interval:
    estimate, low, high = (end * by for end in (interval.estimate, interval.low, interval.high))
    return Interval(estimate, low, high, interval.enough)


def hits(data: Arrays, index: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return, per dimension, the iterations recorded and the curves of an estimator."""
    rows = zip(data["strongly_convex_k"][index], data["strongly_convex_curves"][index], strict=True)
    pairs = [(k[k >= 0], curves[:, k >= 0]) for k, curves in rows]
    return [k for k, _ in pairs], [curves for _, curves in pairs]


def growth_in_dimension(data: Arrays, config: Config, index: int, weight: np.ndarray) -> Interval:
    """Return the slope in n of the iterations to the accuracy, each counting as `weight`."""
    k, curves = hits(data, index)
    grids = [grid * w for grid, w in zip(k, weight, strict=True)]
    return _slope_in_dimension(config.full_dims, grids, curves, config.accuracy, seed=config.seed)


def _lipschitz(data: Arrays, config: Config) -> list[Verdict]:
    errors, lengths = data["lipschitz_errors"], data["lipschitz_lengths"]
    by_dim = optimize.slope_interval(config.dims, errors[:, -1].T, seed=config.seed)
    middle = errors[len(config.dims) // 2].T
    by_step = optimize.slope_interval(lengths, middle, seed=config.seed)
    return [
        _verdict(Text("rates.claim.lipschitz_dimension"), by_dim, 0.5, 0.03),
        _verdict(Text("rates.claim.lipschitz_steps"), by_step, -0.5, 0.03),
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
        parts = {"table": table, "slowdown": f"{best.estimate:.3g}"}
        for key, factor, tolerance, control in (
            ("effective", effective, REAL, False), ("worst", worst, REAL, True)
        ):  # fmt: skip
            claim = Text(f"rates.claim.real_{key}", factor=f"{factor:.3g}", **parts)
            ratio = _scaled(best, 1 / factor)
            found.append(_verdict(claim, ratio, 1.0, tolerance, control=control))
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
    found = [_verdict(claim, chain, -1.0, SLOPE, control=True, kind="range")]
    late = data["controls_power_k"] >= 3000
    for power in controls.POWERS:
        curve = data[f"controls_power_{power}"][late]
        slope = _exact(float(optimize.slope(data["controls_power_k"][late], curve)))
        claim = Text(
            "rates.claim.control_power", power=power, exponent=f"{-power / (power - 2):.3g}"
        )
        found.append(_verdict(claim, slope, -1.0, SLOPE, control=True))
    curves = list(data["controls_rank_one"])
    grids = [data["controls_rank_one_k"]] * len(curves)
    flat = _slope_in_dimension(config.full_dims, grids, curves, 0.05, seed=config.seed)
    growth = data["controls_growth"].reshape(-1, config.num_seeds)
    least = growth[np.argmin(np.log(growth).mean(axis=1))]
    grown = optimize.ratio_interval(least, seed=config.seed)
    return [
        *found,
        _verdict(Text("rates.claim.control_rank_one"), flat, 1.0, SLOPE, control=True),
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
