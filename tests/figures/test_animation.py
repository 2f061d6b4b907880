"""The chain at its moments: what is filled is what is stored, and the GIF has a frame for each."""

import numpy as np
import pytest

from adlab.figures import animation, panels, style

STORED = np.array([[1, 0, 0], [1, 1, 0], [1, 0, 0], [0, 0, 0]], bool)
CURRENT, LEFT = np.array([0, 1, 2, 0]), np.array([3, 3, 2, 1])


def test_the_timeline_fills_what_is_stored():
    with style.context():
        _, axes = panels.grid()
        animation.timeline(axes[0, 0], STORED, CURRENT, title="three steps")
    (image,) = axes[0, 0].images
    np.testing.assert_array_equal(image.get_array(), STORED.T)
    np.testing.assert_array_equal(axes[0, 0].lines[0].get_ydata(), CURRENT)


def test_a_moment_tells_stored_current_and_done_apart():
    with style.context():
        _, axes = panels.grid()
        animation.states(axes[0, 0], STORED[1], current=1, left=2)
    first, second, third = axes[0, 0].patches
    assert first.get_facecolor() == second.get_facecolor() != third.get_facecolor()
    assert second.get_linewidth() > first.get_linewidth() == third.get_linewidth()
    assert third.get_edgecolor() != first.get_edgecolor()


@pytest.mark.parametrize("lang", ["en", "ru"])
def test_the_gif_has_a_frame_per_action(tmp_path, lang):
    with style.context(lang):
        path = animation.animate(STORED, CURRENT, LEFT, tmp_path / "new" / "chain.gif", fps=5)
    data = path.read_bytes()
    assert data.startswith(b"GIF89a")
    # A frame opens with a graphic control extension: size, flags, hundredths of a second.
    delays = [int.from_bytes(part[1:3], "little") for part in data.split(b"\x21\xf9\x04")[1:]]
    assert delays == [20] * 4


def test_arrays_of_different_lengths_are_refused(tmp_path):
    with pytest.raises(ValueError, match="one entry per action"):
        animation.animate(STORED, CURRENT[:2], LEFT, tmp_path / "chain.gif")
    with pytest.raises(ValueError, match="one entry per action"):
        animation.animate(STORED[:0], CURRENT[:0], LEFT[:0], tmp_path / "chain.gif")
