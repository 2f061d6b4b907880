"""Movies: a figure that is drawn again and again, written as a GIF or, where ffmpeg is, as MP4."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.animation import FFMpegWriter, PillowWriter
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from adlab.figures.finish import finish

__all__ = ["SUFFIXES", "Movie", "require_writer"]

SUFFIXES = (".gif", ".mp4")


@dataclasses.dataclass(frozen=True)
class Movie:
    """A figure with what makes each of its frames.

    Attributes:
      figure: drawn on by `draw`.
      draw: makes frame k, 0 to frames - 1, in order; what it leaves there goes on to the next one.
      frames: their number, at least 1.
      fps: frames per second, above 0; below 1 where a frame stays for longer than a second.
      hold: seconds for which the last frame stays.
      dpi: pixels per inch.
    """

    figure: Figure
    draw: Callable[[int], None]
    frames: int
    fps: float = 12
    hold: float = 0.0
    dpi: int = 72

    def __post_init__(self) -> None:
        for name in ("frames", "dpi"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be >= 1, got {getattr(self, name)}")
        if not 0 < self.fps < math.inf:
            raise ValueError(f"fps must be > 0 and finite, got {self.fps}")
        if not self.hold >= 0:
            raise ValueError(f"hold must be >= 0, got {self.hold}")

    def save(self, path: str | Path) -> Path:
        """Write the movie; the suffix of `path` says how. The same movie gives the same GIF.

        The layout is settled at the first frame. The file appears when it is complete; missing
        folders are made.

        Args:
          path: ending in .gif, or in .mp4 where ffmpeg is on the PATH.

        Returns:
          The path.

        Raises:
          ValueError: another suffix.
          FileNotFoundError: .mp4 without ffmpeg.
        """
        path = Path(path)
        require_writer(path.suffix)
        path.parent.mkdir(parents=True, exist_ok=True)
        rate: Any = self.fps  # declared as an integer, used as a number
        writer: Any = (PillowWriter if path.suffix == ".gif" else FFMpegWriter)(fps=rate)
        unfinished = path.with_name(f".{path.name}")
        FigureCanvasAgg(self.figure)
        try:
            writer.setup(self.figure, str(unfinished), self.dpi)
            try:
                self._grab(writer.grab_frame)
            except BaseException:
                with contextlib.suppress(Exception):  # without frames it fails, and hides why
                    writer.finish()
                raise
            writer.finish()
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
        return path

    def _grab(self, frame: Callable[[], None]) -> None:
        for k in range(self.frames):
            self.draw(k)
            finish(self.figure)
            if k == 0:
                self.figure.draw_without_rendering()
                self.figure.set_layout_engine("none")
            frame()
        for _ in range(round(self.hold * self.fps)):
            frame()


def require_writer(suffix: str) -> None:
    """Raise unless a movie with this suffix, such as ".gif", can be written here.

    Raises:
      ValueError: it is none of `SUFFIXES`.
      FileNotFoundError: it is ".mp4", and there is no ffmpeg.
    """
    if suffix not in SUFFIXES:
        raise ValueError(f"a movie's suffix must be one of {', '.join(SUFFIXES)}, got '{suffix}'")
    program = mpl.rcParams["animation.ffmpeg_path"]
    if suffix == ".mp4" and shutil.which(program) is None:
        raise FileNotFoundError(
            f"an .mp4 needs the program {program} on the PATH, and there is none: install it, or "
            "write a .gif"
        )
