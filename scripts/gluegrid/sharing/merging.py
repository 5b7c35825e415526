"""Merge several archives into one experiment: find cells that are the same and names that conflict.

Only results of the same model, task and values are averaged. If names conflict, the user chooses the archive whose
models get a label.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from gluegrid.common.errors import GluegridError
from gluegrid.common.escaping import quoted
from gluegrid.experiment.cell import Cell, listed
from gluegrid.experiment.options import OPTIONS
from gluegrid.experiment.variants import BASE
from gluegrid.sharing.archived_cells import Archive, ArchivedCell

OF_A_MODEL = ("source", "revision", "trust_remote_code", "tokenizer", "reference")
MOST_PROBLEMS = 5  # listed in one message
MODEL, TASK = "model", "task"
FILES = {MODEL: "model_files", TASK: "task_files"}
PLACE = {"source", "revision", "folder"}  # where files come from, which does not matter if their hashes are known
IDENTITY = {"recipe", "experiment", "model", "task", "variant", "seed"}
# Values that decide how a number is computed, but change at most its last bits.
OF_THE_MACHINE = {
    *("threads", "device", "per_device_eval_batch_size", "gradient_checkpointing", "attn_implementation"),
    *("eval_strategy", "save_model"),
}


@dataclass(frozen=True)
class Source:
    """An archive, and the label to put before its models' names; empty if they keep their names."""

    archive: Archive
    label: str = ""

    def labelled(self, name: str) -> str:
        """Return a name with the label before it."""
        return f"{self.label}.{name}" if self.label else name


@dataclass(frozen=True)
class Placed:
    """A cell of an archive, with its names in the merged experiment."""

    source: Source
    archived: ArchivedCell
    cell: Cell


def merge(sources: Iterable[Source]) -> "Merged":
    """Merge archives in their order. Raise GluegridError if a name would mean two things."""
    merged = Merged()
    for source in sources:
        merged.add(source)
    merged.raise_problems()
    return merged


class Merged:
    """The merged content of several archives. `repeated` counts cells that are the same in several of them."""

    def __init__(self) -> None:
        self.models: dict[str, dict] = {}
        self.tasks: dict[str, dict] = {}
        self.references: list[dict] = []
        self.cells: dict[str, Placed] = {}
        self.repeated = 0
        self._problems: dict[str, None] = {}  # an ordered set of conflicts
        self._meanings: dict[tuple[str, str], tuple[Meaning, Source]] = {}
        self._groups: dict[tuple[str, str, str], Placed] = {}  # the first cell of each

    def config(self, experiment: str) -> dict:
        """Return the config of an imported experiment of this name."""
        groups = dict.fromkeys(_group(each.cell) for each in self.cells.values())
        order = {group: number for number, group in enumerate(groups)}
        # As in every experiment, a variant's cells are together, and `base` comes first.
        cells = sorted(self.cells.values(), key=lambda each: (each.cell.variant != BASE, order[_group(each.cell)]))
        imported = [
            listed(each.cell, each.archived.reason, each.archived.log) | {"run": each.cell.run} for each in cells
        ]
        parts = {"models": self.models, "tasks": self.tasks, "references": self.references}
        return {"experiment": experiment, **parts, "imported": imported}

    def add(self, source: Source) -> None:
        """Add the models, tasks and cells of an archive."""
        config, before = source.archive.config, len(self._problems)
        models = {name: source.labelled(name) for name in config["models"]}
        tasks = {name: self._name_of_task(source, name) for name in config["tasks"]}
        for kind, names in ((MODEL, models), (TASK, tasks)):
            for own, name in names.items():
                self._check_meaning(source, kind, own, name)
        if len(self._problems) > before:
            return  # each cell would repeat the problem
        for own, name in models.items():
            self.models.setdefault(name, _model(config["models"][own], models))
        for own, name in tasks.items():
            self.tasks.setdefault(name, _task(source, own, is_renamed=own != name))
        self.references += [each for each in config.get("references", []) if each not in self.references]
        for archived in source.archive.cells:
            cell = replace(archived.cell, model=models[archived.cell.model], task=tasks[archived.cell.task])
            self._add_cell(Placed(source, archived, cell))

    def raise_problems(self) -> None:
        """Raise GluegridError if anything conflicts."""
        if not self._problems:
            return
        lines, more = list(self._problems)[:MOST_PROBLEMS], len(self._problems) - MOST_PROBLEMS
        if more > 0:
            lines.append(f"and {more} more such differences")
        advice = 'to keep both, put a label before one: FILES="a.zip other=b.zip" calls the models of b other.<model>'
        raise GluegridError("\n".join([*lines, advice]))

    def _name_of_task(self, source: Source, own: str) -> str:
        """Return a task's own name, with a label if another archive has a different task of that name."""
        known = self._meanings.get((TASK, own))
        mine = meaning(source.archive, TASK, own)
        return source.labelled(own) if known and mine and mine.differences(known[0]) else own

    def _check_meaning(self, source: Source, kind: str, own: str, name: str) -> None:
        mine = meaning(source.archive, kind, own)
        if mine is None:
            return
        first, other = self._meanings.setdefault((kind, name), (mine, source))
        for difference in mine.differences(first):
            self._add_problem(f"the {kind} {name}", difference, source, other)

    def _add_cell(self, placed: Placed) -> None:
        first = self._groups.setdefault(_group(placed.cell), placed)
        differences = differences_of_runs(placed.archived, first.archived) if first.source is not placed.source else []
        for difference in differences:
            self._add_problem("/".join(_group(placed.cell)), difference, placed.source, first.source)
        there = placed if differences else self.cells.setdefault(placed.cell.name, placed)
        if there is not placed:
            self._add_again(placed, there)

    def _add_again(self, placed: Placed, there: Placed) -> None:
        """Keep one of two copies of a cell: the one with a result, otherwise the one that was tried."""
        if there.archived.is_done and placed.archived.is_done:
            if there.archived.predictions != placed.archived.predictions:
                self._add_problem(placed.cell.name, "its predictions are others", placed.source, there.source)
            self.repeated += 1
        elif placed.archived.is_done or not there.archived.was_tried:
            self.cells[placed.cell.name] = placed

    def _add_problem(self, what: str, difference: str, source: Source, other: Source) -> None:
        self._problems[f"{what}: {difference}, in {source.archive.name} and {other.archive.name}"] = None


