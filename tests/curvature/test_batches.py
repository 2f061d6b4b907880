import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import regressions
from oracles import quickly_compiled

from adlab.curvature import Fisher, GaussNewton, Hessian, eigenpairs, stacked, trace
from adlab.data import Dataset

CASE = regressions.softmax()
PARAMS = regressions.rounded(CASE.params, jnp.float32)
X, Y = np.asarray(CASE.inputs, np.float32), np.asarray(CASE.targets, np.int32)
FLAT = np.array([1.0, 0.0, -1.0, 1.0, 2.0, 0.0, 0.5, -1.0, 1.0])
V = jax.device_put({"bias": np.float32(FLAT[:3]), "kernel": np.float32(FLAT[3:].reshape(2, 3))})
ZEROS = jax.device_put(np.zeros(2, np.float32))
UNEQUAL = [(X[:6], Y[:6]), (X[6:9], Y[6:9]), (X[9:], Y[9:])]
SINGLE = 2e-6  # float32, entries of order 1


@quickly_compiled
def _product(operator, v):
    return operator.matvec(v)


@quickly_compiled
def _matrix(operator):
    return operator.to_dense().matrix


def _cut(*sizes):
    stops = np.cumsum(sizes)
    return [(X[b - a : b], Y[b - a : b]) for a, b in zip(sizes, stops, strict=True)]


