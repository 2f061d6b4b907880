"""Pictures that experiments share, each drawn on given axes from given arrays.

Theory is a dashed reference line. Nothing is computed here but the place of that line and, in
`compensated`, the division by it.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import (
    FixedLocator,
    FuncFormatter,
    LogFormatterSciNotation,
    LogLocator,
    NullFormatter,
    NullLocator,
)
from numpy.typing import ArrayLike

from adlab.figures import style
from adlab.figures.labels import text

__all__ = [
    "Curve",
    "compensated",
    "convergence",
    "dot_plot",
    "grid",
    "legend_below",
    "power_law",
    "scaling",
]


@dataclasses.dataclass(frozen=True)
class Curve:
    """A line y(x), with its band if `low` and `high` are given.

    Attributes:
      x: points, of shape (k,).
      y: values, of shape (k,).
      label: text of the legend; "" leaves the curve out of it.
      method: whose colour and marker it has; None marks theory (dashed, dark).
      low: lower edge of the band, of shape (k,).
      high: upper edge of the band, of shape (k,).
      color: a colour of its own, as one of `style.shades`, instead of the method's.
    """

    x: ArrayLike
    y: ArrayLike
    label: str = ""
    method: str | None = None
    low: ArrayLike | None = None
    high: ArrayLike | None = None
    color: str | None = None


def power_law(
    x: ArrayLike, exponent: float, *, through: tuple[float, float], label: str | None = None
) -> Curve:
    """Return the reference line y = y0 (x/x0)^exponent over the range of x, through = (x0, y0).

    Its label, if None, is "theory" with the exponent, in the current language.
    """
    ends = np.array([np.min(x), np.max(x)], dtype=float)
    y = through[1] * (ends / through[0]) ** exponent
    if label is None:
        label = text("panel.theory_power", variable="k", exponent=f"{exponent:.3g}")
    return Curve(ends, y, label)


def grid(
    rows: int = 1, cols: int = 1, *, title: str = "", size: tuple[float, float] = style.SLIDE
) -> tuple[Figure, np.ndarray]:
    """Return a slide-sized figure and its axes, an array of shape (rows, cols)."""
    figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12))
    if title:
        figure.suptitle(title)
    return figure, figure.subplots(rows, cols, squeeze=False)


def legend_below(figure: Figure, ax: Axes, cols: int = 2) -> None:
    """Put one legend for all panels of a figure below them, with the entries of `ax`."""
    handles, names = ax.get_legend_handles_labels()
    hidden = any(isinstance(each, Line2D) and _hides_dashes(each) for each in handles)
    length = 4.0 if hidden else None  # of a shorter line the marker covers what is dashed
    figure.legend(handles, names, loc="outside lower center", ncols=cols, handlelength=length)


def _hides_dashes(line: Line2D) -> bool:
    return line.get_linestyle() == "--" and line.get_marker() not in ("None", "none", " ", "")


def convergence(
    ax: Axes,
    curves: Sequence[Curve],
    *,
    xlabel: str,
    ylabel: str,
    title: str = "",
    xscale: str = "log",
    references: Sequence[Curve] = (),
    direct: bool = False,
    legend: str = "best",
    room: float = 1.0,
) -> None:
    """Draw curves against the step count, y on a log axis, and theory's lines over them.

    On log-log axes a rate 1/k is a straight line; with xscale="linear" a geometric rate is.

    Args:
      ax: axes to draw on.
      curves: what was measured.
      xlabel: text under the axis.
      ylabel: text beside the axis.
      title: text above the axes.
      xscale: "log" or "linear".
      references: theory's lines.
      direct: whether each curve's label stands at its start, and the legend tells theory only.
      legend: where the legend stands, as matplotlib names it.
      room: factor by which the y axis goes on below the lowest curve, to hold the legend.
    """
    ax.set(xscale=xscale, yscale="log")
    _draw(ax, [dataclasses.replace(c, label="") for c in curves] if direct else curves, references)
    low, high = ax.get_ylim()
    ax.set_ylim(low / room, high * (1.8 if direct else 1))
    if direct:
        _label_starts(ax, curves)
    _finish(ax, xlabel, ylabel, title, legend)


def compensated(
    ax: Axes,
    curves: Sequence[Curve],
    *,
    xlabel: str,
    ylabel: str,
    title: str = "",
    exponent: float = 0.0,
    expected: float | None = None,
    tolerance: float = 0.0,
) -> None:
    """Draw curves divided by x^exponent, so that a power law lies flat.

    Args:
      ax: axes to draw on.
      curves: what was measured; exponent 0 takes it as compensated already.
      xlabel: text under the axis.
      ylabel: text beside the axis.
      title: text above the axes.
      exponent: theory's power of x.
      expected: theory's constant, drawn as a horizontal line.
      tolerance: half-width of the band around it.
    """
    ax.set_xscale("log")
    _draw(ax, [_divided(curve, exponent) for curve in curves], ())
    if expected is not None:
        ax.axhline(expected, color=style.THEORY, linestyle="--", label=text("panel.theory"))
        edges = (expected - tolerance, expected + tolerance)
        ax.axhspan(*edges, color=style.THEORY, alpha=0.08, lw=0)
    ax.margins(y=0.25)
    _finish(ax, xlabel, ylabel, title)


def scaling(
    ax: Axes,
    n: ArrayLike,
    values: ArrayLike,
    *,
    exponent: float | None,
    method: str,
    label: str,
    color: str | None = None,
    low: ArrayLike | None = None,
    high: ArrayLike | None = None,
    fitted: float | None = None,
    xlabel: str = "",
    ylabel: str = "",
    title: str = "",
    legend: str = "upper left",
) -> None:
    """Draw a quantity against the dimension, log-log, beside theory's n^exponent.

    Called once per method, on the same axes.

    Args:
      ax: axes to draw on.
      n: dimensions, of shape (k,).
      values: measured at each, of shape (k,).
      exponent: theory's slope; its line passes through the middle of the values. None draws none.
      method: whose colour and marker the points have.
      label: name in the legend.
      color: a colour of its own, as one of `style.shades`, instead of the method's.
      low: lower ends of the intervals of `values`, of shape (k,).
      high: upper ends of the intervals of `values`, of shape (k,).
      fitted: the slope that was measured, told in the legend.
      xlabel: text under the axis; "" leaves what is there.
      ylabel: text beside the axis; "" leaves what is there.
      title: text above the axes; "" leaves what is there.
      legend: where the legend stands, as matplotlib names it; "" for none.
    """
    ax.set(xscale="log", yscale="log")
    ax.margins(y=0.12)
    n, values = np.asarray(n, dtype=float), np.asarray(values, dtype=float)
    if exponent is not None:
        middle = (float(np.exp(np.mean(np.log(n)))), float(np.exp(np.mean(np.log(values)))))
        words = text("panel.theory_power", variable="n", exponent=_number(exponent))
        _line(ax, power_law(n, exponent, through=middle, label=words))
    if fitted is not None:
        label = text("panel.fitted", label=label, slope=f"{fitted:.3f}")
    line = "-" if exponent is None else ""
    bars = None if low is None or high is None else _bars(values, low, high)
    ax.errorbar(
        n, values, yerr=bars, fmt=style.marker(method) + line, capsize=5, label=label,
        color=color or style.color(method),
    )  # fmt: skip
    _finish(ax, xlabel, ylabel, title, legend)
    if n.size <= 8 and np.all(n == np.rint(n)):
        _ticks_at(ax.xaxis, n)


def dot_plot(
    ax: Axes,
    names: Sequence[str],
    measured: ArrayLike,
    *,
    low: ArrayLike,
    high: ArrayLike,
    expected: float | ArrayLike = 1.0,
    tolerance: float = 0.0,
    methods: Sequence[str] | None = None,
    xlabel: str = "",
    title: str = "",
) -> None:
    """Draw one row per name, from the top: a dot, its interval, and what theory expects.

    A single `expected` is a line through all rows; an array of shape (k,) is a tick in each.
    """
    rows = np.arange(len(names))
    measured, expected = np.asarray(measured, dtype=float), np.asarray(expected, dtype=float)
    bars = _bars(measured, low, high)
    for i, method in enumerate(methods or ["gradient_descent"] * len(names)):
        ax.errorbar(
            measured[i], i, xerr=bars[:, i : i + 1], fmt=style.marker(method), capsize=5,
            color=style.color(method),
        )  # fmt: skip
    label = text("panel.theory")
    if expected.ndim:
        ax.scatter(
            expected, rows, marker="|", s=700, linewidths=2.5, color=style.THEORY, label=label,
            zorder=1,
        )  # fmt: skip
    else:
        level = float(expected)
        ax.axvline(level, color=style.THEORY, linestyle="--", label=label, zorder=1)
        ax.axvspan(level - tolerance, level + tolerance, color=style.THEORY, alpha=0.08, lw=0)
    ax.set_yticks(rows, names)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.grid(visible=False, axis="y")
    _finish(ax, xlabel, "", title)


def _label_starts(ax: Axes, curves: Sequence[Curve]) -> None:
    for curve in curves:
        start = (float(np.asarray(curve.x)[0]), float(np.asarray(curve.y)[0]))
        ax.annotate(
            curve.label, start, xytext=(-6, 12), textcoords="offset points", fontsize=18,
            color=style.ink(curve.color or style.color(curve.method or "")),
        )  # fmt: skip


def _draw(ax: Axes, curves: Sequence[Curve], references: Sequence[Curve]) -> None:
    for curve in [*curves, *references]:
        _line(ax, curve)


def _line(ax: Axes, curve: Curve) -> None:
    label = curve.label or "_nolegend_"
    if curve.method is None:
        color = curve.color or style.THEORY
        ax.plot(curve.x, curve.y, "--", color=color, linewidth=2, label=label, zorder=2.5)
        return
    color = curve.color or style.color(curve.method)
    x = np.asarray(curve.x)
    ax.plot(
        x, curve.y, color=color, label=label,
        marker=style.marker(curve.method), markevery=max(1, x.size // 8),
    )  # fmt: skip
    if curve.low is not None and curve.high is not None:
        ax.fill_between(x, curve.low, curve.high, color=color, alpha=0.2, linewidth=0)


def _divided(curve: Curve, exponent: float) -> Curve:
    """The curve, and its band, divided by x^exponent."""
    scale = np.asarray(curve.x, dtype=float) ** -exponent
    edges = {"y": curve.y, "low": curve.low, "high": curve.high}
    scaled = {k: None if v is None else np.asarray(v) * scale for k, v in edges.items()}
    return dataclasses.replace(curve, **scaled)  # type: ignore[arg-type]


def _bars(values: np.ndarray, low: ArrayLike, high: ArrayLike) -> np.ndarray:
    """Lengths of the bars below and above `values`, of shape (2, k)."""
    lengths = np.stack([values - np.asarray(low), np.asarray(high) - values])
    return np.asarray(np.maximum(lengths, 0.0))


def _finish(ax: Axes, xlabel: str, ylabel: str, title: str, legend: str = "best") -> None:
    """Labels, a legend where there is something to tell apart, and ticks."""
    given = {"xlabel": xlabel, "ylabel": ylabel, "title": title}
    ax.set(**{what: words for what, words in given.items() if words})
    handles, names = ax.get_legend_handles_labels()
    unique = dict(zip(names, handles, strict=True))
    if unique and legend:
        place: Any = legend
        ax.legend(list(unique.values()), list(unique), loc=place)
    for axis in (ax.xaxis, ax.yaxis):
        if axis.get_scale() == "log":
            _log_ticks(axis)


def _log_ticks(axis: Axis) -> None:
    """Powers of ten, about six at most; within two decades 1, 2, 5 as plain numbers."""
    low, high = sorted(axis.get_view_interval())
    if math.log10(high / low) < 2:
        axis.set_major_locator(_ShortTicks(axis))
        axis.set_major_formatter(_ShortNumbers(axis))
    else:
        axis.set_major_locator(LogLocator(numticks=7))
    axis.set_minor_formatter(NullFormatter())


class _ShortTicks(LogLocator):
    """1, 2, 5 times powers of ten, where they fit; else 1 and 3, or 1 alone.

    It is asked whenever a figure is drawn: limits and size change after a panel is finished.
    """

    def __init__(self, of: Axis) -> None:
        super().__init__()
        self._of = of

    def tick_values(self, vmin: float, vmax: float) -> Any:
        low, high = sorted((vmin, vmax))
        # matplotlib leaves two lines to a label, where one will do
        space = max(2, self._of.get_tick_space()) * (2 if self._of is self._of.axes.yaxis else 1)
        if not _is_short(low, high):
            return LogLocator(numticks=min(7, space)).tick_values(vmin, vmax)
        powers = 10.0 ** np.arange(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        for factors in ((1.0, 2.0, 5.0), (1.0, 3.0), (1.0,)):
            places = np.ravel(np.multiply.outer(powers, factors))
            if np.count_nonzero((low <= places) & (places <= high)) <= space:
                break
        return places


class _ShortNumbers(LogFormatterSciNotation):
    """Plain numbers, unless the axis has become long."""

    def __init__(self, of: Axis) -> None:
        super().__init__()
        self._of = of

    def __call__(self, x: float, pos: int | None = None) -> str:
        short = _is_short(*sorted(self._of.get_view_interval()))
        return _number(x) if short else str(super().__call__(x, pos))


def _is_short(low: float, high: float) -> bool:
    return low > 0 and math.log10(high / low) < 3


def _ticks_at(axis: Axis, places: np.ndarray) -> None:
    axis.set_major_locator(FixedLocator(list(places)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: _number(value)))
    axis.set_minor_locator(NullLocator())


def _number(value: float) -> str:
    """The number as one writes it: no trailing zeros, no exponent within reason."""
    return f"{value:.10g}" if 1e-4 <= abs(value) < 1e7 or value == 0 else f"{value:.0e}"
