"""What the names in an archive stand for: its models, its tasks, and the values of a cell.

Two clones may have given one name to different things, or one thing under different paths and revisions. Where results
say the hashes of the files, these decide; where not, what the config says.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from gluegrid.common.escaping import quoted
from gluegrid.sharing.archived_cells import Archive, ArchivedCell

MODEL, TASK = "model", "task"
FILES = {MODEL: "model_files", TASK: "task_files"}
PLACE = {"source", "revision", "folder"}  # from where files come, which their hashes make needless
IDENTITY = {"recipe", "experiment", "model", "task", "variant", "seed"}
# Values that decide how a number is computed, and change at most its last bits.
OF_THE_MACHINE = {
    *("threads", "device", "per_device_eval_batch_size", "gradient_checkpointing", "attn_implementation"),
    *("eval_strategy", "save_model"),
}


@dataclass(frozen=True)
class Meaning:
    """What a name stands for: its part of run.json, and the hash of its files, None where no result says it."""

    definition: dict
    files: str | None

    def differences(self, other: "Meaning") -> list[str]:
        """Say in what this is another thing than `other`; nothing where both are the same."""
        if self.files is None or other.files is None:
            return _differences(self.definition, other.definition)
        here, there = _without(self.definition, PLACE), _without(other.definition, PLACE)
        return ["its files are others"] * (self.files != other.files) + _differences(here, there)


def meaning(archive: Archive, kind: str, name: str) -> Meaning | None:
    """Return what a model's or a task's name stands for in an archive; None where no cell has it."""
    cells = [each for each in archive.cells if getattr(each.cell, kind) == name]
    if not cells:
        return None
    first = min(cells, key=lambda each: not each.is_done)
    return Meaning(_without(first.cell.run[kind], {"name"}), first.made_from.get(FILES[kind]))


def differences_of_runs(one: ArchivedCell, other: ArchivedCell) -> list[str]:
    """Say in what two cells were trained differently, beside their seeds, and what changes at most the last bits."""
    tokens = {each.made_from["tokens_files"] for each in (one, other) if each.is_done}
    return _differences(_values(one), _values(other)) + ["its tokens are others"] * (len(tokens) > 1)


def _values(archived: ArchivedCell) -> dict:
    values = _without(archived.cell.values, IDENTITY | OF_THE_MACHINE)
    if start := values.get("init_from"):
        values["init_from"] = {key: start[key] for key in ("task", "variant")}  # the hash is another for each seed
    return values


def _without(values: dict, keys: set[str]) -> dict:
    return {key: value for key, value in values.items() if key not in keys}


def _differences(one: dict, other: dict) -> list[str]:
    keys: Iterable[str] = sorted({*one, *other})
    return [f"{key} is {_shown(one, key)} and {_shown(other, key)}" for key in keys if one.get(key) != other.get(key)]


def _shown(values: dict, key: str) -> str:
    return quoted(values[key]) if key in values else "not given"
