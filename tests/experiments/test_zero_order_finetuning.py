"""Languages and theory of `zero_order_finetuning`, and each verdict on good and bad data."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from parts import ROOT, outcomes, part

from adlab.lab import config as configs

NAME = "zero_order_finetuning"
CONFIG = ROOT / "configs" / f"{NAME}.toml"


@pytest.fixture(scope="module")
def job():
    return configs.load(CONFIG, changes={"num_seeds": 4})


@pytest.fixture(scope="module")
def languages():
    return part(NAME, "languages")


@pytest.fixture(scope="module")
def theory():
    return part(NAME, "theory")


def test_the_entropy_is_that_of_the_growth_of_blocks(languages, job):
    """H(t tokens) - H(t - 1 tokens), by the chain of all pairs as a matrix."""
    law = languages.law(job.config, "first")
    v = law.shape[0]
    moves = np.zeros((v * v, v * v))
    for a in range(v):
        for b in range(v):
            moves[a * v + b, b * v : (b + 1) * v] = law[a, b]
    values, vectors = np.linalg.eig(moves.T)
    pairs = np.real(vectors[:, np.argmin(abs(values - 1))])
    pairs /= pairs.sum()
    np.testing.assert_allclose(languages.stationary(law).ravel(), pairs, atol=1e-12)
    triples = pairs[:, None] * law.reshape(v * v, v)

    def block(p):
        return -np.sum(p * np.log(p))

    assert languages.entropy(law) == pytest.approx(block(triples) - block(pairs), rel=1e-10)


def test_samples_follow_the_law_from_their_first_token_on(languages, job):
    law = languages.law(job.config.model_copy(update={"vocabulary": 3}), "second")
    texts = languages.sample(law, (2, 10_000, 4), np.random.default_rng(0))
    assert texts.shape == (2, 10_000, 4)
    for place in range(2):
        triples = texts.reshape(-1, 4)[:, place : place + 3] @ [9, 3, 1]
        found = np.bincount(triples, minlength=27) / 20_000
        expected = (languages.stationary(law)[:, :, None] * law).ravel()
        z = (found - expected) / np.sqrt(expected * (1 - expected) / 20_000)
        assert np.abs(z).max() < 5  # 27 binomials


def test_the_second_language_is_as_far_as_the_shift_says(languages, job):
    def logits(which, shift):
        law = languages.law(job.config.model_copy(update={"shift": shift}), which)
        raw = np.log(law)
        return raw - raw.mean(axis=-1, keepdims=True)

    for shift in (0.1, 0.6, 1.0):
        one, other = logits("first", shift), logits("second", shift)
        found = np.corrcoef(one.ravel(), other.ravel())[0, 1]
        assert found == pytest.approx(np.sqrt(1 - shift**2), abs=0.2)  # 288 numbers


def tiny(kind):
    """Return a small model's split, loss and gap, with what they are taken at."""
    subspaces, config = part(NAME, "subspaces"), configs.load(CONFIG, profile="smoke").config
    model = subspaces.model(config)
    params = model.init(jax.random.key(1))
    z, held = subspaces.split(kind, params, config)
    return subspaces, model, config, params, z, held


@pytest.mark.parametrize("kind", ["all", "biases", "low_rank"])
def test_a_subspace_starts_at_the_model_and_moves_only_its_own(kind):
    subspaces, _, _, params, z, held = tiny(kind)
    at = subspaces._joined(kind, z, held)
    assert jax.tree.structure(at) == jax.tree.structure(params)
    jax.tree.map(np.testing.assert_array_equal, at, params)
    moved = subspaces._joined(kind, jax.tree.map(lambda leaf: leaf + 1, z), held)
    changed = {
        jax.tree_util.keystr(path)
        for (path, one), other in zip(
            jax.tree_util.tree_leaves_with_path(moved), jax.tree.leaves(params), strict=True
        )
        if np.any(one != other)
    }
    names = {jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)}
    expected = {
        "all": names,
        "biases": {name for name in names if "kernel" not in name and "norm" in name}
        | {name for name in names if "bias" in name},
        "low_rank": {name for name in names if "kernel" in name},
    }[kind]
    assert changed == expected
    if kind == "low_rank":
        change = moved["blocks"]["expand"]["kernel"] - params["blocks"]["expand"]["kernel"]
        assert np.linalg.matrix_rank(np.asarray(change[0]), tol=1e-4) == 1  # equal rows of B


