"""What is made from a run's stored data: verdicts, figures, movies; and the sheet that vouches.

All is built beside and moved into place file by file, each move at once, so that a figure is never
missing while it is drawn again; `derived.json` is written last, so that what a killed process left
half done is seen and made again. English figures are in `figures/`, others in a folder of their
language there. Whoever writes in a run's folder holds its key.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shlex
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from adlab.figures.labels import LANGUAGES
from adlab.lab import config as configs
from adlab.lab import (
    errors,
    experiment,
    files,
    headings,
    integrity,
    listing,
    provenance,
    regular,
    start,
    store,
)
from adlab.lab.errors import LabError, UsageError, nearest
from adlab.lab.integrity import Made
from adlab.lab.verdict import Verdict

Arrays = Mapping[str, Any]


@dataclass(frozen=True)
class Wanted:
    """What to make.

    Attributes:
      languages: of figures and movies.
      verdicts: whether to judge.
      figures: whether to draw the figures in these languages.
      formats: kinds of files, such as ("pdf",); None for all.
      movies: "gif" or "mp4" to draw the experiment's movies too.
      look: theme, scale and titles where they aren't the usual ones, as `style.context` takes them.
    """

    languages: Collection[str]
    verdicts: bool = True
    figures: bool = True
    formats: Sequence[str] | None = None
    movies: str | None = None
    look: Mapping[str, Any] = field(default_factory=dict)


def chosen(text: str, known: Sequence[str], what: str) -> tuple[str, ...]:
    """Return the words of "en,ru", each once.

    Raises:
      UsageError: one isn't known; the nearest is named.

    >>> chosen("ru,en", ["en", "ru"], "language")
    ('ru', 'en')
    """
    words = tuple(dict.fromkeys(word.strip() for word in text.split(",")))
    for word in words:
        if word not in known:
            raise UsageError(
                f"{what} must be of {', '.join(known)}, got '{word}'{nearest(word, known)}"
            )
    return words


def languages(text: str) -> tuple[str, ...]:
    """Return the languages of "en,ru"; see `chosen`."""
    return chosen(text, LANGUAGES, "the language")


def requested(
    lang: str, formats: str | None, movies: str | None, out: Path | None, look: Mapping[str, Any]
) -> Wanted:
    """Return what `adlab plot` is asked to make.

    Args:
      lang: languages.
      formats: kinds of files; None for all.
      movies: "gif" or "mp4".
      out: where it is written; None for the result's own folder.
      look: what of `style.context` isn't as usual.

    Raises:
      UsageError: a language, format or look isn't known, or goes without `out`; no writer for
        movies.
    """
    if movies is not None:
        require_writer(movies)
    if formats is None and not look:
        return Wanted(languages(lang), movies=movies)
    if out is None:
        raise UsageError(
            "--format, --theme, --scale and --no-title go with --out DIR: a result's own folder "
            "has every format, in the usual look"
        )
    from adlab.figures import finish, style

    try:
        finish.Look(**look)
    except ValueError as error:
        raise UsageError(f"--{error}") from None
    some = None if formats is None else chosen(formats, style.FORMATS, "the format")
    return Wanted(languages(lang), formats=some, movies=movies, look=look)


def lacking(folder: Path, code: str, langs: Collection[str]) -> Wanted:
    """Return what of a run's verdicts and figures is missing, damaged or of other code.

    Args:
      folder: of the run.
      code: hash of the code that makes them today.
      langs: languages in which figures are wanted.
    """
    made = integrity.read_derived(folder)

    def whole(one: Made | None) -> bool:
        return one is not None and one.code == code and not integrity.damaged(folder, one.files)

    absent = [lang for lang in langs if not whole(made.figures.get(lang))]
    return Wanted(absent, verdicts=not whole(made.verdicts))


def outdated(folder: Path, code: str) -> list[str]:
    """Return what was made of a run and isn't whole or of this code any more, and how to remedy it.

    Verdicts, the figures in every language that was drawn, and movies, which are drawn again only
    where somebody asks for them.
    """
    made = integrity.read_derived(folder)
    wanted = lacking(folder, code, made.figures or ("en",))
    again, lines = f"adlab plot {shlex.quote(str(folder))}", []
    if wanted.verdicts or wanted.languages:
        langs = ",".join(lang for lang in LANGUAGES if lang in wanted.languages)
        flag = f" --lang {langs}" if langs not in ("", "en") else ""
        lines.append(f"verdicts and figures aren't: make them again with {again}{flag}")
    for name, films in made.movies.items():
        if films.code != code or integrity.damaged(folder, films.files):
            lang, _, kind = name.partition(".")
            kind = kind or "gif"  # an older sheet has all of a language together
            lines.append(f"{name} movies aren't: {again} --animate {kind} --lang {lang}")
    return lines


def derive(job: configs.Job, folder: Path, wanted: Wanted) -> list[str]:
    """Make what is wanted in a run's folder, and return what failed; the data stay.

    Verdicts and figures see what was timed beside what was computed.
    """
    data, log, problems = arrays(folder), store.Log(folder / "log.txt"), []
    code = provenance.derived(job.head).digest()
    makes: list[Callable[[], None]] = []
    if wanted.verdicts:
        makes.append(partial(_judge, job, data, folder, code))
    for lang in wanted.languages:
        if wanted.figures:
            makes.append(partial(_draw, job, data, folder, code, lang))
        if wanted.movies:
            makes.append(partial(_film, job, data, folder, code, lang, wanted.movies))
    for make in makes:
        try:
            with start.precision(job.config.x64):
                make()
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            with contextlib.suppress(OSError):  # a full disk is reported all the same
                log(traceback.format_exc())
            problems.append(_problem(job, error, folder))
    files.remove(folder / store.FIGURES_NEW)
    return problems


def derive_held(job: configs.Job, folder: Path, wanted: Wanted) -> list[str]:
    """Do what `derive` does in a finished run's folder, while other processes are kept off it.

    Raises:
      LabError: the folder can't be written, or another process computes this run.
    """
    folder = folder.resolve()
    with store.hold(store.Place(folder.parent, folder.name), "plot"):
        return derive(job, folder, wanted)


def draw_elsewhere(job: configs.Job, folder: Path, out: Path, wanted: Wanted) -> list[Path]:
    """Write figures and movies of a run to `out`, laid out as in the run; its folder isn't touched.

    Raises:
      LabError: the experiment fails to draw.
      UsageError: `out` can't be written.
    """
    data, written = arrays(folder), []
    with _building(out) as building:
        try:
            for lang in wanted.languages:
                with start.precision(job.config.x64):
                    _figures(job, data, folder, building, lang, wanted)
                    if wanted.movies:
                        _movies(job, data, building, lang, wanted)
                written += _move(building, place(out, lang))
        except (LabError, KeyboardInterrupt):
            raise
        except BaseException as error:
            raise LabError(_problem(job, error, out)) from error
    return written


def _problem(job: configs.Job, error: BaseException, place: Path) -> str:
    """Say what failed and where; of what the system refused the lab in `place`, what helps."""
    helps = errors.remedy(error)
    if helps and isinstance(error, OSError) and not errors.passes(error, job.sources):
        return f"{job.name}: cannot write {error.filename or place}: {error.strerror}{helps}"
    return f"{job.name}: {experiment.failure(error, job.sources)}"


@contextlib.contextmanager
def _building(out: Path) -> Iterator[Path]:
    """Make a folder in `out` to draw in, for one process at a time, and remove it in the end."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        held = os.open(out, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise _unwritable(out, error) from None
    try:
        fcntl.flock(held, fcntl.LOCK_EX)  # another plot's, that one waits for
        try:
            yield _fresh(out)
        except OSError as error:
            raise _unwritable(out, error) from None
        finally:
            files.remove(out / store.FIGURES_NEW)
    finally:
        os.close(held)


