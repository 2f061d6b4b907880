import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import regressions
from oracles import assert_mean_is, quickly_compiled

from adlab.curvature import Fisher, GaussNewton, Hessian, Linear, Matrix, stacked, trace
from adlab.curvature._likelihoods import LIKELIHOODS as LIKELIHOODS_OF
from adlab.curvature.matrices import as_operator

A = np.array([[2.0, 1.0, 0.0], [1.0, -1.0, 3.0], [0.0, 3.0, 0.5]], np.float32)
B = np.array([[1.0, 0.0, 2.0], [0.0, 4.0, 1.0], [2.0, 1.0, -3.0]], np.float32)
V = jax.device_put(np.float32([1, -2, 3]))
ROUND_OFF = 1e-13  # of float64, a few dozen operations on numbers of order 1 to 10
KINDS = ["hessian", "gauss_newton"]


def _case(make, **options):
    """Cases of one kind are one object: what is compiled for one test serves the others."""
    return _made(make, jax.config.jax_enable_x64, tuple(options.items()))


@functools.cache
def _made(make, _, options):
    return make(**dict(options))


@quickly_compiled
def _matrix(operator):
    return operator.to_dense().matrix


@quickly_compiled
def _matrix_and_value(operator):
    return operator.to_dense().matrix, operator.value()


@quickly_compiled
def _linearised(operator):
    return operator.linearize()


@quickly_compiled
def _product(operator, v):
    return operator.matvec(v)


def _dense(operator):
    return np.asarray(_matrix(operator))


def _reached(likelihood, place):
    """Which entries of bias and kernel one label reaches: alone its own output, but by softmax."""
    outputs = np.arange(9) % 3
    return (outputs == place[-1]) | (likelihood == "softmax")


