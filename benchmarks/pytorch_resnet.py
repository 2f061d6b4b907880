"""The same residual network in PyTorch, for products of its Hessian by double backward."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import jax
import numpy as np
import torch
from torch import nn
from torch.nn import functional

_EPSILON = 1e-3  # added to variances


class ResNet(nn.Module):
    """`adlab.models.resnet` on images (b, channels, height, width), from its parameters.

    Parameters keep the order of the leaves of the JAX tree, so that vectors match leaf by leaf.
    Batch normalisation takes the statistics of the batch also after `eval()`, which PyHessian
    calls: it is a function, and there are no running averages.
    """

    def __init__(self, params: Any) -> None:
        super().__init__()
        paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(params)]
        names = [jax.tree_util.keystr(path, simple=True, separator="/") for path in paths]
        tensors = map(nn.Parameter, tensors_of(params))
        self.leaves = nn.ParameterDict(dict(zip(names, tensors, strict=True)))
        self.rectify: nn.Module = nn.ReLU()
        self.depth = max(int(n.split("/")[1][5:]) for n in names if n.startswith("stage1/")) + 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        x = self.rectify(self._convolved("stem/{}", x, 1))
        for stage in range(1, 4):
            for block in range(self.depth):
                stride = 2 if stage > 1 and block == 0 else 1
                x = self._block(f"stage{stage}/block{block}/", x, stride)
        return x.mean((2, 3)) @ self.leaves["head/kernel"] + self.leaves["head/bias"]

    def _block(self, name: str, x: torch.Tensor, stride: int) -> torch.Tensor:
        y = self.rectify(self._convolved(name + "{}1", x, stride))
        y = self._convolved(name + "{}2", y, 1)
        x = x[:, :, ::stride, ::stride]
        return self.rectify(functional.pad(x, (0, 0, 0, 0, 0, y.shape[1] - x.shape[1])) + y)

    def _convolved(self, name: str, x: torch.Tensor, stride: int) -> torch.Tensor:
        norm = name.format("norm")
        x = functional.conv2d(x, self.leaves[name.format("conv") + "/kernel"], None, stride, 1)
        scale, shift = (self.leaves[f"{norm}/{leaf}"] for leaf in ("scale", "bias"))
        return functional.batch_norm(x, None, None, scale, shift, training=True, eps=_EPSILON)


class Recorded(nn.Module):
    """A rectifier that keeps which units are on."""

    def __init__(self) -> None:
        super().__init__()
        self.signs: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return max(x, 0)."""
        self.signs.append(x.detach() > 0)
        return x * self.signs[-1]


class Replayed(nn.Module):
    """A rectifier whose units are on where they were recorded to be."""

    def __init__(self, signs: list[torch.Tensor]) -> None:
        super().__init__()
        self.signs, self.calls = signs, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return x where the unit was on, else 0."""
        self.calls += 1
        return x * self.signs[(self.calls - 1) % len(self.signs)]


def images(x: Any) -> torch.Tensor:
    """Return images (b, height, width, channels) with their channels in front."""
    return torch.from_numpy(np.asarray(x).transpose(0, 3, 1, 2).copy())


def tensors_of(tree: Any) -> list[torch.Tensor]:
    """Return the leaves of a tree of parameters; kernels (3, 3, in, out) as (out, in, 3, 3)."""
    leaves = map(np.asarray, jax.tree.leaves(tree))
    return [
        torch.from_numpy((a.transpose(3, 2, 0, 1) if a.ndim == 4 else a).copy()) for a in leaves
    ]


def vector_of(tensors: Iterable[torch.Tensor]) -> np.ndarray:
    """Return tensors shaped as the parameters as one vector, in JAX's order."""
    arrays = (t.detach().numpy() for t in tensors)
    return np.concatenate([(a.transpose(2, 3, 1, 0) if a.ndim == 4 else a).ravel() for a in arrays])


def gradient(
    net: nn.Module, x: torch.Tensor, y: torch.Tensor, graph: bool = False
) -> tuple[torch.Tensor, Sequence[torch.Tensor]]:
    """Return the cross-entropy and its gradient, itself differentiable where `graph` is set."""
    loss = functional.cross_entropy(net(x), y)
    return loss, torch.autograd.grad(loss, list(net.parameters()), create_graph=graph)


def product(
    net: nn.Module, x: torch.Tensor, y: torch.Tensor, v: list[torch.Tensor]
) -> Sequence[torch.Tensor]:
    """Return the product of the Hessian with v by double backward."""
    _, slopes = gradient(net, x, y, graph=True)
    return torch.autograd.grad(slopes, list(net.parameters()), v)
