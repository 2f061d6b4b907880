import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen

from adlab import models
from adlab.core import trees
from adlab.models import _layers as layers
from tests import oracles

LABELS = np.array([3, 0, 2, 1, 3])


class FlaxResNet(linen.Module):
    """The same network in Flax: blocks, normalisation and pooling are the library's."""

    widths: tuple[int, ...]
    blocks: int
    classes: int
    norm: str
    slope: float

    def act(self, x):
        return jnp.where(x > 0, x, jnp.asarray(self.slope, x.dtype) * x)

    def convolved(self, x, place, suffix, channels, stride=1):
        x = linen.Conv(
            channels,
            (3, 3),
            (stride, stride),
            padding=((1, 1), (1, 1)),
            use_bias=self.norm == "none",
            param_dtype=x.dtype,
            name=f"{place}.conv{suffix}",
        )(x)
        if self.norm == "none":
            return x
        return linen.BatchNorm(
            use_running_average=False,
            epsilon=1e-3,
            use_fast_variance=False,
            param_dtype=x.dtype,
            name=f"{place}.norm{suffix}",
        )(x)

    @linen.compact
    def __call__(self, x):
        x = self.act(self.convolved(x, "stem", "", self.widths[0]))
        for stage, channels in enumerate(self.widths, 1):
            for block in range(self.blocks):
                place, stride = f"stage{stage}.block{block}", 2 if stage > 1 and block == 0 else 1
                y = self.act(self.convolved(x, place, "1", channels, stride))
                y = self.convolved(y, place, "2", channels)
                if stride == 2:  # "A" of the paper
                    kept = linen.max_pool(x, (1, 1), strides=(2, 2))
                    zeros = jnp.zeros((*kept.shape[:-1], channels - kept.shape[-1]), x.dtype)
                    x = jnp.concatenate([kept, zeros], axis=-1)
                x = self.act(x + y)
        x = linen.avg_pool(x, x.shape[1:3]).reshape(len(x), -1)
        return linen.Dense(self.classes, param_dtype=x.dtype, name="head")(x)


def _renamed(params):
    """{"stage1": {"block0": {"conv1": ...}}} -> {"stage1.block0.conv1": ...}, as above."""
    flat = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        *place, name = (key.key for key in path)
        flat.setdefault(".".join(place), {})[name] = leaf
    return flat


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("norm", "activation", "depth"), [("batch", "leaky", 8), ("none", "relu", 8)]
)
def test_logits_gradient_and_curvature_are_those_of_flax(norm, activation, depth):
    widths = (2, 3, 4)
    model = models.resnet(
        depth=depth, widths=widths, num_classes=4, channels=2, norm=norm, activation=activation
    )
    shapes = jax.eval_shape(functools.partial(model.init, dtype=np.float64), jax.random.key(0))
    rng = np.random.default_rng(1)  # no scale is one and no shift zero
    params = jax.tree.map(lambda p: 0.5 * rng.standard_normal(p.shape), shapes)
    x = np.random.default_rng(2).standard_normal((5, 5, 6, 2))
    slope = 0.1 if activation == "leaky" else 0.0
    flax_model = FlaxResNet(widths, (depth - 2) // 6, 4, norm, slope)

    def apply(params, x):
        state = {"batch_stats": _stats(params)} if norm == "batch" else {}
        with jax.numpy_dtype_promotion("standard"):  # the library mixes dtypes
            return flax_model.apply({"params": params} | state, x, mutable="batch_stats")[0]

    ours = _derivatives(model.apply, params, x)
    theirs = _derivatives(apply, _renamed(params), x)
    for found, expected in zip(ours, theirs, strict=True):
        found = _renamed(found) if isinstance(found, dict) else found
        scale = max(np.abs(a).max() for a in jax.tree.leaves(expected))
        same = jax.tree.map(lambda a, b, s=scale: np.abs(a - b).max() <= 1e-11 * s, found, expected)
        assert all(jax.tree.leaves(same))  # round-off of some 1000 terms in float64


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("channels", "groups"), [(16, 8), (12, 4), (3, 1)])
def test_group_norm_is_that_of_flax(channels, groups):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 3, 4, channels)) + 5
    params = {name: rng.standard_normal(channels) for name in ("scale", "bias")}
    flax_norm = linen.GroupNorm(groups, epsilon=1e-3, use_fast_variance=False)
    with jax.numpy_dtype_promotion("standard"):  # the library mixes dtypes
        expected = jax.jit(flax_norm.apply)({"params": params}, x)
    found = jax.jit(layers.group_norm)(params, x)
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-12)


