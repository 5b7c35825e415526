"""report.html and table.tex of an experiment."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from gluegrid.common import escaping
from gluegrid.common.files import write_text
from gluegrid.common.formatting import grouped, percent
from gluegrid.experiment.experiment import Experiment
from gluegrid.report.blocks import Block, Cell, Items, Section, Table, Text, code
from gluegrid.report.comparison_section import comparison_section
from gluegrid.report.content import Material
from gluegrid.report.cost_section import cost_section, device_seconds, memory_section, of_gpus
from gluegrid.report.latex import latex_table
from gluegrid.report.origin_section import origin_section
from gluegrid.report.parity_section import parity_section
from gluegrid.report.score_section import score_section
from gluegrid.report.sweep_section import sweep_section
from gluegrid.report.training_section import training_section
from gluegrid.results.notes import code_of, notes
from gluegrid.results.outcomes import Outcome
from gluegrid.results.tables import reason


def write_report(experiment: Experiment, found: list[Outcome]) -> None:
    """Write both files from whatever results there are."""
    for path, text in report_texts(experiment, found).items():
        write_text(path, text)


def report_texts(experiment: Experiment, found: list[Outcome]) -> dict[Path, str]:
    """Return what both files hold."""
    material = Material(experiment, found)
    return {
        Path(experiment.paths.table_tex): latex_table(experiment.name, material.table, material.chosen),
        Path(experiment.paths.report_html): html(page(material)),
    }


FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Tile:
    """A number at the top of the page."""

    term: str
    text: str
    small: str = ""


@dataclass(frozen=True)
class Page:
    """The content of the page."""

    title: str
    lead: str
    tiles: Sequence[Tile]
    sections: Sequence[Section]
    footer: str


def html(page: Page) -> str:
    """Return the page, in which every text is text."""
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=False,
        keep_trailing_newline=True,
    )
    environment.filters["one_line"] = escaping.one_line
    style = Markup((FOLDER / "style.css").read_text(encoding="utf-8"))  # ours
    return environment.get_template("report.html").render(style=style, **vars(page))


MOST_FAILURES = 200
EMPTY = "No cell has a result yet. Run snakemake; this page can be made at any time from what there is."
FOOTER = "Made by gluegrid from the results beside this page; equal results make an equal page."


def page(material: Material) -> Page:
    """Return the page."""
    sections = [score_section(material)]
    sections += [section for section in (parity_section(material), comparison_section(material)) if section]
    if failed := [outcome for outcome in material.found if outcome.has_failed]:
        sections.append(_failures(material, failed))
    if material.done:
        of_sweeps = sweep_section(material)
        sections += [of_sweeps] if of_sweeps else []
        sections += [training_section(material), cost_section(material), memory_section(material)]
    sections += [Section("notes", "What to know", [Items(notes(material.found))]), origin_section(material)]
    return Page(f"Results of {material.experiment.name}", _lead(material), _tiles(material), sections, FOOTER)


def _lead(material: Material) -> str:
    seeds = sorted({outcome.cell.seed for outcome in material.found})
    parts = [
        f"{_counted(len(material.experiment.models), 'model')} on {_counted(len(material.experiment.tasks), 'task')}",
        f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}",
        *sorted({outcome.record["device"] for outcome in material.done}),
        *sorted({code_of(outcome.record["git"]) for outcome in material.done}),
    ]
    return "; ".join(parts) + "." if material.done else f"{'; '.join(parts)}. {EMPTY}"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")


def _tiles(material: Material) -> list[Tile]:
    failed = sum(outcome.has_failed for outcome in material.found)
    missing = len(material.found) - len(material.done) - failed
    tiles = [
        Tile("Cells with a result", f"{len(material.done)} of {len(material.found)}"),
        Tile("Failed", str(failed)),
        Tile("Not run", str(missing)),
    ]
    if seconds := sum(device_seconds(outcome) or 0 for outcome in material.done):
        kind = "GPU" if of_gpus(material.groups) else "Device"
        hours = f"{grouped(seconds / 3600, 1)} hours" if seconds >= 3600 else f"{grouped(seconds, 1)} seconds"
        tiles.append(Tile(f"{kind} time of training", hours))
    best = next((row for row in material.table.rows if row.is_best), None)
    return tiles + ([Tile("Best mean over tasks", percent(best.mean), best.model)] if best else [])


def _failures(material: Material, failed: Sequence[Outcome]) -> Section:
    rows = [
        [Cell(outcome.cell.name), Cell(reason(outcome)), code(str(outcome.log), material.origins.log_of(outcome))]
        for outcome in failed[:MOST_FAILURES]
    ]
    blocks: list[Block] = [Table("Cells that were tried and have no valid result", ["Cell", "Reason", "Log"], rows)]
    if len(failed) > MOST_FAILURES:
        blocks.append(Text(f"The first {MOST_FAILURES} of {len(failed)}; results.csv has all.", "note"))
    return Section("failures", "Failed cells", blocks)
