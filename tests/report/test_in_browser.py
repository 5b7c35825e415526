"""The report as a reader sees it: in a real browser, as wide as a laptop and a telephone, light, dark and printed."""

import contextlib
import io
import os
import re
from pathlib import Path

import crafted_experiments
import pytest
from PIL import Image

from gluegrid.report.write import write_report
from gluegrid.results.outcomes import read_outcomes

# What makes the document wider than the window, but for what scrolls in itself.
TOO_WIDE = """
[...document.querySelectorAll("body *")].filter(element => {
  for (let above = element; above; above = above.parentElement) if (above.classList.contains("scroll")) return false;
  const box = element.getBoundingClientRect();
  return box.width > 0 && (box.right > innerWidth + 1 || box.left < -1);
}).map(element => element.outerHTML.slice(0, 100))
"""
NARROW, WIDE = 390, 1280
DARK, LIGHT = (0x14, 0x17, 0x1B), (0xFF, 0xFF, 0xFF)


@pytest.fixture(scope="module")
def page_file(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("seen")
    with contextlib.chdir(root):
        experiment = crafted_experiments.realistic(root, "synthetic-example")
        write_report(experiment, read_outcomes(experiment))
        return Path(experiment.paths.report_html).absolute()


def picture(page, tmp_path, height=None) -> Image.Image:
    return Image.open(page.screenshot(tmp_path / "seen.png", height)).convert("RGB")


@pytest.mark.parametrize("width", [NARROW, WIDE])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_and_is_shown_in_the_readers_colours(chromium, page_file, tmp_path, width, scheme):
    chromium.show(page_file, width, scheme)
    assert chromium.value("document.documentElement.clientWidth") == width
    assert chromium.value("document.documentElement.scrollWidth") == width
    assert chromium.value(TOO_WIDE) == []
    seen = picture(chromium, tmp_path)
    assert seen.width == width
    assert seen.getpixel((3, 3)) == (LIGHT if scheme == "light" else DARK)
    shown = seen.resize((seen.width, seen.height // 8)).getcolors(1 << 24)
    assert len(shown) > 500
    assert chromium.problems == []
    assert chromium.requests == [page_file.as_uri()]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_figures_follow_the_readers_colours(chromium, page_file, scheme):
    chromium.show(page_file, WIDE, scheme)
    text = chromium.value("getComputedStyle(document.querySelector('#scores figure svg text')).fill")
    ground = chromium.value("getComputedStyle(document.body).backgroundColor")
    dark, light = sorted(sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in (text, ground))
    assert light - dark > 250
    assert (sum(map(int, re.findall(r"\d+", ground))) > 600) == (scheme == "light")


def test_wide_tables_scroll_in_themselves_on_a_telephone(chromium, page_file):
    chromium.show(page_file, NARROW)
    widths = chromium.value(
        "[...document.querySelectorAll('.scroll')].map(each => [each.clientWidth, each.scrollWidth])"
    )
    assert all(client <= NARROW for client, _ in widths)
    assert widths[0][1] > widths[0][0]
    first = "document.querySelector('.scroll tbody th').getBoundingClientRect().left"
    before = chromium.value(first)
    chromium.value("document.querySelector('.scroll').scrollLeft = 200")
    assert chromium.value(first) == before, "the model's name stays in sight"
    captions = chromium.value(
        "[...document.querySelectorAll('caption bdi')].map(each => each.getBoundingClientRect().right)"
    )
    assert max(captions) <= NARROW


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_shade_says_that_a_table_goes_on_until_its_end_is_reached(chromium, page_file, tmp_path, scheme):
    chromium.show(page_file, NARROW, scheme)
    boxes = chromium.value(
        "[...document.querySelectorAll('.scroll')].map(each => { const box = each.getBoundingClientRect();"
        "return [box.right + scrollX, box.top + scrollY, each.scrollWidth > each.clientWidth] })"
    )
    right, top, _ = next(box for box in boxes if box[2])
    whole = next(box for box in boxes if not box[2])
    paper = LIGHT if scheme == "light" else DARK
    seen = picture(chromium, tmp_path)
    assert seen.getpixel((round(right) - 2, round(top) + 4)) != paper
    assert seen.getpixel((round(whole[0]) - 2, round(whole[1]) + 4)) == paper
    chromium.value("[...document.querySelectorAll('.scroll')].forEach(each => { each.scrollLeft = each.scrollWidth })")
    assert picture(chromium, tmp_path).getpixel((round(right) - 2, round(top) + 4)) == paper


def test_each_figure_is_seen_with_its_marks(chromium, page_file):
    chromium.show(page_file, WIDE)
    sizes = chromium.value(
        "[...document.querySelectorAll('figure svg')].map(each => {"
        "const box = each.getBoundingClientRect();"
        "return [box.width, box.height, each.querySelectorAll('use').length, each.querySelectorAll('path').length]})"
    )
    assert len(sizes) > 15
    assert all(width > 250 and height > 60 for width, height, _, _ in sizes)
    assert all(marks + paths > 4 for _, _, marks, paths in sizes)


def test_a_number_leads_to_where_it_comes_from(chromium, page_file):
    chromium.show(page_file, WIDE)
    chromium.value("document.querySelector('#scores td a').click()")
    place = "document.querySelector(location.hash)"
    assert chromium.value(f"{place}.tagName") == "DETAILS"
    assert -1 < chromium.value(f"{place}.getBoundingClientRect().top") < 800
    chromium.value(f"{place}.querySelector('summary').click()")
    assert chromium.value(f"{place}.querySelector('code').getBoundingClientRect().height") > 0


def test_print_is_light_and_shows_what_is_closed_on_the_screen(chromium, page_file, tmp_path):
    chromium.show(page_file, WIDE, "dark")
    content = chromium.pdf(tmp_path / "report.pdf").read_bytes()
    assert content.startswith(b"%PDF-")
    pages = len(re.findall(rb"/Type\s*/Page\b", content))
    chromium.value("document.querySelectorAll('details').forEach(each => each.remove())")
    without = chromium.pdf(tmp_path / "without.pdf").read_bytes()
    assert pages > len(re.findall(rb"/Type\s*/Page\b", without)) + 10
    chromium.print_colours("dark")
    assert chromium.value("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert chromium.value("getComputedStyle(document.querySelector('nav')).display") == "none"


def test_a_picture_for_the_documents(chromium, page_file, tmp_path):
    """What docs/report.png is; GLUEGRID_KEEP_REPORT=docs/report.png keeps it."""
    chromium.show(page_file, WIDE)
    assert chromium.value("document.querySelector('h1').textContent") == "Results of synthetic-example"
    end = chromium.value("document.querySelector('#scores').getBoundingClientRect().bottom")
    seen = picture(chromium, tmp_path, height=round(end))
    palette = seen.quantize(160, dither=Image.Dither.NONE)
    file = io.BytesIO()
    palette.save(file, "PNG", optimize=True)
    assert 20_000 < len(file.getvalue()) < 300_000
    if kept := os.environ.get("GLUEGRID_KEEP_REPORT"):
        Path(kept).write_bytes(file.getvalue())
