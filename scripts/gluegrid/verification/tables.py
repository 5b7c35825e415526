"""results.md against the runs: every number of its tables, and the counts below them."""

import re
from dataclasses import dataclass, replace
from itertools import groupby
from operator import attrgetter
from pathlib import Path

from gluegrid.common.errors import DataError
from gluegrid.experiment.experiment import Experiment
from gluegrid.experiment.references import by_model_and_task, document, reference_model
from gluegrid.verification.expected_groups import Group, grouped, shown
from gluegrid.verification.expected_tables import (
    OVER_SEEDS,
    Expected,
    known_scores,
    model_row,
    reference_row,
    tasks_row,
)
from gluegrid.verification.findings import Findings
from gluegrid.verification.markdown import Document, read_sections, remark_of
from gluegrid.verification.notes import verify_notes
from gluegrid.verification.runs import VerifiedRun
from gluegrid.verification.table_notes import check_data, check_limits, check_sweeps, examples
from gluegrid.verification.verdicts import references_by_cell, verify_verdicts

TASKS = re.compile(r"(\d+ of \d+) tasks")
ONE_SEED = re.compile(r"1 seed, so the spread is not known(.*)\.")


def verify_markdown(
    path: Path, experiment: Experiment, runs: list[VerifiedRun], states: dict[str, str] | None, findings: Findings
) -> None:
    """Compare results.md with what the runs give. `states` is what results.csv says of each cell, if readable."""
    sweeps = grouped(experiment, runs, states)
    chosen = shown(sweeps)
    models = [list(of_model) for _, of_model in groupby(chosen, key=attrgetter("model"))]
    with findings.noting():
        tables = _Tables(Document(path, read_sections(path), findings))
        for of_model in models:
            tables.check_model(of_model)
        tables.check_models_by_tasks(models)
        check_sweeps(tables.document, sweeps, chosen)
        tables.check_reference(experiment, models)
        tables.check_verdicts(experiment, runs)
        if states is not None:
            tables.check_failed_cells(states)
        tables.check_notes(runs)
        tables.check_that_nothing_is_left()


def _with_every_task(models: list[list[Group]]) -> list[list[Group]]:
    """Return a group of each model on each task, in the order of the columns; without runs where an import has none."""
    first = {group.task.name: group for groups in models for group in groups}
    filled = []
    for groups in models:
        of_model = {group.task.name: group for group in groups}
        none = {name: replace(group, model=groups[0].model, runs=[], states=[]) for name, group in first.items()}
        filled.append([of_model.get(name, none[name]) for name in first])
    return filled


