"""What is done to any finished figure: commas, dark slides, larger type, no titles."""

import re

import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.text import Text

from adlab import drawing, graphs
from adlab.figures import colors, panels, style
from adlab.figures._dark import dark
from adlab.figures.finish import DARK, Look
from adlab.figures.labels import comma


def draw(title="A title"):
    figure, axes = panels.grid(1, 2, title=title)
    ax = axes[0, 0]
    ax.plot([0, 1], [0.0, 0.5], color=style.color("two_point"), label="slope 0.25")
    ax.fill_between([0, 1], [0, 0], [0.2, 0.3], color=style.tint(style.tone("sky"), 0.2))
    ax.text(0.5, 0.2, "$0.25$", color=style.tone("ink"), bbox={"facecolor": "white"})
    ax.set_yticks([0.0, 0.25, 0.5])
    ax.legend()
    axes[0, 1].imshow(np.eye(3), cmap="viridis")
    axes[0, 1].text(1, 1, "0.5", color="black")
    return figure


def pixels(figure):
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def finished(tmp_path, **how):
    with style.context(**how):
        figure = draw()
        style.save(figure, tmp_path / "figure", ["svg"])
        return figure


def test_contrast_is_that_of_the_guidelines():
    # The reference values of WCAG 2.1's formula: black on white, and the greys that just pass.
    assert colors.contrast("#000000", "#FFFFFF") == pytest.approx(21)
    assert colors.contrast("#767676", "#FFFFFF") == pytest.approx(4.54, abs=0.005)
    assert colors.contrast("#FF0000", "#FFFFFF") == pytest.approx(3.998, abs=0.005)
    assert colors.contrast("#123456", "#123456") == 1


@pytest.mark.parametrize("ground", ["#FFFFFF", DARK["paper"], "#FFE3C2"])
def test_ink_is_readable_and_changes_no_more_than_it_must(ground):
    for color in colors.TONES.values():
        written = colors.ink(color, ground)
        assert colors.contrast(written, ground) >= 4.5
        if colors.contrast(color, ground) >= 4.5:
            assert written == color
        else:
            assert colors.contrast(written, ground) < 5.5


def test_unknown_tones_and_looks_are_refused():
    with pytest.raises(ValueError, match=r"tone must be one of blue, .*got 'bleu'"):
        colors.tone("bleu")
    with pytest.raises(ValueError, match="theme must be one of light, dark, got 'black'"):
        Look("black")
    with pytest.raises(ValueError, match=r"scale must be from 0.5 to 2, got 3"):
        Look(scale=3)


@pytest.mark.parametrize(
    ("words", "written"),
    [
        ("1.5", "1,5"),
        ("-0.25 and 3.", "-0,25 and 3."),
        ("$1.5 x^{0.5}$ at 2.5", "$1{,}5 x^{0{,}5}$ at 2,5"),
        ("jax 0.10.2, v1.5, file1.2", "jax 0.10.2, v1.5, file1.2"),
        ("doi:10.1137/0716029, arXiv:1909.02659", "doi:10.1137/0716029, arXiv:1909.02659"),
        (r"$x\hspace{0.5}y^{0.5}$", r"$x\hspace{0.5}y^{0{,}5}$"),
        (r"5\$ at 1.5", r"5\$ at 1,5"),
        ("1.5e-3 1.5 s, 2.5e+17, v2.5e3", "1,5e-3 1,5 s, 2,5e+17, v2.5e3"),
        # In a list with a decimal comma numbers stand between semicolons.
        ("[0.1,0.5]", "[0,1;0,5]"),
        ("(0.5, 1.5)", "(0,5; 1,5)"),
        ("[1, 0.5, -2], [1, 2] и 0.5", "[1; 0,5; -2], [1, 2] и 0,5"),
        ("шаги 0.1, 0.2 и 0.5", "шаги 0,1; 0,2 и 0,5"),
        ("[1.5e-3, 2), (0.5, L]", "[1,5e-3; 2), (0,5; L]"),
        (r"$[0.5, 1]$, $\{0.5, \infty\}$", r"$[0{,}5; 1]$, $\{0{,}5; \infty\}$"),
        ("$0.5$, $-1.5$", "$0{,}5$; $-1{,}5$"),
        ("h = 0.5, 3 прогона, (h = 0.5, m = 4)", "h = 0,5, 3 прогона, (h = 0,5, m = 4)"),
        ("(0, 1) и [2, 3]", "(0, 1) и [2, 3]"),
        # The end of a sentence is no part of a number.
        ("Ошибка 0.5.", "Ошибка 0,5."),
        ("От 0.5... До 1.5: 2.5!", "От 0,5... До 1,5: 2,5!"),
        # What is numbered keeps its points.
        ("рис. 3.2", "рис. 3.2"),
        (
            "на рисунках 3.2, 3.4 и 3.5, в (п. 2.1) 0.5",
            "на рисунках 3.2, 3.4 и 3.5, в (п. 2.1) 0,5",
        ),
        ("Python 3.12, jax 0.10.2", "Python 3.12, jax 0.10.2"),
        ("Python >= 3.11. Для 0.5", "Python >= 3.11. Для 0,5"),
        ("10.1137/0716029, 10.48550/arXiv", "10.1137/0716029, 10.48550/arXiv"),
        ("29.11.2026, 1.12.2026", "29.11.2026, 1.12.2026"),
    ],
)
def test_points_between_digits_become_commas(words, written):
    assert comma(words) == written
    assert comma(written) == written


