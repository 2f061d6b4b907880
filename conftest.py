"""Names that the examples in docstrings use without importing them."""

import pytest


@pytest.fixture(autouse=True)
def _examples(doctest_namespace: dict[str, object]) -> None:
    import jax  # here, so that tests/conftest.py sets the environment before jax reads it
    import jax.numpy as jnp
    import numpy as np

    from adlab import gradients

    doctest_namespace |= {"jax": jax, "jnp": jnp, "np": np}
    doctest_namespace |= {name: getattr(gradients, name) for name in gradients.__all__}
