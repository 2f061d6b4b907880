"""Digits, mixtures and batches."""

import builtins
import math

import jax
import numpy as np
import pytest

from adlab import data

MIXTURE = {"classes": 3, "dim": 4, "num_examples": 30_000, "separation": 3.0, "seed": 1}


def test_the_training_digits_are_standard_and_the_test_digits_are_scaled_alike():
    train, test = data.digits(test_size=100)
    assert train.inputs.shape == (1697, 8, 8, 1)
    assert test.inputs.shape == (100, 8, 8, 1)
    assert {array.dtype for array in (train.inputs, test.inputs)} == {np.dtype(np.float32)}
    assert {array.dtype for array in (train.labels, test.labels)} == {np.dtype(np.int32)}
    assert train.inputs.mean(dtype=np.float64) == pytest.approx(0, abs=1e-6)  # float32
    assert train.inputs.std(dtype=np.float64) == pytest.approx(1, abs=1e-6)
    # Grey values are the integers 0..16: both sets show the same 17 levels, at equal distances.
    levels = np.unique(train.inputs)
    assert levels.size == 17
    np.testing.assert_allclose(np.diff(levels), levels[1] - levels[0], rtol=1e-5)  # float32
    assert set(np.unique(test.inputs)) <= set(levels)


def test_the_two_sets_hold_every_digit_image_once():
    from sklearn import datasets

    train, test = data.digits(seed=3)
    scaled = np.concatenate([train.inputs, test.inputs]).reshape(1797, 64)
    grey = np.rint(16 * (scaled - scaled.min()) / np.ptp(scaled))
    labels = np.concatenate([train.labels, test.labels])
    ours = sorted(map(tuple, np.column_stack([grey, labels])))
    table = datasets.load_digits()
    assert ours == sorted(map(tuple, np.column_stack([table.data, table.target])))


def test_the_seed_decides_the_split():
    first, again, other = (data.digits(seed=seed)[1].labels for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.any(first != other)


@pytest.mark.parametrize("size", [0, 1797])
def test_digits_refuse_an_empty_set(size):
    with pytest.raises(ValueError, match=f"test_size must be .*, got {size}"):
        data.digits(test_size=size)


def test_without_scikit_learn_the_extra_is_named(monkeypatch):
    real = builtins.__import__

    def missing(name, *args, **kwargs):
        if name.split(".")[0] == "sklearn":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ImportError, match=r"pip install -e '\.\[data\]' in adlab's folder"):
        data.digits()


@pytest.mark.parametrize(("classes", "dim"), [(2, 1), (3, 2), (5, 9)])
def test_means_are_the_corners_of_a_regular_simplex(classes, dim):
    _, means = data.gaussian_mixture(
        classes=classes, dim=dim, num_examples=1, separation=2.5, seed=4
    )
    np.testing.assert_allclose(means.sum(axis=0), 0, atol=1e-14)  # round-off
    distances = np.linalg.norm(means[:, None] - means[None], axis=-1)
    np.testing.assert_allclose(distances, 2.5 * (1 - np.eye(classes)), atol=1e-14)


def test_examples_have_the_stated_means_and_covariance():
    found, means = data.gaussian_mixture(**MIXTURE)
    assert found.inputs.dtype == np.float32
    assert found.labels.dtype == np.int32
    np.testing.assert_array_equal(np.bincount(found.labels), 10_000)
    noise = (found.inputs - means[found.labels]).astype(np.float64)
    # z-tests at 5 standard errors: a mean has 1/sqrt(N), a variance sqrt(2/N), a covariance less
    for label in range(3):
        assert np.abs(noise[found.labels == label].mean(axis=0)).max() <= 5 / 100
    covariance = noise.T @ noise / len(noise)
    assert np.abs(covariance - np.eye(4)).max() <= 5 * math.sqrt(2 / len(noise))


def test_the_nearest_mean_errs_as_the_normal_law_says():
    found, means = data.gaussian_mixture(**MIXTURE | {"classes": 2, "separation": 2.0})
    nearest = np.argmin(np.linalg.norm(found.inputs[:, None] - means, axis=-1), axis=1)
    expected = math.erfc(1 / math.sqrt(2)) / 2  # Phi(-1)
    error = math.sqrt(expected * (1 - expected) / len(nearest))
    assert abs(np.mean(nearest != found.labels) - expected) <= 5 * error


def test_three_classes_err_as_the_integral_says():
    found, means = data.gaussian_mixture(**MIXTURE)
    nearest = np.argmin(np.linalg.norm(found.inputs[:, None] - means, axis=-1), axis=1)
    z = np.linspace(-9, 9, 2001)
    phi = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    below = np.array([math.erfc(-(t + 3 / math.sqrt(2)) / math.sqrt(2)) / 2 for t in z])
    expected = 1 - np.sum(phi * below**2) * (z[1] - z[0])
    error = math.sqrt(expected * (1 - expected) / len(nearest))
    assert abs(np.mean(nearest != found.labels) - expected) <= 5 * error


