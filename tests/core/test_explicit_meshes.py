"""On a mesh with explicit axes every derivative works, keeps x's sharding, and keeps its values."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from adlab import gradients
from adlab.curvature import GaussNewton, Hessian, hvp, linearize_hvp
from adlab.jacobians import jacobian

MESH = jax.make_mesh(
    (2, 2), ("a", "b"), devices=jax.devices()[:4], axis_types=(AxisType.Explicit,) * 2
)
AUTO = jax.make_mesh((2, 2), ("a", "b"), devices=jax.devices()[:4], axis_types=(AxisType.Auto,) * 2)
KEY = jax.random.key(0)
SPECS = {"one": P("a"), "two": P("b", "a"), "none": P(), "both": P(("a", "b"), None)}
X = {
    "one": jax.device_put(np.array([0.5, -1.0], np.float32)),
    "two": jax.device_put(np.array([[0.25, 1.5], [-0.5, 1.0]], np.float32)),
    "none": jax.device_put(np.float32(0.75)),
    "both": jax.device_put(np.array([[1.0], [0.5], [0.25], [-1.0]], np.float32)),
}


def placed(x, mesh=MESH):
    return {name: jax.device_put(x[name], NamedSharding(mesh, SPECS[name])) for name in x}


def loss(x):
    cubes = sum(jnp.sum(leaf**3) for leaf in x.values())
    return cubes + jnp.sum(x["one"]) * x["none"]


def outputs(x):
    return {"sine": jnp.sin(x["one"]) * x["none"], "sum": jnp.sum(x["two"] ** 2)}


def model(x, inputs):
    return jnp.sin(x["one"] * inputs) + x["none"]


def half_square(y, targets):
    return jnp.mean((y - targets) ** 2) / 2


LAWS = ("sphere", "gaussian", "rademacher", "coordinate", "orthogonal")
GRADIENTS = {
    "reverse_mode": gradients.reverse_mode(loss),
    "forward_mode": gradients.forward_mode(loss, chunk_size=3),
    **{
        f"finite_difference {scheme}": gradients.finite_difference(loss, scheme=scheme, step=0.25)
        for scheme in ("forward", "central", "richardson")
    },
    "finite_difference complex": gradients.finite_difference(loss, scheme="complex"),
    "finite_difference auto": gradients.finite_difference(loss, chunk_size=1),
    **{
        f"forward_gradient {law}": gradients.forward_gradient(loss, law=law, num_probes=3)
        for law in LAWS
    },
    "two_point": gradients.two_point(loss, smoothing=0.25, num_probes=3, chunk_size=2),
    "two_point auto": gradients.two_point(loss, law="orthogonal", num_probes=13),
    "one_sided auto": gradients.one_sided(loss, num_probes=1),
}


def others(x):
    """Return what else keeps the sharding of x."""
    return {
        **{
            f"hvp {mode}": hvp(loss, mode=mode)(x, x)
            for mode in ("forward_over_reverse", "reverse_over_forward", "reverse_over_reverse")
        },
        "hvp of an unplaced v": hvp(loss)(X, x),
        "linearize_hvp": linearize_hvp(loss, x)[1](x),
        "Hessian": Hessian(loss, x).matvec(x),
        "GaussNewton": GaussNewton(model, half_square, x, x["one"], jnp.zeros(2)).matvec(x),
    }


def everything(x):
    found = {name: g(x, key=KEY) for name, g in GRADIENTS.items()}
    return found | others(x)


def _assert_close(found, expected):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        # sums in another order: round-off of values up to 10, over a step of 1/4
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=2e-5)


def _assert_kept(found, x, name):
    for leaf, other in zip(jax.tree.leaves(found), jax.tree.leaves(x), strict=True):
        assert leaf.sharding.is_equivalent_to(other.sharding, other.ndim), name


def test_the_sharding_is_a_part_of_the_type_of_every_derivative():
    x = placed(X)
    types = jax.tree.map(lambda leaf: jax.typeof(leaf).sharding, x)
    for name, found in jax.eval_shape(everything, x).items():
        assert jax.tree.map(lambda leaf: leaf.sharding, found) == types, name


def _ones(like, *, key):
    """Along this probe the derivatives in all coordinates add up."""
    del key
    return jnp.ones(like.shape)


def some(x):
    found = {
        name: GRADIENTS[name](x, key=KEY) for name in ("finite_difference central", "two_point")
    }
    return found | {"hvp": hvp(loss, mode="reverse_over_reverse")(x, x)}


def test_values_are_those_without_a_mesh():
    x = placed(X)
    found = oracles.quickly_compiled(some)(x)
    # a central difference of a cube is off by the square of its step
    gradient = {name: 3 * np.square(X[name]) + 0.25**2 for name in X}
    product = {name: 6 * np.square(X[name]) for name in X}
    for known in (gradient, product):
        known["one"] = known["one"] + X["none"]
        known["none"] = known["none"] + np.sum(X["one"])
    _assert_close(found["finite_difference central"], gradient)
    _assert_close(found["hvp"], product)
    _assert_close(found["two_point"], oracles.quickly_compiled(GRADIENTS["two_point"])(X, key=KEY))
    for name, value in found.items():
        _assert_kept(value, x, name)


def test_a_mesh_that_leaves_it_to_the_compiler_changes_no_value():
    found = oracles.quickly_compiled(GRADIENTS["forward_gradient sphere"])(placed(X, AUTO), key=KEY)
    _assert_close(found, oracles.quickly_compiled(GRADIENTS["forward_gradient sphere"])(X, key=KEY))


@pytest.mark.parametrize("set_mesh", [False, True], ids=["no mesh set", "mesh set"])
def test_outside_of_jit_as_well(set_mesh):
    one = placed({"one": X["one"]})["one"]
    cubes = lambda x: jnp.sum(x**3)  # noqa: E731
    with jax.set_mesh(MESH) if set_mesh else contextlib.nullcontext():
        value, gradient = gradients.reverse_mode(cubes).value_and_grad(one)
        gradients.reverse_mode(cubes).check(one)
        estimate = gradients.forward_gradient(cubes, law=_ones)
        found = {
            "forward_gradient": (estimate(one, key=KEY), np.sum(3 * np.square(X["one"]))),
            "hvp": (hvp(cubes)(X["one"], one), 6 * np.square(X["one"])),
            "linearize_hvp": (linearize_hvp(cubes, one)[1](one), 6 * np.square(X["one"])),
            "GaussNewton": (
                GaussNewton(lambda x, t: x * t, half_square, one, one, one).matvec(one),
                np.asarray(X["one"]) ** 3 / 2,
            ),
            "reverse_mode": (gradient, 3 * np.square(X["one"])),
        }
    np.testing.assert_allclose(value, -0.875, rtol=1e-6)  # two roundings
    for name, (result, right) in found.items():
        _assert_kept(result, one, name)
        np.testing.assert_allclose(result, right, rtol=1e-6, err_msg=name)  # a few roundings


@pytest.mark.parametrize("mode", ["forward", "reverse", "mixed"])
def test_jacobians(mode):
    x = placed(X)
    rows = jacobian(outputs, mode=mode)
    found = oracles.quickly_compiled(rows)(x)
    one, none, two = (np.asarray(X[name]) for name in ("one", "none", "two"))
    # a few roundings of float32
    np.testing.assert_allclose(found["sine"]["one"], np.diag(np.cos(one) * none), rtol=1e-6)
    np.testing.assert_allclose(found["sine"]["none"], np.sin(one), rtol=1e-6)
    np.testing.assert_allclose(found["sum"]["two"], 2 * two, rtol=1e-6)
    assert not np.any(found["sum"]["both"])
    assert not np.any(found["sine"]["two"])


def test_jacobians_lie_as_those_of_jax():
    x = placed(X)
    for mode, of_jax in (("forward", jax.jacfwd), ("reverse", jax.jacrev)):
        with jax.set_mesh(MESH):
            found, right = (
                jax.eval_shape(rows, x) for rows in (jacobian(outputs, mode=mode), of_jax(outputs))
            )
        assert jax.tree.map(lambda leaf: leaf.sharding, found) == jax.tree.map(
            lambda leaf: leaf.sharding, right
        )