def _flat(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def _operator(kind, case, *data, params=None, **options):
    params = case.params if params is None else params
    if kind == "hessian":
        return Hessian(case.fun, params, *data, **options)
    return GaussNewton(case.model, case.loss, params, *data, **options)


class TestAlgebra:
    @pytest.mark.parametrize(
        ("combined", "matrix"),
        [
            (Matrix(A) + Matrix(B), A + B),
            (Matrix(A) - Matrix(B), A - B),
            (-Matrix(A), -A),
            (2 * Matrix(A), 2 * A),
            (Matrix(A) * 0.5, 0.5 * A),
            (np.float32(2) * Matrix(A), 2 * A),
            (Matrix(A) * np.float64(2), 2 * A),
            (np.array(2) * Matrix(A), 2 * A),
            (jnp.float32(2) * Matrix(A), 2 * A),
            (Matrix(A) * jnp.array(2), 2 * A),
            (Matrix(A).shift(0.5), A + 0.5 * np.eye(3)),
            (Matrix(A).shift(jnp.float32(-2)), A - 2 * np.eye(3)),
            (np.float64(3) * (jnp.float32(2) * Matrix(A) - Matrix(B)), 6 * A - 3 * B),
            (2 * (Matrix(A) + 3 * Matrix(B).shift(1)) - Matrix(A), A + 6 * B + 6 * np.eye(3)),
        ],
    )
    def test_sums_and_multiples_are_those_of_the_matrices(self, combined, matrix):
        np.testing.assert_array_equal(combined.matvec(V), matrix @ np.asarray(V))  # all exact
        np.testing.assert_array_equal(combined.to_dense().matrix, matrix)
        assert combined.dim == 3
        assert combined.like == jax.ShapeDtypeStruct((3,), jnp.float32)
        total = sum(np.asarray(weight) * part.matvec(V) for weight, part in combined.parts())
        np.testing.assert_array_equal(total, matrix @ np.asarray(V))

    @pytest.mark.parametrize("factor", [np.ones(2), jnp.ones((1,)), "2", None, Matrix(B)])
    def test_no_product_with_what_is_not_a_number(self, factor):
        with pytest.raises(TypeError):
            Matrix(A) * factor
        with pytest.raises(TypeError):
            factor * Matrix(A)

    def test_no_complex_multiple_for_it_is_not_symmetric_and_real(self):
        with pytest.raises(TypeError):
            1j * Matrix(A)

    def test_no_sum_with_other_things_or_shapes(self):
        with pytest.raises(TypeError):
            Matrix(A) + 1.0
        with pytest.raises(TypeError):
            Matrix(A) - jnp.asarray(B)
        with pytest.raises(ValueError, match="must have vectors of one shape"):
            Matrix(A) + Matrix(B[:2, :2])

    def test_as_arguments_of_jit_arrays_are_data(self):
        traces = []

        @jax.jit
        def apply(operator, v):
            traces.append(1)
            return operator.matvec(v)

        for factor in (1.0, 2.0, -3.0):
            operator = factor * Matrix(factor * A) + Matrix(B).shift(factor)
            expected = (factor**2 * A + B + factor * np.eye(3)) @ np.asarray(V)
            np.testing.assert_array_equal(apply(operator, V), expected)
        assert len(traces) == 1

    def test_as_pytrees_they_come_back_with_the_leaves_changed(self):
        operator = 2 * Matrix(A) - Matrix(B).shift(1)
        doubled = jax.tree.map(lambda leaf: 2 * leaf, Matrix(A) - Matrix(B))  # the -1 too
        np.testing.assert_array_equal(doubled.to_dense().matrix[0], 2 * A[0] - 4 * B[0])
        leaves, structure = jax.tree.flatten(operator)
        again = jax.tree.unflatten(structure, leaves)
        np.testing.assert_array_equal(again.to_dense().matrix, 2 * A - B - np.eye(3))

    def test_vmap_over_vectors_and_over_operators(self):
        vectors = np.arange(6, dtype=np.float32).reshape(2, 3)
        rows = jax.vmap((2 * Matrix(A)).matvec)(vectors)
        np.testing.assert_array_equal(rows, 2 * vectors @ A)
        both = jax.vmap(lambda array, v: Matrix(array).matvec(v))(np.stack([A, B]), vectors)
        np.testing.assert_array_equal(both, [A @ [0, 1, 2], B @ [3, 4, 5]])


class TestMatrixAndLinear:
    def test_an_operator_on_trees_lays_leaves_end_to_end(self):
        like = {"a": jnp.zeros(2), "b": [jnp.zeros(()), jnp.zeros((1, 2))]}
        weights = np.arange(1.0, 6.0, dtype=np.float32)

        def fun(v):
            total = v["a"].sum() + v["b"][0] + v["b"][1].sum()
            flat = {"a": jnp.array([1.0, 2.0]), "b": [jnp.float32(3.0), jnp.array([[4.0, 5.0]])]}
            return jax.tree.map(lambda w, leaf: w * leaf + total, flat, v)

        found = Linear(fun, like).to_dense(chunk_size=2)
        np.testing.assert_array_equal(found.matrix, np.diag(weights) + 1)
        assert found.blocks == {"a": slice(0, 2), "b.0": slice(2, 3), "b.1": slice(3, 5)}
        np.testing.assert_array_equal(found.matrix[found.blocks["b.1"]][0], [1, 1, 1, 5, 1])

    def test_the_dense_form_is_not_transposed_so_that_asymmetry_can_be_found(self):
        skew = np.array([[1.0, 2.0], [0.0, 3.0]], np.float32)
        np.testing.assert_array_equal(Matrix(skew).to_dense().matrix, skew)

    def test_arrays_of_a_partial_are_data_and_a_plain_function_is_static(self):
        traces = []

        def scale(by, v):
            traces.append(1)
            return by * v

        apply = jax.jit(lambda operator, v: operator.matvec(v))
        for by in (1.0, 2.0):
            operator = Linear(jax.tree_util.Partial(scale, jnp.float32(by)), V)
            np.testing.assert_array_equal(apply(operator, V), by * V)
        assert len(traces) == 1

    @pytest.mark.parametrize("operator", [Matrix(A), Linear(lambda v: jnp.asarray(A) @ v, V)])
    def test_vectors_keep_their_dtype_and_are_checked(self, operator):
        product = operator.matvec(V.astype(jnp.bfloat16))
        assert product.dtype == jnp.bfloat16
        np.testing.assert_array_equal(product.astype(jnp.float32), A @ np.asarray(V))  # exact
        with pytest.raises(ValueError, match=r"v must be shaped as like, \(3,\), got \(3, 2\)"):
            operator.matvec(jnp.ones((3, 2)))
        with pytest.raises(TypeError, match="v must be real floating-point, got int32"):
            operator.matvec(jnp.array([1, 2, 3]))

    def test_what_is_no_operator_is_refused(self):
        with pytest.raises(ValueError, match=r"array must be square, got shape \(2, 3\)"):
            Matrix(A[:2])
        with pytest.raises(TypeError, match="must be real floating-point, got int32"):
            Matrix(jnp.eye(2, dtype=jnp.int32))
        with pytest.raises(TypeError, match="must be callable"):
            Linear(A, V)
        with pytest.raises(TypeError, match="must be real floating-point"):
            Linear(lambda v: v, {"a": jnp.arange(3)})
        with pytest.raises(ValueError, match=r"matvec must return what is shaped as v, \(3,\)"):
            Linear(lambda v: v[:2], V).matvec(V)
        with pytest.raises(TypeError, match="operator must be an adlab operator, a square array"):
            as_operator([[1.0]])

    def test_bare_arrays_and_whatever_has_matvec_and_like(self):
        class Foreign:
            @property
            def like(self):
                return {"x": jax.ShapeDtypeStruct((3,), jnp.float32)}

            def matvec(self, v):
                return {"x": jnp.asarray(A) @ v["x"]}

        for operator in (Foreign(), A, jnp.asarray(A), A.astype(np.float64)):
            np.testing.assert_array_equal(as_operator(operator).to_dense().matrix, A)
        np.testing.assert_array_equal((2 * as_operator(Foreign())).to_dense().matrix, 2 * A)

    @pytest.mark.parametrize("registered", [False, True])
    def test_a_foreign_operator_that_changes_is_not_taken_for_what_it_was(self, registered):
        class Changing:
            like = jax.ShapeDtypeStruct((3,), jnp.float32)

            def __init__(self, scale):
                self.scale = scale

            def matvec(self, v):
                return self.scale * v

        if registered:
            jax.tree_util.register_pytree_node(
                Changing, lambda op: ((op.scale,), None), lambda _, children: Changing(*children)
            )
        operator = Changing(jnp.float32(2))
        apply = jax.jit(lambda op, v: op.matvec(v))
        for by in (2.0, 5.0):
            operator.scale = jnp.float32(by)
            np.testing.assert_array_equal(apply(as_operator(operator), V), by * V)

    def test_dense_matrices_that_are_not_finite_are_refused_by_parameter_and_column(self):
        like = {"a": jnp.zeros(2), "b": jnp.zeros(2)}

        def fun(v):  # infinite in the third column alone, at the second row
            return {"a": v["a"].at[1].add(jnp.exp(100 * v["b"][0]) - 1), "b": v["b"]}

        bad = Linear(fun, like)
        match = r"got inf in column 2, number 0 of b, row 1, number 1 of a \(1 of 4 columns"
        for operator in (bad, 2 * bad):
            with pytest.raises(ValueError, match=match):
                operator.to_dense()
        found = np.asarray(jax.jit(lambda: bad.to_dense().matrix)())  # there it can't be read
        assert np.argwhere(~np.isfinite(found)).tolist() == [[1, 2]]
        with pytest.raises(ValueError, match="got nan in column 0, number 0 of the vector, row 0"):
            Hessian(lambda w, x: jnp.sum(w**2 * x), jnp.ones(3)).over(
                [np.full((1, 3), np.nan, np.float32)], batch_dependent=True
            ).to_dense()

    def test_dense_matrices_that_cannot_be_held_are_refused_before_anything_runs(self):
        operator = Linear(lambda v: v, jax.ShapeDtypeStruct((10**6,), jnp.float32))
        with pytest.raises(ValueError, match=r"must fit into 8 GiB, got 1000000\^2 .*where="):
            operator.to_dense()
        with pytest.raises(ValueError, match="chunk_size must be >= 1, got 0"):
            Matrix(A).to_dense(chunk_size=0)


@pytest.mark.usefixtures("x64")
class TestHessianAndGaussNewton:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("name", list(regressions.ALL))
    def test_matrices_in_closed_form(self, name, kind):
        case = _case(regressions.ALL[name])
        found = _dense(_operator(kind, case, *case.data))
        assert np.abs(found - getattr(case, kind)).max() <= ROUND_OFF

    @pytest.mark.parametrize("name", regressions.LINEAR)
    def test_gauss_newton_of_a_linear_model_is_the_hessian(self, name):
        case = _case(regressions.ALL[name])
        found = [_dense(_operator(kind, case, *case.data)) for kind in KINDS]
        assert np.abs(found[0] - found[1]).max() <= ROUND_OFF

    def test_gauss_newton_lacks_the_curvature_of_the_model(self):
        case = _case(regressions.two_layers)
        assert np.linalg.eigvalsh(case.hessian).min() < -0.1  # so that the two differ
        found = _dense(GaussNewton(case.model, case.loss, case.params, *case.data))
        assert np.linalg.eigvalsh(found).min() >= -ROUND_OFF
        assert np.linalg.matrix_rank(found, tol=1e-10) == 9

    @pytest.mark.parametrize("mode", ["reverse_over_forward", "reverse_over_reverse"])
    def test_every_mode_and_the_linearised_form_are_one_matrix(self, mode):
        case = _case(regressions.two_layers)
        found = _dense(Hessian(case.fun, case.params, *case.data, mode=mode))
        assert np.abs(found - case.hessian).max() <= ROUND_OFF
        linear = Hessian(case.fun, case.params, *case.data, mode=mode).linearize()
        assert np.abs(_dense(linear) - case.hessian).max() <= ROUND_OFF
        assert linear.like == jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), case.params
        )

    @pytest.mark.parametrize("kind", [*KINDS, "fisher", "linearised"])
    def test_a_block_chosen_by_path_is_that_of_the_matrix(self, kind):
        case = _case(regressions.softmax)
        for name, rows in {"bias": slice(0, 3), "kernel": slice(3, 9)}.items():

            def where(path, name=name):
                return name in path

            if kind == "fisher":
                operator = Fisher(case.model, "softmax", case.params, *case.data, where=where)
            elif kind == "linearised":
                operator = Hessian(case.fun, case.params, *case.data, where=where)
                operator = _linearised(operator)
            else:
                operator = _operator(kind, case, *case.data, where=where)
            absent = "kernel" if name == "bias" else "bias"
            assert operator.like[absent] is None
            assert operator.like[name].shape == case.params[name].shape
            assert operator.dim == case.params[name].size
            dense = operator.to_dense()
            assert dense.blocks == {name: slice(0, operator.dim)}
            assert np.abs(dense.matrix - case.hessian[rows, rows]).max() <= ROUND_OFF
        v = {"bias": None, "kernel": jax.device_put(np.arange(6.0).reshape(2, 3) ** 2)}
        product = operator.matvec(v)
        assert product["bias"] is None
        expected = case.hessian[3:, 3:] @ np.arange(6.0) ** 2
        assert np.abs(np.ravel(product["kernel"]) - expected).max() <= ROUND_OFF
        with pytest.raises(ValueError, match="v must be shaped as"):
            operator.matvec(case.params)


