"""Random programs, and their Jacobians in every mode and order beside those of JAX.

`draw(seed)` gives a program: some steps over a pool of arrays, which begins with the arguments.
Results are taken from the pool with repetition, so that outputs stand twice, are arguments,
constants or empty, and are needed by other steps. As a script it tries many more than the tests
do: `PYTHONPATH=.:tests python tests/jacobians/random_programs.py FIRST COUNT [JIT] [SPARSE]`, where
JIT and SPARSE say that every so many programs are compiled, or tried in sparse mode, too.
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import oracles
from jax.experimental.sparse import BCOO

from adlab import graphs
from adlab.graphs.elimination import ARRAY_LIMIT
from adlab.jacobians import jacobian

ORDERS = ("forward", "reverse", "markowitz", "optimal")
MODES = ("auto", "forward", "reverse", "mixed")
LIKE = {"mode forward": "jacfwd", "mode reverse": "jacrev"}  # whose limits they share
CLOSE = {"rtol": 1e-9, "atol": 1e-10}  # float64; a step's slope may be 10 times the result
# Arrays of few shapes: eager operations met before aren't compiled again.
ARGUMENTS = (
    ((3,),), ((3,), ()), ((), (3,)), ((3,), (0,)), ((2, 3),), ((3,), (3,)), ((), (0,)), ((),),
)  # fmt: skip
ROWS = 8  # constants fill the outputs up to a multiple of so many numbers


@jax.custom_jvp
def tripled(x):
    return jnp.sin(x)


tripled.defjvp(lambda p, t: (tripled(*p), 3 * t[0]))  # not the derivative: the rule is what counts


@jax.custom_vjp
def backward_only(x):
    return jnp.cos(x)


backward_only.defvjp(lambda x: (jnp.cos(x), x), lambda x, g: (2.0 * x * g,))


def _row(x):
    """Return three numbers made of any array."""
    if x.shape == (0,):
        return jnp.full(3, 0.5)
    return x[1] if x.ndim == 2 else jnp.broadcast_to(x, (3,))


def _scan(x):
    x = _row(x)
    last, every = jax.lax.scan(lambda c, a: (jnp.sin(c) * a, c + a), x[0], x)
    return last + every


def _scan_unused(x):
    """Two carries; no output needs the last of the first."""
    step = lambda c, _: ((c[0] * c[1], jnp.tanh(c[1])), c[0])  # noqa: E731
    return jax.lax.scan(step, (x, x), None, length=2)[1][1]


def _while(x):
    step = lambda c: (c[0] + 1, jnp.sin(c[1]) * x)  # noqa: E731
    return jax.lax.while_loop(lambda c: c[0] < 2, step, (0, x))[1]


def _cond(x):
    branches = (lambda x: (x, 2.0 * x), lambda x: (jnp.sin(x), jnp.zeros_like(x)))
    first, second = jax.lax.cond(jnp.sum(x) > 0.3, *branches, x)
    return first + second * x


def _switch(x):
    place = jnp.asarray(jnp.sum(x) * 2).astype(int)
    return jax.lax.switch(place, [jnp.sin, jnp.cos, jnp.tanh], x)


@jax.jit
def _compiled(x):
    return jnp.sin(x), jnp.sin(x), x


def _spectrum(x):
    z = jnp.fft.fft(_row(x))
    return jnp.abs(z * jnp.exp(0.3j * z) + jnp.conj(z))


def _real(x):
    return jax.lax.imag(jax.lax.complex(x, 2.0 * x) * jax.lax.complex(jnp.cos(x), x))


TALL = np.random.default_rng(0).normal(size=(6, 3))
ONE = (
    *(jnp.sin, jnp.tanh, jnp.abs, jnp.exp, tripled, jnp.negative, lambda x: 3.0 * x),
    *(lambda x: x * x, lambda x: 0.0 * x, jax.lax.stop_gradient, jax.nn.relu, jnp.sum),
    lambda x: jnp.floor(3.0 * x).astype(int).astype(float) + x,
    lambda x: jnp.where(x > 0, x, 2.0 * x),
    *(lambda x: jnp.sum(x, 0) if x.ndim == 2 else x, lambda x: x[::-1] if x.ndim else x),
    *(lambda x: x.reshape(-1)[:0], lambda x: jnp.zeros((0, 3)) @ _row(x)),  # empty
    *(lambda x: jnp.sum(x.reshape(-1)[:0]) + x, lambda x: jnp.outer(jnp.ones(2), _row(x))),
    *(lambda x: (TALL @ _row(x)).reshape(2, 3), lambda x: TALL.T @ jnp.sin(TALL @ _row(x))),
    *(lambda x: _row(x)[np.array([2, 0, 2])], lambda x: jnp.cumsum(_row(x))),
    lambda x: jnp.concatenate([_row(x)[1:], jnp.sum(x)[None]]),
    *(lambda x: _compiled(x)[1], jax.checkpoint(jnp.sin), _real),
)
LARGE = (_scan, _scan_unused, _cond, _switch, _spectrum, lambda x: jax.nn.softmax(_row(x)))
RARE = (backward_only, _while)  # with one of these a program has one mode
TWO = (
    *(jnp.add, jnp.subtract, jnp.multiply, jnp.maximum, lambda x, y: x / (1.0 + y * y)),
    *(lambda x, y: jnp.where(y > 0, x, y), lambda x, y: jnp.vdot(x, y)),
)


def draw(seed):
    """Return fun and args: a few arrays in a tree, to be differentiated in all of them."""
    rng = np.random.default_rng(seed)
    shapes = ARGUMENTS[rng.integers(len(ARGUMENTS))]
    leaves = [jnp.asarray(rng.uniform(-1, 1, shape)) for shape in shapes]
    args = [tuple(leaves), ({"b": leaves[1:], "a": (leaves[0], None)},)][rng.integers(2)]
    rare = rng.random() < 0.1
    first = (RARE if rare else LARGE)[rng.integers(2 if rare else len(LARGE))]
    large = rng.integers(6) if rare or rng.random() < 0.3 else -1  # where it stands
    plan = [(rng.random(), *rng.integers(0, 2**16, 3)) for _ in range(rng.integers(2, 8))]
    ends = [(rng.random(), *rng.integers(0, 2**16, 2)) for _ in range(rng.integers(1, 5))]
    form = rng.integers(3)

    def fun(*args):
        pool = jax.tree.leaves(args)
        for k, (kind, *picks) in enumerate(plan):
            x = pool[_late(picks[0], len(pool))]
            pool.append(first(x) if k == large else _step(pool, x, kind, picks))
        found = [_end(pool, kind, picks) for kind, *picks in ends]
        found.append(jnp.sin(pool[-1]) if form else pool[len(leaves)])
        size = sum(np.size(leaf) for leaf in found)
        missing = -size % ROWS if size else ROWS
        if missing:
            found.append(jnp.ones(missing) if missing > 1 else 1.5)
        return [tuple(found), {"y": found[1:], "x": [None, found[0]]}, found][form]

    return fun, args


def _step(pool, x, kind, picks):
    if kind < 0.65:
        return ONE[picks[1] % len(ONE)](x)
    mates = [y for y in pool if y.shape == x.shape]
    y = mates[picks[2] % len(mates)] if kind < 0.9 else jnp.sum(pool[picks[2] % len(pool)])
    return TWO[picks[1] % len(TWO)](x, jnp.broadcast_to(y, x.shape))


def _late(pick, size):
    """Half of all operands are the last result, so that chains grow."""
    return size - 1 if pick % 2 else pick // 2 % size


def _end(pool, kind, picks):
    x = pool[picks[0] % len(pool)]
    if kind < 0.6:
        return x
    if kind < 0.75:  # computed again
        return jnp.sin(pool[-1])
    return [jnp.ones(3), 1.0, jnp.zeros((0, 2)), jnp.tanh(x), jnp.full(x.shape, 0.5)][picks[1] % 5]


def references(fun, args):
    """Return JAX's Jacobians in all arguments, by name, in the modes that the program has."""
    places = tuple(range(len(args)))
    found = {}
    for transform, error in ((jax.jacfwd, TypeError), (jax.jacrev, ValueError)):
        try:
            found[transform.__name__] = transform(fun, places)(*args)
        except error as problem:
            if "forward-mode" not in str(problem) and "Reverse-mode" not in str(problem):
                raise
    return found


