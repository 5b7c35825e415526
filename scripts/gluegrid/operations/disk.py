"""Disk usage by experiment and part, and by model and dataset, as a table of 80 columns."""

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from gluegrid.common.escaping import shortened
from gluegrid.common.paths import KERNELS
from gluegrid.experiment.experiment_index import KINDS, experiment_folders, staged_resources, used_resources

BLOCK = 512  # bytes, of st_blocks


class DiskSpace:
    """Sum up file sizes, counting each file once even if it has several names, as saved models do."""

    def __init__(self) -> None:
        self._counted: set[tuple[int, int]] = set()

    def of(self, *paths: Path) -> int:
        """Return the bytes of files and folders that this object has not counted before."""
        return sum(self._size(path) for path in paths)

    def _size(self, path: Path) -> int:
        size = 0
        for status in _statuses(path):
            if (identity := (status.st_dev, status.st_ino)) not in self._counted:
                self._counted.add(identity)
                size += status.st_blocks * BLOCK
        return size


def bytes_freed_by_removing(path: Path) -> int:
    """Return the bytes that removing a file or folder frees: none for a file that has a name elsewhere, too."""
    lost = (status for status in _statuses(path) if stat.S_ISDIR(status.st_mode) or status.st_nlink == 1)
    return sum(status.st_blocks * BLOCK for status in lost)


def short_size(count: int) -> str:
    """Return a number of bytes in at most six characters, such as 45.4M; k, M, G and T are powers of 1,000."""
    for unit, worth in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= worth:
            return f"{count / worth:.1f}{unit}"
    return str(count)


def _statuses(path: Path) -> Iterator[os.stat_result]:
    """Yield the status of a file, or of a folder and everything below it, without following links."""
    below = (Path(folder) / name for folder, folders, files in os.walk(path) for name in (*folders, *files))
    for entry in (path, *below):
        with suppress(OSError):  # deleted meanwhile
            yield os.lstat(entry)


COLUMNS = ("Runs", "Models", "State", "Logs", "Heads", "Trackers", "All")
PARTS_OF_LOGS = ("logs", "benchmarks")
WIDTH_OF_NAME, WIDTH_OF_SIZE = 28, 7
NARROW = 80


def disk_use(results: Path, resources: Path, snakemake: Path, name: str | None = None) -> str:
    """Return the tables of all experiments or of one, and of what they share. Raise GluegridError if there is none."""
    space = DiskSpace()
    parts = {folder.name: _parts(folder, space) for folder in experiment_folders(results, name)}
    lines = [_row("Experiment", COLUMNS), *(_row(key, map(short_size, sizes)) for key, sizes in parts.items())]
    if len(parts) > 1:
        lines.append(_row("all", [short_size(sum(column)) for column in zip(*parts.values(), strict=True)]))
    users = used_resources(results)
    for kind in KINDS:
        lines += ["", *_resources(resources, kind, users, name, space)]
    if name is None:
        others = {resources / KERNELS: "kernels compiled for GPUs", snakemake: "Snakemake's records, SLURM's logs"}
        lines += [
            "",
            *(f"{short_size(space.of(path)):>{WIDTH_OF_SIZE}}  {path}: {what}" for path, what in others.items()),
        ]
    return "\n".join(lines)


def _parts(folder: Path, space: DiskSpace) -> list[int]:
    """Return the bytes of an experiment's parts, in the order of the columns.

    Count saved models first, since the state folder has second names of the same files.
    """
    models = space.of(*folder.glob(f"runs/{'*/' * 4}model"))
    runs = space.of(folder / "runs")
    state = space.of(folder / "state")
    logs = space.of(*(folder / part for part in PARTS_OF_LOGS))
    heads, trackers = space.of(folder / "heads"), space.of(folder / "trackers")
    tables = space.of(folder)  # what is left
    sizes = [runs + tables, models, state, logs, heads, trackers]
    return [*sizes, sum(sizes)]


def _row(name: str, sizes: Iterable[str]) -> str:
    cells = [f"{size:>{max(len(column), WIDTH_OF_SIZE - 1)}}" for column, size in zip(COLUMNS, sizes, strict=True)]
    return " ".join([f"{shortened(name, WIDTH_OF_NAME):<{WIDTH_OF_NAME}}", *cells])


def _resources(
    resources: Path, kind: str, users: dict[Path, list[str]], name: str | None, space: DiskSpace
) -> Iterator[str]:
    """Yield a line for each resource of a kind, largest first, with the experiments that use it."""
    sizes = [(space.of(path), path) for path in staged_resources(resources, kind)]
    # The keys are relative paths, as in the experiments' manifests.
    told = [(size, path, users.get(Path("resources") / path.relative_to(resources), [])) for size, path in sizes]
    told = [row for row in told if name is None or name in row[2]]
    yield f"{short_size(sum(size for size, *_ in told)):>{WIDTH_OF_SIZE}}  {resources / kind}"
    for size, path, names in sorted(told, key=lambda row: (-row[0], row[1])):
        key = shortened(str(path.relative_to(resources / kind)), NARROW - WIDTH_OF_SIZE - 4)
        yield f"{short_size(size):>{WIDTH_OF_SIZE}}    {key}"
        used = f"used by {', '.join(names)}" if names else "not used by the last plan of any experiment"
        yield f"{'':{WIDTH_OF_SIZE}}      {shortened(used, NARROW - WIDTH_OF_SIZE - 6)}"