def _drawn(model, dtype=np.float32):
    """Kernels of variance 2/fan_in and about that, scales of one, shifts of zero."""
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    rng = np.random.default_rng(0)
    names = {"scale": np.ones, "bias": np.zeros}

    def drawn(path, leaf):
        if path[-1].key in names:
            return jax.device_put(names[path[-1].key](leaf.shape).astype(dtype))
        deviation = np.sqrt(2 / np.prod(leaf.shape[:-1]))
        return jax.device_put((deviation * rng.standard_normal(leaf.shape)).astype(dtype))

    return jax.tree_util.tree_map_with_path(drawn, shapes)


def _stats(params):
    """Running averages that mustn't matter."""
    return {
        name: {part: np.full(p["bias"].shape, np.nan, p["bias"].dtype) for part in ("mean", "var")}
        for name, p in params.items()
        if ".norm" in name
    }


def _derivatives(apply, params, x):
    """Logits, gradient of the loss and a product of its Hessian."""
    v = jax.tree.map(lambda p: np.cos(np.arange(p.size, dtype=p.dtype)).reshape(p.shape), params)

    def loss(params):
        chances = jax.nn.log_softmax(apply(params, x))
        return -jnp.mean(chances[jnp.arange(5), LABELS])

    def all_of_them(params):
        return apply(params, x), *jax.jvp(jax.grad(loss), (params,), (v,))

    return jax.device_get(oracles.quickly_compiled(all_of_them)(params))


@pytest.mark.parametrize(
    ("arguments", "count"),
    [
        # 9 c c' per convolution, 2c per normalisation, 64 x 10 + 10 in the head; by hand:
        # stem 464, stages 23 360, 88 192, 351 488, head 650
        ({"depth": 32}, 464_154),
        ({"depth": 32, "norm": "group"}, 464_154),
        # c instead of 2c beside each of 31 convolutions: 16 + 5 * 2 * (16 + 32 + 64) fewer
        ({"depth": 32, "norm": "none"}, 464_154 - 1_136),
        # 72 + 16; 1 184; 3 520; 13 952; 330
        ({"depth": 8, "widths": [8, 16, 32], "channels": 1}, 19_074),
    ],
)
def test_the_number_of_parameters_is_that_of_the_paper(arguments, count):
    model = models.resnet(**arguments)
    assert trees.size(jax.eval_shape(model.init, jax.random.key(0))) == count


def test_parameters_have_readable_paths_and_the_variances_of_he():
    model = models.resnet(depth=14, widths=(16, 32, 64))
    params = oracles.quickly_compiled(model.init)(jax.random.key(0))
    names = set(_renamed(params))
    assert {"stem.conv", "stem.norm", "stage1.block0.conv1", "stage3.block1.norm2", "head"} <= names
    assert len(names) == 27  # 13 convolutions and as many normalisations, and the head
    block = params["stage3"]["block1"]
    kernel = np.asarray(block["conv1"]["kernel"], np.float64).ravel()
    oracles.assert_mean_is(0.0, kernel)
    oracles.assert_mean_is(2 / (9 * 64), kernel**2)
    assert np.abs(kernel - np.ravel(block["conv2"]["kernel"])).max() > 0.01  # another key
    np.testing.assert_array_equal(block["norm1"]["scale"], 1)


def test_a_block_without_its_branch_is_the_shortcut():
    """With every convolution behind the stem zero, only subsampling and zeros are left."""
    model = models.resnet(depth=8, widths=(2, 3, 4), num_classes=4, channels=1, norm="none")
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    params = jax.tree.map(lambda p: np.zeros(p.shape, p.dtype), shapes)
    params["stem"]["conv"]["kernel"][1, 1, 0] = [1.0, -1.0]
    params["head"]["kernel"] = np.eye(4, dtype=np.float32)
    x = np.random.default_rng(0).standard_normal((3, 7, 9, 1)).astype(np.float32)
    kept = x[:, ::4, ::4, 0]
    logits = np.asarray(oracles.quickly_compiled(model.apply)(params, x))
    expected = np.maximum([kept, -kept], 0).mean(axis=(2, 3)).T
    np.testing.assert_allclose(logits[:, :2], expected, rtol=1e-6)  # float32
    np.testing.assert_array_equal(logits[:, 2:], 0)


