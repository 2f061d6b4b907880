"""Models whose losses have gradients and curvature matrices derived by hand, written in NumPy."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

EXAMPLES = 12


class Regression(NamedTuple):
    """A model, the loss of its outputs, data, and the matrices of the mean loss over the data.

    The rows of `hessian` and `gauss_newton`, (d, d), and the columns of `gradients`, (examples, d),
    which are those of the loss of one example, are the leaves of `params` laid end to end.
    """

    model: Callable[..., Any]
    loss: Callable[..., Any]
    params: Any
    inputs: Any
    targets: Any
    gradients: np.ndarray
    hessian: np.ndarray
    gauss_newton: np.ndarray

    def fun(self, params, inputs, targets):
        """Return the loss as a function of the parameters."""
        return self.loss(self.model(params, inputs), targets)

    @property
    def data(self):
        return self.inputs, self.targets


def half_mean_square(outputs, targets):
    return 0.5 * jnp.mean(jnp.sum((outputs - targets) ** 2, axis=range(1, outputs.ndim)))


def mean_cross_entropy(logits, labels):
    logs = jax.nn.log_softmax(logits)
    return -jnp.mean(jnp.take_along_axis(logs, labels[:, None], axis=1))


def mean_binary_entropy(logits, labels):
    signs = 1 - 2 * jnp.asarray(labels, logits.dtype)
    return jnp.mean(jnp.sum(jnp.logaddexp(0.0, signs * logits), axis=-1))


def weighted_gram(jacobians, weights):
    """sum_n J_n^T W_n J_n / N."""
    return np.einsum("nai,nab,nbj->ij", jacobians, weights, jacobians) / len(jacobians)


def least_squares(examples=EXAMPLES, seed=0):
    """(1/2N) |X w - y|^2: H = X^T X / N."""
    rng = np.random.default_rng(seed)
    x, y, w = rng.standard_normal((examples, 4)), rng.standard_normal(examples), rng.random(4)
    gradients = (x @ w - y)[:, None] * x
    hessian = x.T @ x / examples
    return Regression(
        lambda w, x: x @ w, half_mean_square, jax.device_put(w), x, y, gradients, hessian, hessian
    )


def logistic(examples=EXAMPLES, seed=1):
    """(1/N) sum log(1 + exp(-y x.w)): H = X^T diag(s (1 - s)) X / N, s the sigmoid of x.w."""
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((examples, 4)), rng.choice([-1.0, 1.0], examples)
    w = rng.standard_normal(4)
    s = 1 / (1 + np.exp(-x @ w))
    gradients = (-y / (1 + np.exp(y * (x @ w))))[:, None] * x
    hessian = x.T @ ((s * (1 - s))[:, None] * x) / examples

    def loss(outputs, y):
        return jnp.mean(jnp.logaddexp(0.0, -y * outputs))

    return Regression(
        lambda w, x: x @ w, loss, jax.device_put(w), x, y, gradients, hessian, hessian
    )


def affine(params, x):
    return x @ params["kernel"] + params["bias"]


def softmax(examples=EXAMPLES, features=2, classes=3, seed=2):
    """Cross-entropy of x K + b: H = sum_n J_n^T (diag p_n - p_n p_n^T) J_n / N."""
    rng = np.random.default_rng(seed)
    x, labels = rng.standard_normal((examples, features)), rng.integers(0, classes, examples)
    kernel, bias = rng.standard_normal((features, classes)), rng.standard_normal(classes)
    jacobians = affine_jacobians(x, classes)
    p = softmax_of(x @ kernel + bias)
    covariances = p[:, :, None] * np.eye(classes) - p[:, :, None] * p[:, None, :]
    gradients = np.einsum("nai,na->ni", jacobians, p - np.eye(classes)[labels])
    hessian = weighted_gram(jacobians, covariances)
    params = {"bias": jax.device_put(bias), "kernel": jax.device_put(kernel)}
    return Regression(affine, mean_cross_entropy, params, x, labels, gradients, hessian, hessian)


def bernoulli(examples=EXAMPLES, features=2, outputs=3, seed=5):
    """Logits x K + b of several binary labels: H = sum_n J_n^T diag(p_n (1 - p_n)) J_n / N."""
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((examples, features)), rng.integers(0, 2, (examples, outputs))
    kernel, bias = rng.standard_normal((features, outputs)), rng.standard_normal(outputs)
    jacobians = affine_jacobians(x, outputs)
    p = 1 / (1 + np.exp(-x @ kernel - bias))
    gradients = np.einsum("nai,na->ni", jacobians, p - y)
    hessian = weighted_gram(jacobians, (p * (1 - p))[:, :, None] * np.eye(outputs))
    params = {"bias": jax.device_put(bias), "kernel": jax.device_put(kernel)}
    return Regression(affine, mean_binary_entropy, params, x, y, gradients, hessian, hessian)


def gaussian(examples=EXAMPLES, features=2, outputs=3, seed=3):
    """(1/2N) |X K + b - Y|^2 with several outputs: H = sum_n J_n^T J_n / N."""
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((examples, features)), rng.standard_normal((examples, outputs))
    kernel, bias = rng.standard_normal((features, outputs)), rng.standard_normal(outputs)
    jacobians = affine_jacobians(x, outputs)
    gradients = np.einsum("nai,na->ni", jacobians, x @ kernel + bias - y)
    hessian = weighted_gram(
        jacobians, np.broadcast_to(np.eye(outputs), (examples, outputs, outputs))
    )
    params = {"bias": jax.device_put(bias), "kernel": jax.device_put(kernel)}
    return Regression(affine, half_mean_square, params, x, y, gradients, hessian, hessian)


def two_layers(examples=EXAMPLES, features=2, hidden=3, seed=4):
    """f = sum_j b_j tanh(x.A_j) under squares: H = G + sum_n (f_n - y_n) d^2 f_n / N."""
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((examples, features)), rng.standard_normal(examples)
    a, b = rng.standard_normal((features, hidden)), rng.standard_normal(hidden)
    t = np.tanh(x @ a)
    slope = 1 - t**2
    first = np.einsum("ni,nj->nij", x, b * slope).reshape(examples, -1)
    jacobians = np.concatenate([first, t], axis=1)[:, None, :]
    residual = t @ b - y
    curved = np.zeros((examples, *2 * (features, hidden)))
    mixed = np.zeros((examples, features, hidden, hidden))
    for j in range(hidden):
        bend = -2 * b[j] * t[:, j] * slope[:, j]
        curved[:, :, j, :, j] = np.einsum("n,ni,nk->nik", bend, x, x)
        mixed[:, :, j, j] = slope[:, [j]] * x
    size = features * hidden
    second = np.zeros((examples, size + hidden, size + hidden))
    second[:, :size, :size] = curved.reshape(examples, size, size)
    second[:, :size, size:] = mixed.reshape(examples, size, hidden)
    second[:, size:, :size] = second[:, :size, size:].transpose(0, 2, 1)
    gram = weighted_gram(jacobians, np.ones((examples, 1, 1)))
    hessian = gram + np.einsum("n,nij->ij", residual, second) / examples
    params = {"first": jax.device_put(a), "second": jax.device_put(b)}
    return Regression(
        lambda p, x: jnp.tanh(x @ p["first"]) @ p["second"],
        half_mean_square, params, x, y, residual[:, None] * jacobians[:, 0], hessian, gram,
    )  # fmt: skip


def affine_jacobians(x, outputs):
    """(examples, outputs, d) of x K + b, in the order bias, kernel."""
    eye = np.eye(outputs)
    return np.stack([np.concatenate([eye, np.kron(row[None], eye)], axis=1) for row in x])


def softmax_of(logits):
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def rounded(tree, dtype):
    """The same tree with real leaves of another dtype."""
    return jax.tree.map(
        lambda leaf: (
            jax.device_put(np.asarray(leaf, dtype)) if np.asarray(leaf).dtype.kind == "f" else leaf
        ),
        tree,
    )


ALL = {
    "least squares": least_squares,
    "logistic": logistic,
    "softmax": softmax,
    "gaussian": gaussian,
    "two layers": two_layers,
}
LINEAR = [name for name in ALL if name != "two layers"]
