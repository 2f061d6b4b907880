"""Three programs, written once for numbers, arrays, tracers and symbols alike, and their adjoints.

The adjoints are the manual scheme: derived on paper, written down by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["NAMES", "Problem", "exact", "named", "orbit"]

Values = Sequence[Any]
INPUTS = (0.5, -0.75, 0.25, -1.0)  # of the network; exact in every arithmetic
TARGET = 0.5


def _same(value: Any) -> Any:
    return value


@dataclass(frozen=True)
class Problem:
    """A program of scalars and its gradient by hand.

    Attributes:
      dim: size -> number of inputs.
      value: (inputs, size, tanh, keep) -> result; `keep` sees every intermediate worth a name.
      manual: (inputs, size, tanh) -> all partial derivatives.
      draw: (generator, shape) -> inputs.
    """

    dim: Callable[[int], int]
    value: Callable[..., Any]
    manual: Callable[..., list[Any]]
    draw: Callable[[np.random.Generator, tuple[int, int]], np.ndarray]

    def points(self, seed: int, size: int, count: int) -> np.ndarray:
        """Return inputs, of shape (dim, count); the same for all sizes of the logistic map."""
        return self.draw(np.random.default_rng(seed), (self.dim(size), count))


def orbit(x: Any, steps: int) -> list[Any]:
    """Return l_1 = x, ..., l_n of the logistic map."""
    values = [x]
    for _ in range(steps - 1):
        values.append(4 * values[-1] * (1 - values[-1]))
    return values


def _logistic(x: Values, steps: int, tanh: Any = None, keep: Any = _same) -> Any:
    del tanh
    value = x[0]
    for _ in range(steps - 1):
        value = keep(4 * value * (1 - value))
    return value


def _logistic_gradient(x: Values, steps: int, tanh: Any = None) -> list[Any]:
    del tanh
    adjoint: Any = 1
    for value in reversed(orbit(x[0], steps - 1)):
        adjoint = adjoint * (4 - 8 * value)
    return [adjoint]


def _logistic_points(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    x = rng.uniform(0.05, 0.95, shape)
    x[0, 0] = 0.3  # that of the lecture
    return x


def _product(x: Values, factors: int, tanh: Any = None, keep: Any = _same) -> Any:
    del tanh, factors
    value = x[0]
    for factor in x[1:]:
        value = keep(value * factor)
    return value


def _product_gradient(x: Values, factors: int, tanh: Any = None) -> list[Any]:
    del tanh
    before, after = [x[0]], [x[-1]]
    for i in range(1, factors - 1):
        before.append(before[-1] * x[i])
        after.append(after[-1] * x[factors - 1 - i])
    inner = [before[i - 1] * after[factors - 2 - i] for i in range(1, factors - 1)]
    return [after[-1], *inner, before[-1]]


def _width(x: Values, depth: int) -> int:
    """Return w of the w^2 depth + w weights."""
    return next(w for w in range(1, len(x) + 1) if w * w * depth + w == len(x))


def _dot(a: Values, b: Values) -> Any:
    total = a[0] * b[0]
    for left, right in zip(a[1:], b[1:], strict=True):
        total = total + left * right
    return total


def _network(x: Values, depth: int, tanh: Any, keep: Any = _same) -> Any:
    width = _width(x, depth)
    h: Values = INPUTS[:width]
    for layer in range(depth):
        rows = [x[(layer * width + i) * width :][:width] for i in range(width)]
        h = [keep(tanh(keep(_dot(row, h)))) for row in rows]
    rest = keep(_dot(x[-width:], h) - TARGET)
    return rest * rest


def _network_gradient(x: Values, depth: int, tanh: Any) -> list[Any]:
    width = _width(x, depth)
    states: list[Values] = [INPUTS[:width]]
    rows = [[x[(k * width + i) * width :][:width] for i in range(width)] for k in range(depth)]
    for layer in rows:
        states.append([tanh(_dot(row, states[-1])) for row in layer])
    adjoint = 2 * (_dot(x[-width:], states[-1]) - TARGET)
    gradient = [adjoint * h for h in states[-1]]
    bars = [adjoint * weight for weight in x[-width:]]
    for k in reversed(range(depth)):
        inner = [bar * (1 - h * h) for bar, h in zip(bars, states[k + 1], strict=True)]
        gradient = [bar * h for bar in inner for h in states[k]] + gradient
        bars = [_dot(inner, [row[j] for row in rows[k]]) for j in range(width)] if k else []
    return gradient


NAMES = ("logistic", "product", "network")


def named(name: str, width: int) -> Problem:
    """Return the program of that name; the network's layers have so many neurons."""
    return {
        "logistic": Problem(lambda _: 1, _logistic, _logistic_gradient, _logistic_points),
        "product": Problem(
            lambda n: n, _product, _product_gradient, lambda rng, s: rng.uniform(0.5, 1.5, s)
        ),
        "network": Problem(
            lambda depth: width * width * depth + width,
            _network,
            _network_gradient,
            lambda rng, s: rng.normal(size=s),
        ),
    }[name]


def exact(problem: Problem, size: int, x: np.ndarray) -> np.ndarray:
    """Return the gradient at x, of shape (dim, count), right to the last bit of float64, or nearly.

    By central differences in an arithmetic of hundreds of digits, where neither their truncation
    nor their round-off is seen: an oracle that knows no rule of differentiation.
    """
    import mpmath

    bits = 400 + 24 * size
    out = np.empty(x.shape)
    with mpmath.workprec(bits):
        h = mpmath.ldexp(1, -bits // 3)
        for j, column in enumerate(x.T):
            point = [mpmath.mpf(float(value)) for value in column]
            for i in range(len(point)):
                ends = [[*point[:i], point[i] + s * h, *point[i + 1 :]] for s in (1, -1)]
                rise = [problem.value(end, size, mpmath.tanh) for end in ends]
                out[i, j] = float((rise[0] - rise[1]) / (2 * h))
    return out