def test_the_order_of_labels_is_random():
    labels = data.gaussian_mixture(**MIXTURE)[0].labels
    same = np.mean(labels[1:] == labels[:-1])
    assert abs(same - 1 / 3) <= 5 * math.sqrt(2 / 9 / len(labels))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": 1}, "classes must be >= 2, got 1"),
        ({"dim": 1}, "dim must be >= classes - 1 = 2, got 1"),
        ({"num_examples": 0}, "num_examples must be >= 1, got 0"),
        ({"separation": 0.0}, r"separation must be positive and finite, got 0\.0"),
        ({"seed": -1}, "seed must be >= 0, got -1"),
    ],
)
def test_mixtures_refuse_what_makes_no_sense(change, message):
    with pytest.raises(ValueError, match=message):
        data.gaussian_mixture(**MIXTURE | change)


def ten():
    return data.Dataset(
        np.arange(20, dtype=np.float32).reshape(10, 2), np.arange(10, dtype=np.int32)
    )


def labels(parts):
    return [part.labels.tolist() for part in parts]


def test_batches_without_a_key_keep_the_order():
    parts = data.batches(ten(), batch_size=4)
    assert labels(parts) == labels(parts.epoch(7)) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert len(parts) == 3


@pytest.mark.parametrize("key", [jax.random.key(0), jax.random.PRNGKey(0)])
def test_shuffled_batches_repeat_and_hold_every_example_once(key):
    parts = data.batches(ten(), batch_size=4, key=key)
    first = labels(parts)
    assert first == labels(parts) == labels(parts.epoch(0))
    order = np.concatenate(first).tolist()
    assert sorted(order) == list(range(10)) != order
    assert [len(batch) for batch in first] == [4, 4, 2]
    for batch in parts:
        assert isinstance(batch, data.Dataset)
        np.testing.assert_array_equal(batch.inputs[:, 0], 2 * batch.labels)


def test_epochs_differ_and_depend_on_their_number_alone():
    parts = data.batches(ten(), batch_size=4, key=jax.random.key(0))
    epochs = [labels(parts.epoch(i)) for i in range(3)]
    assert len({str(epoch) for epoch in epochs}) == 3
    assert labels(parts.epoch(5).epoch(1)) == epochs[1]
    assert labels(data.batches(ten(), batch_size=4, key=jax.random.key(1))) not in epochs


@pytest.mark.parametrize(
    ("size", "dropped", "length"), [(4, True, 2), (5, False, 2), (10, True, 1)]
)
def test_whole_batches_stack(size, dropped, length):
    parts = data.batches(ten(), batch_size=size, key=jax.random.key(2), drop_last=dropped)
    stacked = data.stack(parts)
    assert isinstance(stacked, data.Dataset)
    assert stacked.inputs.shape == (length, size, 2) == (len(parts), size, 2)
    np.testing.assert_array_equal(stacked.labels, labels(parts))


def test_batches_of_different_sizes_do_not_stack():
    with pytest.raises(ValueError, match=r"of one size .* got sizes \[2, 4\]; .* drop_last=True"):
        data.stack(data.batches(ten(), batch_size=4))
    with pytest.raises(ValueError, match="at least one batch, got none"):
        data.stack([])


def test_batches_take_any_tree_and_refuse_uneven_ones():
    tree = {"a": np.arange(3), "b": (np.zeros((3, 2)),)}
    assert [part["a"].tolist() for part in data.batches(tree, batch_size=2)] == [[0, 1], [2]]
    with pytest.raises(
        ValueError, match=r"one leading length, got lengths \[2, 3\] at \['b'\], \['a'\]"
    ):
        data.batches({"a": np.arange(3), "b": np.arange(2)}, batch_size=1)
    with pytest.raises(ValueError, match="one leading length"):
        data.batches((np.float32(1),), batch_size=1)
    with pytest.raises(ValueError, match="at least one array"):
        data.batches((), batch_size=1)


@pytest.mark.parametrize(
    ("size", "error", "message"),
    [
        (0, ValueError, "batch_size must be >= 1, got 0"),
        (11, ValueError, "batch_size must be <= 10, the number of examples, got 11"),
        (2.0, TypeError, r"batch_size must be an integer >= 1, got 2\.0"),
    ],
)
def test_batch_sizes_out_of_range_are_refused(size, error, message):
    with pytest.raises(error, match=message):
        data.batches(ten(), batch_size=size)


@pytest.mark.parametrize("key", [3, jax.random.split(jax.random.key(0)), "key"])
def test_what_is_no_key_is_refused(key):
    with pytest.raises(TypeError, match=r"(?s)key must be one .*jax\.random\.key\(0\)"):
        data.batches(ten(), batch_size=2, key=key)


def test_epochs_are_counted_from_zero():
    with pytest.raises(ValueError, match="epoch must be >= 0, got -1"):
        data.batches(ten(), batch_size=2).epoch(-1)
