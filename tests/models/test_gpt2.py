"""GPT-2 against published sizes and a forward pass written out in NumPy."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adlab import checkpointing, models
from adlab.core import trees
from tests import oracles

SMALL = {"layers": 2, "heads": 2, "width": 6, "vocabulary": 7, "context": 5}


def drawn(**changes):
    """A small model with parameters none of which is special."""
    model = models.gpt2(**SMALL | changes)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    rng = np.random.default_rng(0)
    return model, jax.tree.map(lambda p: rng.standard_normal(p.shape) / 2, shapes)


def by_hand(params, tokens, heads):
    """One sequence, token by token: each looks at itself and at those before it."""

    def norm(own, x):
        return (x - x.mean()) / np.sqrt(x.var() + 1e-5) * own["scale"] + own["bias"]

    def dense(own, x):
        return x @ own["kernel"] + own["bias"]

    states = [params["tokens"][t] + params["positions"][k] for k, t in enumerate(tokens)]
    for layer in range(len(params["blocks"]["norm1"]["bias"])):
        block = jax.tree.map(lambda p: p[layer], params["blocks"])  # noqa: B023
        triples = [np.split(dense(block["attend"], norm(block["norm1"], x)), 3) for x in states]
        after = []
        for here, x in enumerate(states):
            parts = []
            for part in np.split(np.arange(len(x)), heads):
                query = triples[here][0][part]
                scores = [query @ k[part] / math.sqrt(len(part)) for _, k, _ in triples[: here + 1]]
                weights = np.exp(scores) / np.exp(scores).sum()
                parts.append(sum(w * v[part] for w, (*_, v) in zip(weights, triples, strict=False)))
            x = x + dense(block["project"], np.concatenate(parts))
            z = dense(block["expand"], norm(block["norm2"], x))
            gelu = z / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)))
            after.append(x + dense(block["contract"], gelu))
        states = after
    return np.array([norm(params["norm"], x) @ params["tokens"].T for x in states])


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("gpt2", 124_439_808),
        ("gpt2-medium", 354_823_168),
        ("gpt2-large", 774_030_080),
        ("gpt2-xl", 1_557_611_200),
    ],
)
def test_the_named_sizes_have_the_published_numbers_of_parameters(name, count):
    model = models.gpt2(**models.gpt2_size(name))
    assert trees.size(jax.eval_shape(model.init, jax.random.key(0))) == count


@pytest.mark.usefixtures("x64")
def test_logits_are_those_of_the_pass_by_hand():
    model, params = drawn()
    tokens = np.array([[3, 0, 6, 6, 2], [1, 1, 4, 0, 5]])
    logits = oracles.quickly_compiled(model.apply)(params, tokens)
    expected = [by_hand(params, row, heads=2) for row in tokens]
    np.testing.assert_allclose(logits, expected, rtol=1e-11, atol=1e-12)  # round-off
    shorter = oracles.quickly_compiled(model.apply)(params, tokens[0, :3])
    np.testing.assert_allclose(shorter, expected[0][:3], rtol=1e-11, atol=1e-12)


@pytest.mark.usefixtures("x64")
def test_a_token_is_seen_by_itself_and_by_those_after_it_alone():
    model, params = drawn()
    tokens = np.array([3, 0, 6, 6, 2])
    apply = oracles.quickly_compiled(model.apply)
    before, after = apply(params, tokens), apply(params, np.where(np.arange(5) == 2, 4, tokens))
    changed = np.abs(np.asarray(before - after)).max(axis=-1) > 1e-6
    np.testing.assert_array_equal(changed, [False, False, True, True, True])


@pytest.mark.usefixtures("x64")
def test_no_way_of_storing_changes_the_gradient():
    scan = functools.partial(
        checkpointing.checkpointed_scan, schedule=checkpointing.binomial(2)
    )  # fmt: skip
    tokens = np.array([[3, 0, 6, 2]])
    gradients = []
    for how in ({}, {"remat": jax.checkpoint_policies.nothing_saveable}, {"scan": scan}):
        model, params = drawn(layers=3, **how)
        fun = models.classification_loss(model)
        gradients.append(oracles.quickly_compiled(jax.grad(fun))(params, tokens, tokens[:, ::-1]))
    for other in gradients[1:]:
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-13),
            gradients[0], other,
        )  # fmt: skip


def test_mixed_precision_computes_in_bfloat16_and_rounds_as_much():
    params = jax.tree.map(np.float32, drawn()[1])
    tokens = np.array([3, 0, 6, 6, 2], np.int32)
    exact, rounded = (
        oracles.quickly_compiled(models.gpt2(**SMALL, mixed_precision=mixed).apply)(params, tokens)
        for mixed in (False, True)
    )
    assert (exact.dtype, rounded.dtype) == (np.float32, jnp.bfloat16)
    error = np.abs(np.asarray(exact) - np.asarray(rounded.astype(np.float32))).max()
    scale = np.abs(np.asarray(exact)).max()
    assert 2**-12 * scale < error < 2**-4 * scale  # a bfloat16 has 8 bits


def test_the_kernels_have_the_spread_that_is_said():
    model = models.gpt2(layers=8, heads=2, width=32, vocabulary=300, context=64)
    params = oracles.quickly_compiled(model.init)(jax.random.key(1))
    spread = {name: np.std(params["blocks"][name]["kernel"]) for name in ("expand", "contract")}
    assert spread["expand"] == pytest.approx(0.02, rel=0.03)  # 32,768 draws: 0.4 %
    assert spread["contract"] == pytest.approx(0.005, rel=0.03)
    assert np.std(params["positions"]) == pytest.approx(0.01, rel=0.08)  # 2048 draws: 1.6 %


def test_equal_arguments_give_equal_models():
    assert models.gpt2(**SMALL) == models.gpt2(**SMALL)
    assert models.gpt2(**SMALL) != models.gpt2(**SMALL | {"heads": 3})


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"heads": 4}, ValueError, "width must be a multiple of heads=4, got 6"),
        ({"layers": 0}, ValueError, "layers must be >= 1, got 0"),
        ({"context": 2.0}, TypeError, "context must be an integer"),
        ({"scan": 3}, TypeError, "scan must be callable"),
        ({"remat": "dots"}, TypeError, "remat must be a policy"),
    ],
)
def test_bad_arguments_are_refused(changes, error, message):
    with pytest.raises(error, match=message):
        models.gpt2(**SMALL | changes)


def test_bad_tokens_and_names_are_refused():
    model = models.gpt2(**SMALL)
    params = jax.eval_shape(model.init, jax.random.key(0))
    for shape, dtype, error, message in [
        ((2, 6), np.int32, ValueError, r"1 <= s <= 5, got \(2, 6\)"),
        ((), np.int32, ValueError, r"x must have shape \(..., s\)"),
        ((2, 3), np.float32, TypeError, "x must be integers"),
    ]:
        with pytest.raises(error, match=message):
            jax.eval_shape(model.apply, params, jax.ShapeDtypeStruct(shape, dtype))
    with pytest.raises(ValueError, match="did you mean 'gpt2-xl'"):
        models.gpt2_size("gpt2xl")