def test_russian_figures_have_commas_in_ticks_legends_and_texts(tmp_path):
    figure = finished(tmp_path, lang="ru")
    ax = figure.axes[0]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["0,00", "0,25", "0,50"]
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["slope 0,25"]
    assert [t.get_text() for t in ax.texts] == ["$0{,}25$"]
    english = finished(tmp_path, lang="en")
    assert [t.get_text() for t in english.axes[0].get_yticklabels()] == ["0.00", "0.25", "0.50"]


def test_a_dark_figure_is_dark_readable_and_keeps_its_images(tmp_path):
    figure = finished(tmp_path, theme="dark")
    shades, counts = np.unique(pixels(figure) @ [1 << 16, 1 << 8, 1], return_counts=True)
    assert f"#{shades[np.argmax(counts)]:06x}" == DARK["paper"].lower()
    ax, image = figure.axes
    words = [ax.title, ax.texts[0], *ax.get_xticklabels(), *ax.get_legend().get_texts()]
    for text in words:
        assert colors.contrast(to_hex(text.get_color()), DARK["paper"]) >= 4.5
    line = to_hex(ax.lines[0].get_color())
    assert colors.contrast(line, DARK["paper"]) >= 4.5
    assert image.texts[0].get_color() == "black"  # on the image, which stays as it is
    box = ax.texts[0].get_bbox_patch().get_facecolor()
    assert to_hex(box) == DARK["paper"].lower()


def test_finishing_again_changes_nothing(tmp_path):
    with style.context("ru", theme="dark", scale=1.25, titles=False):
        figure = draw()
        style.save(figure, tmp_path / "one")
        style.save(figure, tmp_path / "two")
    for suffix in style.FORMATS:
        one, two = (tmp_path / f"{name}.{suffix}" for name in ("one", "two"))
        assert one.read_bytes() == two.read_bytes()


def test_dark_colours_stay_and_opacity_is_kept():
    for color in [*colors.TONES.values(), *(style.tint(c, 0.25) for c in colors.TONES.values())]:
        once = dark(color)
        assert dark(once) == once
    assert dark((1.0, 1.0, 1.0, 0.3))[3] == 0.3
    assert dark("none")[3] == 0


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("method", ["gradient_descent", "forward_mode", "one_sided", "my_method"])
def test_shades_go_from_pale_to_full_on_the_paper_of_the_theme(theme, method, tmp_path):
    with style.context(theme=theme):
        figure, axes = panels.grid()
        for k, tone in enumerate(style.shades(method, 5)):
            axes[0, 0].plot([0, 1], [k, k], color=tone, marker="o")
            axes[0, 0].fill_between([0, 1], [k, k], color=tone)
            axes[0, 0].text(1, k, "tone", color=style.ink(tone))
        axes[0, 0].plot([0, 1], [0, 1], color=style.color(method))
        style.save(figure, tmp_path / "figure", ["svg"])
    *shaded, full = [to_hex(line.get_color()) for line in axes[0, 0].lines]
    assert shaded[-1] == full
    assert [to_hex(c.get_facecolor()[0]) for c in axes[0, 0].collections] == shaded
    paper = DARK["paper"] if theme == "dark" else "#FFFFFF"
    contrasts = [colors.contrast(tone, paper) for tone in shaded]
    assert contrasts == sorted(contrasts)
    assert all(colors.contrast(to_hex(t.get_color()), paper) >= 4.5 for t in axes[0, 0].texts)
    assert contrasts[0] < 0.65 * contrasts[-1]
    assert min(np.diff(contrasts)) > 0.1


def in_the_dark(figure, tmp_path):
    with style.context(theme="dark"):
        style.save(figure, tmp_path / "figure", ["svg"])


def test_arrows_and_halos_of_texts_are_dark_too(tmp_path):
    with style.context(theme="dark"):
        figure, axes = panels.grid()
        ax, halo = axes[0, 0], [withStroke(linewidth=4, foreground="white")]
        arrow = {"arrowstyle": "->", "color": "black", "path_effects": halo}
        note = ax.annotate("there", (0, 0), (1, 1), path_effects=halo, arrowprops=arrow)
    in_the_dark(figure, tmp_path)
    for part in (note.get_color(), note.arrow_patch.get_edgecolor()):
        assert colors.contrast(to_hex(part), DARK["paper"]) > 10
    written = (tmp_path / "figure.svg").read_text()
    drawn = [stroke for stroke in re.findall("stroke: (#[0-9a-f]{6}); stroke-width: 4", written)]
    assert set(drawn) == {DARK["paper"].lower()}


