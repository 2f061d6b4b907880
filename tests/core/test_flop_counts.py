import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adlab.core.flops import Work, count, prices

A, B = jnp.zeros((2, 3)), jnp.zeros((3, 5))
V = jnp.zeros(7)


def test_a_product_of_matrices_counts_two_per_multiply_add():
    assert count(jnp.matmul, A, B).flops == 2 * 2 * 3 * 5
    assert count(jnp.dot, V, V).flops == 2 * 7


def test_a_batched_product_counts_the_batch():
    assert count(jnp.matmul, jnp.zeros((4, 2, 3)), jnp.zeros((4, 3, 5))).flops == 4 * 60


@pytest.mark.parametrize("groups", [1, 2])
def test_a_convolution_counts_its_kernel_per_output_pixel_and_channel(groups):
    images, kernels = jnp.zeros((2, 4, 9, 8)), jnp.zeros((6, 4 // groups, 3, 3))

    def convolve(images, kernels):
        return jax.lax.conv_general_dilated(
            images, kernels, (1, 1), "VALID", feature_group_count=groups
        )

    outputs = 2 * 6 * (9 - 2) * (8 - 2)
    assert count(convolve, images, kernels).flops == outputs * 2 * (4 // groups) * 3 * 3


@pytest.mark.parametrize(
    ("fun", "flops"),
    [
        (lambda v: v + v, 7),
        (jnp.exp, 7),
        (jnp.sum, 7),
        (jnp.cumsum, 7),
        (lambda v: jnp.sum(v * v), 14),
        (lambda v: jnp.tile(jnp.stack([*v]), 2), 0),
        (lambda v: v.reshape(1, 7)[:, ::-1].T, 0),
        (lambda v: v[2:5], 0),
        (lambda v: jnp.concatenate([v, v]).astype(jnp.bfloat16), 0),
    ],
)
def test_elementwise_and_reducing_operations_count_one_per_number_and_moves_none(fun, flops):
    assert count(fun, V).flops == flops


def test_a_scan_counts_its_body_as_often_as_it_runs():
    def fun(v):
        return jax.lax.scan(lambda c, _: (jnp.sin(c), None), v, length=1000)[0]

    assert count(fun, V) == Work(flops=1000 * 7, bytes=1000 * 2 * 7 * 4, exact=True)


def test_nested_scans_multiply():
    def inner(v):
        return jax.lax.scan(lambda c, _: (jnp.sin(c), None), v, length=5)[0]

    def outer(v):
        return jax.lax.scan(lambda c, _: (inner(c), None), v, length=11)[0]

    assert count(outer, V).flops == 5 * 11 * 7


def test_a_conditional_counts_as_its_dearest_branch():
    def fun(i, v):
        return jax.lax.switch(
            i, [lambda v: v, lambda v: jnp.sin(jnp.cos(jnp.tan(v))), lambda v: -v], v
        )

    assert count(fun, 1, V).flops == 3 * 7 + 1  # and the index is clamped


def test_a_while_loop_counts_once_and_says_so():
    work = count(lambda v: jax.lax.while_loop(lambda c: c[0] < 5, jnp.sin, v), V)
    assert not work.exact
    assert work.flops == 7 + 1  # the body and the comparison


def test_a_function_without_loops_of_unknown_length_is_counted_exactly():
    assert count(jnp.sin, V).exact


@pytest.mark.parametrize("wrap", [jax.jit, jax.checkpoint, jax.custom_jvp, jax.custom_vjp])
def test_wrappers_count_as_what_they_wrap(wrap):
    wrapped = wrap(lambda a, b: jnp.sin(a @ b))
    if wrap is jax.custom_jvp:
        wrapped.defjvp(lambda x, t: (wrapped(*x), t))
    if wrap is jax.custom_vjp:
        wrapped.defvjp(lambda a, b: (wrapped(a, b), None), lambda _, g: g)
    assert count(wrapped, A, B).flops == 60 + 10
    assert count(lambda a, b: jax.jit(wrapped)(a, b), A, B).flops == 60 + 10


def test_the_reverse_sweep_of_a_product_costs_two_more_products():
    def fun(a, b):
        return jnp.sum(a @ b)

    assert count(jax.grad(fun, argnums=(0, 1)), A, B).flops >= 2 * 60


def test_bytes_are_those_read_and_written_in_the_dtypes_used():
    assert count(jnp.matmul, A, B).bytes == 4 * (6 + 15 + 10)
    half = [m.astype(jnp.bfloat16) for m in (A, B)]
    assert count(jnp.matmul, *half).bytes == 2 * (6 + 15 + 10)


def test_shapes_alone_can_be_counted():
    shapes = [jax.ShapeDtypeStruct(m.shape, m.dtype) for m in (A, B)]
    assert count(jnp.matmul, *shapes) == count(jnp.matmul, A, B)


def test_random_keys_can_be_counted():
    assert count(lambda k: jax.random.normal(k, (3,)), jax.random.key(0)).flops > 0


def test_work_adds_and_multiplies_and_remembers_inexactness():
    assert Work(1, 2) + Work(3, 4, exact=False) == Work(4, 6, exact=False)
    assert Work(1, 2) * 3 == Work(3, 6)


@pytest.mark.parametrize(
    ("fun", "flops"),
    [
        (jnp.linalg.cholesky, 500**3 / 3),
        (lambda a: jnp.linalg.solve(a, a[:, 0]), 2 * 500**3 / 3),
        (lambda a: jnp.linalg.qr(a)[0], 2 * (2 * 500**3 - 2 * 500**3 / 3)),  # factor, then form Q
        (lambda a: jnp.linalg.eigh(a)[0], 9 * 500**3),
        (lambda a: jax.vmap(jnp.linalg.cholesky)(jnp.stack([a, a])), 2 * 500**3 / 3),
    ],
)
def test_factorisations_count_their_textbook_flops(fun, flops):
    counted = count(fun, jax.ShapeDtypeStruct((500, 500), jnp.float32)).flops
    assert flops <= counted + 1  # rounded
    assert counted <= 1.1 * flops  # beside them only work of order n^2, below 10 % at n = 500


def test_the_derivative_of_tanh_counts_its_square_and_its_difference_on_every_jax():
    # tanh x, then (1 - t^2) times the cotangent: one sum more where JAX writes (1 - t)(1 + t)
    assert count(jax.grad(jnp.tanh), 1.0).flops in (4, 5)


def test_bodies_of_scatters_and_windows_run_for_every_element():
    x, at, b = np.ones(1000, np.float32), np.arange(500), np.ones(500, np.float32)
    add, least = (
        count(lambda x, b, name=name: getattr(x.at[at], name)(b), x, b).flops
        for name in ("add", "min")
    )
    assert least == add
    assert add >= 500

    def windowed(body):
        return lambda x: jax.lax.reduce_window(x, np.float32(0), body, (8,), (1,), "valid")

    own = count(windowed(lambda a, b: a + b * 2), x).flops
    assert own == count(windowed(jax.lax.add), x).flops == 8 * 993


def test_prices_are_operations_over_those_of_an_evaluation():
    """y = sum(a x): 2 n operations; with a tangent 4 n, with the gradient 3 n."""
    n = 50
    found = prices(lambda x, a: jnp.sum(a * x["x"]), {"x": jnp.ones(n)}, jnp.ones(n))
    assert (found.value, found.jvp, found.vjp) == (2 * n, 2.0, 1.5)
    with pytest.raises(ValueError, match="must compute something"):
        prices(lambda x: x, jnp.ones(()))