def test_the_gap_is_the_loss_less_the_entropy_of_the_next_token(languages):
    subspaces, model, config, params, z, held = tiny("all")
    law = languages.law(config, "first")
    texts = languages.sample(law, (3, config.sequence + 1), np.random.default_rng(0))
    found = subspaces.gap("all", model)(z, held, texts, law.astype(np.float32))
    logits = np.asarray(model.apply(params, texts[:, :-1]), np.float64)
    logits -= np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    places = [(row, t) for row in range(3) for t in range(1, config.sequence)]
    apart = [
        np.sum(p * (np.log(p) - logits[row, t]))
        for row, t in places
        for p in [law[texts[row, t - 1], texts[row, t]]]
    ]
    assert float(found) == pytest.approx(np.mean(apart), rel=1e-4)  # float32
    picked = [-logits[row, t, texts[row, t + 1]] for row, t in places]
    loss = subspaces.loss("all", model)(z, held, jnp.asarray(texts))
    assert float(loss) == pytest.approx(np.mean(picked), rel=1e-5)


def test_the_isotropic_slowdown_is_what_many_steps_on_many_points_give(theory):
    """The closed form beside signs drawn here: E |x+|^2/|x|^2, for small n."""
    n, fraction, rng = 6, 0.5, np.random.default_rng(0)
    step = fraction / (n + 2)
    x = np.ones(n) / np.sqrt(n)
    u = rng.choice([-1.0, 1.0], size=(200_000, n))
    after = np.sum((x - step * (u @ x)[:, None] * u) ** 2, axis=1)
    expected = 2 * np.log1p(-fraction) / np.log(after.mean())
    assert theory.isotropic_slowdown(n, fraction) == pytest.approx(expected, rel=0.02)  # z = 5
    assert theory.isotropic_slowdown(10**5, 1e-5) == pytest.approx(10**5 + 2, rel=1e-3)


def test_hitting_times(theory):
    k = np.array([0, 10, 20])
    assert theory.hitting_time(k, np.array([4.0, 2.0, 1.0]), 3.0) == 5.0
    assert theory.hitting_time(k, np.array([4.0, 2.0, 1.0]), 4.0) == 0.0
    assert theory.hitting_time(k, np.array([4.0, 2.0, 1.0]), 0.5) == np.inf


def measured(config, theory, languages):
    """Data as they are expected."""
    scatter = np.array([0.9, 0.95, 1.05, 1.1])
    entropy = languages.entropy(languages.law(config, "first"))
    n, k = 50_000, np.arange(0, 201, 2)
    slow = theory.isotropic_slowdown(n, theory.CONTROL) * scatter**0.2
    rates = 2 * np.log1p(-theory.CONTROL) / slow * config.control_steps
    data = {
        "held_out_losses": entropy * (1.03 + 0.02 * np.sin(np.arange(60))),
        "dim": np.array(n),
        "adam_k": np.arange(0, 101, 10),
        "adam_gaps": np.geomspace(0.2, 0.02, 11),
        "control_losses": 0.5 * np.exp(np.stack([np.zeros(4), rates], axis=1)),
        "temporaries": np.array([1.0, 2.0, 8.0]),
        "weight_bytes": np.array(1.0),
        "price": np.array(3.0),
    }
    for kind in config.subspaces:
        data |= {
            f"{kind}_size": np.array(1500.0 if kind != "all" else n),
            f"{kind}_trace": np.array(6.0), f"{kind}_largest": np.array(1.0),
            f"{kind}_gd_k": np.arange(17), f"{kind}_gd": 1 - np.arange(17) / 32,
            f"{kind}_k": k, f"{kind}_losses": 1 - k / (8 * 32 * scatter[:, None]),
            f"{kind}_adapted_k": np.arange(0, 801, 8),
            f"{kind}_gaps": 0.2 * np.geomspace(1, 0.6, 101) ** scatter[:, None],
        }  # fmt: skip
    return data


BAD = {
    "floor": ("held_out_losses", 1.3),
    "fall": ("biases_gaps", np.geomspace(1, 3, 101)),
    "slowdown": ("low_rank_trace", 5.0),
    "dimension": ("biases_size", 0.1),
    "control": ("all_trace", 1e4),
    "isotropic": ("control_losses", np.array([1.0, 0.8])),
    "operations": ("adam_k", 1000),
    "memory": ("temporaries", np.array([1.0, 5.0, 1.0])),
}


def test_all_hold_on_data_that_bear_them_out(job, theory, languages):
    found = outcomes(job, measured(job.config, theory, languages))
    assert set.union(*found.values()) == {"holds"}
    assert set(found) == set(BAD)


@pytest.mark.parametrize("claim", BAD)
def test_each_fails_on_data_that_refute_it(job, theory, languages, claim):
    name, factor = BAD[claim]
    data = measured(job.config, theory, languages)
    assert "fails" in outcomes(job, data | {name: data[name] * factor})[claim]


def test_a_descent_that_never_gets_there_is_undecided(job, theory, languages):
    data = measured(job.config, theory, languages)
    data["all_losses"] = np.ones_like(data["all_losses"])
    assert "undecided" in outcomes(job, data)["slowdown"]


def test_sizes_that_cannot_be_are_refused():
    for changes, words in (({"heads": 5}, "multiple of heads"), ({"rank": 60}, "rank must be")):
        with pytest.raises(Exception, match=words):
            configs.load(CONFIG, changes=changes)
