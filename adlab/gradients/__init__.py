"""Gradients, exact and estimated, behind one signature: `fun` in, a `GradientFn` out."""

from adlab.core.cost import Cost
from adlab.gradients._expected_errors import GradientWithError
from adlab.gradients.autodiff import forward_mode, reverse_mode
from adlab.gradients.custom import custom
from adlab.gradients.finite_differences import finite_difference
from adlab.gradients.forward_gradient import forward_gradient
from adlab.gradients.gradient_fn import GradientFn
from adlab.gradients.host import from_host
from adlab.gradients.noise_levels import NoiseLevel, noise_level
from adlab.gradients.zero_order import one_sided, two_point

__all__ = [
    "Cost",
    "GradientFn",
    "GradientWithError",
    "NoiseLevel",
    "custom",
    "finite_difference",
    "forward_gradient",
    "forward_mode",
    "from_host",
    "noise_level",
    "one_sided",
    "reverse_mode",
    "two_point",
]
