"""Random programs of all operations whose patterns are known, beside their dense Jacobians.

`draw(seed)` gives a program: steps over a pool of arrays, each made by a rule below with numbers of
its own: places that are constants, beyond the end, or chosen by data. As a script it tries many
more than the tests do: `PYTHONPATH=.:tests python tests/jacobians/random_patterns.py FIRST COUNT`.
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import oracles
from jax import lax

from adlab.jacobians import sparsity

POINTS = 3
LARGEST = 40  # elements of an array
MODES = ("fill", "clip", "promise_in_bounds")


def flat(x):
    return jnp.ravel(x)


def square(x):
    """Return a matrix of the numbers of any array, three by three."""
    return jnp.resize(flat(x), (3, 3))


def place(rng, x, length):
    """Return one place: a constant, one beyond the ends, or one that data choose."""
    kind = rng.integers(4)
    if kind == 0:
        return jnp.argmax(flat(x)) % length
    if kind == 1:
        return jnp.asarray(rng.integers(-2, length + 3))
    return jnp.asarray(rng.integers(length))


def places(rng, x, count, length, mode):
    """Return places, of which data choose all, some or none."""
    beyond = 0 if mode == "promise_in_bounds" else 2
    fixed = jnp.asarray(rng.integers(-beyond, length + beyond, count))
    kind = rng.integers(5)
    if kind == 0:
        return jnp.argsort(jnp.resize(flat(x), count)) % length
    if kind == 1:
        return fixed.at[rng.integers(count)].set(jnp.argmin(flat(x)) % length)
    return fixed


def gather(rng, x):
    mode = MODES[rng.integers(3)]
    axis = int(rng.integers(x.ndim))
    at = places(rng, x, 3, x.shape[axis], mode)
    return x.at[(slice(None),) * axis + (at,)].get(mode=mode, fill_value=0.5)


def gather_pairs(rng, x):
    m = square(x)
    mode = MODES[rng.integers(3)]
    rows, cols = (places(rng, x, 4, 3, mode) for _ in range(2))
    return m.at[rows, cols].get(mode=mode, fill_value=0.5)


def gather_rows(rng, x):
    at = places(rng, x, 3, 3, "promise_in_bounds")
    return jax.vmap(lambda row, k: row[k] * row)(square(x), at)


def along_axis(rng, x):
    m = square(x)
    order = jnp.argsort(m, axis=1) if rng.integers(2) else jnp.asarray(rng.integers(3, size=(3, 2)))
    return jnp.take_along_axis(m, order, axis=1)


def scatter(rng, x):
    mode = ("drop", "clip", "promise_in_bounds")[rng.integers(3)]
    axis = int(rng.integers(x.ndim))
    at = places(rng, x, 2, x.shape[axis], mode)
    new = jnp.sin(jnp.take(x, np.array([0, -1]), axis))
    kind = ("set", "add", "min", "max")[rng.integers(4)]
    old = (x, jnp.full_like(x, 0.5))[rng.integers(2)]
    return getattr(old.at[(slice(None),) * axis + (at,)], kind)(new, mode=mode)


def scatter_pairs(rng, x):
    rows, cols = (places(rng, x, 4, 3, "drop") for _ in range(2))
    new = jnp.resize(flat(x), 4) ** 2
    if rng.integers(3) == 0:  # each place once
        return (
            square(x)
            .at[jnp.asarray(rng.permutation(3)), cols[:3]]
            .mul(new[:3], mode="drop", unique_indices=True)
        )
    kind = ("set", "add")[rng.integers(2)]
    return getattr(square(x).at[rows, cols], kind)(new, mode="drop")


def scatter_rows(rng, x):
    at = places(rng, x, 3, 3, "drop")
    return jax.vmap(lambda row, k: row.at[k].set(row[0] * row[2]))(square(x), at)


def segments(rng, x):
    x = flat(x)
    return jax.ops.segment_sum(x, jnp.asarray(rng.integers(4, size=x.size)), 3)


def sliced(rng, x):
    m = square(x)
    starts = [place(rng, x, 3) for _ in range(2)]
    return lax.dynamic_slice(m, starts, tuple(int(k) for k in rng.integers(1, 4, 2)))


def updated(rng, x):
    m = square(x)
    starts = [place(rng, x, 3) for _ in range(2)]
    rows, cols = (int(k) for k in rng.integers(1, 4, 2))
    return lax.dynamic_update_slice(m, jnp.sin(m[::-1])[:rows, :cols], starts)


def updated_rows(rng, x):
    at = places(rng, x, 3, 3, "clip")
    return jax.vmap(lambda r, k: lax.dynamic_update_slice(r, r[::-1][:2] ** 2, (k,)))(square(x), at)


CUMULATIVE = (lax.cumsum, lax.cumprod, lax.cummax, lax.cummin, lax.cumlogsumexp)


def cumulative(rng, x):
    own = CUMULATIVE[rng.integers(5)]
    return own(x, axis=int(rng.integers(x.ndim)), reverse=bool(rng.integers(2)))


def ordered(rng, x):
    axis = int(rng.integers(x.ndim))
    kind = rng.integers(4)
    if kind == 0:
        return jnp.sort(x, axis=axis)
    if kind == 1:
        return lax.sort((jnp.cos(x), x, x**2), dimension=axis, num_keys=2)[2]
    if kind == 2:
        return lax.top_k(x, 1 + int(rng.integers(x.shape[-1])))[0]
    return flat(x)[jnp.argsort(flat(x))]


def windows(rng, x):
    m = square(x)
    size, stride, spread = (tuple(int(k) for k in rng.integers(1, 3, 2)) for _ in range(3))
    padding = [tuple(int(k) for k in rng.integers(0, 2, 2)) for _ in range(2)]
    own, first = ((lax.add, 0.0), (lax.max, -jnp.inf), (lax.min, jnp.inf))[rng.integers(3)]
    base = tuple(int(k) for k in rng.integers(1, 3, 2)) if own is lax.add else (1, 1)
    spread = spread if own is lax.add else (1, 1)
    return lax.reduce_window(m, np.float32(first), own, size, stride, padding, base, spread)


def product_windows(rng, x):
    size = (1 + int(rng.integers(2)), 2)
    return lax.reduce_window(square(x), np.float32(1), lax.mul, size, (1, 1), "SAME")


def convolved(rng, x):
    groups = int(rng.integers(1, 3))
    wide = jnp.resize(flat(x), (2, 2, 4))
    shape = (2, 2 // groups, 2)
    kernel = rng.normal(size=shape) * rng.integers(2, size=shape)
    kernel = jnp.asarray(kernel, np.float32) if rng.integers(2) else jnp.resize(jnp.sin(x), shape)
    batches = int(rng.integers(1, 3)) if groups == 1 else 1
    return lax.conv_general_dilated(
        wide,
        kernel,
        (int(rng.integers(1, 3)),),
        [tuple(int(k) for k in rng.integers(-1, 3, 2))],
        lhs_dilation=(int(rng.integers(1, 3)),),
        rhs_dilation=(int(rng.integers(1, 3)),),
        feature_group_count=groups,
        batch_group_count=batches,
    )


def selected(rng, x):
    mask = jnp.asarray(rng.integers(2, size=x.shape) > 0)
    kind = rng.integers(4)
    if kind == 0:
        mask = mask & (x > 0)
    if kind == 1:
        mask = flat(mask).at[0].set(flat(x)[0] > 0).reshape(x.shape)
    if kind == 2:
        which = jnp.asarray(rng.integers(3, size=x.shape), jnp.int32)
        return lax.select_n(which, x, jnp.sin(x), jnp.flip(x))
    return jnp.where(mask, x, jnp.flip(x) ** 2)


def masked(rng, x):
    kept = jax.random.bernoulli(jax.random.key(int(rng.integers(9))), 0.5, x.shape)
    weights = jnp.where(kept, 1.0, 0.0)
    if rng.integers(2):
        weights = flat(weights).at[places(rng, x, 2, x.size, "drop")].add(jnp.sign(flat(x)[:1])[0])
        weights = weights.reshape(x.shape)
    return weights * jnp.flip(x)


def multiplied(rng, x):
    weights = jnp.asarray(rng.normal(size=(3, 3)) * rng.integers(2, size=(3, 3)), np.float32)
    if rng.integers(2):
        weights = weights.at[int(rng.integers(3)), 1].set(jnp.floor(flat(x)[0]))
    kind = rng.integers(3)
    if kind == 0:
        return square(x) @ weights
    if kind == 1:
        return jnp.einsum("ij,kj->ik", weights, jnp.sin(square(x)))
    return jnp.einsum("ij,ij->i", square(x), weights)


def rounds(rng, x):
    """A loop: of known length, of one that data choose, or that ends when a sum is large."""
    x = flat(x)
    at = int(rng.integers(x.size))
    step = lambda k, y: y.at[(k + at) % x.size].add(jnp.sin(y[k % x.size]) * y[at])  # noqa: E731
    kind = rng.integers(3)
    if kind == 0:
        return lax.fori_loop(0, int(rng.integers(4)), step, x)
    if kind == 1:
        return lax.fori_loop(0, jnp.argmax(x) % 3, step, x)
    return lax.while_loop(
        lambda c: (c[0] < 4) & (jnp.sum(c[1]) < 1),
        lambda c: (c[0] + 1, jnp.roll(c[1], 1) + 0.3),
        (0, x),
    )[1]


def scanned(rng, x):
    m, at = square(x), places(rng, x, 3, 3, "clip")

    def step(carry, row):
        k, r = row
        count, kept = carry
        new = kept.at[k].set(r[0] * kept[1]) if seen else jnp.append(kept[1:], r[0])
        return (count + 1, new), (kept[count % 3] * r, kept[0])

    seen = rng.integers(2)
    first = (jnp.int32(rng.integers(2)), m[0] if rng.integers(2) else jnp.ones(3))
    last, ys = lax.scan(step, first, (at, m), reverse=bool(rng.integers(2)))
    return jnp.concatenate([last[1], flat(ys[0]), ys[1]])


def branches(rng, x):
    cases = [jnp.sin, jnp.flip, lambda x: jnp.full_like(x, 0.5), lambda x: x * flat(x)[0]]
    which = place(rng, x, 4) if rng.integers(2) else jnp.argmax(flat(x)) % 4
    if rng.integers(2):
        return lax.cond(which > 1, cases[1], cases[3], x)
    return lax.switch(which, cases, x)


def branches_by_rows(rng, x):
    at = places(rng, x, 3, 3, "clip")
    return jax.vmap(lambda k, r: lax.switch(k, [jnp.sin, jnp.flip, jnp.cumsum], r))(at, square(x))


@jax.custom_jvp
def straight(x):
    return jnp.round(x)


straight.defjvp(lambda x, t: (straight(*x), jnp.flip(t[0])))


@jax.custom_vjp
def backward(x):
    return jnp.sin(x)


backward.defvjp(lambda x: (jnp.sin(x), x), lambda x, s: (jnp.flip(s * jnp.cos(x)),))


def ruled(rng, x):
    kind = rng.integers(6)
    if kind == 5 and not rng.integers(3):
        return backward(x)
    return (straight, jax.checkpoint(jnp.sin), jax.nn.relu, jax.nn.softplus, jax.jit(jnp.flip))[
        kind % 5
    ](x)


def solved(rng, x):
    m = square(x)
    kind, scale = rng.integers(6), 4 * jnp.eye(3)
    known = scale + jnp.asarray(rng.normal(size=(3, 3)), np.float32)
    if kind == 0:
        return jnp.linalg.solve(scale + m, jnp.sin(m[::-1]))
    if kind == 1:
        return jnp.linalg.solve(known, m)
    if kind == 2:
        flags = dict(
            zip(
                ("left_side", "lower", "transpose_a", "unit_diagonal"),
                map(bool, rng.integers(2, size=4)),
                strict=True,
            )
        )
        return lax.linalg.triangular_solve(known if rng.integers(2) else scale + m, m, **flags)
    if kind == 3:
        return lax.linalg.tridiagonal_solve(m[0], 4 + m[1], m[2], jnp.sin(m))
    if kind == 4:
        diagonal = jnp.arange(4.0, 7.0)
        apply = lambda y: diagonal * y + 0.1 * jnp.roll(y, 1)  # noqa: E731
        return lax.custom_linear_solve(apply, m[0], lambda f, b: _jacobi(f, b, diagonal), _turned)
    return jax.scipy.linalg.cho_solve((jnp.linalg.cholesky(scale + m @ m.T), True), m)


def _jacobi(apply, b, diagonal):
    return lax.fori_loop(0, 30, lambda _, y: y + (b - apply(y)) / diagonal, b / diagonal)


def _turned(apply, b):
    return _jacobi(apply, b, jnp.arange(4.0, 7.0))


def factors(rng, x):
    m = square(x) + jnp.diag(jnp.arange(3.0, 6.0))
    kind = rng.integers(5)
    if kind == 0:
        return jnp.linalg.eigvalsh(m + m.T)
    if kind == 1:
        return jnp.linalg.qr(m)[1]
    if kind == 2:
        return lax.linalg.lu(m)[0]
    if kind == 3:
        return jnp.linalg.inv(m)
    return jnp.stack([jnp.linalg.slogdet(m)[1], jnp.linalg.svd(m, compute_uv=False)[0]])


def spectral(rng, x):
    z = jnp.fft.rfft(square(x), axis=int(rng.integers(2)))
    return jnp.real(z) * jnp.imag(z) + jnp.abs(z)


def padded(rng, x):
    m = square(x)
    config = [(int(rng.integers(-1, 2)), int(rng.integers(-1, 2)), int(rng.integers(2))) for _ in m]
    return lax.pad(m, m[0, 1], config[:2])


def shaped(rng, x):
    kind = rng.integers(6)
    if kind == 0:
        return jnp.transpose(x)
    if kind == 1:
        return jnp.flip(x, int(rng.integers(x.ndim)))
    if kind == 2:
        return jnp.roll(x, int(rng.integers(5)), axis=0)
    if kind == 3:
        return jnp.concatenate([flat(x)[:3], jnp.ones(1), flat(jnp.sin(x))[-2:]])
    if kind == 4:
        return jnp.repeat(flat(x)[:5], np.array([2, 0, 1, 1, 2])[: min(5, x.size)])
    return jnp.stack([flat(x)[:3], flat(x)[-3:]], axis=1)


def reduced(rng, x):
    own = (jnp.sum, jnp.prod, jnp.max, jnp.min, jax.nn.logsumexp, jnp.mean)[rng.integers(6)]
    axis = int(rng.integers(x.ndim))
    return own(x, axis=axis, keepdims=True) * jnp.sin(x)


def generally_reduced(rng, x):
    del rng
    best = lambda p, q: (p[0] + q[0], p[1] * q[1])  # noqa: E731
    found = lax.reduce((square(x), jnp.cos(square(x))), (jnp.float32(0), jnp.float32(1)), best, [1])
    return jnp.stack(found)


SMOOTH = (jnp.sin, jnp.tanh, jnp.exp, lambda x: x**3, lambda x: 1 / (2 + x**2), jnp.abs)


def elementwise(rng, x):
    return SMOOTH[rng.integers(len(SMOOTH))](x)


def mixed(rng, x):
    kind = rng.integers(4)
    if kind == 0:
        return jnp.maximum(x, jnp.flip(x)) * jnp.minimum(x, 0.5)
    if kind == 1:
        return jnp.clip(x, flat(x)[0] - 1, flat(x)[-1] + 1)
    if kind == 2:
        return jnp.fmod(x, 0.7) + jnp.arctan2(x, 2 + jnp.flip(x))
    return lax.real(lax.complex(x, jnp.flip(x)) ** 2) + lax.stop_gradient(jnp.flip(x)) * x


RULES = (
    *(gather, gather_pairs, gather_rows, along_axis, scatter, scatter_pairs, scatter_rows),
    *(segments, sliced, updated, updated_rows, cumulative, ordered, windows, product_windows),
    *(convolved, selected, masked, multiplied, rounds, scanned, branches, branches_by_rows, ruled),
    *(solved, factors, spectral, padded, shaped, reduced, generally_reduced, elementwise, mixed),
)


def draw(seed):
    """Return a program of one argument and its shape."""
    rng = np.random.default_rng(seed)
    shape = ((7,), (2, 3), (3, 3), (4, 2), (2, 2, 2))[rng.integers(5)]
    plan = [(int(rng.integers(len(RULES))), int(rng.integers(2**31))) for _ in range(4)]
    plan += [(int(seed % len(RULES)), int(rng.integers(2**31)))]  # each rule in turn

    def fun(x):
        pool = [x]
        for rule, numbers in plan:
            own = np.random.default_rng(numbers)
            x = pool[-1] if own.random() < 0.7 else pool[own.integers(len(pool))]
            turned = own.random() < 0.2 and RULES[rule] not in (rounds, ruled, product_windows)
            new = _slope(RULES[rule], numbers, x) if turned else RULES[rule](own, x)
            if 0 < new.size <= LARGEST:
                pool.append(new if new.ndim else new[None])
        return jnp.concatenate([flat(y) for y in pool[1:]] or [flat(x)])

    return fun, shape


def _slope(rule, numbers, x):
    """Return the gradient of a sum of squares, in which the rule stands turned round."""

    def total(x):
        return jnp.sum(jnp.sin(rule(np.random.default_rng(numbers), x)))

    return jax.grad(total)(x)


def _by_columns(fun, x):
    """Return the Jacobian one column after another: some operations refuse vmap of jvp."""
    units = jnp.eye(x.size, dtype=x.dtype).reshape(-1, *x.shape)
    return lax.map(lambda t: jax.jvp(fun, (x,), (t,))[1], units).T


def faults(seed):
    """Return the entries that the pattern misses, how many it has, are nonzero, and are in all."""
    fun, shape = draw(seed)
    rng = np.random.default_rng(seed)
    points = rng.uniform(-1.3, 1.3, (POINTS, *shape)).astype(np.float32)
    found = sparsity(fun, jax.ShapeDtypeStruct(shape, np.float32)).toarray()
    try:
        jacobian = oracles.quickly_compiled(lambda x: _by_columns(fun, x)).lower(points[0])
    except TypeError:  # a rule for reverse mode alone
        jacobian = oracles.quickly_compiled(jax.jacrev(fun)).lower(points[0])
    jacobian = jacobian.compile()
    jacobians = np.stack([np.asarray(jacobian(x)).reshape(found.shape) for x in points])
    nonzero = np.any((jacobians != 0) & np.isfinite(jacobians), axis=0)
    return np.argwhere(nonzero & ~found), found.sum(), nonzero.sum(), found.size


def main(first, count):
    """Try so many programs and print what is wrong."""
    kept = nonzero = size = wrong = refused = 0
    for seed in range(first, first + count):
        try:
            missed, entries, true, full = faults(seed)
        except Exception as error:
            refused += 1
            print(seed, type(error).__name__, str(error)[:200].replace("\n", " "), flush=True)
            continue
        wrong += len(missed) > 0
        kept, nonzero, size = kept + entries, nonzero + true, size + full
        if len(missed):
            print(f"{seed} misses {missed.tolist()[:5]}", flush=True)
    print(f"programs {count}, refused {refused}, wrong {wrong}; jax {jax.__version__}")
    print(f"entries {size}, in the patterns {kept}, nonzero {nonzero}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
