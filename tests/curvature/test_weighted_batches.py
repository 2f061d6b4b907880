"""Masked means over batches, the weights that make them right, and data that change by the pass."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import regressions
from oracles import quickly_compiled

from adlab.curvature import Fisher, GaussNewton, Hessian, spectral_density, stacked, trace
from adlab.curvature._passes import Pass, require_same

CASE = regressions.softmax()
PARAMS = regressions.rounded(CASE.params, jnp.float32)
X, Y = np.asarray(CASE.inputs, np.float32), np.asarray(CASE.targets, np.int32)
MASK = np.array([1, 1, 1, 1, 1, 0, 1, 1, 0, 1, 0, 0], np.float32)  # the first four are whole
COUNTS = [4, 3, 1]
FLAT = np.array([1.0, 0.0, -1.0, 1.0, 2.0, 0.0, 0.5, -1.0, 1.0])
V = jax.device_put({"bias": np.float32(FLAT[:3]), "kernel": np.float32(FLAT[3:].reshape(2, 3))})
ZEROS = jax.device_put(jax.tree.map(np.zeros_like, jax.device_get(PARAMS)))
SINGLE = 8e-6  # float32, products of order 1 to 10
KEY = jax.random.key(0)


def _terms(outputs, labels):
    logs = jax.nn.log_softmax(outputs)
    return -jnp.take_along_axis(logs, labels[..., None], axis=-1)[..., 0]


def masked_sum(outputs, targets):
    labels, mask = targets
    return jnp.sum(_terms(outputs, labels) * mask)


def masked_mean(outputs, targets):
    return masked_sum(outputs, targets) / jnp.sum(targets[1])


def _of_params(loss):
    return lambda params, x, targets: loss(CASE.model(params, x), targets)


LOSSES = {"mean": masked_mean, "sum": masked_sum}
FUNS = {name: _of_params(loss) for name, loss in LOSSES.items()}
KINDS = {
    "hessian": lambda name, params=PARAMS: Hessian(FUNS[name], params),
    "gauss-newton": lambda name, params=PARAMS: GaussNewton(CASE.model, LOSSES[name], params),
}


def _cut(*arrays):
    return [tuple(array[i : i + 4] for array in arrays) for i in (0, 4, 8)]


BATCHES = [(x, (y, m)) for x, y, m in _cut(X, Y, MASK)]
STACKED = stacked(X, (Y, MASK), batch_size=4)


def _count(batch):
    return batch[1][1].sum()


def _per_example():
    jacobians = regressions.affine_jacobians(CASE.inputs, 3)
    flat = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(CASE.params)])
    p = regressions.softmax_of(np.einsum("nai,i->na", jacobians, flat))
    covariances = p[:, :, None] * np.eye(3) - p[:, :, None] * p[:, None, :]
    return np.einsum("nai,nab,nbj->nij", jacobians, covariances, jacobians)


EACH = _per_example()
EXACT = np.einsum("n,nij->ij", MASK, EACH) / MASK.sum()


def _flat(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def _assert_product(operator, matrix):
    np.testing.assert_allclose(_flat(operator.matvec(V)), matrix @ FLAT, atol=SINGLE)


@quickly_compiled
def _mean_inside(params, batches, weights):
    return KINDS["hessian"]("mean", params).over(batches, weights=weights).matvec(V)


@quickly_compiled
def _counted_inside(params, batches):
    return KINDS["hessian"]("mean", params).over(batches, weights=_count).matvec(V)


@quickly_compiled
def _unweighted_inside(params, batches):
    return KINDS["hessian"]("mean", params).over(batches).matvec(V)


@pytest.mark.parametrize("kind", KINDS)
class TestMaskedMeans:
    def test_padding_in_a_later_batch_is_refused_with_the_remedy(self, kind):
        match = (
            r"must be the mean over its examples.* on batch 1 with .*pass weights=.*"
            r"batch_dependent=True"
        )
        for data in (BATCHES, STACKED):
            with pytest.raises(ValueError, match=match):
                KINDS[kind]("mean").over(data)

    def test_weights_or_a_sum_give_the_matrix_in_closed_form(self, kind):
        mean, total = KINDS[kind]("mean"), KINDS[kind]("sum")
        for data in (BATCHES, STACKED):
            _assert_product(mean.over(data, weights=_count), EXACT)
            _assert_product(mean.over(data, weights=COUNTS), EXACT)
            summed = total.over(data, reduction="sum")
            _assert_product(summed * (1 / MASK.sum()), EXACT)
            counted = mean.over(data, weights=_count, reduction="sum")
            _assert_product(counted, EXACT * MASK.sum())
            shares = [weight for weight, _ in mean.over(data, weights=_count).parts()]
            np.testing.assert_allclose(shares, np.divide(COUNTS, 8), rtol=1e-6)  # float32

    def test_a_batch_of_padding_alone_is_left_out_by_its_weight(self, kind):
        data = [BATCHES[0], (X[4:8], (Y[4:8], np.zeros(4, np.float32)))]
        laid = stacked(*jax.tree.map(lambda *leaves: np.stack(leaves), *data))
        for batches in (data, laid):
            operator = KINDS[kind]("mean").over(batches, weights=_count)
            _assert_product(operator, EACH[:4].mean(axis=0))
            assert len(list(operator.parts())) == 1
            with pytest.raises(
                ValueError, match=r"loss must be finite, got nan on batch 1; .*is 0"
            ):
                KINDS[kind]("mean").over(batches)


class TestWhatTheCheckSees:
    def test_inside_a_trace_products_are_nan(self):
        exact = EXACT @ FLAT
        assert np.isnan(_flat(_unweighted_inside(PARAMS, STACKED))).all()
        np.testing.assert_allclose(_flat(_counted_inside(PARAMS, STACKED)), exact, atol=SINGLE)
        weights = np.array(COUNTS, np.float32)
        inside = _flat(_mean_inside(PARAMS, STACKED, weights))
        np.testing.assert_allclose(inside, exact, atol=SINGLE)
        for bad in (-1, np.nan, np.inf):
            found = _mean_inside(PARAMS, STACKED, np.array([4, bad, 1], np.float32))
            assert np.isnan(_flat(found)).all()
        assert np.isnan(_flat(_mean_inside(PARAMS, STACKED, 0 * weights))).all()

    def test_padding_alike_within_each_batch_but_not_between_them(self):
        def loss(params, x, y, mask):
            return jnp.sum(_terms(CASE.model(params, x), y) * mask) / jnp.sum(mask)

        mask = np.repeat(np.array([[1, 1, 1], [1, 1, 0]], np.float32), 2, axis=0)
        tokens = X.reshape(4, 3, 2), Y.reshape(4, 3), mask
        data = [tuple(array[:2] for array in tokens), tuple(array[2:] for array in tokens)]
        with pytest.raises(ValueError, match="must be the mean over its examples"):
            Hessian(loss, PARAMS).over(data)
        found = Hessian(loss, PARAMS).over(data, weights=lambda batch: batch[2].sum())
        kept = np.ravel(mask) == 1
        _assert_product(found, EACH[kept].mean(axis=0))

    @pytest.mark.parametrize("kind", KINDS)
    def test_losses_that_are_equal_at_an_initialisation_of_zeros(self, kind):
        with pytest.raises(ValueError, match=r"on batch 1 .*at parameters nearby"):
            KINDS[kind]("mean", ZEROS).over(BATCHES)

    def test_outputs_of_zero_do_not_hide_batch_statistics_from_a_fisher_matrix(self):
        def model(params, x):
            return CASE.model(params, (x - x.mean(axis=0)) / x.std(axis=0))

        with pytest.raises(ValueError, match="must be the mean over its examples"):
            Fisher(model, "softmax", ZEROS).over([(X, Y)])

    def test_a_mean_is_no_sum_and_constant_weights_do_not_add_up(self):
        data = _cut(X, Y)
        with pytest.raises(ValueError, match=r"must be the sum over its examples.*leave reduction"):
            Hessian(CASE.fun, PARAMS).over(data, reduction="sum")
        with pytest.raises(ValueError, match="must be the mean over its examples"):
            Hessian(CASE.fun, PARAMS).over(data, weights=lambda _: 1.0)


class TestWeights:
    def test_a_fisher_matrix_counts_its_examples_in_a_sum(self):
        fisher, data = Fisher(CASE.model, "softmax", PARAMS), _cut(X, Y)
        for batches in (data, stacked(X, Y, batch_size=4)):
            _assert_product(fisher.over(batches, reduction="sum"), EACH.sum(axis=0))
            weighted = np.repeat([0.5, 0.0, 0.125], 4) @ EACH.reshape(12, 81) / 0.625 / 4
            found = fisher.over(batches, weights=[0.5, 0, 0.125])
            _assert_product(found, weighted.reshape(9, 9))

    @pytest.mark.parametrize("data", [BATCHES, STACKED], ids=["host", "stacked"])
    @pytest.mark.parametrize(
        ("weights", "error", "match"),
        [
            ([1, 2], ValueError, "weights must be one number per batch, 3 in all, got 2"),
            ([1, 2, 3, 4], ValueError, "weights must be one number per batch, 3 in all, got 4"),
            ([1, -1, 2], ValueError, "weights must be finite and >= 0, got -1.0 for batch 1"),
            ([1, 2, np.nan], ValueError, "weights must be finite and >= 0, got nan for batch 2"),
            ([0, 0, 0], ValueError, "weights must have a positive, finite sum, got 0"),
            ([1j, 1, 1], TypeError, "weights must be one real number per batch, or a function"),
            (2.0, TypeError, "weights must be one real number per batch, or a function"),
            ("abc", TypeError, "weights must be one real number per batch, or a function"),
            (lambda batch: batch[1][1], TypeError, "must be one real number per batch, got array"),
            (lambda _: -2, ValueError, "weights must be finite and >= 0, got -2.0 for batch 0"),
        ],
    )
    def test_refusals(self, data, weights, error, match):
        with pytest.raises(error, match=match.replace("array", ".*")):
            KINDS["hessian"]("mean").over(data, weights=weights)

    def test_an_unknown_reduction(self):
        with pytest.raises(ValueError, match=r"reduction must be one of .*did you mean 'mean'"):
            KINDS["hessian"]("mean").over(BATCHES, reduction="meen")


class Loader:
    """Yields the batches of one list of index sets after another, the last again and again."""

    def __init__(self, *passes, arrays=(X, Y)):
        self.passes, self.arrays, self.done = passes, arrays, 0

    def __iter__(self):
        rows = self.passes[min(self.done, len(self.passes) - 1)]
        self.done += 1
        yield from [tuple(array[np.asarray(r)] for array in self.arrays) for r in rows]


ROWS = [np.arange(4), np.arange(4, 8), np.arange(8, 12)]
MEAN = Hessian(CASE.fun, PARAMS)


class TestDataThatChange:
    @pytest.mark.parametrize("batch_dependent", [False, True])
    def test_a_loader_that_shuffles_and_drops_the_last_batch(self, batch_dependent):
        first, other = [ROWS[0], ROWS[1]], [ROWS[0], ROWS[2]]
        match = r"same examples at every pass, got others; .*drop_last=True.*list\(loader\)"
        if not batch_dependent:
            with pytest.raises(ValueError, match=match):
                MEAN.over(Loader(first, other))
        for apply in (
            lambda operator: operator.matvec(V),
            lambda operator: operator.to_dense(),
            lambda operator: (2 * operator).shift(1.0).to_dense(),
            lambda operator: trace(operator, key=KEY, num_matvecs=2),
            lambda operator: spectral_density(operator, key=KEY, num_matvecs=2),
        ):
            operator = MEAN.over(Loader(first, first, other), batch_dependent=batch_dependent)
            if batch_dependent:  # without a check, construction takes one pass
                operator.matvec(V)
            with pytest.raises(ValueError, match=match):
                apply(operator)

    def test_labels_that_move_and_arrays_that_are_written_to(self):
        swapped = [Y[[1, 0]] if Y[0] != Y[1] else Y[[2, 0]], Y[2:]]
        assert not np.array_equal(np.concatenate(swapped)[:2], Y[:2])
        data = [[X.copy(), Y.copy()]]
        operator = MEAN.over(data)
        operator.matvec(V)
        data[0][1][:2] = data[0][1][[1, 0]] if Y[0] != Y[1] else 1 - Y[:2]
        with pytest.raises(ValueError, match="same examples at every pass, got others"):
            operator.matvec(V)
        data[0] = [X, Y]
        operator.matvec(V)
        data[0] = [-X, Y]
        with pytest.raises(ValueError, match="same examples at every pass, got others"):
            operator.matvec(V)

    def test_what_may_be_rearranged_where(self):
        turned = ROWS[::-1]
        recut = [np.r_[0:3, 4], np.r_[3, 5:8], ROWS[2]]
        matvec = MEAN.over(Loader(ROWS, ROWS, turned, recut)).matvec
        for _ in range(3):
            np.testing.assert_allclose(_flat(matvec(V)), CASE.hessian @ FLAT, atol=SINGLE)
        matvec = MEAN.over(Loader(ROWS, turned, recut), batch_dependent=True).matvec
        np.testing.assert_allclose(_flat(matvec(V)), CASE.hessian @ FLAT, atol=SINGLE)
        with pytest.raises(
            ValueError, match=r"cut in the same way .*batch_dependent=True.*shuffling off"
        ):
            matvec(V)
        within = [ROWS[0][::-1], *ROWS[1:]]
        matvec = MEAN.over(Loader(ROWS, ROWS, within, turned), weights=[1, 1, 1]).matvec
        np.testing.assert_allclose(_flat(matvec(V)), CASE.hessian @ FLAT, atol=SINGLE)
        with pytest.raises(ValueError, match=r"same order .*weights= are numbers.*a function"):
            matvec(V)
        drawn = Fisher(CASE.model, "softmax", PARAMS, kind="monte_carlo", key=KEY)
        matvec = drawn.over(Loader(ROWS, ROWS, within)).matvec
        with pytest.raises(ValueError, match=r"same order .*labels drawn.*switch shuffling off"):
            matvec(V)

    def test_every_change_of_an_example_is_seen_and_no_rearrangement(self):
        rng = np.random.default_rng(0)
        images = rng.standard_normal((6, 3, 2)).astype(np.float32)
        batch = {"x": images, "key": jax.random.split(KEY, 6), "scale": np.float32(2)}
        batch["half"] = jax.device_put(images[:, 0].astype(jnp.bfloat16))
        batch["none"] = np.zeros((6, 0))
        first = Pass().after(batch, 0, 6, "free")
        for _ in range(100):
            order = rng.permutation(6)
            shuffled = jax.tree.map(lambda leaf, r=order: leaf[r] if leaf.ndim else leaf, batch)
            cut = int(rng.integers(1, 6))
            found = Pass()
            for rows in (slice(cut, None), slice(cut)):
                part = jax.tree.map(lambda a, r=rows: a[r] if a.ndim else a, shuffled)
                found = found.after(part, 0, len(part["x"]), "free")
            assert found == first
            changed = images.copy()
            row, i, j = rng.integers(0, [6, 3, 2])
            kind = rng.integers(3)
            if kind == 0:
                changed[row, i, j] = np.nextafter(changed[row, i, j], np.float32(9))
            elif kind == 1:  # two signs at once
                changed[row, :2, j] *= -1
            else:  # entries of two examples change places
                changed[[row, row - 1], i, j] = changed[[row - 1, row], i, j]
            other = Pass().after({**batch, "x": changed}, 0, 6, "free")
            with pytest.raises(ValueError, match="got others"):
                require_same(other, first, "free")

    @pytest.mark.parametrize("arrangement", ["cut", "batches", "examples"])
    def test_every_change_of_the_arrangement_is_seen(self, arrangement):
        rng = np.random.default_rng(1)

        def passed(batches):
            found = Pass()
            for index, batch in enumerate(batches):
                found = found.after(batch, index, 2, arrangement)
            return found

        for _ in range(300):
            batches = list(rng.standard_normal((3, 2, 1)))
            first = passed(batches)
            recut = np.reshape(batches, (6, 1))[[0, 2, 1, 3, 4, 5]].reshape(3, 2, 1)
            changed = {"cut": recut, "batches": batches[::-1], "examples": recut[:, ::-1]}
            with pytest.raises(ValueError, match="at every pass, for"):
                require_same(passed(changed[arrangement]), first, arrangement)
            if arrangement == "cut":
                require_same(passed(batches[::-1]), first, arrangement)
            if arrangement != "examples":
                within = [batch[::-1] for batch in batches]
                require_same(passed(within), first, arrangement)
