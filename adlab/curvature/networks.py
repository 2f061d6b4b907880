"""The curvature matrices of a network's loss: Hessian, generalised Gauss-Newton, Fisher."""

from __future__ import annotations

import abc
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

import jax
import jax.numpy as jnp

from adlab.core import _devices, checks, trees
from adlab.core.calls import calling
from adlab.core.nodes import as_data, register
from adlab.core.types import Array, Key, PyTree
from adlab.curvature._likelihoods import LIKELIHOODS, Likelihood, Predictive
from adlab.curvature.blocks import ParameterMatrix, Where, merge, select
from adlab.curvature.operators import Operator, shapes_of
from adlab.curvature.products import Mode, hvp, linearize_hvp, scalar, vector

__all__ = ["Fisher", "GaussNewton", "Hessian"]


@register("fun", "params", "args")
@dataclass(frozen=True, eq=False, init=False, repr=False)
class Hessian(ParameterMatrix):
    """The Hessian of `fun(params, *args)` in `params`, as an operator.

    H_ij = d^2 fun / d params_i d params_j, exact to rounding. A product costs about two to three
    gradients. Where `fun` is a mean over examples, so is H.

    `fun` is data where it is a pytree callable, such as those of `models.from_nnx`; a plain
    function is static, and a new one is traced again.

    Attributes:
      fun, params, args, mode: as given; arrays among them are data.
      chosen: whether each leaf of `params` is in the block; None where all are.

    >>> H = Hessian(lambda p: jnp.sum(p["a"] ** 3), {"a": jnp.array([1.0, 2.0])})
    >>> H.matvec({"a": jnp.array([1.0, 1.0])})
    {'a': Array([ 6., 12.], dtype=float32)}

    Args:
      fun: twice differentiable; fun(params, *args) returns a real scalar.
      params: a tree of real floating-point arrays.
      *args: the other arguments of `fun`; leave them away where `over` gives them.
      where: a function of a parameter path such as "stage1.block0.conv1.kernel" that tells whether
        the parameter belongs to the block of H; the others are held fixed, and stand as None in
        `like`.
      mode: the composition of the product, see `hvp`.

    Raises:
      ValueError: `where` accepts no path; an unknown mode.
      TypeError: a leaf of `params` isn't real floating-point; `fun` isn't scalar (when applied).
    """

    fun: Callable[..., Any]
    params: PyTree
    args: tuple[Any, ...]
    chosen: tuple[bool, ...] | None
    mode: Mode

    def __init__(
        self,
        fun: Callable[..., Any],
        params: PyTree,
        *args: Any,
        where: Where | None = None,
        mode: Mode = "forward_over_reverse",
    ) -> None:
        checks.one_of("mode", mode, get_args(Mode))
        self._set(params, args, where, fun=as_data(fun), mode=mode)

    def matvec(self, v: PyTree) -> PyTree:
        """Return H v."""
        product = hvp(self._restricted, mode=self.mode)
        return product(v, select(self.params, self.chosen))

    def linearize(self) -> LinearizedHessian:
        """Return the same matrix with the gradient linearised once, for many products.

        A product then costs little more than a gradient. Holds the gradient's intermediates. Every
        linearisation is a program of its own, compiled again where a product is compiled: it pays
        for many products at one point, not for a few at each of many.
        """
        block = select(self.params, self.chosen)
        _, product = linearize_hvp(self._restricted, block)
        return LinearizedHessian(product, block)

    def value(self) -> Array:
        """Return fun(params, *args)."""
        return scalar(self.fun(self.params, *self.args))

    def _restricted(self, block: PyTree) -> Any:
        return self.fun(merge(block, self.params, self.chosen), *self.args)


@register("product", "block")
@dataclass(frozen=True, eq=False, repr=False)
class LinearizedHessian(Operator):
    """See `Hessian.linearize`."""

    product: Callable[[PyTree], PyTree]
    block: PyTree

    @functools.cached_property
    def like(self) -> PyTree:
        """Those of the Hessian."""
        return shapes_of(self.block)

    def matvec(self, v: PyTree) -> PyTree:
        """Return H v."""
        return self.product(v)