def _unwritable(out: Path, error: OSError) -> UsageError:
    reason = error.strerror or type(error).__name__
    return UsageError(f"cannot write {out}: {reason}{errors.remedy(error)}")


def nothing_moves(job: configs.Job) -> str | None:
    """Say that an experiment has no movies to draw; None where it has."""
    if hasattr(job.module, "movies"):
        return None
    return (
        f"nothing moves in {job.name}: --animate draws nothing; {experiment.shown(job.head)} may "
        "define movies(data, config) -> dict[str, adlab.figures.animation.Movie]"
    )


def require_writer(kind: str) -> None:
    """Raise UsageError unless a movie can be written as `kind`, "gif" or "mp4"."""
    from adlab.figures import animation

    try:
        animation.require_writer(f".{kind}")
    except (ValueError, FileNotFoundError) as error:
        raise UsageError(str(error)) from None


def arrays(folder: Path) -> dict[str, Any]:
    """Return what was computed, with what was timed beside it."""
    data: dict[str, Any] = store.read_arrays(folder / "data.npz")
    done = integrity.read_done(folder)
    timed = (folder / "timings.npz").exists() if done is None else "timings.npz" in done.files
    return data | store.read_arrays(folder / "timings.npz") if timed else data


def _judge(job: configs.Job, data: Arrays, folder: Path, code: str) -> None:
    verdicts = [verdict.to_json() for verdict in job.module.verdicts(data, job.config)]
    store.write_json(folder / "verdicts.json", verdicts)
    made = Made(code=code, files=integrity.hashes(folder, ["verdicts.json"]))
    _vouch(folder, verdicts=made)


