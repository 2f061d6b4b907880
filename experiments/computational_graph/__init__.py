"""Both modes find the gradient of L(w1, w2) = w2 log w1 + sqrt(w2 log w1), step by step.

The gradient at (2, 3) is (2.02010, 0.93348): with s = 1 + 1/(2 sqrt(w2 log w1)), dL/dw1 = s w2/w1
and dL/dw2 = s log w1. The lecture's slide ends reverse mode with dL/dw2 = (dL/dv1) v1, which is w2
times too much, 2.80045; the node w2 enters v2 = w2 v1, so that it must be (dL/dv2) v1.
"""

from __future__ import annotations

import itertools
from typing import Annotated, Any, Literal

import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from pydantic import Field, model_validator

from adlab import drawing, graphs, lab
from adlab.figures import style
from adlab.figures.labels import text
from adlab.lab import Text, Verdict

from .needs import needs as needs

Arrays = dict[str, np.ndarray]
INPUTS = ("w1", "w2")
_ROUND_OFF = 1e-14  # of a dozen operations in float64, relative
_TRUNCATION = 1e-8  # of central differences with their best step, relative


class Config(lab.ExperimentConfig):
    """Where the function is differentiated."""

    x64: Literal[True] = True
    """Compute in float64: the comparison is to the last digits."""
    w1: Annotated[float, Field(gt=1)] = 2.0
    """First argument; its logarithm must be positive."""
    w2: Annotated[float, Field(gt=0)] = 3.0
    """Second argument; not 1, where the slide's error doesn't show."""

    @model_validator(mode="after")
    def _shows_the_error(self) -> Config:
        if abs(self.w2 - 1) < 1e-3:
            raise ValueError(f"w2 must differ from 1, where the slide is right, got {self.w2}")
        return self


def function(w1: Any, w2: Any) -> Any:
    """Return the lecture's function; written with the logarithm twice, as one would."""
    return w2 * jnp.log(w1) + jnp.sqrt(w2 * jnp.log(w1))


def run(config: Config, progress: lab.Progress) -> Arrays:
    """Trace both modes, and difference the function in NumPy."""
    del progress
    graph = graphs.build(function, config.w1, config.w2)
    data: Arrays = {
        "names": np.array([node.name for node in graph.nodes]),
        "values": np.array([float(node.value) for node in graph.nodes]),
        "central": _central_differences(config),
    }
    for wrt in INPUTS:
        data[f"forward_{wrt}"] = _derivatives(graph, graphs.forward_trace(graph, wrt))
    return data | {"reverse": _derivatives(graph, graphs.reverse_trace(graph))}


def _derivatives(graph: graphs.Graph, records: Any) -> np.ndarray:
    """Return what a trace accumulated at every node, 0 where it didn't come."""
    found = np.zeros(len(graph.nodes))
    for record in records:
        found[record.node] = float(record.derivative)
    return found


def _central_differences(config: Config) -> np.ndarray:
    point = np.array([config.w1, config.w2])
    found = []
    for h in np.diag(np.cbrt(np.finfo(float).eps) * point):
        above, below = (w[1] * np.log(w[0]) for w in (point + h, point - h))
        found.append((above + np.sqrt(above) - below - np.sqrt(below)) / (2 * h.sum()))
    return np.array(found)


def closed_form(config: Config) -> dict[str, float]:
    """Return dL/d(node) for every node, derived by hand."""
    v1 = np.log(config.w1)
    slope = 1 + 1 / (2 * np.sqrt(config.w2 * v1))
    return {"L": 1.0, "v3": 1.0, "v2": slope, "v1": slope * config.w2,
            "w1": slope * config.w2 / config.w1, "w2": slope * v1}  # fmt: skip


