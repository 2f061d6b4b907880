"""A stochastic result, which never travels without its error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax

from adlab.core.nodes import register

__all__ = ["Estimate"]


@register("estimate", "standard_error", "samples")
@dataclass(frozen=True, eq=False)
class Estimate:
    """An estimate from random probes.

    estimate: a number, or a tree. standard_error: of the same shape, from the scatter of the
    samples; NaN where there is one alone. num_matvecs: products that were spent. samples: (m,), the
    numbers whose mean the estimate is, or None where they aren't kept.
    """

    estimate: Any
    standard_error: Any
    num_matvecs: int
    samples: Any = None

    def __str__(self) -> str:
        products = f"{self.num_matvecs} product{'s' * (self.num_matvecs != 1)}"
        if jax.tree_util.all_leaves([self.estimate]) and getattr(self.estimate, "ndim", 0) == 0:
            return f"{float(self.estimate):.4g} ± {float(self.standard_error):.2g} ({products})"
        return f"a tree of {len(jax.tree.leaves(self.estimate))} arrays ({products})"
