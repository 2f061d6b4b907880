"""What a derivative costs, in calls of the function it is taken of."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Cost"]


@dataclass(frozen=True)
class Cost:
    """Number of evaluations, forward sweeps and reverse sweeps of a function.

    Costs add and multiply by an integer, as the work they stand for does.

    >>> Cost(evaluations=2) * 3 + Cost(vjps=1)
    Cost(evaluations=6, jvps=0, vjps=1)

    Attributes:
      evaluations: plain evaluations (oracle calls) of the function.
      jvps: Jacobian-vector products, each about 1.5 to 2.5 evaluations.
      vjps: vector-Jacobian products together with their forward pass, each about 3
        evaluations, at most about 4 where no elementary operation is dear to differentiate.
    """

    evaluations: int = 0
    jvps: int = 0
    vjps: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.evaluations + other.evaluations, self.jvps + other.jvps, self.vjps + other.vjps
        )

    def __mul__(self, times: int) -> Cost:
        return Cost(self.evaluations * times, self.jvps * times, self.vjps * times)

    __rmul__ = __mul__

    @property
    def calls(self) -> int:
        """All calls, whatever their kind; a gradient is dearer, see `in_evaluations`."""
        return self.evaluations + self.jvps + self.vjps

    def in_evaluations(self, *, jvp: float, vjp: float) -> float:
        """Return what it costs in evaluations, where `calls` counts a gradient as a single one.

        >>> Cost(evaluations=2, vjps=1).in_evaluations(jvp=2.5, vjp=3.0)
        5.0

        Args:
          jvp: evaluations that a Jacobian-vector product costs, its value included.
          vjp: evaluations that a gradient costs, its forward pass included.
        """
        return float(self.evaluations + jvp * self.jvps + vjp * self.vjps)
