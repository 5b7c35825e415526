"""Stage the pinned parquet files of a task, and a manifest with their hashes and row counts."""

import argparse
import os
from pathlib import Path

os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

from gluegrid import logs
from gluegrid.errors import StagingError, run_script
from gluegrid.repositories import Source
from gluegrid.sources import files_below, split_of, wanted_task_files
from gluegrid.staging import stage


def main() -> None:
    """Fetch the data that the arguments name."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", required=True, help="hub id or local folder")
    parser.add_argument("--folder", required=True, help="folder of the source; '' for its top")
    parser.add_argument("--revision", required=True, help="commit, tag or branch")
    parser.add_argument("--manifest", required=True, type=Path, help="manifest.json to write")
    arguments = parser.parse_args()
    logs.setup()

    def wanted(names: list[str]) -> list[str]:
        files = wanted_task_files(names, arguments.folder)
        if not files:
            raise StagingError(f"{arguments.source} holds no {arguments.folder or '.'}/<split>-00000-of-00001.parquet")
        return files

    source = Source("dataset", arguments.source, arguments.revision)
    stage(source, arguments.manifest, wanted, lambda folder: {"rows": count_rows(folder)})


def count_rows(folder: Path) -> dict[str, int]:
    """Return the number of rows of each split. Raises StagingError for what is no parquet file."""
    import pyarrow.parquet

    from gluegrid.library_errors import in_one_line
    from gluegrid.parquet_files import UNREADABLE

    rows: dict[str, int] = {}
    for name in files_below(folder):
        if not name.endswith(".parquet"):
            continue
        try:
            count = pyarrow.parquet.read_metadata(folder / name).num_rows
        except UNREADABLE as error:
            raise StagingError(f"{name} is no parquet file, or is damaged: {in_one_line(error)}") from error
        rows[split_of(name)] = rows.get(split_of(name), 0) + count
    return rows


if __name__ == "__main__":
    run_script(main)
