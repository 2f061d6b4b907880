"""What a user may get wrong, and the message that says so."""

import logging
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adlab.curvature import Linear, diagonal, eigenpairs, lanczos_bytes, spectral_density, trace

KEY = jax.random.key(0)
EYE = jnp.eye(6)
LOOPS = pytest.mark.parametrize("loop", ["host", "fused"])
LANCZOS = pytest.mark.parametrize("solve", [spectral_density, eigenpairs])
ALL = pytest.mark.parametrize("solve", [spectral_density, eigenpairs, trace, diagonal])


@ALL
@pytest.mark.parametrize("bad", [0, -1])
def test_no_products_at_all(solve, bad):
    with pytest.raises(ValueError, match=rf"num_matvecs.* must be >= 1, got {bad}"):
        solve(EYE, key=KEY, num_matvecs=bad)


@ALL
def test_numbers_that_are_not_whole(solve):
    with pytest.raises(TypeError, match=r"num_matvecs.* must be an integer >= 1, got 2.5"):
        solve(EYE, key=KEY, num_matvecs=2.5)


@LANCZOS
def test_more_steps_than_dimensions(solve):
    message = "num_matvecs must be at most the dimension of the operator, 6, got 7"
    with pytest.raises(ValueError, match=message):
        solve(EYE, key=KEY, num_matvecs=7)


@pytest.mark.parametrize(("estimator", "most"), [("hutch++", 20), ("xtrace", 13)])
def test_more_sketches_than_dimensions(estimator, most):
    trace(EYE, key=KEY, num_matvecs=most, estimator=estimator)
    with pytest.raises(ValueError, match=rf"at most d = 6 vectors, got {most + 1}.*to_dense"):
        trace(EYE, key=KEY, num_matvecs=most + 1, estimator=estimator)


@pytest.mark.parametrize(("estimator", "least"), [("hutch++", 3), ("xtrace", 4)])
def test_too_few_products_for_the_estimator(estimator, least):
    message = f"num_matvecs of {re.escape(estimator)} must be >= {least}, got {least - 1}"
    with pytest.raises(ValueError, match=message):
        trace(EYE, key=KEY, num_matvecs=least - 1, estimator=estimator)


def test_no_probes():
    with pytest.raises(ValueError, match="num_probes must be >= 1, got 0"):
        spectral_density(EYE, key=KEY, num_matvecs=2, num_probes=0)


@ALL
def test_no_key(solve):
    with pytest.raises(TypeError, match=f"{solve.__name__} draws random probes: key must be"):
        solve(EYE, key=None, num_matvecs=2)


@LANCZOS
@LOOPS
def test_asymmetric_operators_are_refused(solve, loop):
    skewed = jnp.asarray(np.random.default_rng(0).standard_normal((6, 6)), jnp.float32)
    with pytest.raises(
        ValueError, match=r"operator must be symmetric, got .* \|Av\| for two .*dropout"
    ):
        solve(skewed, key=KEY, num_matvecs=5, loop=loop)


def nan_after(steps):
    """A diagonal operator that returns NaN after so many products."""
    calls = []

    def product(v):
        shape = jax.ShapeDtypeStruct(v.shape, v.dtype)
        return jax.pure_callback(host_product, shape, v, vmap_method="sequential")

    def host_product(v):
        calls.append(None)
        scale = np.nan if len(calls) > steps else 1
        return (np.arange(1, 7) * scale * np.asarray(v)).astype(np.float32)

    return Linear(product, jax.ShapeDtypeStruct((6,), jnp.float32))


@pytest.mark.parametrize("solve", [spectral_density, eigenpairs, trace, diagonal])
def test_products_that_are_not_finite_are_counted_on_the_host(solve):
    options = {"chunk_size": 1} if solve is not eigenpairs else {"k": 1}
    message = r"matvec must return finite numbers, got NaN or infinity in product 4 of"
    with pytest.raises(ValueError, match=message):
        solve(nan_after(3), key=KEY, num_matvecs=6, loop="host", **options)


