"""Every way of obtaining a derivative, behind one signature, with an account of its cost.

`dir(adlab)` shows the packages and the functions that most programs start from: the way into each
subject, where a function has a name that says what it does without its package. So
`adlab.curvature.trace` isn't among them, since graphs have traces too, nor are `svd` and its kin,
which share their names with those of `jax.numpy.linalg`.

Everything is imported when it is first used: `import adlab` alone doesn't import jax.
"""

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

__all__ = [
    "Hessian",
    "__version__",
    "checkpointed_scan",
    "checkpointing",
    "curvature",
    "data",
    "drawing",
    "eigenpairs",
    "figures",
    "finite_difference",
    "forward_gradient",
    "forward_mode",
    "gradients",
    "graphs",
    "hvp",
    "jacobian",
    "jacobians",
    "lab",
    "minimize",
    "models",
    "one_sided",
    "optimize",
    "problems",
    "reverse_mode",
    "rules",
    "spectral_density",
    "two_point",
]

if TYPE_CHECKING:
    from adlab import (
        checkpointing,
        curvature,
        data,
        drawing,
        figures,
        gradients,
        graphs,
        jacobians,
        lab,
        models,
        optimize,
        problems,
        rules,
    )
    from adlab.checkpointing import checkpointed_scan
    from adlab.curvature import Hessian, eigenpairs, hvp, spectral_density
    from adlab.gradients import (
        finite_difference,
        forward_gradient,
        forward_mode,
        one_sided,
        reverse_mode,
        two_point,
    )
    from adlab.jacobians import jacobian
    from adlab.optimize import minimize
else:  # hidden from type checkers, which would take any name for one of the package's
    _HOMES = {
        "Hessian": "curvature",
        "checkpointed_scan": "checkpointing",
        "eigenpairs": "curvature",
        "finite_difference": "gradients",
        "forward_gradient": "gradients",
        "forward_mode": "gradients",
        "hvp": "curvature",
        "jacobian": "jacobians",
        "minimize": "optimize",
        "one_sided": "gradients",
        "reverse_mode": "gradients",
        "spectral_density": "curvature",
        "two_point": "gradients",
    }

    def __getattr__(name):
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        if name not in _HOMES:
            return importlib.import_module(f"{__name__}.{name}")
        found = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
        globals()[name] = found  # so that the next look doesn't come here
        return found


def __dir__() -> list[str]:
    return sorted(__all__)