PARAMS = {"stage1": {"conv": jnp.ones(2), "bias": jnp.ones(1)}, "head": [jnp.ones(3)]}


class TestWhere:
    def test_paths_are_spelt_with_dots(self):
        seen = []
        Hessian(lambda p: jnp.sum(p["head"][0]), PARAMS, where=lambda p: seen.append(p) or 1)
        assert sorted(seen) == ["head.0", "stage1.bias", "stage1.conv"]

    def test_one_that_accepts_nothing_is_answered_with_the_nearest_paths(self):
        params = {f"layer{i}": {"kernel": jnp.ones(1), "bias": jnp.ones(1)} for i in range(6)}
        match = r"accept at least one parameter path, got none of: layer4\.kernel, .* and 4 more$"
        with pytest.raises(ValueError, match=match):
            Hessian(jnp.sum, params, where=lambda path: path == "layer4.kernal")
        wanted = "stage1.convv"
        with pytest.raises(ValueError, match=r"got none of: stage1\.conv, stage1\.bias, head\.0$"):
            Hessian(jnp.sum, PARAMS, where=lambda path: wanted in path)
        with pytest.raises(ValueError, match=r"got none of: head\.0, stage1\.bias, stage1\.conv$"):
            Hessian(jnp.sum, PARAMS, where=lambda path: len(path) > 99)

    def test_one_that_is_no_function_is_answered_with_one(self):
        with pytest.raises(TypeError, match=r"where=lambda path: 'stage1' in path"):
            Hessian(jnp.sum, PARAMS, where="stage1")