@LANCZOS
def test_products_that_are_not_finite_are_counted_in_fused_loops(solve):
    message = r"matvec must return finite numbers, got NaN or infinity at step 4 of 6"
    with pytest.raises(ValueError, match=message):
        solve(nan_after(3), key=KEY, num_matvecs=6, loop="fused")


@pytest.mark.parametrize("solve", [trace, diagonal])
def test_products_that_are_not_finite_are_refused_in_fused_estimates(solve):
    with pytest.raises(ValueError, match="matvec must return finite numbers, got NaN"):
        solve(EYE * jnp.float32(np.nan), key=KEY, num_matvecs=2, loop="fused")


def test_progress_is_the_hosts():
    with pytest.raises(ValueError, match="on_progress must be left away unless"):
        trace(EYE, key=KEY, num_matvecs=2, loop="fused", on_progress=print)


def never(_):
    raise AssertionError("a product was asked for")


@LOOPS
def test_infinite_products_are_refused_too(loop):
    """3e38 is finite in float32, its double isn't."""
    operator = Linear(lambda v: v * jnp.float32(3e38), jax.ShapeDtypeStruct((6,), jnp.float32))
    with pytest.raises(ValueError, match="matvec must return finite numbers"):
        spectral_density(operator.shift(3e38), key=KEY, num_matvecs=3, law="coordinate", loop=loop)


@ALL
def test_products_of_another_shape(solve):
    operator = Linear(lambda v: v[:-1], jax.ShapeDtypeStruct((6,), jnp.float32))
    with pytest.raises(ValueError, match=r"matvec must return what is shaped as v, \(6,\), got"):
        solve(operator, key=KEY, num_matvecs=2)


@ALL
def test_what_is_no_operator(solve):
    for nothing in ("matrix", [[1.0, 2.0], [2.0, 1.0]], lambda v: v):
        with pytest.raises(TypeError, match="operator must be an adlab operator, a square array"):
            solve(nothing, key=KEY, num_matvecs=1)
    with pytest.raises(ValueError, match=r"array must be square, got shape \(2, 3\)"):
        solve(jnp.ones((2, 3)), key=KEY, num_matvecs=1)
    with pytest.raises(TypeError, match="must be real floating-point, got int32"):
        solve(jnp.ones((2, 2), jnp.int32), key=KEY, num_matvecs=1)


@pytest.mark.parametrize("solve", [spectral_density, trace])
def test_orthogonal_probes_are_refused_and_names_looked_up(solve):
    with pytest.raises(ValueError, match="law must be one of independent probes, got 'orthogonal'"):
        solve(EYE, key=KEY, num_matvecs=2, law="orthogonal")
    with pytest.raises(ValueError, match="did you mean 'rademacher'"):
        solve(EYE, key=KEY, num_matvecs=2, law="rademacker")


def test_misspelt_names():
    with pytest.raises(ValueError, match=r"estimator must be one of .*did you mean 'xtrace'"):
        trace(EYE, key=KEY, num_matvecs=4, estimator="xtrase")
    with pytest.raises(ValueError, match=r"which must be one of .*did you mean 'largest'"):
        eigenpairs(EYE, key=KEY, which="largst")


@ALL
def test_unknown_loops(solve):
    with pytest.raises(ValueError, match=r"loop must be one of .*did you mean 'fused'"):
        solve(EYE, key=KEY, num_matvecs=2, loop="fuse")


@pytest.mark.parametrize("solve", [spectral_density, trace, diagonal])
def test_stopping_early_needs_the_host(solve, tmp_path):
    with pytest.raises(ValueError, match=r"rtol must be left away unless .*got 0.1"):
        solve(EYE, key=KEY, num_matvecs=2, rtol=0.1, loop="fused")
    with pytest.raises(ValueError, match="rtol must be positive and finite, got -1"):
        solve(EYE, key=KEY, num_matvecs=2, rtol=-1)
    if solve is spectral_density:
        with pytest.raises(ValueError, match="resume must be left away unless"):
            solve(EYE, key=KEY, num_matvecs=2, resume=tmp_path / "runs.npz", loop="fused")
    if solve is trace:
        for estimator in ("hutch++", "xtrace"):
            with pytest.raises(ValueError, match=r"rtol must be left away unless .*Hutchinson"):
                solve(EYE, key=KEY, num_matvecs=6, rtol=0.1, estimator=estimator)