class OutputCurvature(ParameterMatrix):
    """J^T M J, where J is the Jacobian of the model's outputs and M a matrix on the outputs."""

    model: Callable[..., Any]

    def with_data(self, batch: tuple[Any, ...], index: int | Array) -> Self:
        """Return this matrix on one batch, the `index`-th of a data set."""
        if len(batch) < 2:
            raise TypeError(
                f"{type(self).__name__} must have batches (inputs..., labels), got one "
                f"{type(batch[0]).__name__} alone; make tuples of them, such as "
                "[(b['inputs'], b['labels']) for b in data]"
            )
        return super().with_data(batch, index)

    def matvec(self, v: PyTree) -> PyTree:
        """Return J^T M J v."""
        block = select(self.params, self.chosen)
        v = vector(v, block, "the parameters")
        name = type(self).__name__
        _devices.require_one_derivative(name, self._on_devices, block, reverse=True)
        with calling(name, block):
            tangent = trees.cast_like(v, block)
            outputs, tangents = jax.jvp(self._outputs, (block,), (tangent,))
            weighted = trees.cast_like(self._weigh(outputs, tangents), outputs)
            _, pull = jax.vjp(self._outputs, block)
            return trees.cast_like(pull(weighted)[0], v)

    def _on_devices(self, block: PyTree) -> PyTree:
        """Return what has to be the same on all devices of `jax.shard_map` that share the block."""
        return self._outputs(block)

    def _outputs(self, block: PyTree) -> PyTree:
        params = merge(block, self.params, self.chosen)
        return self.model(params, *self._inputs())

    def _inputs(self) -> tuple[Any, ...]:
        if not self.args:
            raise ValueError(
                f"{type(self).__name__} must have inputs and targets to be applied, got neither; "
                "pass them after params, or call over(batches)"
            )
        return self.args[:-1]

    @abc.abstractmethod
    def _weigh(self, outputs: PyTree, tangents: PyTree) -> PyTree:
        """Return M times the tangents of the outputs."""


@register("model", "loss", "params", "args")
@dataclass(frozen=True, eq=False, init=False, repr=False)
class GaussNewton(OutputCurvature):
    """The generalised Gauss-Newton matrix of loss(model(params, *inputs), targets).

    G = J^T H_L J: J is the Jacobian of the outputs in the parameters, H_L the Hessian of the loss
    in the outputs. Positive semi-definite where the loss is convex in the outputs; the Hessian
    without the curvature of the model, and equal to it where the model is linear. Normalised as
    the loss: a mean over examples gives a mean, over whatever the loss counts as one. A product
    costs about as much as a gradient and a forward sweep.

    Args:
      model: model(params, *inputs) -> outputs.
      loss: loss(outputs, targets) -> a real scalar, twice differentiable.
      params: a tree of real floating-point arrays.
      *args: the inputs, then the targets; leave them away where `over` gives them.
      where: see `Hessian`.

    Raises:
      ValueError: `where` accepts no path.
      TypeError: a leaf of `params` isn't real floating-point; the loss isn't scalar (when applied).

    Attributes:
      model, loss, params, args: as given; arrays among them are data.
      chosen: whether each leaf of `params` is in the block; None where all are.

    >>> G = GaussNewton(lambda w, x: x @ w, lambda z, y: jnp.sum((z - y) ** 2) / 2, jnp.zeros(2),
    ...                 jnp.array([[1.0, 2.0]]), jnp.zeros(1))
    >>> G.to_dense().matrix
    Array([[1., 2.],
           [2., 4.]], dtype=float32)

    Source: Schraudolph (2002), doi:10.1162/08997660260028683.
    """

    model: Callable[..., Any]
    loss: Callable[..., Any]
    params: PyTree
    args: tuple[Any, ...]
    chosen: tuple[bool, ...] | None

    def __init__(
        self,
        model: Callable[..., Any],
        loss: Callable[..., Any],
        params: PyTree,
        *args: Any,
        where: Where | None = None,
    ) -> None:
        self._set(params, args, where, model=as_data(model), loss=as_data(loss))

    def value(self) -> Array:
        """Return the loss."""
        return scalar(self.loss(self.model(self.params, *self._inputs()), self.args[-1]))

    def _on_devices(self, block: PyTree) -> PyTree:
        return self.loss(self._outputs(block), self.args[-1])

    def _weigh(self, outputs: PyTree, tangents: PyTree) -> PyTree:
        return hvp(self.loss)(tangents, outputs, self.args[-1])