def verdicts(data: Arrays, config: Config) -> list[Verdict]:
    """Judge both modes by the closed form and by differences; then the slide's last step."""
    exact = closed_form(config)
    names = [str(name) for name in data["names"]]
    output = names.index("L")
    found = []
    for wrt in INPUTS:
        error = abs(data[f"forward_{wrt}"][output] / exact[wrt] - 1)
        found.append(
            _at_most(Text("computational_graph.claim.forward", wrt=wrt), error, _ROUND_OFF)
        )
    reverse = dict(zip(names, data["reverse"], strict=True))
    errors = [abs(reverse[name] / exact[name] - 1) for name in exact]
    claim = Text("computational_graph.claim.reverse")
    found.append(Verdict.worst(claim, errors, _ROUND_OFF, side="at_most", basis="identity"))
    for wrt, difference in zip(INPUTS, data["central"], strict=True):
        error = abs(reverse[wrt] / difference - 1)
        found.append(
            _at_most(Text("computational_graph.claim.central", wrt=wrt), error, _TRUNCATION)
        )
    correct, slide = _last_steps(data)
    tolerance = _TRUNCATION * exact["w2"]
    claims = ((Text("computational_graph.claim.correct"), correct, False),
              (Text("computational_graph.claim.slide"), slide, True))  # fmt: skip
    for claim, value, control in claims:
        ends = (value, value, value)
        found.append(
            Verdict(claim, *ends, data["central"][1], tolerance, control, basis="identity")
        )
    return found


def _at_most(claim: Text, error: float, bound: float) -> Verdict:
    return Verdict.at_most(claim, error, error, error, bound, basis="identity")


def _last_steps(data: Arrays) -> tuple[float, float]:
    """Return dL/dw2 as it must be, (dL/dv2) v1, and as the slide has it, (dL/dv1) v1."""
    at = {str(name): place for place, name in enumerate(data["names"])}
    v1 = data["values"][at["v1"]]
    return data["reverse"][at["v2"]] * v1, data["reverse"][at["v1"]] * v1


def plot(data: Arrays, config: Config) -> dict[str, Figure]:
    """Draw the graph, the traces, each mode at one node, and the slide's last step."""
    graph = graphs.build(function, config.w1, config.w2)
    figures = {"graph": drawing.draw(graph, title=text("computational_graph.figure.graph"))}
    for wrt in INPUTS:
        records = _stored(graphs.forward_trace(graph, wrt), data, f"forward_{wrt}")
        figures[f"forward_{wrt}"] = drawing.draw(graph, records)
        if wrt == "w1":  # with the term that is 0, as the slide writes it
            records = _stored(graphs.forward_trace(graph, wrt, zeros=True), data, f"forward_{wrt}")
            figures["node_forward"] = drawing.draw_node(graph, records, "v2")
    records = _stored(graphs.reverse_trace(graph), data, "reverse")
    figures["reverse"] = drawing.draw(graph, records)
    figures["node_reverse"] = drawing.draw_node(graph, records, "v2")
    last = [record.node for record in records].index(graph.named("w2").place)
    page = next(itertools.islice(drawing.pages(graph, records), last, None))
    return figures | {"correction": _correction(page, data)}


def _stored(records: Any, data: Arrays, name: str) -> list[graphs.Record]:
    """Return the records with the numbers of the run."""
    return [
        record._replace(value=data["values"][record.node], derivative=data[name][record.node])
        for record in records
    ]


def _correction(page: Figure, data: Arrays) -> Figure:
    """Write beside the step of w2 what the slide has in its place."""
    correct, slide = _last_steps(data)
    fraction = r"\partial L/\partial {}".format
    left = fraction("w_2")
    wrong, right = (style.ink(style.tone(name)) for name in ("vermilion", "green"))
    lines = (
        (text("computational_graph.figure.slide",
              step=rf"${left} = ({fraction('v_1')})\, v_1 = {slide:.5f}$"), wrong),
        (text("computational_graph.figure.correct",
              step=rf"${left} = ({fraction('v_2')})\, v_1 = {correct:.5f}$"), right),
    )  # fmt: skip
    for height, (line, tone) in zip((0.345, 0.29), lines, strict=True):
        page.text(0.97, height, line, fontsize=18, color=tone, ha="right", va="center")
    return page
