"""Inside `jax.shard_map` all derivatives agree, or are refused with what to do."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from adlab import gradients
from adlab.curvature import GaussNewton, hvp, linearize_hvp
from adlab.gradients import custom
from adlab.jacobians import jacobian

MESH = jax.make_mesh((4,), ("i",), devices=jax.devices()[:4], axis_types=(AxisType.Auto,))
EVERYWHERE = P()
KEY = jax.random.key(0)
X = jnp.array([1.0, 2.0])
DATA = jnp.arange(1.0, 9.0)  # 3, 7, 11 and 15 on the four devices, 36 in all
SUMS = np.array([3.0, 7.0, 11.0, 15.0])


def local(x, data):
    return jnp.sum(x**2) / 2 * jnp.sum(data)


def total(x, data):
    return jax.lax.psum(local(x, data), "i")


def coupled(x, data):
    """Each device's own value, of what all of them have."""
    return jax.lax.psum(local(x, data), "i") * jnp.sum(data)


def _exact(fun, x, key):
    del key
    return jax.grad(fun)(x)


def _probed(name):
    factory = getattr(gradients, name)
    options = {} if name == "forward_gradient" else {"smoothing": 0.25}
    return lambda f: functools.partial(
        factory(f, law="orthogonal", num_probes=2, **options), key=KEY
    )


REVERSE = {
    "reverse_mode": gradients.reverse_mode,
    "jacobian reverse": lambda f: jacobian(f, mode="reverse"),
    "hvp": lambda f: lambda x, data: hvp(f)(x, x, data),
    "hvp reverse_over_forward": lambda f: (
        lambda x, data: hvp(f, mode="reverse_over_forward")(x, x, data)
    ),
    "hvp reverse_over_reverse": lambda f: (
        lambda x, data: hvp(f, mode="reverse_over_reverse")(x, x, data)
    ),
    "linearize_hvp": lambda f: lambda x, data: linearize_hvp(f, x, data)[1](x),
}
FORWARD = {
    "forward_mode": gradients.forward_mode,
    "finite_difference": lambda f: gradients.finite_difference(f, step=0.25),
    **{name: _probed(name) for name in ("two_point", "one_sided", "forward_gradient")},
    "jacobian forward": lambda f: jacobian(f, mode="forward"),
    "jacobian auto": jacobian,
}
ALL = REVERSE | FORWARD
OTHERS = {
    "custom": lambda f: custom(f, _exact, cost=lambda _: gradients.Cost(vjps=1)),
    "jacobian mixed": lambda f: jacobian(f, mode="mixed"),
}
MEASURED = {
    "finite_difference": gradients.finite_difference,
    "one_sided": lambda f: functools.partial(
        gradients.one_sided(f, law="orthogonal", num_probes=3), key=KEY
    ),
    "two_point": lambda f: functools.partial(gradients.two_point(f, num_probes=3), key=KEY),
}
FEW = {name: ALL[name] for name in ("reverse_mode", "forward_mode", "jacobian auto", "hvp")}
EACH = pytest.mark.parametrize("name", [*ALL, *OTHERS])


def _on_devices(fun, *, x_spec=EVERYWHERE, check_vma=True, own=False, quantities=ALL):
    """Return x -> the quantities on every device, stacked."""

    @functools.partial(
        jax.shard_map,
        mesh=MESH,
        in_specs=(x_spec, P("i")),
        out_specs=P("i"),
        check_vma=check_vma,
    )
    def everywhere(x, data):
        x = jax.lax.pcast(x, "i", to="varying") if own else x
        return {name: quantities[name](fun)(x, data)[None] for name in quantities}

    return everywhere


def _values(run, x):
    """Return the quantities without the bias of one side: h/2 times the curvature, at h = 1/4."""
    found = oracles.quickly_compiled(run)(x, DATA)
    return {name: np.asarray(v) for name, v in found.items() if name != "one_sided"}


@pytest.mark.parametrize(
    ("fun", "x", "options", "expected"),
    [
        (total, X, {}, 36 * np.tile(X, (4, 1))),
        (local, DATA, {"x_spec": P("i")}, SUMS[:, None] * np.asarray(DATA).reshape(4, 2)),
        (local, X, {"own": True, "quantities": FEW}, SUMS[:, None] * np.asarray(X)),
        (local, X, {"check_vma": False, "quantities": FEW}, SUMS[:, None] * np.asarray(X)),
    ],
    ids=["sum over devices", "parts of x", "each device's own", "each device's own, unchecked"],
)
def test_all_derivatives_agree(fun, x, options, expected):
    found = _values(_on_devices(fun, **options), x)
    assert set(found) >= set(FEW)
    for name, value in found.items():
        # rounding of float32 in values up to 4,000, over a difference of 1/2
        np.testing.assert_allclose(value, expected, atol=2e-3, rtol=1e-5, err_msg=name)


