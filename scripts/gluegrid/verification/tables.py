"""Check results.md against the runs: every number of its tables, and every note below them."""

from collections.abc import Iterator
from pathlib import Path

from gluegrid.experiment.experiment import Experiment
from gluegrid.verification.expected_groups import shown_groups
from gluegrid.verification.expected_tables import tables_of_numbers
from gluegrid.verification.expected_texts import ANYTHING
from gluegrid.verification.findings import Findings
from gluegrid.verification.markdown import Document, Part
from gluegrid.verification.notes import what_to_know
from gluegrid.verification.runs import VerifiedRun
from gluegrid.verification.verdicts import references_by_cell, verify_verdicts


def verify_markdown(
    path: Path, experiment: Experiment, runs: list[VerifiedRun], states: dict[str, str] | None, findings: Findings
) -> None:
    """Compare results.md with what the runs give. `states` is the state of each cell in results.csv, if readable."""
    with findings.noting():
        document = Document(path, findings)
        for part in tables_of_numbers(experiment, shown_groups(experiment, runs, states)):
            with findings.noting():
                document.compare(part)
        if references := references_by_cell(experiment):
            with findings.noting():
                verify_verdicts(path, document.take("References"), references, runs, findings)
        for part in [*_cells_without_result(states), what_to_know(runs, experiment.tasks)]:
            with findings.noting():
                document.compare(part)
        document.note_what_is_left()


def _cells_without_result(states: dict[str, str] | None) -> Iterator[Part]:
    """Yield the tables of failed and of stopped cells, as results.csv has them, if there are any."""
    for word in ("failed", "stopped"):
        rows = [[[{name}], ANYTHING, ANYTHING] for name, state in (states or {}).items() if state == word]
        if rows or states is None:
            yield Part(f"{word.capitalize()} cells", ["Cell", "Reason", "Log"], rows, is_clear=states is not None)
