"""Every number of a tree lies in one block, whoever asks for it; laws hold across blocks."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from adlab.core import _blocks, probes
from adlab.core._redrawn import redrawn

SHAPES = {
    "bias": (7,), "tall": (300, 301), "none": (0, 3), "long": (70_000,), "deep": (3, 3, 129, 65),
    "one": (),
}  # fmt: skip
TREE = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in SHAPES.items()}
LEAVES = jax.tree.leaves(TREE)
SIZE = sum(math.prod(shape) for shape in SHAPES.values())
KEY = jax.random.key(3)
LAWS = ("sphere", "gaussian", "rademacher", "coordinate")


def numbered(block):
    """The number of its block, and how many numbers of that come before, for each number."""
    tile = jnp.arange(math.prod(block.tile), dtype=jnp.float32)
    return block.cut(tile) + 1e5 * jnp.asarray(block.number, jnp.float32)


@pytest.fixture(scope="module")
def numbers():
    return oracles.quickly_compiled(
        lambda: _blocks.visit(LEAVES, numbered, lambda u: (u, (jnp.sum(u * 0 + 1),)), into=LEAVES)
    )()


def test_every_number_is_written_once_and_has_a_place_of_its_own(numbers):
    leaves, (count,) = numbers
    assert [leaf.shape for leaf in leaves] == [leaf.shape for leaf in LEAVES]
    assert count == SIZE
    places = np.concatenate([np.asarray(leaf).ravel() for leaf in leaves])
    assert len(np.unique(places)) == SIZE
    grid = _blocks.grid_of(LEAVES)
    assert grid.size == SIZE
    assert set(np.floor(places / 1e5)) == set(range(grid.count))


def test_small_leaves_share_a_block_and_large_ones_are_cut_along_their_last_axes(numbers):
    blocks = {name: np.unique(np.asarray(leaf) // 1e5) for name, leaf in
              zip(sorted(SHAPES), numbers[0], strict=True)}  # fmt: skip
    assert blocks["bias"].tolist() == blocks["one"].tolist()
    tall = np.asarray(numbers[0][sorted(SHAPES).index("tall")]) // 1e5
    assert len(np.unique(tall[:256, :256])) == 1
    assert len(np.unique(tall)) == 4  # 300 x 301 in tiles of 256 x 256


@pytest.mark.parametrize(
    ("shape", "tile"),
    [
        ((24, 512, 512), (1, 256, 256)), ((50_257, 768), (256, 256)), ((10**6,), (65_536,)),
        ((9, 9, 64, 64), (1, 9, 64, 64)), ((2, 10**6), (2, 32_768)), ((10**6, 3), (16_384, 3)),
    ],
)  # fmt: skip
def test_tiles_hold_at_most_the_capacity_in_edges_that_suit_matrices(shape, tile):
    assert _blocks._tile(shape) == tile
    assert math.prod(tile) <= _blocks.CAPACITY


def test_what_is_read_and_changed_is_what_lies_at_the_same_place(numbers):
    @oracles.quickly_compiled
    def changed(leaves):
        return _blocks.visit(
            LEAVES, numbered, lambda u, at: (at - u, (jnp.sum(jnp.abs(at - u)),)),
            into=leaves, update=True,
        )  # fmt: skip

    leaves, (total,) = changed(numbers[0])
    assert total == 0
    assert all(not np.any(leaf) for leaf in leaves)


def test_leaves_that_devices_share_out_get_the_same_numbers_without_a_collective():
    for kind in (AxisType.Auto, AxisType.Explicit):
        mesh = jax.make_mesh((4, 2), ("a", "b"), axis_types=(kind,) * 2)
        for spec in (P("a", "b"), P(None, ("b", "a"))):
            sharding = NamedSharding(mesh, spec)
            like = [jax.ShapeDtypeStruct((512, 512), jnp.float32, sharding=sharding)]
            x = jax.device_put(np.zeros((512, 512), np.float32), sharding)

            def drawn(x, like=like):
                return _blocks.visit(
                    like, numbered, lambda u, at: (at + u, ()), into=[x], update=True
                )[0]

            program = oracles.quickly_compiled(drawn).lower(x).compile()
            alone = [jax.ShapeDtypeStruct((512, 512), jnp.float32)]
            expected = oracles.quickly_compiled(
                lambda alone=alone: _blocks.visit(alone, numbered, lambda u: (u, ()), into=alone)[0]
            )()
            np.testing.assert_array_equal(program(x)[0], expected[0])
            words = program.as_text()
            for name in ("all-gather", "all-reduce", "collective-permute", "all-to-all"):
                assert f" {name}" not in words


@pytest.mark.parametrize(("size", "apart"), [(80_000, False), (1 << 17, True)])
def test_devices_draw_their_parts_where_these_and_tiles_have_large_cells_in_common(size, apart):
    mesh = jax.make_mesh((8,), ("a",), axis_types=(AxisType.Auto,))
    like = [jax.ShapeDtypeStruct((size,), jnp.float32, sharding=NamedSharding(mesh, P("a")))]
    program = jax.make_jaxpr(lambda: _blocks.visit(like, numbered, lambda u: (u, ()), into=like))()
    # A part of 10,000 and a tile of 65,536 have cells of 16 in common, each of which draws a tile.
    assert ("shard_map" in str(program)) is apart


@pytest.mark.parametrize(("join", "total"), [(jnp.add, 512 * 512), (jnp.maximum, 256 * 256)])
def test_sums_are_taken_over_all_devices(join, total):
    mesh = jax.make_mesh((4, 2), ("a", "b"), axis_types=(AxisType.Auto,) * 2)
    sharding = NamedSharding(mesh, P(None, ("b", "a")))
    like = [jax.ShapeDtypeStruct((512, 512), jnp.float32, sharding=sharding)]

    def places(block):
        return block.cut(1 + jnp.arange(math.prod(block.tile), dtype=jnp.float32))

    def terms(u, at):
        return None, ((jnp.sum(at) if join is jnp.add else jnp.max(u)),)

    @oracles.quickly_compiled
    def summed(x):
        return _blocks.visit(like, places, terms, [x], join=join)[1]

    (found,) = summed(jax.device_put(np.ones((512, 512), np.float32), sharding))
    assert found == total


@pytest.mark.parametrize("law", LAWS)
def test_a_probe_is_the_same_drawn_as_a_whole_and_part_by_part(law):
    named = probes.resolve(law)

    @oracles.quickly_compiled
    def both(key):
        probe = redrawn(named, TREE, key)
        return named(TREE, key=key), probe.visit(
            lambda u, at: (None, (jnp.sum(jnp.abs(u - at)), jnp.sum(u * u))), named(TREE, key=key)
        )[1]

    whole, (differ, square) = both(KEY)
    assert differ == 0
    if law != "gaussian":
        np.testing.assert_allclose(square, SIZE, rtol=1e-5)  # float32 sums of 200,000 squares
    if law == "coordinate":
        assert sum(int(np.sum(np.asarray(leaf) != 0)) for leaf in jax.tree.leaves(whole)) == 1


@pytest.mark.parametrize("law", ["gaussian", "rademacher"])
def test_numbers_of_different_blocks_and_probes_are_independent_and_of_variance_one(law):
    named, count = probes.resolve(law), 400
    like = jax.ShapeDtypeStruct((300, 301), jnp.float32)

    @oracles.quickly_compiled
    def ends(keys):
        def one(key):
            u = named(like, key=key)
            return jnp.stack([u[0, 0], u[0, 255], u[0, 256], u[255, 0], u[256, 0], u[299, 300]])

        return jax.lax.map(one, keys)

    u = np.asarray(ends(jax.random.split(KEY, count)), np.float64)
    oracles.assert_mean_is(0.0, u, round_off=1e-6)
    products = np.stack([u[:, i] * u[:, j] for i in range(6) for j in range(i)], axis=1)
    oracles.assert_mean_is(0.0, products, round_off=1e-6)
    oracles.assert_mean_is(1.0, u**2, round_off=1e-5)


def test_coordinates_are_met_as_often_as_they_are_many():
    law, count = probes.coordinate, 600

    @oracles.quickly_compiled
    def leaves_hit(keys):
        def one(key):
            return jnp.stack([jnp.any(leaf != 0) for leaf in jax.tree.leaves(law(TREE, key=key))])

        return jax.lax.map(one, keys)

    hit = np.asarray(leaves_hit(jax.random.split(KEY, count)), np.float64)
    shares = np.array([math.prod(leaf.shape) for leaf in LEAVES]) / SIZE
    error = np.abs(hit.mean(axis=0) - shares)
    assert np.all(error <= 5 * np.sqrt(shares * (1 - shares) / count) + 1e-12)