@pytest.mark.parametrize("options", [{"fun": total}, {"fun": local, "own": True}])
def test_steps_are_measured_on_all_devices_or_on_each(options):
    shapes = jax.eval_shape(_on_devices(**options, quantities=MEASURED), X, DATA)
    assert {leaf.shape for leaf in jax.tree.leaves(shapes)} == {(4, 2)}


def test_reverse_mode_takes_a_sum_over_devices_that_share_out_x():
    shards = jnp.arange(1.0, 9.0)
    quantities = {name: REVERSE[name] for name in ("reverse_mode", "jacobian reverse", "hvp")}
    run = _on_devices(total, x_spec=P("i"), quantities=quantities)
    for value in oracles.quickly_compiled(run)(shards, DATA).values():
        # sums of a few products of integers: exact
        np.testing.assert_array_equal(value, SUMS[:, None] * np.asarray(shards).reshape(4, 2))


def _refused(name, fun, match, x=X, **options):
    quantities = {name: (ALL | OTHERS)[name]}
    run = _on_devices(fun, quantities=quantities, **options)
    with pytest.raises(ValueError, match=match):
        jax.eval_shape(run, x, DATA)


@EACH
def test_a_value_of_each_device_s_own_is_refused_where_x_is_shared(name):
    _refused(name, local, r"mesh axis 'i', along which x is the same.*psum.*pcast")


@EACH
def test_sums_over_axes_that_are_not_checked_are_refused(name):
    _refused(name, total, r"got 'i': pass check_vma=True", check_vma=False)


@EACH
def test_values_that_couple_the_parts_of_x_are_refused(name):
    _refused(name, coupled, r"along which x and the value vary: return jax.lax.psum", own=True)


@pytest.mark.parametrize("name", [*FORWARD, *OTHERS])
def test_forward_derivatives_refuse_parts_of_x_that_share_a_value(name):
    _refused(name, total, r"each device would move its own", DATA, x_spec=P("i"))


def test_gauss_newton_products_are_those_of_the_sum_or_refused():
    def product(loss, x, data):
        return GaussNewton(lambda x, t: x * jnp.sum(t), loss, x, data, data).matvec(x)[None]

    def of_each(outputs, data):
        return jnp.sum(outputs**2) / 2 + 0 * jnp.sum(data)

    def of_all(outputs, data):
        return jax.lax.psum(of_each(outputs, data), "i")

    run, refused = (
        jax.shard_map(
            functools.partial(product, loss),
            mesh=MESH,
            in_specs=(P(), P("i")),
            out_specs=P("i"),
        )
        for loss in (of_all, of_each)
    )
    # the sum of squares of integers, times them: exact
    found = oracles.quickly_compiled(run)(X, DATA)
    np.testing.assert_array_equal(found, np.tile(np.sum(SUMS**2) * np.asarray(X), (4, 1)))
    with pytest.raises(ValueError, match=r"^GaussNewton: fun must return the same on all devices"):
        jax.eval_shape(refused, X, DATA)


def test_it_is_the_leaf_that_matters():
    def fun(x, data):
        return local(x["own"], data) + jnp.sum(x["shared"])

    def everywhere(x, data):
        x = {"own": jax.lax.pcast(x, "i", to="varying"), "shared": x}
        return gradients.reverse_mode(fun)(x, data)["own"][None]

    run = jax.shard_map(everywhere, mesh=MESH, in_specs=(P(), P("i")), out_specs=P("i"))
    with pytest.raises(ValueError, match=r"along which \['shared'\] is the same"):
        jax.eval_shape(run, X, DATA)


def test_probes_of_each_device_s_own_are_refused_where_x_is_shared():
    def everywhere(x, data):
        key = jax.random.fold_in(KEY, jax.lax.axis_index("i"))
        return gradients.two_point(total, num_probes=3)(x, data, key=key)[None]

    run = jax.shard_map(everywhere, mesh=MESH, in_specs=(P(), P("i")), out_specs=P("i"))
    with pytest.raises(ValueError, match=r"key must be the same on all devices along mesh axis"):
        jax.eval_shape(run, X, DATA)