def _group(cell: Cell) -> tuple[str, str, str]:
    return cell.model, cell.task, cell.variant


def _model(entry: dict, names: dict[str, str]) -> dict:
    """Return an archive's entry of a model, without training values."""
    kept = {key: entry[key] for key in OF_A_MODEL if key in entry}
    return kept | ({"tokenizer": names[entry["tokenizer"]]} if "tokenizer" in entry else {})


def _task(source: Source, name: str, is_renamed: bool) -> dict:
    """Return an archive's entry of a task, without training values."""
    entry = source.archive.config["tasks"][name]
    kept = {key: value for key, value in entry.items() if key not in OPTIONS}
    return kept | ({"display_name": source.labelled(entry.get("display_name", name))} if is_renamed else {})


@dataclass(frozen=True)
class Meaning:
    """What a name stands for: its part of run.json, and the hash of its files, or None if no result has it."""

    definition: dict
    files: str | None

    def differences(self, other: "Meaning") -> list[str]:
        """Return how this differs from `other`, or nothing if both are the same."""
        if self.files is None or other.files is None:
            return _differences(self.definition, other.definition)
        here, there = _without(self.definition, PLACE), _without(other.definition, PLACE)
        return ["its files are others"] * (self.files != other.files) + _differences(here, there)


def meaning(archive: Archive, kind: str, name: str) -> Meaning | None:
    """Return what a model's or a task's name stands for in an archive, or None if no cell has it."""
    cells = [each for each in archive.cells if getattr(each.cell, kind) == name]
    if not cells:
        return None
    first = min(cells, key=lambda each: not each.is_done)
    return Meaning(_without(first.cell.run[kind], {"name"}), first.made_from.get(FILES[kind]))


def differences_of_runs(one: ArchivedCell, other: ArchivedCell) -> list[str]:
    """Return how the training of two cells differs, besides seeds and what changes at most the last bits."""
    tokens = {each.made_from["tokens_files"] for each in (one, other) if each.is_done}
    return _differences(_values(one), _values(other)) + ["its tokens are others"] * (len(tokens) > 1)


def _values(archived: ArchivedCell) -> dict:
    values = _without(archived.cell.values, IDENTITY | OF_THE_MACHINE)
    if start := values.get("init_from"):
        values["init_from"] = {key: start[key] for key in ("task", "variant")}  # its hash differs between seeds
    return values


def _without(values: dict, keys: set[str]) -> dict:
    return {key: value for key, value in values.items() if key not in keys}


def _differences(one: dict, other: dict) -> list[str]:
    keys: Iterable[str] = sorted({*one, *other})
    return [f"{key} is {_shown(one, key)} and {_shown(other, key)}" for key in keys if one.get(key) != other.get(key)]


def _shown(values: dict, key: str) -> str:
    return quoted(values[key]) if key in values else "not given"
