"""Whether adlab, PyTorch and PyHessian find the same curvature of the same network.

`agreement` asserts it and returns the differences. In float32 the two frameworks round differently,
and of millions of rectifiers a few stand so near zero that they are on in one and off in the other:
the gradient and the Hessian jump there, by about 1e-3 of their norm each. So products are held
against each other in float64, and in float32 with the rectifiers set as float64 has them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytorch_resnet
import torch
from pyhessian import hessian
from torch.nn import functional

from adlab.core import trees
from adlab.curvature import Hessian, eigenpairs, hvp, trace
from adlab.models import classification_loss, resnet

MODES = ("forward_over_reverse", "reverse_over_forward", "reverse_over_reverse")
_PROBES = 24


@dataclass(frozen=True)
class Problem:
    """A loss at a point on a batch, with a vector v, in both frameworks."""

    fun: Callable[..., Any]
    params: Any
    x: Any
    y: Any
    v: Any
    net: pytorch_resnet.ResNet
    torch_batch: tuple[torch.Tensor, torch.Tensor]
    torch_v: list[torch.Tensor]

    def operator(self, mode: Any = MODES[0]) -> Hessian:
        """Return the Hessian as adlab has it."""
        return Hessian(self.fun, self.params, self.x, self.y, mode=mode)


def problem(batch: int, depth: int = 32, dtype: Any = np.float32) -> Problem:
    """Draw a problem whose numbers are those of float32; scales and shifts are not all alike."""
    rng = np.random.default_rng(0)
    model = resnet(depth=depth)

    def normal(shape: tuple[int, ...]) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    drawn = jax.tree.map(np.asarray, model.init(jax.random.key(0), np.float32))
    moved = jax.tree.map(lambda a: a + np.float32(0.1) * normal(a.shape) * (a.ndim == 1), drawn)
    v = jax.tree.map(lambda a: normal(a.shape).astype(dtype), drawn)
    params = jax.tree.map(lambda a: jnp.asarray(a, dtype), moved)
    x, y = normal((batch, 32, 32, 3)).astype(dtype), rng.integers(0, 10, batch)
    return Problem(
        classification_loss(model), params, jnp.asarray(x), jnp.asarray(y, np.int32),
        jax.tree.map(jnp.asarray, v), pytorch_resnet.ResNet(params),
        (pytorch_resnet.images(x), torch.from_numpy(y)), pytorch_resnet.tensors_of(v),
    )  # fmt: skip


@contextmanager
def pyhessian_of(p: Problem) -> Iterator[Any]:
    """Give PyHessian's view of the problem, whose graph is freed at the end.

    It calls `torch.eig`, which PyTorch has dropped: `torch.linalg.eigh` stands in.
    """

    def eig(matrix: torch.Tensor, eigenvectors: bool) -> Any:
        values, vectors = torch.linalg.eigh(matrix)
        return torch.stack([values, torch.zeros_like(values)], 1), vectors if eigenvectors else None

    with warnings.catch_warnings(), mock.patch.object(torch, "eig", eig):
        warnings.simplefilter("ignore", UserWarning)  # create_graph in backward, which it needs
        yield hessian(p.net, functional.cross_entropy, data=p.torch_batch, cuda=False)
    for parameter in p.net.parameters():
        parameter.grad = None


def by_pyhessian(view: Any, p: Problem) -> np.ndarray:
    """Return the product of the Hessian with v as PyHessian takes it."""
    product = torch.autograd.grad(view.gradsH, view.params, p.torch_v, retain_graph=True)
    return pytorch_resnet.vector_of(product)


def agreement(batch: int, depth: int = 32) -> dict[str, Any]:
    """Assert that all agree on a batch; return the differences."""
    with jax.enable_x64(True):
        wide = problem(batch, depth, np.float64)
        wide.net.rectify = exact = pytorch_resnet.Recorded()
        in_float64 = _differences(_by_adlab(wide, MODES[:1]), _by_torch(wide))
    narrow = problem(batch, depth)
    ours = _by_adlab(narrow, MODES[:2])
    narrow.net.rectify = rounded = pytorch_resnet.Recorded()
    in_float32 = _differences(ours, _by_torch(narrow))
    narrow.net.rectify = pytorch_resnet.Replayed(exact.signs)
    replayed = _differences(ours, _by_torch(narrow))
    narrow.net.rectify = torch.nn.ReLU()
    pairs = list(zip(exact.signs, rounded.signs, strict=True))
    found = {
        "batch": batch, "depth": depth, "float64": in_float64, "float32": in_float32,
        "float32, rectifiers of float64": replayed, "rectifiers": sum(a.numel() for a, _ in pairs),
        "rectifiers that float32 sets otherwise": sum(int((a != b).sum()) for a, b in pairs),
    }  # fmt: skip
    assert max(in_float64.values()) <= 1e-9, found
    assert max(replayed.values()) <= 1e-4, found
    return found | _spectra(narrow)


def _by_torch(p: Problem) -> dict[str, np.ndarray]:
    loss, slopes = pytorch_resnet.gradient(p.net, *p.torch_batch)
    product = pytorch_resnet.product(p.net, *p.torch_batch, p.torch_v)
    with pyhessian_of(p) as view:
        theirs = by_pyhessian(view, p)
    vectors = map(pytorch_resnet.vector_of, (slopes, product))
    names = ("loss", "gradient", "product", "PyHessian's product")
    return dict(zip(names, (np.array([loss.item()]), *vectors, theirs), strict=True))


def _by_adlab(p: Problem, modes: Any) -> dict[str, np.ndarray]:
    args = (p.params, p.x, p.y)
    loss, slopes = jax.jit(jax.value_and_grad(p.fun))(*args)
    found = {"loss": loss, "gradient": slopes}
    for mode in modes:
        found[f"product, {mode}"] = jax.jit(hvp(p.fun, mode=mode))(p.v, *args)
    return {name: np.asarray(trees.ravel(tree)) for name, tree in found.items()}


def _differences(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> dict[str, float]:
    """Return the norms of what adlab finds less what PyTorch finds, relative to the latter."""
    found = {}
    for name, mine in ours.items():
        peers = [peer for peer in theirs if name.split(",")[0] in peer]
        for peer in peers:
            where = name if peer in name else f"{name}; {peer}"
            difference = np.linalg.norm(mine - theirs[peer])
            found[where] = float(difference / np.linalg.norm(theirs[peer]))
    return found


def _spectra(p: Problem) -> dict[str, Any]:
    """Assert that the eigenvalue of largest size and the trace agree to their stated errors."""
    operator = p.operator()
    pairs = eigenpairs(operator, key=jax.random.key(1))
    at = int(np.argmax(abs(pairs.values)))
    estimate = trace(operator, key=jax.random.key(2), num_matvecs=_PROBES)
    torch.manual_seed(0)
    with pyhessian_of(p) as view:
        (value,), (vector,) = view.eigenvalues(tol=1e-4)
        product = torch.autograd.grad(view.gradsH, view.params, vector, retain_graph=True)
        samples = np.array(view.trace(maxIter=_PROBES, tol=-np.inf))
    vector, product = map(pytorch_resnet.vector_of, (vector, product))
    residual = float(np.linalg.norm(product - value * vector))
    error = float(samples.std(ddof=1) / len(samples) ** 0.5)
    found = {
        "eigenvalue": {
            "adlab": float(pairs.values[at]), "residual": float(pairs.residuals[at]),
            "PyHessian": value, "residual of PyHessian": residual,
            "products of adlab": pairs.num_matvecs,
        },
        "trace": {
            "adlab": float(estimate.value), "standard error": float(estimate.standard_error),
            "PyHessian": float(samples.mean()), "standard error of PyHessian": error,
            "products of each": _PROBES,
        },
    }  # fmt: skip
    assert bool(pairs.converged[at]), found
    assert abs(value - float(pairs.values[at])) <= residual + float(pairs.residuals[at]), found
    both = np.hypot(error, float(estimate.standard_error))
    assert abs(samples.mean() - float(estimate.value)) <= 4 * both, found
    return found