def test_points_coloured_by_values_keep_them_and_their_ground_is_dark(tmp_path):
    with style.context(theme="dark"):
        figure, axes = panels.grid()
        ax = axes[0, 0]
        edged = ax.scatter([0, 1], [0, 1], c=[0.0, 1.0], cmap="viridis", edgecolors="black")
        plain = ax.scatter([0, 1], [1, 0], c=[0.0, 1.0], cmap="viridis")
        lines = LineCollection([[(0, 0), (1, 1)]] * 2, array=[0.0, 1.0], cmap="viridis")
        ax.add_collection(lines)
        beside = ax.text(0.5, 0.5, "beside", color="black")
    in_the_dark(figure, tmp_path)
    yellow = colormaps["viridis"](1.0)
    assert edged.get_facecolor()[1] == pytest.approx(yellow)
    assert plain.get_edgecolor()[1] == pytest.approx(yellow)
    assert lines.get_edgecolor()[1] == pytest.approx(yellow)
    for color in (edged.get_edgecolor()[0], beside.get_color()):
        assert colors.contrast(to_hex(color), DARK["paper"]) > 10


@pytest.mark.parametrize("kind", ["imshow", "pcolormesh", "contourf"])
def test_what_lies_over_an_image_keeps_its_colours(kind, tmp_path):
    with style.context(theme="dark"):
        figure, axes = panels.grid()
        ax = axes[0, 0]
        getattr(ax, kind)(np.arange(16.0).reshape(4, 4), cmap="viridis")
        (over,) = ax.plot([0.5, 2], [1, 2], color="white", marker="o", markeredgecolor="black")
        (across,) = ax.plot([0.5, 8], [1, 2], color="black")
        box = ax.add_patch(Rectangle((1, 1), 1, 1, edgecolor="white", facecolor="none"))
        points = ax.scatter([1], [2], color="white")
        inside = ax.text(2, 2, "in", color="black", ha="center")
        outside = ax.text(2, 6, "out", color="black")
        left = ax.text(-0.02, 0.5, "left", color="black", transform=ax.transAxes, ha="right")
        ax.set(xlim=(-1, 9), ylim=(-1, 9))
    in_the_dark(figure, tmp_path)
    kept = [over.get_color(), box.get_edgecolor(), points.get_facecolor()[0]]
    assert [to_hex(color) for color in kept] == ["#ffffff"] * 3
    assert [to_hex(c) for c in (over.get_markeredgecolor(), inside.get_color())] == ["#000000"] * 2
    for artist in (across, outside, left):
        assert colors.contrast(to_hex(artist.get_color()), DARK["paper"]) > 10


def test_scale_makes_type_larger_relative_to_a_picture_of_as_many_pixels(tmp_path):
    usual, scaled = finished(tmp_path), finished(tmp_path, scale=1.25)
    assert pixels(usual).shape == pixels(scaled).shape
    heights = [f.axes[0].title.get_fontsize() / f.get_figheight() for f in (usual, scaled)]
    assert heights[1] == pytest.approx(1.25 * heights[0])


def test_drawings_lose_their_titles_and_keep_their_size(tmp_path):
    graph = graphs.build(lambda w: jnp.sin(w) * w, 0.5, names=["w"])
    with style.context(scale=1.5, titles=False):
        figure = drawing.draw(graph, graphs.reverse_trace(graph), title="A title")
        style.save(figure, tmp_path / "drawing", ["svg"])
    shown = [t.get_text() for t in figure.findobj(Text) if t.get_visible() and t.get_text()]
    assert len(shown) > 3
    assert "A title" not in shown
    assert tuple(figure.get_size_inches()) == style.SLIDE
    with style.context():
        figure = drawing.draw(graph, graphs.reverse_trace(graph), title="A title")
        style.save(figure, tmp_path / "drawing", ["svg"])
    assert any(t.get_text() == "A title" and t.get_visible() for t in figure.findobj(Text))


def test_titles_can_be_left_out(tmp_path):
    figure = finished(tmp_path, titles=False)
    assert figure.get_suptitle() == ""
    with style.context(titles=False):
        single, axes = panels.grid()
        axes[0, 0].set_title("its own")
        style.save(single, tmp_path / "single", ["svg"])
    assert axes[0, 0].get_title() == ""
    with style.context():
        single, axes = panels.grid()
        axes[0, 0].set_title("its own")
        style.save(single, tmp_path / "single", ["svg"])
    assert axes[0, 0].get_title() == "its own"
