"""A movie as a file: its frames, their time, the same bytes twice, and what can't be written."""

import os

import matplotlib as mpl
import pytest
from matplotlib.figure import Figure

from adlab.figures import animation
from adlab.figures.animation import Movie


def movie(**options):
    figure = Figure(figsize=(2, 1))
    ax = figure.subplots()
    drawn = []

    def draw(k):
        drawn.append(k)
        ax.clear()
        ax.plot([0, 1, 2], [0, k, 2 * k], linewidth=4)

    return Movie(figure, draw, 3, **options), drawn


def delays(data):
    # A frame opens with a graphic control extension: size, flags, hundredths of a second.
    return [int.from_bytes(part[1:3], "little") for part in data.split(b"\x21\xf9\x04")[1:]]


def test_the_gif_has_every_frame_in_order_for_its_time(tmp_path):
    shown, drawn = movie(fps=5)
    path = shown.save(tmp_path / "new" / "lines.gif")
    data = path.read_bytes()
    assert data.startswith(b"GIF89a")
    assert delays(data) == [20, 20, 20]
    assert drawn == [0, 1, 2]
    assert [p.name for p in path.parent.iterdir()] == ["lines.gif"]


def test_a_frame_may_stand_for_longer_than_a_second(tmp_path):
    data = movie(fps=0.5)[0].save(tmp_path / "lines.gif").read_bytes()
    assert delays(data) == [200, 200, 200]


def test_the_last_frame_may_stay(tmp_path):
    data = movie(fps=5, hold=1.0)[0].save(tmp_path / "lines.gif").read_bytes()
    assert delays(data)[:2] == [20, 20]
    assert sum(delays(data)) == 3 * 20 + 100


def test_the_same_movie_gives_the_same_bytes(tmp_path):
    first, second = (movie()[0].save(tmp_path / f"{k}.gif").read_bytes() for k in range(2))
    assert first == second


@pytest.mark.parametrize("wrong", [0, 1])
def test_a_frame_that_fails_leaves_no_file(tmp_path, wrong):
    def draw(k):
        if k == wrong:
            raise ArithmeticError("no such frame")

    with pytest.raises(ArithmeticError):
        Movie(Figure(figsize=(1, 1)), draw, 2).save(tmp_path / "lines.gif")
    assert list(tmp_path.iterdir()) == []


def test_ffmpeg_gets_every_frame_of_an_mp4(tmp_path):
    # A stand-in that stores what it is piped: frames of 4 bytes per pixel.
    program = tmp_path / "ffmpeg"
    program.write_text('#!/bin/sh\nfor last; do :; done\ncat > "$last"\n')
    program.chmod(0o755)
    with mpl.rc_context({"animation.ffmpeg_path": str(program)}):
        path = movie(dpi=50)[0].save(tmp_path / "lines.mp4")
    assert path.stat().st_size == 3 * 4 * 100 * 50


def test_an_mp4_without_ffmpeg_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", os.fspath(tmp_path))
    with pytest.raises(
        FileNotFoundError, match=r"ffmpeg on the PATH.*install it, or write a \.gif"
    ):
        movie()[0].save(tmp_path / "lines.mp4")


def test_another_suffix_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"must be one of \.gif, \.mp4, got '\.avi'"):
        movie()[0].save(tmp_path / "lines.avi")
    with pytest.raises(ValueError, match="got ''"):
        animation.require_writer("")


@pytest.mark.parametrize(
    ("options", "condition"),
    [
        ({"fps": 0}, "> 0"),
        ({"fps": float("nan")}, "> 0"),
        ({"dpi": 0}, ">= 1"),
        ({"hold": -1.0}, ">= 0"),
    ],
)
def test_a_movie_that_makes_no_sense_is_refused(options, condition):
    (name,) = options
    with pytest.raises(ValueError, match=f"{name} must be {condition}"):
        movie(**options)
