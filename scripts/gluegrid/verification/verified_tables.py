"""results.md against the runs: every number of its tables, and the counts below them."""

import re
from itertools import groupby
from operator import attrgetter
from pathlib import Path

from gluegrid.errors import DataError
from gluegrid.experiment import Experiment
from gluegrid.reference_files import document
from gluegrid.references import by_model_and_task, reference_model
from gluegrid.verification.expected_tables import Data, Expected, Group, grouped, model_row, reference_row, tasks_row
from gluegrid.verification.findings import Findings
from gluegrid.verification.markdown_tables import Section, read_sections
from gluegrid.verification.verified_notes import verify_notes
from gluegrid.verification.verified_runs import VerifiedRun
from gluegrid.verification.verified_verdicts import references_by_cell, verify_verdicts

# A number, a mark that its data are not official, and in parentheses what limits it.
NUMBER_AND_REMARK = re.compile(r"(.*?)\*?(?: \((.*)\))?")
SEEDS = re.compile(r"mean of (\d+) of (\d+) seeds")
OPTIONS = re.compile(r"(?:^|; )(group_by_length|lora)(?=;|$)")
TASKS = re.compile(r"(\d+) of (\d+) tasks")
EXAMPLES = re.compile(r"([\w.-]+) ([\d,]*\d) (?:of|instead of) ([\d,]*\d)\b(?! runs| seeds| tasks)")


def verify_markdown(
    path: Path, experiment: Experiment, runs: list[VerifiedRun], states: dict[str, str] | None, findings: Findings
) -> None:
    """Compare results.md with what the runs give. `states` is what results.csv says of each cell, if readable."""
    groups = grouped(experiment, runs, states)
    models = [list(of_model) for _, of_model in groupby(groups, key=attrgetter("model"))]
    with findings.noting():
        document = _Document(path, read_sections(path), findings)
        for of_model in models:
            document.check_model(of_model)
        document.check_models_by_tasks(models)
        document.check_reference(experiment, models)
        document.check_verdicts(experiment, runs)
        if states is not None:
            document.check_failed_cells(states)
        document.check_notes(runs)
        document.check_that_nothing_is_left()