LIKELIHOODS = {
    "softmax": regressions.softmax,
    "gaussian": regressions.gaussian,
    "bernoulli": regressions.bernoulli,
}


@pytest.mark.usefixtures("x64")
class TestFisher:
    @pytest.mark.parametrize("likelihood", LIKELIHOODS)
    def test_the_exact_matrix_in_closed_form(self, likelihood):
        case = _case(LIKELIHOODS[likelihood])
        found = _dense(Fisher(case.model, likelihood, case.params, *case.data))
        assert np.abs(found - case.hessian).max() <= ROUND_OFF

    @pytest.mark.parametrize("likelihood", LIKELIHOODS)
    def test_the_empirical_matrix_is_the_mean_of_squares_of_gradients(self, likelihood):
        case = _case(LIKELIHOODS[likelihood])
        found = _dense(Fisher(case.model, likelihood, case.params, *case.data, kind="empirical"))
        expected = case.gradients.T @ case.gradients / len(case.gradients)
        assert np.abs(found - expected).max() <= ROUND_OFF
        assert np.abs(found - case.hessian).max() >= 0.1  # another matrix than the exact one

    @pytest.mark.parametrize("likelihood", LIKELIHOODS)
    def test_drawn_labels_give_the_exact_matrix_in_the_mean_with_less_scatter_from_more(
        self, likelihood
    ):
        case = _case(LIKELIHOODS[likelihood], examples=4)
        direction = np.linspace(-1, 2, 9) ** 2  # not constant over classes, which F sends to 0
        v = {"bias": jnp.asarray(direction[:3]), "kernel": jnp.asarray(direction[3:]).reshape(2, 3)}

        def products(num_samples, keys):
            def product(key):
                operator = Fisher(
                    case.model, likelihood, case.params, *case.data,
                    kind="monte_carlo", num_samples=num_samples, key=key,
                )  # fmt: skip
                return operator.matvec(v)

            leaves = jax.tree.leaves(quickly_compiled(jax.vmap(product))(keys))
            return np.concatenate([leaf.reshape(len(keys), -1) for leaf in leaves], axis=1)

        exact = case.hessian @ direction
        single = products(1, jax.random.split(jax.random.key(0), 4000))
        assert_mean_is(exact, single)
        several = products(4, jax.random.split(jax.random.key(1), 1000))
        assert_mean_is(exact, several)
        variances = [((found - exact) ** 2).sum(axis=1).mean() for found in (single, several)]
        ratio = variances[1] / variances[0]
        assert ratio == pytest.approx(1 / 4, rel=0.2)  # sampling, 1000 heavy-tailed squares

    @pytest.mark.parametrize("likelihood", LIKELIHOODS)
    @pytest.mark.parametrize("kind", ["exact", "monte_carlo", "empirical"])
    def test_all_kinds_are_positive_semi_definite_and_symmetric(self, likelihood, kind):
        case = _case(LIKELIHOODS[likelihood])
        operator = Fisher(
            case.model, likelihood, case.params, *case.data, kind=kind, key=jax.random.key(3)
        )
        found = _dense(operator)
        assert np.abs(found - found.T).max() <= ROUND_OFF
        assert np.linalg.eigvalsh(found).min() >= -ROUND_OFF

    def test_labels_are_drawn_by_the_key_and_stay(self):
        case = _case(regressions.softmax)
        options = {"kind": "monte_carlo", "num_samples": 2}
        operators = [
            Fisher(case.model, "softmax", case.params, *case.data, key=key, **options)
            for key in [jax.random.key(0), jax.random.key(0), jax.random.key(1)]
        ]
        first, same, other = map(_dense, operators)
        np.testing.assert_array_equal(first, same)
        np.testing.assert_array_equal(first, _dense(operators[0]))
        assert np.abs(first - other).max() >= 0.01

    @pytest.mark.parametrize("likelihood", LIKELIHOODS)
    def test_positions_before_the_last_axis_are_examples_of_their_own(self, likelihood):
        case = _case(LIKELIHOODS[likelihood])

        def model(params, x):
            return case.model(params, x).reshape(3, 4, 3)

        labels = case.targets.reshape(3, 4, *case.targets.shape[1:])
        args = model, likelihood, case.params, case.inputs, labels
        exact = _dense(Fisher(*args))
        assert np.abs(exact - case.hessian).max() <= ROUND_OFF
        empirical = Fisher(*args, kind="empirical")
        expected = case.gradients.T @ case.gradients / 12
        found, value = _matrix_and_value(empirical)
        assert np.abs(found - expected).max() <= ROUND_OFF
        loss = float(jax.jit(case.fun)(case.params, *case.data))
        assert float(value) == pytest.approx(loss, rel=1e-12)  # float64, 36 terms

        def mean_of_tokens(outputs, labels):
            flat = labels.reshape(12, *labels.shape[2:])
            return case.loss(outputs.reshape(12, 3), flat)

        found = _dense(GaussNewton(model, mean_of_tokens, case.params, case.inputs, labels))
        assert np.abs(found - exact).max() <= ROUND_OFF

    def test_drawn_binary_labels_have_the_mean_and_variance_of_theory(self):
        case = _case(regressions.logistic, examples=4)
        v = jnp.linspace(-1.0, 2.0, 4)

        def product(key):
            options = {"kind": "monte_carlo", "key": key}
            return Fisher(case.model, "bernoulli", case.params, *case.data, **options).matvec(v)

        found = quickly_compiled(jax.vmap(product))(jax.random.split(jax.random.key(2), 4000))
        assert_mean_is(case.hessian @ v, found)
        # (1/N) sum_i s_i^2 (x_i.v) x_i, and s = y - p has Var[s^2] = p (1 - p) (1 - 2p)^2
        p = 1 / (1 + np.exp(-case.inputs @ np.asarray(case.params)))
        rows = (case.inputs @ np.asarray(v))[:, None] * case.inputs
        variance = (p * (1 - p) * (1 - 2 * p) ** 2) @ rows**2 / 4**2
        assert_mean_is(variance, (np.asarray(found) - case.hessian @ v) ** 2)

    @pytest.mark.parametrize("kind", ["exact", "empirical"])
    def test_one_logit_per_example_in_closed_form_with_and_without_an_axis(self, kind):
        case = _case(regressions.logistic)
        labels = (case.targets > 0).astype(int)
        squares = case.gradients.T @ case.gradients / len(case.gradients)
        expected = case.hessian if kind == "exact" else squares

        def column(w, x):
            return case.model(w, x)[:, None]

        loss = float(jax.jit(case.fun)(case.params, *case.data))
        for model, y in ((case.model, labels), (column, labels[:, None] == 1)):
            operator = Fisher(model, "bernoulli", case.params, case.inputs, y, kind=kind)
            found, value = _matrix_and_value(operator)
            assert np.abs(found - expected).max() <= ROUND_OFF
            assert float(value) == pytest.approx(loss, rel=1e-12)  # float64, 12 terms

    @pytest.mark.parametrize("kind", ["exact", "empirical"])
    def test_one_number_per_example_is_an_output_too(self, kind):
        case = _case(regressions.least_squares)
        found = _dense(Fisher(case.model, "gaussian", case.params, *case.data, kind=kind))
        squares = case.gradients.T @ case.gradients / len(case.gradients)
        expected = case.hessian if kind == "exact" else squares
        assert np.abs(found - expected).max() <= ROUND_OFF

    @pytest.mark.parametrize("likelihood", LIKELIHOODS)
    def test_its_value_is_the_loss(self, likelihood):
        case = _case(LIKELIHOODS[likelihood])
        value = Fisher(case.model, likelihood, case.params, *case.data).value()
        assert float(value) == pytest.approx(float(case.fun(case.params, *case.data)), rel=1e-12)

    @pytest.mark.parametrize(
        ("likelihood", "reshape"),
        [
            ("softmax", lambda y: y[:, None]),
            ("softmax", lambda y: y[:-1]),
            ("gaussian", lambda y: y[:, 0]),
            ("gaussian", lambda y: y[:, :1]),
        ],
    )
    def test_labels_of_another_shape_are_refused_instead_of_broadcast(self, likelihood, reshape):
        case = _case(LIKELIHOODS[likelihood], examples=3)
        labels = reshape(case.targets)
        operator = Fisher(
            case.model, likelihood, case.params, case.inputs, labels, kind="empirical"
        )
        with pytest.raises(ValueError, match="labels must be shaped as"):
            operator.matvec(case.params)
        with pytest.raises(ValueError, match="labels must be shaped as"):
            operator.value()

    @pytest.mark.parametrize(
        ("likelihood", "place", "label", "match"),
        [
            ("softmax", (5,), 3, r"from 0 to 2 for 3 classes, got 3 at \(5,\){}; leave"),
            (
                "softmax",
                (11,),
                -100,
                r"from 0 to 2 .* -100 at \(11,\){}; leave out examples whose",
            ),
            ("bernoulli", (2, 1), -1, r"0 or 1, got -1 at \(2, 1\){}; .*\(y \+ 1\) // 2"),
            ("gaussian", (3, 0), np.nan, r"finite, got nan at \(3, 0\){}; leave out"),
        ],
    )
    def test_labels_that_cannot_be_are_refused_and_nan_under_a_trace(
        self, likelihood, place, label, match
    ):
        case = _case(LIKELIHOODS[likelihood])
        labels = np.array(case.targets)
        labels[place] = label
        args, options = (case.model, likelihood, case.params), {"kind": "empirical"}
        operator = Fisher(*args, case.inputs, labels, **options)
        for apply in (
            lambda: operator.matvec(case.params),
            operator.value,
            lambda: (2 * operator.shift(1.0)).to_dense(),
            lambda: trace(operator, key=jax.random.key(0), num_matvecs=2),
        ):
            with pytest.raises(ValueError, match="labels must be " + match.format("")):
                apply()
        with pytest.raises(ValueError, match="labels must be " + match.format(" of batch 1")):
            Fisher(*args, **options).over([case.data, (case.inputs, labels)])
        pair = stacked(np.stack([case.inputs] * 2), np.stack([case.targets, labels]))
        with pytest.raises(ValueError, match="labels must be " + match.format(" of batch 1")):
            Fisher(*args, **options).over(pair)
        traced = quickly_compiled(
            lambda y: Fisher(*args, case.inputs, y, **options).matvec(case.params)
        )
        assert np.isfinite(_flat(traced(case.targets))).all()
        assert not np.isfinite(_flat(traced(labels))).any(where=_reached(likelihood, place))
        Fisher(*args, case.inputs, labels).matvec(case.params)  # exact: labels don't matter

    def test_outputs_that_cannot_be_those_of_the_likelihood_are_refused_traced_or_not(self):
        case = _case(regressions.softmax)
        for cut in (lambda z: z[:, :1], lambda z: z[:, 0], lambda z: z[0, 0]):

            def model(params, x, cut=cut):
                return cut(case.model(params, x))

            operator = Fisher(model, "softmax", case.params, *case.data)
            for apply in (operator.matvec, jax.jit(operator.matvec)):
                with pytest.raises(ValueError, match=r"outputs must .* got shape \((12, 1|12,|)\)"):
                    apply(case.params)
        with pytest.raises(ValueError, match=r"got shape \(12, 1\); .*likelihood='bernoulli'"):
            Fisher(lambda p, x: x[:, :1] * p, "softmax", jnp.ones(1)).over([case.data])

        def integers(params, x):
            return jnp.argmax(case.model(params, x), axis=1)

        with pytest.raises(TypeError, match="outputs must be real floating-point, got int"):
            Fisher(integers, "gaussian", case.params, *case.data).matvec(case.params)
        with pytest.raises(ValueError, match=r"at least one example, got shape \(0, 3\)"):
            Fisher(case.model, "gaussian", case.params, case.inputs[:0], 0).matvec(case.params)

    def test_narrow_labels_of_many_classes(self):
        labels = np.array([5, 100], np.uint8)
        found = LIKELIHOODS_OF["softmax"].encode(labels, jnp.zeros((2, 300)))
        np.testing.assert_array_equal(found, np.eye(300)[labels])

    def test_refusals(self):
        case = _case(regressions.softmax)
        args = case.model, "softmax", case.params, *case.data
        with pytest.raises(ValueError, match=r"likelihood must be one of.*did you mean 'softmax'"):
            Fisher(case.model, "softmaxx", case.params)
        with pytest.raises(ValueError, match=r"kind must be one of.*did you mean 'empirical'"):
            Fisher(*args, kind="emprical")
        with pytest.raises(ValueError, match="num_samples must be >= 1, got 0"):
            Fisher(*args, num_samples=0)
        with pytest.raises(TypeError, match=r"key must be a .*key, got None"):
            Fisher(*args, kind="monte_carlo")
        floats = case.targets.astype(float)
        with pytest.raises(TypeError, match="labels must be integers, got float64"):
            Fisher(*args[:-1], floats, kind="empirical").matvec(case.params)
        pair = Fisher(lambda p, x: (x @ p["kernel"], p["bias"]), *args[1:])
        with pytest.raises(TypeError, match="model must return one array of outputs, got"):
            pair.matvec(case.params)