@dataclass(frozen=True)
class _Tables:
    """The comparison of a document, part by part."""

    document: Document

    def check_model(self, groups: list[Group]) -> None:
        """Compare the table of one model, and what is said of numbers of one seed."""
        with self.document.findings.noting():
            lines = self.document.find(groups[0].model).lines
            self._check_rows(groups, [model_row(group) for group in groups])
            self._check_of_one_seed(lines, groups)

    def _check_of_one_seed(self, lines: list[str], groups: list[Group]) -> None:
        if not all(group.is_known for group in groups):
            return
        said = ONE_SEED.search(" ".join(lines))
        of_one, names = _of_one_seed(groups)
        document, where = self.document, f"{groups[0].model}, of one seed"
        document.check_text(where, "said" if said else None, "said" if of_one else None)
        if said and of_one:
            document.has_name(where, said[1], names)

    def check_reference(self, experiment: Experiment, models: list[list[Group]]) -> None:
        """Compare the tables of the models that a reference has: the runs' numbers, and the reference's own."""
        label, documented = document()["label"], by_model_and_task(document())
        with self.document.findings.noting():
            self.document.take(f"Beside {label}")
        for groups in models:
            numbers = documented.get(reference_model(experiment.models[groups[0].model]))
            if numbers is not None:
                with self.document.findings.noting():
                    self._check_rows(groups, [reference_row(group, numbers, label) for group in groups])

    def check_verdicts(self, experiment: Experiment, runs: list[VerifiedRun]) -> None:
        """Compare the verdicts on the references that the models have."""
        references = references_by_cell(experiment)
        if references:
            document = self.document
            with document.findings.noting():
                verify_verdicts(document.path, document.take("References"), references, runs, document.findings)

    def _check_rows(self, groups: list[Group], expected: list[dict[str, Expected]]) -> None:
        """Compare a model's table, which has a row for each task."""
        document, model = self.document, groups[0].model
        header, *rows = document.take_table(model, len(groups))
        for group, cells, row in zip(groups, expected, rows, strict=True):
            where = f"{model}, {group.display_name}"
            if document.has_name(where, row[0], group.display_name):
                for column, number in cells.items():
                    cell = row[document.place(header, column, model)]
                    document.check_number(f"{where}, {column}", cell, number)
                check_limits(document, where, row[document.place(header, "Result", model)], group)

    def check_models_by_tasks(self, models: list[list[Group]]) -> None:
        """Compare the tables that have a row for each model: of means, and with several seeds medians and the best."""
        has_seeds = any(len(group.runs) > 1 for groups in models for group in groups)
        with self.document.findings.noting():
            notes = self.document.find("Models by tasks").lines
            self._check_data_notes(notes, [group for groups in models for group in groups])
        for title in OVER_SEEDS if has_seeds else ["Models by tasks"]:
            with self.document.findings.noting():
                self._check_table_of_models(title, _with_every_task(models))

    def _check_table_of_models(self, title: str, models: list[list[Group]]) -> None:
        document = self.document
        header, *rows = document.take_table(title, len(models))
        titles = [*(group.display_name for group in models[0]), "Mean"]
        if len(header) != len(titles) + 1:
            raise DataError(f"{document.path}: {title} has {len(header) - 1} numbers, not {len(titles)}")
        if not all(document.has_name(title.lower(), *pair) for pair in zip(header[1:], titles, strict=True)):
            return
        for groups, row in zip(models, rows, strict=True):
            if document.has_name(title.lower(), row[0], groups[0].model):
                self._check_tasks_row(title, groups, titles, row[1:])

    def _check_tasks_row(self, title: str, groups: list[Group], columns: list[str], row: list[str]) -> None:
        """Compare the numbers of one model in models by tasks, and of how many seeds and tasks they are."""
        document, where = self.document, f"{title.lower()}, {groups[0].model}"
        for column, cell, number in zip(columns, row, tasks_row(groups, title), strict=True):
            document.check_number(f"{where}, {column}", cell, number)
        for group, cell in zip(groups, row, strict=False):
            if group.is_known and group.done:
                document.check_text(f"{where}, {group.display_name}, seeds", remark_of(cell) or None, _of_seeds(group))
        if all(group.is_known for group in groups):
            scores = known_scores(groups, title)
            known = sum(score is not None for score in scores)
            said = TASKS.search(remark_of(row[-1]))
            expected = f"{known} of {len(scores)}" if known < len(scores) else None
            document.check_text(f"{where}, tasks of the mean", said and said[1], expected)

    def _check_data_notes(self, notes: list[str], groups: list[Group]) -> None:
        """Compare the lines below the table that say of how many examples the marked numbers are."""
        data = [group.data() for group in groups if group.is_known]
        if len(data) == len(groups) and None not in data:
            said = examples(" ".join(line for line in notes if line.startswith("- on ")))
            check_data(self.document, "models by tasks", said, set().union(*data))

    def check_failed_cells(self, states: dict[str, str]) -> None:
        """Compare the table of failed cells with the states in results.csv."""
        failed = {name for name, state in states.items() if state == "failed"}
        has_section = any(section.title == "Failed cells" for section in self.document.sections)
        if not (failed or has_section):
            return
        with self.document.findings.noting():
            _, *rows = self.document.take_table("Failed cells", len(failed))
            self.document.check_set("failed cells", {row[0] for row in rows}, failed)

    def check_notes(self, runs: list[VerifiedRun]) -> None:
        """Compare what stands below the tables."""
        document = self.document
        with document.findings.noting():
            verify_notes(document.path, document.take("What to know").lines, runs, document.findings)

    def check_that_nothing_is_left(self) -> None:
        """Note tables that belong to no part of the experiment."""
        document = self.document
        for section in document.sections:
            if section.tables:
                document.findings.add(
                    document.path, f"the table under {section.title!r} is of nothing in the experiment"
                )


def _of_one_seed(groups: list[Group]) -> tuple[bool, str]:
    """Return whether any number is of one seed, and the names of the tasks that are, where not all are."""
    scored = [group for group in groups if group.task.metric_keys() and group.depends_on_seed]
    single = [group for group in scored if len(group.runs) == 1]
    names = "" if len(single) == len(scored) else " ".join(group.display_name for group in single)
    return any(group.done for group in single), names


def _of_seeds(group: Group) -> str | None:
    done, of = len(group.done), len(group.runs)
    return f"{done} of {of}" if done < of and group.task.metric_keys() else None
