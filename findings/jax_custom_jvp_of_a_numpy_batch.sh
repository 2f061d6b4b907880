#!/usr/bin/env bash
# jax 0.12.0 and 0.10.2: a function with a rule of its own, mapped over a NumPy array inside jit, raises.
#
# One would guess that jax.vmap takes a NumPy array wherever it takes one of JAX, inside jit too, and
# that a function's own rule for derivatives changes nothing where none is taken. The map of the
# plain function and that of JAX's array work; with jax.custom_jvp and the NumPy array there is an
# AssertionError that speaks of a "non-canonical constant", and names neither vmap nor the function.
#
# Why: vmap wraps the array as it is given, and primitives turn it into a constant of JAX when they
# are bound with it. The batching of custom_jvp_call (jax.interpreters.batching) binds the call anew
# with the bare array; tracing of the call under jit (jax.interpreters.partial_eval) makes it a
# constant of the program without that conversion, which lowering then refuses. jax.nn.relu has such
# a rule, so that a plain network meets it. jnp.asarray before the map mends it.
#
# Output seen (Python 3.11 with 0.10.2, 3.12 with 0.12.0; CPU), the same for both versions:
#   plain function, NumPy array: [0. 1. 2.]
#   rule of its own, array of JAX: [0. 1. 2.]
#   rule of its own, NumPy array: AssertionError: non-canonical constant of type ndarray
#   jax.nn.relu, NumPy array: AssertionError: non-canonical constant of type ndarray
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
version=0.10.2
"$work/venv/bin/python" -c 'import sys; sys.exit(sys.version_info < (3, 12))' && version=0.12.0
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check "jax==$version"
JAX_PLATFORMS=cpu "$work/venv/bin/python" - <<'PYTHON'
import jax
import jax.numpy as jnp
import numpy as np


def plain(x):
    return x * 1.0


@jax.custom_jvp
def ruled(x):
    return x * 1.0


ruled.defjvp(lambda primals, tangents: (ruled(*primals), tangents[0]))
numbers = np.arange(3, dtype=np.float32)


def told(fun, array):
    try:
        return str(jax.jit(lambda: jax.vmap(fun)(array() if callable(array) else array))())
    except AssertionError as error:
        return f"AssertionError: {str(error).partition(':')[0]}"


found = {
    "plain function, NumPy array": told(plain, numbers),
    "rule of its own, array of JAX": told(ruled, lambda: jnp.asarray(numbers)),
    "rule of its own, NumPy array": told(ruled, numbers),
    "jax.nn.relu, NumPy array": told(jax.nn.relu, numbers),
}
print(jax.__version__)
for name, result in found.items():
    print(f"{name}: {result}")
refused = "AssertionError: non-canonical constant of type ndarray"
assert list(found.values()) == ["[0. 1. 2.]"] * 2 + [refused] * 2, found
PYTHON
