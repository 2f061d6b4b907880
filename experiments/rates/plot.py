"""The table of rates as pictures: its four cells, what a price is made of, the controls."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from matplotlib.figure import Figure

from adlab import lab

from . import cell_figures, control_figures, dimension_figures, price_figures
from .cells import Arrays
from .config import Config, Part

ASSERTED = {  # figure, or panel -> the claims that its title asserts
    "title": ("smooth_dimension", "convex_dimension", "strongly_convex_square_dimension",
              "lipschitz_dimension"),
    "distance": ("strongly_convex_square_bound",),
    "price": ("strongly_convex_iterations", "strongly_convex_evaluations"),
    "averages": ("control_average",),
    "rank_one": ("control_rank_one",),
    "effective": ("effective_equal", "effective_halving", "effective_factor"),
    "real_data": ("real_effective", "real_worst"),
}  # fmt: skip


def plot(
    data: Arrays, config: Config, *, verdicts: Sequence[lab.Verdict] = ()
) -> dict[str, Figure]:
    """Draw the parts that were run from the arrays of `run`."""

    def title(name: str) -> str:
        return headed(name, verdicts)

    figures: dict[str, tuple[set[Part], Callable[[], Figure]]] = {
        "rates": (set(), lambda: cell_figures.rates(data, config, title("title"))),
        "distance": (
            {"strongly_convex"}, lambda: cell_figures.distance(data, config, title("distance"))
        ),
        "price": ({"strongly_convex"}, lambda: price_figures.price(data, config, title("price"))),
        "operations": ({"strongly_convex"}, lambda: price_figures.operations(data, config)),
        "effective_dimension": (
            {"effective_dimension"},
            lambda: dimension_figures.effective_dimension(data, config, title("effective")),
        ),
        "real_data": (
            {"real_data"}, lambda: dimension_figures.real_data(data, config, title("real_data"))
        ),
        "controls": (
            {"controls", "smooth"},
            lambda: control_figures.controls(data, config, title("averages"), title("rank_one")),
        ),
    }  # fmt: skip
    parts = set(config.parts)
    return {name: draw() for name, (needed, draw) in figures.items() if needed <= parts}


def headed(name: str, verdicts: Sequence[lab.Verdict]) -> str:
    """Return a title of `ASSERTED`, which asks unless the verdicts on its claims hold."""
    claims = [f"rates.claim.{claim}" for claim in ASSERTED[name]]
    return lab.heading(f"rates.figure.{name}", verdicts, *claims)