def test_without_data_there_is_no_product():
    case = _case(regressions.softmax)
    for operator in (
        GaussNewton(case.model, case.loss, case.params),
        Fisher(case.model, "softmax", case.params),
    ):
        with pytest.raises(ValueError, match=r"must have inputs and targets.*over\(batches\)"):
            operator.matvec(case.params)


@pytest.mark.parametrize("kind", [*KINDS, "fisher"])
def test_bfloat16_parameters(kind):
    case = _case(regressions.softmax)
    params = regressions.rounded(case.params, jnp.bfloat16)
    inputs = jnp.asarray(case.inputs, jnp.bfloat16)
    data = inputs, jnp.asarray(case.targets)
    if kind == "fisher":
        operator = Fisher(case.model, "softmax", params, *data)
    else:
        operator = _operator(kind, case, *data, params=params)
    assert operator.like["kernel"].dtype == jnp.bfloat16
    product = _product(operator, jax.tree.map(jnp.ones_like, params))
    assert product["kernel"].dtype == jnp.bfloat16
    found = _dense(operator)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, case.hessian, atol=0.05)  # 8 bits, entries up to 1


def test_what_is_no_parameter_is_refused():
    with pytest.raises(TypeError, match=r"Hessian: \['n'\] must be real floating-point, got int32"):
        Hessian(jnp.sum, {"a": jnp.ones(2), "n": jnp.array(1)})
    with pytest.raises(TypeError, match="GaussNewton: x must be real floating-point"):
        GaussNewton(jnp.sum, jnp.sum, jnp.arange(3))
    with pytest.raises(ValueError, match="Fisher: x must hold at least one number"):
        Fisher(jnp.sum, "softmax", {})
    with pytest.raises(TypeError, match="fun must be callable"):
        Hessian(jnp.ones(2), jnp.ones(2))
    with pytest.raises(ValueError, match=r"mode must be one of.*did you mean"):
        Hessian(jnp.sum, jnp.ones(2), mode="forward_over_revers")
    with pytest.raises(TypeError, match="fun must return one real floating-point number"):
        Hessian(lambda x: x, jnp.ones(2)).matvec(jnp.ones(2))


