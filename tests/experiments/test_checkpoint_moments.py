"""The chain at its moments: what is filled is what is stored; the movie shows each of them."""

import numpy as np
import parts
import pytest

from adlab.figures import panels, style

pictures = parts.part("checkpoint_schedules", "pictures")

STORED = np.array([[1, 0, 0], [1, 1, 0], [1, 0, 0], [0, 0, 0]], bool)
CURRENT, LEFT = np.array([0, 1, 2, 0]), np.array([3, 3, 2, 1])


def test_the_timeline_fills_what_is_stored():
    with style.context():
        _, axes = panels.grid()
        pictures.timeline(axes[0, 0], STORED, CURRENT, title="three steps")
    (image,) = axes[0, 0].images
    np.testing.assert_array_equal(image.get_array(), STORED.T)
    np.testing.assert_array_equal(axes[0, 0].lines[0].get_ydata(), CURRENT)


def test_a_moment_tells_stored_current_and_done_apart():
    with style.context():
        _, axes = panels.grid()
        pictures.states(axes[0, 0], STORED[1], current=1, left=2)
    first, second, third = axes[0, 0].patches
    assert first.get_facecolor() == second.get_facecolor() != third.get_facecolor()
    assert second.get_linewidth() > first.get_linewidth() == third.get_linewidth()
    assert third.get_edgecolor() != first.get_edgecolor()


@pytest.mark.parametrize("lang", ["en", "ru"])
def test_the_movie_has_a_frame_per_action(lang):
    with style.context(lang):
        movie = pictures.movie(STORED, CURRENT, LEFT, fps=5)
        assert (movie.frames, movie.fps) == (4, 5)
        (ax,) = movie.figure.axes
        for k in range(4):
            movie.draw(k)
            assert ax.get_title(loc="left") == pictures.caption(STORED[k].sum(), 4, k)
            assert len(ax.patches) == 3


def test_arrays_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="one entry per action"):
        pictures.movie(STORED, CURRENT[:2], LEFT)
    with pytest.raises(ValueError, match="one entry per action"):
        pictures.movie(STORED[:0], CURRENT[:0], LEFT[:0])