FisherKind = Literal["exact", "monte_carlo", "empirical"]


@register("model", "params", "args", "key")
@dataclass(frozen=True, eq=False, init=False, repr=False)
class Fisher(OutputCurvature):
    """The Fisher information matrix of a model's predictive distribution, mean over examples.

    F = (1/N) sum_i J_i^T E[s s^T] J_i, where s is the gradient of log p(y | outputs_i) in the
    outputs:

    * "exact" takes the expectation over y ~ p in closed form;
    * "monte_carlo" draws `num_samples` labels per example from p, by `key`, always the same ones;
      unbiased. Over batches they go by a batch's position: see `over`;
    * "empirical" takes the labels given, which isn't an estimate of the other two.

    One convention holds for all likelihoods. Outputs are (..., K): the last axis holds the K
    numbers that predict one label, and every position before it is one of the N examples. For
    outputs (sequences, T, K), then, N = sequences * T, and each token is an example, in the
    empirical matrix too; for images (images, H, W, K) each pixel is. Outputs (examples,) are
    (examples, 1). By likelihood:

    * "softmax": K >= 2 logits of one class out of K; labels are integers from 0 to K - 1, (...);
    * "gaussian": p = N(outputs, I), K numbers; labels (..., K);
    * "bernoulli": K independent logits of p(y = 1); labels are 0 or 1, (..., K). For one binary
      label per token give the outputs a last axis of 1: (sequences, T, 1).

    The exact matrix equals the Gauss-Newton matrix of the mean over the N examples of the negative
    log-likelihood, which is summed over K. It costs about what that does; the others differ in the
    outputs alone.

    Args:
      model: model(params, *inputs) -> outputs, one array.
      likelihood: "softmax", "gaussian" or "bernoulli".
      params: a tree of real floating-point arrays.
      *args: the inputs, then the labels; the labels serve "empirical" and `value` alone, but are
        there always, as in a batch: the others take any array in their place. Leave all away where
        `over` gives them.
      kind: which expectation.
      num_samples: labels drawn per example for "monte_carlo".
      key: a random key for "monte_carlo".
      where: see `Hessian`.

    Raises:
      ValueError: an unknown likelihood or kind; num_samples < 1; `where` accepts no path. When
        applied: outputs that can't be those of the likelihood, such as (N,) or (N, 1) under
        "softmax"; for "empirical", labels that aren't shaped as they must be, or are none of the
        classes. The product is NaN where such a label is traced.
      TypeError: "monte_carlo" without a key; a leaf of `params` isn't real floating-point. When
        applied: outputs that aren't one array of real floating-point numbers; labels of a dtype
        that can't be.

    Attributes:
      model, likelihood, params, args, kind, num_samples, key: as given; arrays among them are data.
      chosen: whether each leaf of `params` is in the block; None where all are.

    >>> F = Fisher(lambda w, x: x @ w, "gaussian", jnp.zeros((2, 1)), jnp.array([[1.0, 2.0]]),
    ...            jnp.zeros((1, 1)))
    >>> F.to_dense().matrix
    Array([[1., 2.],
           [2., 4.]], dtype=float32)

    Source: Martens (2020), jmlr.org/papers/v21/17-678.html; on the empirical one: Kunstner, Balles
    & Hennig (2019), arXiv:1905.12558.
    """

    model: Callable[..., Any]
    likelihood: Likelihood
    params: PyTree
    args: tuple[Any, ...]
    chosen: tuple[bool, ...] | None
    kind: FisherKind
    num_samples: int
    key: Key | None

    def __init__(
        self,
        model: Callable[..., Any],
        likelihood: Likelihood,
        params: PyTree,
        *args: Any,
        kind: FisherKind = "exact",
        num_samples: int = 1,
        key: Key | None = None,
        where: Where | None = None,
    ) -> None:
        checks.one_of("likelihood", likelihood, get_args(Likelihood))
        checks.one_of("kind", kind, get_args(FisherKind))
        checks.at_least("num_samples", num_samples, 1)
        if kind == "monte_carlo":
            checks.require_key("Fisher with kind='monte_carlo'", key)
        own = {"likelihood": likelihood, "kind": kind, "num_samples": num_samples}
        self._set(params, args, where, model=as_data(model), key=key, **own)

    def with_data(self, batch: tuple[Any, ...], index: int | Array) -> Self:
        """Return this matrix on one batch, with labels drawn by a key of its own."""
        key = None if self.key is None else jax.random.fold_in(self.key, index)
        return super().with_data(batch, index)._changed(key=key)

    @property
    def ordered(self) -> bool:
        """Whether labels are drawn: they go by the position of a batch."""
        return self.kind == "monte_carlo"

    def value(self) -> Array:
        """Return the mean over examples of the negative log-likelihood, up to a constant."""
        outputs = self._outputs(select(self.params, self.chosen))
        encoded = self._encoded(outputs)
        return self._predictive.loss(outputs, encoded) / self._predictive.examples(outputs)

    def mean(self) -> Array:
        """Return half a mean square of the outputs where the labels given don't matter.

        They are shifted, so that outputs of zero, as at some initialisations, have a slope.
        """
        if self.kind == "empirical":
            return self.value()
        outputs = self._outputs(select(self.params, self.chosen))
        self._predictive.require_outputs(outputs)
        shift = jnp.cos(jnp.arange(outputs.shape[-1], dtype=outputs.dtype))
        shifted = outputs + (shift if outputs.ndim > 1 else jnp.ones_like(outputs))
        return jnp.sum(shifted**2) / (2 * self._predictive.examples(outputs))

    def terms(self) -> int:
        """Return the number of examples."""
        outputs = jax.eval_shape(_outputs, self)
        self._predictive.require_outputs(outputs)
        return self._predictive.examples(outputs)

    def require_labels(self, where: str = "") -> None:
        """Raise where labels or outputs can't be those of the likelihood, if labels matter."""
        if self.kind == "empirical" and self.args and not checks.in_trace(self.args[-1]):
            outputs = jax.eval_shape(_outputs, self)
            self._predictive.require_outputs(outputs)
            self._predictive.encode(self.args[-1], outputs, where)

    @property
    def _predictive(self) -> Predictive:
        return LIKELIHOODS[self.likelihood]

    def _encoded(self, outputs: Array) -> Array:
        """Return the labels given in the form of the outputs, after a check of both."""
        self._predictive.require_outputs(outputs)
        return self._predictive.encode(self.args[-1], outputs)

    def _weigh(self, outputs: PyTree, tangents: PyTree) -> PyTree:
        predictive = self._predictive
        predictive.require_outputs(outputs)
        if self.kind == "exact":
            weighted = predictive.covariance(outputs, tangents)
        elif outputs.ndim > 1:
            scores = self._scores(outputs)
            weighted = jnp.sum(scores * tangents, axis=-1, keepdims=True) * scores
        else:
            weighted = self._scores(outputs) ** 2 * tangents
        if self.kind == "monte_carlo":
            weighted = jnp.mean(weighted, axis=0)
        return weighted / predictive.examples(outputs)

    def _scores(self, outputs: Array) -> Array:
        """Return the scores s of the labels given, or (num_samples, ...) of labels drawn."""
        if self.kind == "empirical":
            return self._encoded(outputs) - self._predictive.mean(outputs)
        return self._predictive.draw(outputs, self.key, self.num_samples)


@jax.jit
def _outputs(operator: Fisher) -> PyTree:
    """Return the outputs; jit remembers their shapes, so that the model isn't traced again."""
    return operator._outputs(select(operator.params, operator.chosen))
