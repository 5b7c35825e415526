"""Stage the pinned files of a task as parquet files, and write a manifest with their hashes and row counts."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

from gluegrid.common import cli
from gluegrid.common.cli import run_script
from gluegrid.common.errors import GluegridError, StagingError
from gluegrid.execution.invocation import TerminalHandler
from gluegrid.experiment.loading import planned_experiment
from gluegrid.experiment.sources import advice_on_names, files_below, split_of, wanted_task_files
from gluegrid.experiment.task import Task, definition
from gluegrid.experiment.task_files import check_all_parts, depth_of, files_of_splits, is_converted
from gluegrid.staging.label_names import CARDS, names_in_cards
from gluegrid.staging.repositories import Source
from gluegrid.staging.stage import stage


def main() -> None:
    """Stage the dataset."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", required=True, help="hub id or local folder")
    parser.add_argument("--folder", required=True, help="folder within the source; '' for the source itself")
    parser.add_argument("--revision", required=True, help="commit, tag or branch")
    parser.add_argument("--manifest", required=True, type=Path, help="manifest.json to write")
    parser.add_argument(
        "--head", type=Path, help="file below results/<experiment>/heads; without it, files have the hub's names"
    )
    arguments = parser.parse_args()
    cli.setup(TerminalHandler())
    task = task_to_convert(arguments.head, arguments.manifest) if arguments.head else None
    depth = depth_of(vars(task)) if task else 1
    source = Source("dataset", arguments.source, arguments.revision, depth)
    if task:
        stage_converted(source, arguments.manifest, task)
    else:
        # Without a head file there is no task whose labels could contradict the card's names.
        cards = CARDS if arguments.head else ()
        stage_as_named(source, arguments.manifest, arguments.folder, cards)


def task_to_convert(head: Path, manifest: Path) -> Task | None:
    """Return the task with this manifest in a head file's experiment, if it names its files or cuts a split."""
    experiment = planned_experiment(head)
    for name, entry in experiment.tasks.items():
        if experiment.task_key(name) == manifest.parent.name and is_converted(entry):
            return Task(name=name, **definition(entry))
    return None


def stage_converted(source: Source, manifest: Path, task: Task) -> None:
    """Stage the files that a task names, converted to one parquet file per split."""

    def wanted(names: list[str]) -> list[str]:
        try:
            files = files_of_splits(names, vars(task))
            check_all_parts(files)
            return [name for of_split in files.values() for name in of_split]
        except GluegridError as error:
            raise StagingError(f"{source.name}: {error}") from error

    def convert_them(folder: Path) -> None:
        from gluegrid.staging.convert import convert

        convert(folder, task, files_of_splits(files_below(folder, source.depth), vars(task)))

    stage(source, manifest, wanted, describe, convert_them, CARDS)


def stage_as_named(source: Source, manifest: Path, folder: str, cards: Sequence[str]) -> None:
    """Stage the parquet files, named as on the hub, in a folder of the source, with the label names in its cards."""

    def wanted(names: list[str]) -> list[str]:
        files = wanted_task_files(names, folder)
        if not files:
            lacking = f"{folder or '.'}/<split>-00000-of-00001.parquet"
            raise StagingError(f"{source.name}: has no {lacking}{advice_on_names(names, folder)}")
        return files

    def describe_with_names(partial: Path) -> dict:
        files = wanted_task_files(files_below(partial), folder)
        return describe(partial) | {"label_names": names_in_cards(partial, files, folder)}

    stage(source, manifest, wanted, describe_with_names, looked_at=cards)


def describe(folder: Path) -> dict:
    """Return the manifest's entries for a task's files besides their hashes."""
    return {"rows": count_rows(folder)}


def count_rows(folder: Path) -> dict[str, int]:
    """Return the number of rows of each split. Raise StagingError for a file that is not parquet."""
    import pyarrow.parquet

    from gluegrid.common.errors import in_one_line
    from gluegrid.staging.parquet_files import UNREADABLE

    rows: dict[str, int] = {}
    for name in files_below(folder):
        if not name.endswith(".parquet"):
            continue
        try:
            count = pyarrow.parquet.read_metadata(folder / name).num_rows
        except UNREADABLE as error:
            raise StagingError(f"{name}: is not a parquet file, or is damaged: {in_one_line(error)}") from error
        rows[split_of(name)] = rows.get(split_of(name), 0) + count
    return rows


if __name__ == "__main__":
    run_script(main)