def _flat(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


KINDS = {
    "hessian": lambda params=PARAMS: Hessian(CASE.fun, params),
    "gauss-newton": lambda params=PARAMS: GaussNewton(CASE.model, CASE.loss, params),
    "fisher": lambda params=PARAMS: Fisher(CASE.model, "softmax", params),
}


class TestMeans:
    @pytest.mark.parametrize("kind", KINDS)
    def test_batches_of_unequal_sizes_weigh_by_their_size(self, kind):
        operator = KINDS[kind]().over(UNEQUAL)
        found = operator.to_dense()
        np.testing.assert_allclose(found.matrix, CASE.hessian, atol=SINGLE)
        np.testing.assert_allclose(_flat(operator.matvec(V)), CASE.hessian @ FLAT, atol=4 * SINGLE)
        assert found.blocks == {"bias": slice(0, 3), "kernel": slice(3, 9)}
        assert operator.dim == 9
        assert not operator.traceable

    def test_batches_of_one_example(self):
        operator = KINDS["fisher"]().over(_cut(1, 6, 1, 3, 1))
        np.testing.assert_allclose(_flat(operator.matvec(V)), CASE.hessian @ FLAT, atol=4 * SINGLE)

    def test_the_empirical_fisher_over_batches(self):
        operator = Fisher(CASE.model, "softmax", PARAMS, kind="empirical").over(UNEQUAL)
        expected = CASE.gradients.T @ CASE.gradients / len(X)
        np.testing.assert_allclose(operator.to_dense().matrix, expected, atol=SINGLE)

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("batch_size", [1, 4])
    def test_stacked_batches_outside_and_inside_jit(self, kind, batch_size):
        operator = KINDS[kind]().over(stacked(X, Y, batch_size=batch_size))
        assert operator.traceable
        np.testing.assert_allclose(
            _flat(_product(operator, V)), CASE.hessian @ FLAT, atol=4 * SINGLE
        )

    def test_stacked_batches_built_inside_jit(self):
        @jax.jit
        def product(params, x, y, v):
            return KINDS["hessian"](params).over(stacked(x, y, batch_size=4)).matvec(v)

        found = product(PARAMS, X, Y, V)
        np.testing.assert_allclose(_flat(found), CASE.hessian @ FLAT, atol=4 * SINGLE)

    def test_arrays_that_have_their_axis_of_batches(self):
        data = stacked(X.reshape(3, 4, 2), Y.reshape(3, 4))
        assert len(data) == 3
        operator = KINDS["hessian"]().over(data)
        np.testing.assert_allclose(_matrix(operator), CASE.hessian, atol=SINGLE)

    def test_parts_sum_to_the_matrix(self):
        for data in (UNEQUAL, stacked(X, Y, batch_size=4)):
            parts = list((2.0 * KINDS["hessian"]().over(data).shift(1.0)).parts())
            assert len(parts) == 4
            total = sum(weight * _flat(_product(part, V)) for weight, part in parts)
            np.testing.assert_allclose(total, 2 * (CASE.hessian @ FLAT + FLAT), atol=8 * SINGLE)

    def test_algebra_over_batches(self):
        mean = KINDS["hessian"]().over(UNEQUAL)
        found = (2 * mean - KINDS["fisher"]().over(_cut(3, 6, 3))).shift(3).to_dense().matrix
        np.testing.assert_allclose(found, CASE.hessian + 3 * np.eye(9), atol=3 * SINGLE)

    def test_a_block_of_the_parameters(self):
        for data in (UNEQUAL, stacked(X, Y, batch_size=6)):
            operator = Hessian(CASE.fun, PARAMS, where=lambda path: "bias" in path).over(data)
            found = operator.to_dense().matrix if data is UNEQUAL else _matrix(operator)
            np.testing.assert_allclose(found, CASE.hessian[:3, :3], atol=SINGLE)

    def test_algorithms_take_them(self):
        listed = KINDS["hessian"]().over(UNEQUAL)
        scanned = KINDS["hessian"]().over(stacked(X, Y, batch_size=4))
        exact = np.linalg.eigvalsh(CASE.hessian)
        found = eigenpairs(listed, key=jax.random.key(0), which="largest", rtol=1e-3)
        assert float(found.values[0]) == pytest.approx(exact[-1], rel=1e-5)  # the residual squared
        estimates = [
            trace(operator, key=jax.random.key(0), num_matvecs=64) for operator in (listed, scanned)
        ]
        for found in estimates:
            assert abs(found.value - exact.sum()) <= 5 * found.standard_error
            assert 0 < found.standard_error < 0.3
        np.testing.assert_allclose(*(found.samples for found in estimates), atol=1e-5)  # float32

    @pytest.mark.parametrize("data", ["host", "stacked"])
    def test_sums_over_many_batches_are_wider_than_bfloat16(self, data):
        count = 600  # added one by one in bfloat16, the sum would stop at 256 of these
        x = np.ones((count, 2), np.float32)
        operator = Hessian(lambda w, x: jnp.mean((x @ w) ** 2) / 2, ZEROS)
        batches = [(row[None],) for row in x] if data == "host" else stacked(x, batch_size=1)
        product = operator.over(batches).matvec(jax.device_put(np.array([1, 0], jnp.bfloat16)))
        assert product.dtype == jnp.bfloat16
        np.testing.assert_array_equal(np.asarray(product, np.float32), [1.0, 1.0])


class Loader:
    """Like a DataLoader of PyTorch: lists of arrays, counted and made anew at each pass."""

    def __init__(self, *passes):
        self.passes, self.done = passes, 0

    def __len__(self):
        return len(self.passes[0])

    def __iter__(self):
        batches = self.passes[min(self.done, len(self.passes) - 1)]
        self.done += 1
        for x, y in batches:
            yield [x, y]


class TestWhatABatchMayBe:
    def test_a_loader_that_yields_lists(self):
        loader = Loader(UNEQUAL)
        operator = KINDS["hessian"]().over(loader)
        np.testing.assert_allclose(_flat(operator.matvec(V)), CASE.hessian @ FLAT, atol=4 * SINGLE)
        before = loader.done
        operator.matvec(V)
        assert loader.done == before + 1

    def test_one_argument_alone_or_a_tree(self):
        def fun(params, batch):
            return CASE.fun(params, batch["x"], batch["y"])

        trees = [{"x": x, "y": y} for x, y in UNEQUAL]
        for data in (trees, [(tree,) for tree in trees], stacked({"x": X, "y": Y}, batch_size=4)):
            operator = Hessian(fun, PARAMS).over(data)
            product = _product(operator, V) if operator.traceable else operator.matvec(V)
            np.testing.assert_allclose(_flat(product), CASE.hessian @ FLAT, atol=4 * SINGLE)

    def test_a_data_set_is_one_batch_or_is_cut(self):
        everything = Dataset(X, Y)
        cut = stacked(everything, batch_size=4)
        assert len(cut) == 3
        product = KINDS["hessian"]().over(cut).matvec(V)
        np.testing.assert_allclose(_flat(product), CASE.hessian @ FLAT, atol=4 * SINGLE)
        product = KINDS["hessian"]().over([everything]).matvec(V)
        np.testing.assert_allclose(_flat(product), CASE.hessian @ FLAT, atol=4 * SINGLE)

    def test_bare_arrays_in_a_list_are_batches_of_one_argument(self):
        operator = Hessian(lambda w, x: jnp.mean((x @ w) ** 2) / 2, ZEROS)
        found = operator.over([X[:6], X[6:]]).matvec(jax.device_put(np.float32([1, 0])))
        np.testing.assert_allclose(found, X.T @ X[:, 0] / len(X), atol=SINGLE)

    def test_labels_serve_the_empirical_fisher_alone(self):
        labels = np.full((12, 3), np.nan, np.float32)
        product = KINDS["fisher"]().over([(X, labels)]).matvec(V)
        np.testing.assert_allclose(_flat(product), CASE.hessian @ FLAT, atol=4 * SINGLE)
        with pytest.raises(ValueError, match="labels must be shaped as"):
            Fisher(CASE.model, "softmax", PARAMS, kind="empirical").over([(X, labels)])

    def test_shuffling_between_passes_changes_nothing_but_rounding(self):
        loader = Loader(UNEQUAL, UNEQUAL[::-1], _cut(3, 6, 3), UNEQUAL)
        operator = KINDS["hessian"]().over(loader)
        for _ in range(3):
            product = _flat(operator.matvec(V))
            np.testing.assert_allclose(product, CASE.hessian @ FLAT, atol=4 * SINGLE)


class TestRefusals:
    def test_one_shot_iterators(self):
        with pytest.raises(TypeError, match=r"got a one-shot generator; pass a list of its items"):
            KINDS["hessian"]().over(batch for batch in UNEQUAL)
        with pytest.raises(TypeError, match="got a one-shot zip"):
            KINDS["hessian"]().over(zip([X], [Y], strict=True))

    def test_no_batches_and_empty_ones(self):
        with pytest.raises(ValueError, match="batches must hold at least one batch, got none"):
            KINDS["hessian"]().over([])
        with pytest.raises(ValueError, match="batch 1 must hold at least one example, got none"):
            KINDS["hessian"]().over([UNEQUAL[0], (X[:0], Y[:0])])
        with pytest.raises(ValueError, match="stacked must hold at least one example, got none"):
            stacked(X[:0], Y[:0], batch_size=2)
        with pytest.raises(ValueError, match="every stacked batch must hold at least one example"):
            KINDS["hessian"]().over(stacked(np.zeros((3, 0, 2)), np.zeros((3, 0))))

    @pytest.mark.parametrize(
        ("data", "match"),
        [
            ([(X, Y), (X[:, :1], Y)], r"got arrays \(n, 1\), \(n,\) in batch 1 after arrays"),
            ([(X, Y), (X,)], r"batches must be alike but for their size"),
            ([(X, Y), ({"x": X}, Y)], r"batches must be alike but for their size"),
            ([(X, Y[:-1])], r"batch 0 must hold arrays whose first axes .* got lengths \[11, 12\]"),
            (
                [(X, Y), ({"x": X}, Y)],
                r"got PyTreeDef\(\(\{'x': \*\}, \*\)\) in batch 1 after PyTreeDef\(\(\*, \*\)\)",
            ),
            ([X, Y], r"must be alike.*pass over\(\[\(inputs, labels\)\]\)"),
        ],
        ids=["shape", "number", "tree", "lengths", "trees told", "bare pair"],
    )
    def test_batches_that_are_not_alike(self, data, match):
        with pytest.raises(ValueError, match=match):
            KINDS["hessian"]().over(data)

    @pytest.mark.parametrize(
        ("data", "got"),
        [
            ((X, Y), "a tuple of arrays"),
            (Dataset(X, Y), "a Dataset of arrays"),
            (Dataset(X.reshape(2, 6, 2), Y.reshape(2, 6)), "a Dataset of arrays"),
            (X, "a ndarray of arrays"),
            ({"x": X, "y": Y}, "a dict of arrays"),
            (5, "5"),
        ],
        ids=["pair", "data set", "stacked data set", "array", "dict", "number"],
    )
    def test_what_is_no_iterable_of_batches(self, data, got):
        match = re.escape(f"must be an iterable of batches, got {got}")
        with pytest.raises(TypeError, match=match + r".*over\(\[\(inputs, labels\)\]\).*stacked\("):
            KINDS["hessian"]().over(data)

    @pytest.mark.parametrize("kind", ["gauss-newton", "fisher"])
    def test_batches_that_do_not_tell_labels_from_inputs(self, kind):
        for data in ([{"x": X, "y": Y}], stacked({"x": X, "y": Y}, batch_size=6)):
            with pytest.raises(TypeError, match=r"inputs..., labels\), got one dict alone"):
                KINDS[kind]().over(data)

    def test_arrays_that_cannot_be_cut(self):
        with pytest.raises(ValueError, match="batch_size must divide the 12 examples, got 5; pass"):
            stacked(X, Y, batch_size=5)
        with pytest.raises(ValueError, match="batch_size must be >= 1, got 0"):
            stacked(X, Y, batch_size=0)
        with pytest.raises(
            ValueError, match=r"first axes count the same .* got lengths \[11, 12\]"
        ):
            stacked(X, Y[:-1], batch_size=1)
        with pytest.raises(ValueError, match="stacked must hold arrays whose first axes count"):
            stacked()
        for size in (None, 3):
            with pytest.raises(ValueError, match="stacked must hold arrays whose first axes count"):
                stacked(X, Y, np.float32(0.5), batch_size=size)

    def test_data_twice(self):
        with pytest.raises(ValueError, match=r"build it without any, got 2 argument\(s\)"):
            Hessian(CASE.fun, PARAMS, X, Y).over(UNEQUAL)

    @pytest.mark.parametrize("second", [UNEQUAL[:-1], [*UNEQUAL, UNEQUAL[0]], []])
    def test_another_number_of_examples_at_a_later_pass(self, second):
        loader = Loader(UNEQUAL, UNEQUAL, second)
        operator = KINDS["hessian"]().over(loader)
        count = sum(len(y) for _, y in second)
        match = f"must hold the same examples at every pass, got {count} after 12"
        with pytest.raises(ValueError, match=match):
            operator.matvec(V)
        with pytest.raises(ValueError, match=match):
            trace(operator, key=jax.random.key(0), num_matvecs=2)

    def test_host_batches_inside_a_trace(self):
        mean = KINDS["hessian"]().over(UNEQUAL)
        for operator in (mean, 2 * mean, mean.shift(1.0)):
            match = r"must be applied outside jit.*op\.over\(curvature\.stacked\("
            with pytest.raises(ValueError, match=match):
                jax.jit(operator.matvec)(V)
            with pytest.raises(ValueError, match=match):
                jax.jit(lambda operator=operator: operator.matvec(V))()
            with pytest.raises(ValueError, match=match):
                jax.vmap(operator.matvec)(jax.tree.map(lambda leaf: leaf[None], V))
            with pytest.raises(TypeError, match=r"can't be passed through jit.*curvature\.stacked"):
                jax.jit(lambda operator, v: operator.matvec(v))(operator, V)
            with pytest.raises(ValueError, match="must be driven from the host"):
                trace(operator, key=jax.random.key(0), num_matvecs=2, loop="fused")
            with pytest.raises(ValueError, match="must be driven from the host"):
                jax.jit(
                    lambda key, operator=operator: trace(operator, key=key, num_matvecs=2).value
                )(jax.random.key(0))

    def test_v_of_another_shape(self):
        for data in (UNEQUAL, stacked(X, Y, batch_size=4)):
            with pytest.raises(ValueError, match="v must be shaped as"):
                KINDS["fisher"]().over(data).matvec({"bias": V["bias"]})


def _normalised(x):
    return (x - x.mean(axis=0)) / jnp.sqrt(x.var(axis=0) + 1e-3)


class TestLossesThatAreNoMeans:
    """Their matrices over batches aren't those over the data."""

    def test_a_sum_is_refused(self):
        def fun(params, x, y):
            return len(y) * CASE.fun(params, x, y)

        for data in (UNEQUAL, stacked(X, Y, batch_size=6)):
            with pytest.raises(
                ValueError, match=r"must be the mean over its examples.*Divide a sum"
            ):
                Hessian(fun, PARAMS).over(data)
        with pytest.raises(ValueError, match="must be the mean over its examples"):
            GaussNewton(CASE.model, lambda z, _: jnp.sum((z - 1) ** 2), PARAMS).over(UNEQUAL)

    @pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
    def test_a_sum_is_refused_and_a_mean_accepted_in_half_precision(self, dtype):
        params = regressions.rounded(PARAMS, dtype)
        mixed = {**params, "kernel": PARAMS["kernel"]}
        x = jax.device_put(X.astype(dtype))

        def fun(params, x, y):
            kernel = params["kernel"].astype(dtype)
            return CASE.fun({**params, "kernel": kernel}, x, y)

        def summed(params, x, y):
            return jnp.asarray(12, dtype) * fun(params, x, y) * len(y) / 12

        for tree in (params, mixed):
            Hessian(fun, tree).over([(x, Y)])
            with pytest.raises(ValueError, match="must be the mean over its examples"):
                Hessian(summed, tree).over([(x, Y)])

    def test_batch_statistics_are_refused_with_the_reason_and_taken_as_they_are_when_asked(self):
        def model(params, x):
            return CASE.model(params, _normalised(x))

        operator = GaussNewton(model, CASE.loss, PARAMS)
        batches = _cut(6, 3, 3)
        for data in (batches, stacked(X, Y, batch_size=6)):
            with pytest.raises(
                ValueError, match=r"BatchNorm with its running averages.*batch_dependent=True"
            ):
                operator.over(data)
        expected = 0
        for x, _ in batches:
            z = (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + 1e-3)
            jacobians = regressions.affine_jacobians(z.astype(float), 3)
            p = regressions.softmax_of(
                np.einsum("nai,i->na", jacobians, _flat(CASE.params).astype(float))
            )
            covariances = p[:, :, None] * np.eye(3) - p[:, :, None] * p[:, None, :]
            expected += len(x) / 12 * regressions.weighted_gram(jacobians, covariances)
        found = operator.over(batches, batch_dependent=True).to_dense().matrix
        np.testing.assert_allclose(found, expected, atol=SINGLE)
        found = Hessian(lambda p, x, y: CASE.loss(model(p, x), y), PARAMS)
        found = found.over(batches, batch_dependent=True).to_dense().matrix
        np.testing.assert_allclose(found, expected, atol=SINGLE)

    def test_a_loss_that_differs_from_call_to_call_is_refused(self):
        rng = np.random.default_rng(0)

        def fun(params, x, y):
            shape = jax.ShapeDtypeStruct((), jnp.float32)
            noise = jax.pure_callback(lambda: np.float32(rng.random()), shape)
            return CASE.fun(params, x, y) + noise

        with pytest.raises(ValueError, match=r"loss must be deterministic, got .*dropout"):
            Hessian(fun, PARAMS).over(UNEQUAL)

    def test_a_mask_drawn_when_the_loss_is_traced_is_refused(self):
        rng = np.random.default_rng(0)

        def fun(params, x, y):
            return CASE.fun(params, x * np.float32(rng.random() > 0.5) + x, y) * rng.random()

        with pytest.raises(ValueError, match=r"loss must be deterministic, got .*dropout"):
            Hessian(fun, PARAMS).over(UNEQUAL)

    @pytest.mark.usefixtures("x64")
    def test_wide_parameters_may_compute_in_float32(self):
        params = regressions.rounded(PARAMS, np.float64)

        def fun(params, x, y):
            narrow = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), params)
            return CASE.fun(narrow, x, y)

        product = Hessian(fun, params).over(UNEQUAL).matvec(V)
        np.testing.assert_allclose(_flat(product), CASE.hessian @ FLAT, atol=4 * SINGLE)

    def test_batch_statistics_are_refused_in_bfloat16(self):
        params = regressions.rounded(PARAMS, jnp.bfloat16)
        x = jax.device_put(X.astype(jnp.bfloat16))

        def fun(params, x, y):
            return CASE.fun(params, _normalised(x), y)

        Hessian(CASE.fun, params).over([(x, Y)])
        with pytest.raises(ValueError, match="must be the mean over its examples"):
            Hessian(fun, params).over([(x, Y)])

    def test_a_penalty_on_the_parameters_is_no_coupling(self):
        def fun(params, x, y):
            return CASE.fun(params, x, y) + 0.5 * sum(jnp.sum(p**2) for p in params.values())

        found = Hessian(fun, PARAMS).over(UNEQUAL).to_dense().matrix
        np.testing.assert_allclose(found, CASE.hessian + np.eye(9), atol=SINGLE)