def _draw(job: configs.Job, data: Arrays, folder: Path, code: str, lang: str) -> None:
    building = _fresh(folder)
    _figures(job, data, folder, building, lang, Wanted((lang,)))
    made = _published(building, folder, lang, code)
    before = integrity.read_derived(folder).figures
    _drop(folder, before.get(lang), made)
    _vouch(folder, figures={**before, lang: made})


def _drop(folder: Path, older: Made | None, made: Made) -> None:
    """Remove files of what the experiment draws no more."""
    for name in older.files if older else ():
        inside = name.startswith("figures/") and regular.is_regular(folder / name)
        if inside and name not in made.files:
            (folder / name).unlink()


def _film(job: configs.Job, data: Arrays, folder: Path, code: str, lang: str, kind: str) -> None:
    building = _fresh(folder)
    _movies(job, data, building, lang, Wanted((lang,), movies=kind))
    made = _published(building, folder, lang, code)
    before = integrity.read_derived(folder).movies
    _drop(folder, before.get(f"{lang}.{kind}"), made)
    others = {name: films for name, films in before.items() if name != lang}
    _vouch(folder, movies={**others, f"{lang}.{kind}": made})


def _vouch(folder: Path, **changes: Any) -> None:
    made = integrity.read_derived(folder).model_copy(update=changes)
    integrity.write_sheet(folder / "derived.json", made)


def _fresh(folder: Path) -> Path:
    building = folder / store.FIGURES_NEW
    files.remove(building)
    building.mkdir()
    return building


def _published(building: Path, folder: Path, lang: str, code: str) -> Made:
    target = place(folder / "figures", lang)
    for way in (folder / "figures", target):
        if os.path.lexists(way) and not way.is_dir():
            files.aside(way)
    for path in building.iterdir():
        files.clear(target / path.name)
    moved = _move(building, target)
    names = [path.relative_to(folder).as_posix() for path in moved]
    return Made(code=code, files=integrity.hashes(folder, names))


def _move(building: Path, target: Path) -> list[Path]:
    """Move all files of a folder into another, one by one; what has other names there stays."""
    target.mkdir(parents=True, exist_ok=True)
    moved = []
    for path in sorted(building.iterdir()):
        moved.append(path.replace(target / path.name))
    return moved


def place(figures: Path, lang: str) -> Path:
    """Return the folder of the figures in a language, within that of all figures."""
    return figures if lang == "en" else figures / lang


def _figures(
    job: configs.Job, data: Arrays, folder: Path, building: Path, lang: str, wanted: Wanted
) -> None:
    from adlab.figures import style

    more: dict[str, Any] = {} if wanted.formats is None else {"formats": wanted.formats}
    verdicts = _judged(job, data)
    with style.context(lang, note=listing.about(folder).profile or "", **wanted.look):
        for name, figure in headings.figures(job.module, data, job.config, verdicts).items():
            style.save(figure, building / _plain(name), **more)


def _judged(job: configs.Job, data: Arrays) -> list[Verdict]:
    """Return a run's verdicts by the code of today, which titles follow; none where it fails.

    What verdicts.json holds may be older, or somebody's own.
    """
    try:
        return list(job.module.verdicts(data, job.config))
    except KeyboardInterrupt:
        raise
    except BaseException:  # told where they are judged
        return []


def _movies(job: configs.Job, data: Arrays, building: Path, lang: str, wanted: Wanted) -> None:
    from adlab.figures import style

    with style.context(lang, **wanted.look):
        for name, movie in job.module.movies(data, job.config).items():
            movie.save(building / f"{_plain(name)}.{wanted.movies}")


def _plain(name: str) -> str:
    if Path(name).name != name or name.startswith("."):
        raise ValueError(f"the name of a figure must be that of a file, got '{name}'")
    return name
