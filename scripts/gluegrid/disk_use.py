"""How much of the disk each experiment takes, by part, and each resource, for people: 80 columns."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from gluegrid.common.escaping import shortened
from gluegrid.disk_space import DiskSpace, short_size
from gluegrid.experiment.experiment_index import KINDS, experiment_folders, staged_resources, used_resources

COLUMNS = ("Runs", "Models", "State", "Logs", "Heads", "Trackers", "All")
PARTS_OF_LOGS = ("logs", "benchmarks")
WIDTH_OF_NAME, WIDTH_OF_SIZE = 28, 7
NARROW = 80


def disk_use(results: Path, resources: Path, snakemake: Path, name: str | None = None) -> str:
    """Return the tables of all experiments, or of one, and of what all of them share. Raises GluegridError."""
    space = DiskSpace()
    parts = {folder.name: _parts(folder, space) for folder in experiment_folders(results, name)}
    lines = [_row("Experiment", COLUMNS), *(_row(key, map(short_size, sizes)) for key, sizes in parts.items())]
    if len(parts) > 1:
        lines.append(_row("all", [short_size(sum(column)) for column in zip(*parts.values(), strict=True)]))
    users = used_resources(results)
    for kind in KINDS:
        lines += ["", *_resources(resources, kind, users, name, space)]
    if name is None:
        lines += [
            "",
            f"{short_size(space.of(snakemake)):>{WIDTH_OF_SIZE}}  {snakemake}: Snakemake's notes, SLURM's logs",
        ]
    return "\n".join(lines)


def _parts(folder: Path, space: DiskSpace) -> list[int]:
    """Return the bytes of an experiment's parts, as the columns name them.

    Saved models come first: the state has a second name of the same files.
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
    """Yield a line for each resource of a kind, the largest first, with those who use it."""
    found = [(space.of(path), path) for path in staged_resources(resources, kind)]
    # The folders' own names are relative, as those of the experiments' manifests.
    told = [(size, path, users.get(Path("resources") / path.relative_to(resources), [])) for size, path in found]
    told = [row for row in told if name is None or name in row[2]]
    yield f"{short_size(sum(size for size, *_ in told)):>{WIDTH_OF_SIZE}}  {resources / kind}"
    for size, path, names in sorted(told, key=lambda row: (-row[0], row[1])):
        key = shortened(str(path.relative_to(resources / kind)), NARROW - WIDTH_OF_SIZE - 4)
        yield f"{short_size(size):>{WIDTH_OF_SIZE}}    {key}"
        used = f"used by {', '.join(names)}" if names else "not used by the last plan of any experiment"
        yield f"{'':{WIDTH_OF_SIZE}}      {shortened(used, NARROW - WIDTH_OF_SIZE - 6)}"