class _Document:
    """A results.md that is compared part by part; what was compared is taken out of `sections`."""

    def __init__(self, path: Path, sections: list[Section], findings: Findings):
        self.path = path
        self.sections = sections
        self.findings = findings

    def check_model(self, groups: list[Group]) -> None:
        """Compare the table of one model."""
        self._check_rows(groups, [model_row(group) for group in groups])

    def check_reference(self, experiment: Experiment, models: list[list[Group]]) -> None:
        """Compare the tables of the models that a reference has: the runs' numbers, and the reference's own."""
        label, documented = document()["label"], by_model_and_task(document())
        with self.findings.noting():
            self._take(f"Beside {label}")
        for groups in models:
            numbers = documented.get(reference_model(experiment.models[groups[0].model]))
            if numbers is not None:
                self._check_rows(groups, [reference_row(group, numbers, label) for group in groups])

    def check_verdicts(self, experiment: Experiment, runs: list[VerifiedRun]) -> None:
        """Compare the verdicts on the references that the models have."""
        references = references_by_cell(experiment)
        if references:
            with self.findings.noting():
                section = self._take("References")
                verify_verdicts(self.path, section, references, runs, self.findings)

    def _check_rows(self, groups: list[Group], expected: list[dict[str, Expected]]) -> None:
        """Compare a model's table, which has a row for each task."""
        model = groups[0].model
        with self.findings.noting():
            header, *rows = self._table(model, len(groups))
            for group, cells, row in zip(groups, expected, rows, strict=True):
                where = f"{model}, {group.display_name}"
                if self._has_name(where, row[0], group.display_name):
                    for column, number in cells.items():
                        shown = row[self._place(header, column, model)]
                        self._check_number(f"{where}, {column}", shown, number)
                    self._check_limits(where, row[self._place(header, "Result", model)], group)

    def check_models_by_tasks(self, models: list[list[Group]]) -> None:
        """Compare the table that has a row for each model."""
        with self.findings.noting():
            notes = self._find("Models by tasks").lines
            header, *rows = self._table("Models by tasks", len(models))
            titles = [*(group.display_name for group in models[0]), "Mean"]
            if len(header) != len(titles) + 1:
                raise DataError(f"{self.path}: models by tasks has {len(header) - 1} numbers, not {len(titles)}")
            if not all(self._has_name("models by tasks", *pair) for pair in zip(header[1:], titles, strict=True)):
                return
            for groups, row in zip(models, rows, strict=True):
                if self._has_name("models by tasks", row[0], groups[0].model):
                    self._check_tasks_row(groups, titles, row[1:])
            self._check_data_notes(notes, [group for groups in models for group in groups])

    def _check_tasks_row(self, groups: list[Group], titles: list[str], row: list[str]) -> None:
        """Compare the numbers of one model in models by tasks, and how many tasks their mean is of."""
        where = f"models by tasks, {groups[0].model}"
        for title, shown, number in zip(titles, row, tasks_row(groups), strict=True):
            self._check_number(f"{where}, {title}", shown, number)
        if not all(group.is_known for group in groups):
            return
        known = sum(group.score() is not None for group in groups)
        tasks = TASKS.search(NUMBER_AND_REMARK.fullmatch(row[-1])[2] or "")
        if tasks or known < len(groups):
            self._check_counts(f"{where}, tasks of the mean", tasks and tasks.groups(), (known, len(groups)))

    def _check_data_notes(self, notes: list[str], groups: list[Group]) -> None:
        """Compare the lines below the table that say of how many examples the marked numbers are."""
        data = [group.data() for group in groups if group.is_known]
        if len(data) == len(groups) and None not in data:
            said = _examples(" ".join(line for line in notes if line.startswith("- on ")))
            self._check_data("models by tasks", said, set().union(*data))

    def check_failed_cells(self, states: dict[str, str]) -> None:
        """Compare the table of failed cells with the states in results.csv."""
        failed = {name for name, state in states.items() if state == "failed"}
        has_section = any(section.title == "Failed cells" for section in self.sections)
        if not (failed or has_section):
            return
        with self.findings.noting():
            _, *rows = self._table("Failed cells", len(failed))
            self._check_set("failed cells", {row[0] for row in rows}, failed)

    def check_notes(self, runs: list[VerifiedRun]) -> None:
        """Compare what stands below the tables."""
        with self.findings.noting():
            verify_notes(self.path, self._take("What to know").lines, runs, self.findings)

    def check_that_nothing_is_left(self) -> None:
        """Note tables that belong to no part of the experiment."""
        for section in self.sections:
            if section.tables:
                self.findings.add(self.path, f"the table under {section.title!r} is of nothing in the experiment")

    def _find(self, title: str) -> Section:
        for section in self.sections:
            if section.title == title:
                return section
        raise DataError(f"{self.path}: has no section {title!r}")

    def _take(self, title: str) -> Section:
        section = self._find(title)
        self.sections.remove(section)
        return section

    def _table(self, title: str, rows: int) -> list[list[str]]:
        tables = self._take(title).tables
        if len(tables) != 1:
            raise DataError(f"{self.path}: has {len(tables)} tables under {title!r}, not one")
        if len(tables[0]) != rows + 1:
            raise DataError(f"{self.path}: the table under {title!r} has {len(tables[0]) - 1} rows, not {rows}")
        return tables[0]

    def _place(self, header: list[str], column: str, title: str) -> int:
        if column not in header:
            raise DataError(f"{self.path}: the table under {title!r} has no column {column!r}")
        return header.index(column)

    def _has_name(self, where: str, shown: str, name: str) -> bool:
        """Tell whether a row or column is that of a name; note where not, for then its numbers mean something else."""
        letters, of_name = _letters(shown), _letters(name)
        if letters == of_name or (shown.endswith("...") and of_name.startswith(letters)):
            return True
        self.findings.add(self.path, f"{where}: says {shown!r} where {name!r} should stand")
        return False

    def _check_number(self, where: str, shown: str, expected: Expected) -> None:
        if expected is None:
            return
        self.findings.table_numbers += len(expected)
        number = NUMBER_AND_REMARK.fullmatch(shown)[1]
        parts = number.split("/")
        if len(parts) != len(expected) or any(part not in texts for part, texts in zip(parts, expected, strict=True)):
            should_be = "/".join(" or ".join(sorted(texts)) for texts in expected)
            self.findings.add(self.path, f"{where}: is {shown!r}, its runs give {should_be}")

    def _check_limits(self, where: str, shown: str, group: Group) -> None:
        """Compare the numbers in the parentheses behind a result: seeds, and examples of official ones."""
        if not (group.is_known and group.done):
            return
        remark = NUMBER_AND_REMARK.fullmatch(shown)[2] or ""
        seeds = SEEDS.search(remark)
        if seeds or len(group.runs) > 1:
            self._check_counts(f"{where}, seeds", seeds and seeds.groups(), (len(group.done), len(group.runs)))
        self._check_set(f"{where}, options", set(OPTIONS.findall(remark)), group.options())
        expected = group.data()
        if expected is not None:
            self._check_data(where, _examples(remark), expected)

    def _check_data(self, where: str, said: set[Data], expected: set[Data]) -> None:
        self.findings.table_numbers += 2 * len(expected)
        if said != expected:
            problem = f"{where}: the examples are said to be {_listed(said)}, the runs have {_listed(expected)}"
            self.findings.add(self.path, problem)

    def _check_counts(self, where: str, shown: tuple[str, ...] | None, expected: tuple[int, int]) -> None:
        self.findings.table_numbers += 2
        if shown != tuple(map(str, expected)):
            said = " of ".join(shown) if shown else "not said"
            self.findings.add(self.path, f"{where}: {said}, it should be {expected[0]} of {expected[1]}")

    def _check_set(self, what: str, shown: set[str], expected: set[str]) -> None:
        if shown != expected:
            problem = (
                f"{what}: {', '.join(sorted(shown)) or 'none'}, it should be {', '.join(sorted(expected)) or 'none'}"
            )
            self.findings.add(self.path, problem)


def _letters(text: str) -> str:
    """Return the letters and digits of a text, without what Markdown or a terminal would make of the others."""
    return re.sub(r"\W", "", text)


def _examples(text: str) -> set[Data]:
    """Return what a text says of examples, such as `train 24 of 3,668`."""
    return set(EXAMPLES.findall(text))


def _listed(data: set[Data]) -> str:
    return ", ".join(f"{split} {used} of {rows}" for split, used, rows in sorted(data)) or "all of the official"