@pytest.mark.parametrize(("norm", "coupled"), [("batch", True), ("group", False), ("none", False)])
def test_examples_depend_on_the_rest_of_the_batch_only_with_batch_norm(norm, coupled):
    model = models.resnet(depth=8, widths=(4, 4, 4), num_classes=3, channels=1, norm=norm)
    params = _drawn(model)
    x = np.random.default_rng(0).standard_normal((4, 8, 8, 1)).astype(np.float32)
    apply = oracles.quickly_compiled(lambda x: (model.apply(params, x[:2]), model.apply(params, x)))
    alone, together = jax.device_get(apply(x))
    together = together[:2]
    error = np.abs(alone - together).max() / np.abs(together).max()
    assert (error > 1e-2) if coupled else (error < 1e-5)  # float32


def test_narrow_parameters_are_normalised_in_float32():
    model = models.resnet(depth=8, widths=(4, 4, 4), num_classes=3, channels=1)
    params = _drawn(model, jnp.bfloat16)
    x = np.random.default_rng(0).integers(0, 17, (6, 8, 8, 1), dtype=np.uint8)
    apply = oracles.quickly_compiled(model.apply)
    logits = apply(params, x)
    wide = apply(jax.tree.map(lambda p: np.asarray(p, np.float32), params), x)
    assert logits.dtype == jnp.bfloat16
    error = np.abs(np.asarray(logits, np.float32) - wide).max() / np.abs(wide).max()
    assert error < 0.06  # about 15 roundings of 2^-9, passed through 7 convolutions
    offset = np.full((2, 4, 4, 8), 300.0)
    offset[0] += 2  # representable in bfloat16: spacing 2
    offset = offset.astype(jnp.bfloat16)
    shifts = layers.norm_init(8, jnp.bfloat16)
    norms = (layers.batch_norm, layers.group_norm)
    normalised = jax.jit(lambda *given: [norm(*given) for norm in norms])(shifts, offset)
    assert all(values.dtype == jnp.bfloat16 for values in normalised)
    centred = np.asarray(normalised[0], np.float32)
    np.testing.assert_allclose(centred[0], 1 / np.sqrt(1 + 1e-3), rtol=4e-3)  # bfloat16
    np.testing.assert_allclose(centred[1], -1 / np.sqrt(1 + 1e-3), rtol=4e-3)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"depth": 30}, ValueError, "depth must be 6k + 2, got 30; the nearest are 26, 32"),
        ({"depth": 2}, ValueError, "depth must be >= 8, got 2"),
        ({"depth": 8.0}, TypeError, "depth must be an integer >= 8, got 8.0"),
        (
            {"widths": (16, 32)},
            ValueError,
            "widths must be three numbers, one per stage, got (16, 32)",
        ),
        ({"widths": (16, 8, 64)}, ValueError, "widths[1] must be >= 16, got 8"),
        ({"norm": "btach"}, ValueError, "; did you mean 'batch'?"),
        ({"activation": "tanh"}, ValueError, "activation must be one of 'relu', 'leaky'"),
        ({"channels": 0}, ValueError, "channels must be >= 1, got 0"),
        ({"num_classes": 0}, ValueError, "num_classes must be >= 1, got 0"),
    ],
)
def test_bad_arguments_of_resnet_are_refused(arguments, error, message):
    with pytest.raises(error, match=re.escape(message)):
        models.resnet(**arguments)


@pytest.mark.parametrize("shape", [(4, 8, 8), (4, 8, 8, 1)])
def test_images_of_another_shape_are_refused(shape):
    model = models.resnet(depth=8)
    with pytest.raises(ValueError, match=re.escape(f"x must have shape (b, h, w, 3), got {shape}")):
        model.apply({}, np.ones(shape))
