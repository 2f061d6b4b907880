"""Of values with noise of size s, central differences are good to s^(2/3), forward ones to s^(1/2).

A difference of step h errs by its truncation, which grows with h, and by the noise of two values,
which is divided by h. Of sin at points x spread evenly over a period, with independent noise of
variance s^2 in every value, the mean square of the error is to leading order

    forward   h^2/8 + 2 s^2/h^2,       least at h* = 2 s^(1/2), where the error is s^(1/2);
    central   h^4/72 + s^2/(2 h^2),    least at h* = (3 sqrt(2) s)^(1/3), where it is
              sqrt(3) s/(2 h*) = 0.535 s^(2/3).

The step "auto" knows neither s nor the derivative that truncates. It measures both from the values,
and must come within a factor 3 of the best step at every s. The control is "relative": a rule of
thumb that takes s for the rounding of floating-point numbers, so that its error grows as s itself.

The values come from a simulator on the host that JAX can't see into. Its noise is a hash of the
bits of x: the same at the same x, independent at any other.

Sources: the best step for known noise, Gill, Murray, Saunders & Wright (1983), doi:10.1137/0904025,
and Moré & Wild (2012), doi:10.1145/2168773.2168777; measuring the noise, Moré & Wild (2011),
doi:10.1137/100786125.
"""

from __future__ import annotations

from .config import Config
from .measure import run
from .needs import needs
from .plot import plot
from .verdicts import verdicts

__all__ = ["Config", "needs", "plot", "run", "verdicts"]