class TestDrawnLabels:
    def _fisher(self, **options):
        return Fisher(CASE.model, "softmax", PARAMS, kind="monte_carlo", **options)

    @pytest.mark.parametrize(
        "data", [[(X, Y), (X, Y)], stacked(np.stack([X, X]), np.stack([Y, Y]))]
    )
    def test_every_batch_draws_its_own(self, data):
        operator = self._fisher(key=jax.random.key(0)).over(data)
        matrices = [np.asarray(_matrix(part)) for _, part in operator.parts()]
        assert np.abs(matrices[0] - matrices[1]).max() > 0.01
        mean = (matrices[0] + matrices[1]) / 2
        for _ in range(2):  # the same ones at each pass
            found = _matrix(operator) if operator.traceable else operator.to_dense().matrix
            np.testing.assert_allclose(found, mean, atol=SINGLE)

    def test_stacked_and_listed_batches_draw_the_same(self):
        key = jax.random.key(1)
        listed = self._fisher(key=key).over(_cut(6, 6)).to_dense().matrix
        scanned = _matrix(self._fisher(key=key).over(stacked(X, Y, batch_size=6)))
        np.testing.assert_allclose(listed, scanned, atol=SINGLE)

    def test_batches_in_another_order_are_refused(self):
        loader = Loader(UNEQUAL, UNEQUAL, UNEQUAL, UNEQUAL[::-1])
        operator = self._fisher(key=jax.random.key(0)).over(loader)
        operator.matvec(V)
        with pytest.raises(ValueError, match=r"same order at every pass.*switch shuffling off"):
            operator.matvec(V)

    def test_they_give_the_exact_matrix_in_the_mean(self):
        operator = self._fisher(key=jax.random.key(2), num_samples=4000)
        found = _matrix(operator.over(stacked(X, Y, batch_size=6)))
        # one entry scatters by at most 3 per example and label: 5 of 3 / sqrt(12 * 4000)
        np.testing.assert_allclose(found, CASE.hessian, atol=5 * 3 / np.sqrt(12 * 4000))
