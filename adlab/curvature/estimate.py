"""A stochastic result, which never travels without its error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special

from adlab.core import checks
from adlab.core.nodes import register
from adlab.core.types import AnyArray, PyTree
from adlab.curvature._lengths import deviation

__all__ = ["FEWEST_AGREEING", "FEWEST_SAMPLES", "Estimate", "agreeing", "mean_and_error"]

FEWEST_SAMPLES = 4  # before discrete probes, which often give one sample twice, state an error
# Samples of two values, each as likely, are all equal in 2^(1 - m) of the cases: 2e-6 for 20.
FEWEST_AGREEING = 20


@register("value", "standard_error", "samples")
@dataclass(frozen=True, eq=False, repr=False)
class Estimate:
    """An estimate from random probes.

    Printed as `value ± half the width of the 95 % interval`, or with its standard error where there
    is no interval.

    Attributes:
      value: the estimate, a number or a tree.
      standard_error: shaped as the value, from the scatter of the samples; NaN where they are too
        few to state one.
      num_matvecs: products that were spent.
      samples: (m,), the numbers whose mean the value is, or None where they aren't kept.
      degrees: degrees of freedom of the standard error, one less than independent samples; 0 where
        it has no known law.
    """

    value: PyTree
    standard_error: PyTree
    num_matvecs: int
    samples: AnyArray | None = None
    degrees: int = 0

    def interval(self, level: float = 0.95) -> tuple[PyTree, PyTree]:
        """Return the ends, shaped as the value, between which the truth lies this often.

        value -+ t standard_error, t the quantile of Student's law with `degrees` degrees of
        freedom: exact for normal samples, and near it where many terms are summed. Where few
        outliers make up the sum, samples are skewed, and few of them cover less: 91 % was measured
        for 8 of a matrix with one eigenvalue far above all others. NaN where `degrees` is 0 or the
        standard error is.

        Raises:
          ValueError: level isn't between 0 and 1.

        Source: Student (1908), doi:10.1093/biomet/6.1.1.
        """
        if not 0 < level < 1:
            raise ValueError(f"level must be between 0 and 1, got {level!r}")
        factor = _quantile(self.degrees, level)
        low, high = (
            jax.tree.map(
                lambda mean, error, sign=sign: mean + error.dtype.type(sign * factor) * error,
                self.value,
                self.standard_error,
            )
            for sign in (-1, 1)
        )
        return low, high

    def __repr__(self) -> str:
        return f"Estimate({self})"

    def __str__(self) -> str:
        products = f"{self.num_matvecs} product{'s' * (self.num_matvecs != 1)}"
        if not jax.tree_util.all_leaves([self.value]) or np.ndim(self.value) > 0:
            return f"a tree of {len(jax.tree.leaves(self.value))} arrays ({products})"
        if not checks.concrete((self.value, self.standard_error)):
            return f"traced ({products})"
        value, error = float(self.value), float(self.standard_error)
        if self.degrees or np.isnan(error):
            return f"{value:.4g} ± {_quantile(self.degrees, 0.95) * error:.2g} ({products})"
        return f"{value:.4g}, standard error {error:.2g} or more ({products})"


def _quantile(degrees: int, level: float) -> float:
    if degrees < 1:
        return float("nan")
    return float(scipy.special.stdtrit(degrees, (1 + level) / 2))


def mean_and_error(
    samples: Any, fewest: int = 2, *, agreeing_from: int = FEWEST_SAMPLES, zeros: bool = True
) -> tuple[Any, Any]:
    """Return the mean of samples along the first axis, and its standard error.

    The error is NaN for fewer than `fewest` samples, and for fewer than `agreeing_from` that agree
    to round-off: that two are equal is no evidence. `zeros` says whether zeros count as agreeing:
    where they are what underflows they don't.
    """
    xp, count = jnp if isinstance(samples, jax.Array) else np, samples.shape[0]
    mean = xp.mean(samples, axis=0)
    if count < fewest:
        return mean, mean * np.nan
    error = deviation(samples, xp) / count**0.5
    if count < agreeing_from:
        equal = agreeing(samples, xp) & (zeros | xp.any(samples != 0, axis=0))
        error = xp.where(equal, xp.asarray(np.nan, error.dtype), error)
    return mean, error.astype(mean.dtype)


def agreeing(samples: Any, xp: Any) -> Any:
    """Tell whether the samples along the first axis are one number, to round-off."""
    spread = xp.max(samples, axis=0) - xp.min(samples, axis=0)
    return spread <= 64 * float(jnp.finfo(samples.dtype).eps) * xp.max(abs(samples), axis=0)