def ways(fun, args, *, sparse=False):
    """Return ways to the Jacobian by name."""
    graph = graphs.build(fun, *jax.eval_shape(lambda *args: args, *args))
    vertices = len(graphs.eliminate(graph, "forward").order)
    orders = ORDERS if vertices <= ARRAY_LIMIT else ORDERS[:3]
    found = {f"order {order}": graphs.eliminate(graph, order).jacobian for order in orders}
    places = tuple(range(len(args)))
    for mode in (*MODES, *["sparse"] * sparse):
        found[f"mode {mode}"] = jacobian(fun, mode=mode, argnums=places)
    return found


def faults(seed, *, compiled=False, sparse=False):
    """Return what is wrong with the program's Jacobians, and how many ways were tried.

    compiled: all ways in one program, with JAX's.
    """
    fun, args = draw(seed)
    problems = {}

    def run(*args):
        expected, found = references(fun, args), {}
        for name, way in ways(fun, args, sparse=sparse).items():
            if LIKE.get(name, "") in {"", *expected}:
                try:
                    found[name] = way(*args)
                except Exception as error:
                    problems[name] = f"{type(error).__name__} {str(error)[:200]}"
        return expected, found

    expected, found = (oracles.quickly_compiled(run) if compiled else run)(*args)
    wrong = [f"{seed} {name}: {text}" for name, text in problems.items()]
    wrong += [
        f"{seed} {name} beside {by}: {text}"
        for name, one in found.items()
        for by, other in expected.items()
        if (text := _difference(one, other))
    ]
    return wrong, len(found) + len(problems)


