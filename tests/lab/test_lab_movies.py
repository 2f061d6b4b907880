"""--animate draws an experiment's movies among its figures, and says so where it can't."""

import pytest

from adlab import lab
from adlab.lab import integrity, results
from adlab.lab.cli import main
from adlab.lab.errors import UsageError

MOVIES = """

def movies(data, config):
    from adlab.figures.animation import Movie
    from adlab.figures.labels import current

    figure = Figure(figsize=(1, 1))
    ax = figure.subplots()

    def draw(k):
        if Path("break-movie").exists():
            raise ValueError("the projector is out of order")
        ax.bar([0], data["terms"][k])

    return {f"terms_{current()}": Movie(figure, draw, 2)}
"""


@pytest.fixture
def moving(checkout, monkeypatch):
    def save(figure, stem):
        stem.with_suffix(".svg").write_text(f"{len(figure.axes)} axes")

    monkeypatch.setattr("adlab.figures.style.save", save)  # bytes of figures are another test's
    file = checkout.path / "experiments" / "decay.py"
    file.write_text(file.read_text() + MOVIES)
    return checkout


RUN = ["run", "configs/decay.toml"]


def figures(checkout, lang=""):
    return sorted(p.name for p in (checkout.result / "figures" / lang).iterdir())


def test_movies_are_drawn_when_asked_for_and_only_then(moving, capsys):
    assert main(RUN) == 0
    assert figures(moving) == ["decay.svg"]
    assert main([*RUN, "--animate", "gif"]) == 0  # of the finished run: nothing is computed
    assert moving.computed == ["first", "second"]
    assert figures(moving) == ["decay.svg", "terms_en.gif"]
    assert (moving.result / "figures" / "terms_en.gif").read_bytes().startswith(b"GIF89a")
    assert "figures/terms_en.gif" in capsys.readouterr().out


def test_plot_draws_them_in_its_language_and_keeps_others(moving):
    main([*RUN, "--animate", "gif"])
    assert main(["plot", "decay", "--lang", "ru", "--animate", "gif"]) == 0
    assert main(["plot", "decay", "--lang", "en,ru"]) == 0
    assert figures(moving) == ["decay.svg", "ru", "terms_en.gif"]
    assert figures(moving, "ru") == ["decay.svg", "terms_ru.gif"]


def test_movies_of_older_code_or_damaged_are_told_and_drawn_again(moving):
    main([*RUN, "--animate", "gif"])
    assert results.currency(moving.result) == "current"
    file = moving.path / "experiments" / "decay.py"
    file.write_text(file.read_text().replace("Movie(figure, draw, 2)", "Movie(figure, draw, 1)"))
    main(["plot", "decay"])  # figures alone
    again = f"adlab plot {moving.result}"
    older = f"current, but en.gif movies aren't: {again} --animate gif --lang en"
    assert results.currency(moving.result) == older
    main(["plot", "decay", "--lang", "ru", "--animate", "gif"])  # of today, beside the older one
    assert results.currency(moving.result) == older
    main(["plot", "decay", "--animate", "gif"])
    assert results.currency(moving.result) == "current"
    movie = moving.result / "figures" / "terms_en.gif"
    movie.write_bytes(movie.read_bytes()[:-9])
    assert results.currency(moving.result) == older
    file.write_text(file.read_text().replace('f"terms_{current()}"', '"renamed"'))
    main(["plot", "decay", "--lang", "en,ru", "--animate", "gif"])
    assert results.currency(moving.result) == "current"
    assert figures(moving) == ["decay.svg", "renamed.gif", "ru"]


def test_movies_of_an_older_sheet_are_replaced(moving):
    main(RUN)
    older = integrity.Made(code="old", files={})
    sheet = integrity.read_derived(moving.result).model_copy(update={"movies": {"en": older}})
    integrity.write_sheet(moving.result / "derived.json", sheet)
    told = f"current, but en movies aren't: adlab plot {moving.result} --animate gif --lang en"
    assert results.currency(moving.result) == told
    main(["plot", "decay", "--animate", "gif"])
    assert results.currency(moving.result) == "current"


def test_run_from_python_draws_them_too(moving):
    lab.run("configs/decay.toml", animate="gif")
    assert figures(moving) == ["decay.svg", "terms_en.gif"]
    with pytest.raises(UsageError, match=r"suffix must be one of \.gif, \.mp4, got '\.avi'"):
        lab.run("configs/decay.toml", animate="avi")


@pytest.mark.usefixtures("quick_figures")
def test_an_experiment_in_which_nothing_moves_says_so_and_runs(checkout, capsys):
    assert main([*RUN, "--animate", "gif"]) == 0
    told = capsys.readouterr().out
    assert "nothing moves in decay: --animate draws nothing; experiments/decay.py may" in told
    assert checkout.computed == ["first", "second"]


def test_an_mp4_without_ffmpeg_is_refused_before_it_computes(moving, capsys, monkeypatch):
    monkeypatch.setenv("PATH", str(moving.path))
    assert main([*RUN, "--animate", "mp4"]) == 2
    assert "an .mp4 needs the program ffmpeg" in capsys.readouterr().err
    assert moving.computed == []


def test_plot_draws_figures_where_nothing_moves(moving, capsys):
    main(RUN)
    figure = moving.result / "figures" / "decay.svg"
    figure.write_text("as it was")
    file = moving.path / "experiments" / "decay.py"
    file.write_text(file.read_text().replace("def movies(", "def films("))
    assert main(["plot", "decay", "--animate", "gif"]) == 0
    assert "nothing moves in decay" in capsys.readouterr().out
    assert figure.read_text() != "as it was"


def test_plot_refuses_a_movie_that_it_cannot_write_before_it_draws(moving, capsys, monkeypatch):
    main(RUN)
    figure = moving.result / "figures" / "decay.svg"
    figure.write_text("as it was")
    monkeypatch.setenv("PATH", str(moving.path))
    assert main(["plot", "decay", "--animate", "mp4"]) == 2
    assert "an .mp4 needs the program ffmpeg" in capsys.readouterr().err
    assert figure.read_text() == "as it was"


def test_a_movie_that_fails_keeps_data_and_figures(moving, capsys):
    (moving.path / "break-movie").touch()
    assert main([*RUN, "--animate", "gif"]) == 1
    told = capsys.readouterr().err
    assert "the projector is out of order" in told
    assert "the data are stored" in told
    assert figures(moving) == ["decay.svg"]