@ALL
def test_the_host_cannot_drive_inside_a_trace(solve):
    for option, value in [("loop", "host"), ("on_progress", print)]:
        with pytest.raises(ValueError, match=rf"{option}.* must not be asked for inside jit"):
            jax.jit(lambda a, o=option, v=value: solve(a, key=KEY, num_matvecs=2, **{o: v}))(EYE)
    with pytest.raises(ValueError, match="must not be asked for inside jit"):
        jax.vmap(lambda key: solve(EYE, key=key, num_matvecs=2, loop="host"))(
            jax.random.split(KEY, 2)
        )


def test_pairs_out_of_range():
    with pytest.raises(ValueError, match="k must be >= 1, got 0"):
        eigenpairs(EYE, key=KEY, k=0)
    with pytest.raises(ValueError, match="k must ask for at most num_matvecs = 5 pairs in all"):
        eigenpairs(EYE, key=KEY, k=4, num_matvecs=5)
    with pytest.raises(ValueError, match="at most num_matvecs = 2 pairs"):
        eigenpairs(EYE, key=KEY, k=3, num_matvecs=2, which="largest")
    with pytest.raises(ValueError, match="rtol must be positive and finite, got 0"):
        eigenpairs(EYE, key=KEY, rtol=0)


def test_options_of_the_density():
    options = {"key": KEY, "num_matvecs": 2}
    with pytest.raises(ValueError, match="broadening must be positive and finite, got 0"):
        spectral_density(EYE, broadening=0.0, **options)
    unused = Linear(never, jax.ShapeDtypeStruct((6,), jnp.float32))
    with pytest.raises(ValueError, match="grid must be >= 2, got 1"):
        spectral_density(unused, grid=1, **options)
    with pytest.raises(ValueError, match="grid must be increasing"):
        spectral_density(unused, grid=np.array([0.0, 2.0, 1.0]), **options)
    with pytest.raises(ValueError, match=r"grid must be one row .*got shape \(2, 2\)"):
        spectral_density(unused, grid=np.ones((2, 2)), **options)
    with pytest.raises(ValueError, match=r"num_probes, with rtol, must be >= 4, got 3"):
        spectral_density(unused, rtol=0.1, num_probes=3, **options)
    for solve in (spectral_density, trace, diagonal):
        with pytest.raises(ValueError, match="chunk_size must be >= 1, got 0"):
            solve(EYE, chunk_size=0, **options)


@LANCZOS
def test_vectors_beyond_this_machine_are_refused_before_anything_is_allocated(solve, caplog):
    operator = Linear(never, jax.ShapeDtypeStruct((10**13,), jnp.float32))
    assert lanczos_bytes(operator, num_matvecs=40) == 40 * 10**13 * 4
    message = r"the Lanczos vectors must fit into memory, got 1490116.1 GiB for .*; take fewer"
    with (
        caplog.at_level(logging.INFO, logger="adlab.curvature"),
        pytest.raises(ValueError, match=message),
    ):
        solve(operator, key=KEY, num_matvecs=40)
    assert not caplog.records


@pytest.mark.parametrize("estimator", ["hutchinson", "hutch++", "xtrace"])
def test_probes_beyond_this_machine_are_refused_too(estimator):
    operator = Linear(lambda v: v, jax.ShapeDtypeStruct((10**13,), jnp.float32))
    with pytest.raises(ValueError, match=r"must fit into memory"):
        trace(operator, key=KEY, num_matvecs=6, estimator=estimator)
    with pytest.raises(ValueError, match=r"must fit into memory"):
        diagonal(operator, key=KEY, num_matvecs=6)