def _difference(found, expected):
    found = jax.tree.map(_dense, found, is_leaf=lambda b: isinstance(b, BCOO))
    if jax.tree.structure(found) != jax.tree.structure(expected):
        return f"{jax.tree.structure(found)} for {jax.tree.structure(expected)}"
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        if (one.shape, one.dtype) != (other.shape, other.dtype):
            return f"{one.shape} {one.dtype} for {other.shape} {other.dtype}"
        if not np.allclose(one, other, **CLOSE):
            return f"{np.asarray(one).tolist()} for {np.asarray(other).tolist()}"
    return ""


def _dense(block):
    if not isinstance(block, BCOO):
        return block
    if not block.shape:
        return np.sum(block.data, dtype=block.dtype)
    matrix = np.zeros(block.shape, block.dtype)
    np.add.at(matrix, tuple(np.asarray(block.indices).T), np.asarray(block.data))
    return matrix


def main(first, count, jit=0, sparse=0):
    """Try so many programs and print what is wrong."""
    jax.config.update("jax_enable_x64", True)
    wrong = tried = programs = 0
    for seed in range(first, first + count):
        for options in (
            {"sparse": bool(sparse) and seed % sparse == 0},
            *([{"compiled": True}] if jit and seed % jit == 0 else []),
        ):
            found, ways_tried = faults(seed, **options)
            tried += ways_tried
            wrong += len({text.split(" beside")[0] for text in found})
            print(*found, sep="\n", end="\n" if found else "", flush=True)
        programs += 1
        if seed % 100 == 99:
            print(f"programs {programs}, Jacobians {tried}, wrong {wrong}", flush=True)
    print(f"programs {programs}, Jacobians {tried}, wrong {wrong}; jax {jax.__version__}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