def test_networks_cross_jit_and_vmap():
    case = _case(regressions.softmax)
    params = regressions.rounded(case.params, jnp.float32)
    data = jnp.asarray(case.inputs, jnp.float32), jnp.asarray(case.targets)
    fisher = Fisher(case.model, "softmax", params, *data)
    total = Hessian(case.fun, params, *data) + 2 * fisher
    eye = jax.vmap(lambda row: {"bias": row[:3], "kernel": row[3:].reshape(2, 3)})(jnp.eye(9))

    @quickly_compiled
    def rows(operator, vectors):
        return jax.vmap(operator.matvec)(vectors)

    found = rows(total, eye)
    found = np.concatenate([found["bias"], found["kernel"].reshape(9, 6)], axis=1)
    np.testing.assert_allclose(found, 3 * case.hessian, atol=1e-6)  # float32


def test_what_vectors_look_like_is_computed_once():
    hessian = Hessian(lambda w, x: jnp.mean((x @ w) ** 2), V)
    like = hessian.like
    mean = hessian.over([np.ones((2, 3), np.float32), np.ones((1, 3), np.float32)])
    parts = [part for _, part in (2.0 * mean + mean).parts()]
    for operator in (hessian, mean, 2.0 * mean, mean + mean, *parts):
        assert operator.like is like
