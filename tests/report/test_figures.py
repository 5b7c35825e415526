import re
from xml.etree import ElementTree

import pytest

from gluegrid.report.figures import (
    INK,
    LEAST_SPAN,
    SERIES,
    VARIABLES,
    Plot,
    Style,
    limits,
    styles,
    swatch,
    with_variables,
)
from gluegrid.report.write import FOLDER

ODD = 'a<b>&"$x^2$ \N{GRINNING FACE} مرحبا \x1b\u202e'


def figure(name: str = "one") -> str:
    plot = Plot(200, 100)
    plot.mark(1, 0, Style(SERIES[0], "o"))
    plot.rows([ODD, "second"])
    return plot.svg(name, f"Title {ODD}", "what is seen")


def elements(svg: str, tag: str) -> list[ElementTree.Element]:
    return ElementTree.fromstring(svg).findall(f".//{{http://www.w3.org/2000/svg}}{tag}")


def test_colours_are_the_pages_variables():
    svg = figure()
    assert "var(--series-1)" in svg
    assert "var(--ink)" in svg
    assert not any(stand_in in svg for stand_in in VARIABLES)


def test_names_are_text_and_no_formulas_or_markup():
    texts = [element.text for element in elements(figure(), "text")]
    assert 'a<b>&"$x^2$ \N{GRINNING FACE} مرحب...' in texts


def test_readers_of_the_screen_are_told_title_and_description():
    root = ElementTree.fromstring(figure())
    assert root.get("role") == "img"
    ids = {element.get("id"): element.text for element in root.iter() if element.get("id")}
    told = [ids[name] for name in root.get("aria-labelledby").split()]
    assert told == [f"Title {ODD[:-2]}\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}", "what is seen"]


def test_a_legends_mark_is_passed_over():
    root = ElementTree.fromstring(swatch(Style(INK, "x"), "mark"))
    assert root.get("aria-hidden") == "true"


def test_figures_beside_each_other_share_no_id_and_refer_to_their_own():
    for name in ("one", "two"):
        svg = figure(name)
        ids = set(re.findall(r'\bid="([^"]+)"', svg))
        assert ids
        assert all(found.startswith(f"{name}-") for found in ids)
        assert {*re.findall(r'href="#([^"]+)"', svg), *re.findall(r"url\(#([^)]+)\)", svg)} <= ids


def test_equal_figures_are_equal_bytes_without_a_date_or_a_style_for_the_whole_page():
    assert figure() == figure()
    assert not re.search(r"<style|<metadata|20\d\d-", figure())


def test_the_font_is_the_pages():
    assert "font-size: 11px" in figure()
    assert "DejaVu" not in figure()


def test_eight_models_differ_in_colour_and_in_mark():
    looks = styles([str(number) for number in range(9)])
    assert len(looks) == 8
    assert len({look.colour for look in looks.values()}) == len({look.marker for look in looks.values()}) == 8


@pytest.mark.parametrize("values", [[50.0], [93.06, 93.11], [0.0], [100.0], [99.9, 100.0], [], [3.0, 97.0]])
def test_an_axis_of_scores_spans_enough_and_ends_where_the_metric_does(values):
    for bounds in ((0, 100), (-100, 100), (-50, 100)):
        low, high = limits(values, bounds)
        assert bounds[0] <= low and high <= bounds[1]
        assert high - low >= LEAST_SPAN - 1e-9
        assert all(low <= value <= high for value in values)


def test_a_bound_that_is_near_is_shown_and_one_that_is_far_is_not():
    assert limits([53, 93])[1] == 100 and limits([53, 93])[0] == pytest.approx(49.8)
    assert limits([5, 93]) == (0, 100)
    assert limits([50, 50.2]) == pytest.approx((45.1, 55.1))
    assert limits([-3, 93], (-100, 100))[0] == pytest.approx(-10.68)


def test_the_noise_of_times_does_not_fill_an_axis():
    plot = Plot()
    plot.logarithmic([100, 101])
    low, high = plot.axes.get_xlim()
    assert high / low == pytest.approx(4)


def names_of(plot: Plot) -> set[str]:
    return {text.get_text() for text in plot.axes.texts}


def test_names_stand_beside_their_marks_and_never_on_each_other():
    plot = Plot()
    plot.axes.set(xlim=(0, 10), ylim=(0, 10))
    plot.names_beside([(5, 5), (5, 5.1)], ["first", "second"], [(), ()])
    assert names_of(plot) == {"first", "second"}
    crowded = Plot()
    crowded.axes.set(xlim=(0, 10), ylim=(0, 10))
    crowded.names_beside([(5, 5)] * 30, [f"name {number}" for number in range(30)], [()] * 30)
    assert 1 < len(names_of(crowded)) < 30


def test_colours_of_fields_are_left_alone():
    # cividis begins with it.
    assert with_variables("fill: #00224e; stroke: #000001") == "fill: #00224e; stroke: var(--ink)"


def variables(scheme: str) -> dict[str, str]:
    light, dark = re.findall(r":root \{(.*?)\}", (FOLDER / "style.css").read_text(), re.DOTALL)[:2]
    found = dict(re.findall(r"(--[\w-]+): (#\w{6})", light))
    return found if scheme == "light" else found | dict(re.findall(r"(--[\w-]+): (#\w{6})", dark))


def luminance(colour: str) -> float:
    """Return relative luminance as WCAG 2.2 defines it."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_and_marks_have_contrast_enough(scheme):
    colours = variables(scheme)
    for text in ("--ink", "--muted", "--link"):
        for ground in ("--paper", "--raised", "--best"):
            assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
    for number in range(1, 9):
        assert contrast(colours[f"--series-{number}"], colours["--paper"]) >= 3


def test_every_variable_of_the_figures_has_a_colour_in_both_schemes():
    for scheme in ("light", "dark"):
        assert set(VARIABLES.values()) <= variables(scheme).keys()
