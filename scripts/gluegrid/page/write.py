"""report.html and table.tex of an experiment."""

from pathlib import Path

from gluegrid.common.files import write_text
from gluegrid.experiment.experiment import Experiment
from gluegrid.page.document import page
from gluegrid.page.latex import latex_table
from gluegrid.page.material import Material
from gluegrid.page.render import html
from gluegrid.results.outcomes import Outcome


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
