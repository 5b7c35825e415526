import re
from xml.etree import ElementTree

import pytest

from gluegrid.report.figures import INK, SERIES, VARIABLES, Plot, Style, styles, swatch, with_variables
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
