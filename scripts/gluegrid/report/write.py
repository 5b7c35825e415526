"""report.html and table.tex of an experiment."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from gluegrid.common import escaping
from gluegrid.common.formatting import grouped, percent
from gluegrid.experiment.experiment import Experiment
from gluegrid.report.blocks import Block, Items, Section, Text, code, table
from gluegrid.report.comparison_section import comparison_section
from gluegrid.report.content import Material
from gluegrid.report.cost_section import cost_section, device_seconds, on_gpus
from gluegrid.report.latex import latex_table
from gluegrid.report.origin_section import origin_section
from gluegrid.report.parity_section import parity_section
from gluegrid.report.score_section import score_section
from gluegrid.report.sweep_section import sweep_section
from gluegrid.report.training_section import training_section
from gluegrid.results.made_from import write_made
from gluegrid.results.notes import code_of, notes, precision_of
from gluegrid.results.outcomes import Outcome
from gluegrid.results.results_md import GOES_ON
from gluegrid.results.tables import reason

FOLDER = Path(__file__).parent
MOST_FAILURES = 200
EMPTY = "No cell has a result yet. Run snakemake first; the report takes whatever results there are."
FOOTER = "Made by gluegrid from the results beside this page. Equal results make an equal page."


def write_report(experiment: Experiment, outcomes: list[Outcome]) -> None:
    """Write both files from the results there are."""
    write_made(experiment, outcomes, report_texts(experiment, outcomes), [Path(experiment.paths.comparisons_json)])


def report_texts(experiment: Experiment, outcomes: list[Outcome]) -> dict[Path, str]:
    """Return the content of both files."""
    material = Material(experiment, outcomes)
    return {
        Path(experiment.paths.table_tex): latex_table(experiment.name, material.table, material.chosen),
        Path(experiment.paths.report_html): _html(material),
    }


def _html(material: Material) -> str:
    """Return the page; every text in it is escaped."""
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=False,
        keep_trailing_newline=True,
    )
    environment.filters["one_line"] = escaping.one_line
    return environment.get_template("report.html").render(
        style=Markup((FOLDER / "style.css").read_text(encoding="utf-8")),  # ours
        title=f"Results of {material.experiment.name}",
        lead=_lead(material),
        tiles=_tiles(material),
        sections=[section for make in SECTIONS if (section := make(material))],
        footer=FOOTER,
    )


def _lead(material: Material) -> str:
    seeds = sorted({outcome.cell.seed for outcome in material.outcomes})
    parts = [
        f"{_counted(len(material.experiment.models), 'model')} on {_counted(len(material.experiment.tasks), 'task')}",
        f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}",
        *sorted({outcome.record["device"] for outcome in material.done}),
        *sorted({precision_of(outcome.record) or "unknown precision" for outcome in material.done}),
        *sorted({code_of(outcome.record["git"]) for outcome in material.done}),
    ]
    return "; ".join(parts) + "." if material.done else f"{'; '.join(parts)}. {EMPTY}"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")


def _tiles(material: Material) -> list[tuple[str, str, str]]:
    """Return the numbers at the top of the page: for each its term, the number and a small line below."""
    parts = (material.outcomes, material.done, material.failed, material.stopped)
    every, done, failed, stopped = map(len, parts)
    tiles = [
        ("Cells with a result", f"{done} of {every}", ""),
        ("Failed", str(failed), ""),
        *([("Stopped", str(stopped), "")] if stopped else []),
        ("Not run", str(every - done - failed - stopped), ""),
    ]
    if seconds := sum(device_seconds(outcome) or 0 for outcome in material.done):
        kind = "GPU" if on_gpus(material.groups) else "Device"
        hours = f"{grouped(seconds / 3600, 1)} hours" if seconds >= 3600 else f"{grouped(seconds, 1)} seconds"
        tiles.append((f"{kind} time in training", hours, ""))
    best = [row for row in material.table.rows if row.is_best]
    return tiles + [("Highest mean", percent(row.common_mean), row.model) for row in best if len(best) == 1]


def failure_section(material: Material) -> Section | None:
    """Return the section of failed cells; None where none failed."""
    if not material.failed:
        return None
    blocks = _blocks_of(material, "Cells that failed", material.failed)
    return Section("failures", "Failed cells", blocks)


def stopped_section(material: Material) -> Section | None:
    """Return the section of cells that the next call resumes; None where there are none."""
    if not material.stopped:
        return None
    return Section(
        "stopped", "Stopped cells", [Text(GOES_ON), *_blocks_of(material, "Stopped cells", material.stopped)]
    )


def _blocks_of(material: Material, caption: str, outcomes: list[Outcome]) -> list[Block]:
    """Return a table of cells without a result, each with the reason and its log."""
    rows = [
        [outcome.cell.name, reason(outcome), code(str(outcome.log), material.log_link(outcome))]
        for outcome in outcomes[:MOST_FAILURES]
    ]
    blocks: list[Block] = [table(caption, ["Cell", "Reason", "Log"], rows)]
    if len(outcomes) > MOST_FAILURES:
        blocks.append(Text(f"The first {MOST_FAILURES} of {len(outcomes)}; results.csv has all.", "note"))
    return blocks


def note_section(material: Material) -> Section:
    """Return the section on the limits of the numbers."""
    return Section("notes", "What to know", [Items(notes(material.outcomes))])


# In the order of the page. Each returns its section, or None where it has no content.
SECTIONS = (
    score_section,
    parity_section,
    comparison_section,
    failure_section,
    stopped_section,
    sweep_section,
    training_section,
    cost_section,
    note_section,
    origin_section,
)
