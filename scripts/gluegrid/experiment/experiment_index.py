"""The experiments below results/: their folders, their last plans, and the resources that they use."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from gluegrid.common.errors import DataError, GluegridError
from gluegrid.common.escaping import listed, nearest
from gluegrid.common.files import read_json
from gluegrid.experiment.experiment import Experiment
from gluegrid.experiment.loading import planned_experiment
from gluegrid.experiment.staged_tokens import staged_tokens

KINDS = ("models", "tasks", "tokens")  # of resources
# What makes a folder below results/ an experiment: for file maintenance, for reading its plan, and for verification,
# which also checks folders that were copied from elsewhere.
ANY_TRACE, PLANNED, TO_VERIFY = ("heads", "runs", "state"), ("heads/*.json",), ("heads", "runs", "results.md")


def experiment_folders(results: Path, name: str | None = None, having: Iterable[str] = ANY_TRACE) -> list[Path]:
    """Return the folders of all experiments, or of the one with this name. Raises GluegridError if it does not exist.

    A folder is an experiment if it contains any of `having`.
    """
    known = [path for path in sorted(results.glob("*")) if any(next(path.glob(part), None) for part in having)]
    if name is None:
        return known
    if results / name not in known:
        raise GluegridError(f"{results}/{name} is not an experiment; {_there_are(name, known)}")
    return [results / name]


def the_experiment(results: Path, name: str | None, having: Iterable[str] = PLANNED) -> Path:
    """Return the folder of the experiment with this name; without a name, of the only one. Raises GluegridError."""
    folders = experiment_folders(results, name or None, having)
    if not folders:
        raise GluegridError(f"{results}: contains no experiment yet; run snakemake first")
    if len(folders) > 1:
        raise GluegridError(f"which experiment? Add EXPERIMENT=...; {_there_are('', folders)}")
    return folders[0]


def _there_are(name: str, known: list[Path]) -> str:
    names = [folder.name for folder in known]
    meant = nearest(name, names)
    return f"there are: {listed(names)}" + (f" (did you mean {meant!r}?)" if meant else "")


def invocation_files(folder: Path) -> list[Path]:
    """Return the file of each call of snakemake for an experiment, oldest first, without the files beside it."""
    return sorted((path for path in folder.glob("heads/*.json") if "." not in path.stem), key=_start)


def newest_invocation(folder: Path) -> Path | None:
    """Return the file of an experiment's last call of snakemake; None if there was none."""
    return next(reversed(invocation_files(folder)), None)


def _start(invocation: Path) -> tuple[str, int]:
    """Return when an invocation began: the second from its file's name, then the file's time if it still exists."""
    try:
        written = invocation.stat().st_mtime_ns
    except OSError:
        written = 0
    return invocation.stem.rpartition("-")[0], written


def is_import(folder: Path) -> bool:
    """Tell whether an experiment was imported and has had no call of snakemake since."""
    try:
        configs = [read_json(invocation)["config"] for invocation in invocation_files(folder)]
    except (DataError, KeyError):
        return False
    return bool(configs) and all("imported" in config for config in configs)


def newest_plan(folder: Path) -> Experiment | None:
    """Return an experiment as its last call of snakemake planned it. Raises DataError."""
    invocation = newest_invocation(folder)
    if invocation is None:
        return None
    try:
        experiment = planned_experiment(invocation)
        experiment.cells  # noqa: B018, computed here so that errors in the file surface here
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{invocation}: is from another release; call snakemake once with this experiment") from error
    return experiment


def used_resources(results: Path) -> dict[Path, list[str]]:
    """Return the folder of each resource in use, with the names of the experiments that use it. Raises DataError."""
    users = defaultdict(list)
    for folder in experiment_folders(results):
        experiment = newest_plan(folder)
        for resource in sorted(set(_resources_of(experiment))) if experiment else []:
            users[resource].append(folder.name)
    return dict(users)


def staged_resources(resources: Path, kind: str) -> list[Path]:
    """Return the folders of all resources of a kind, without what is beside them while they are staged."""
    pattern = "*/*" if kind == "tokens" else "*"
    folders = (resources / kind).glob(pattern)
    return sorted(path for path in folders if path.is_dir() and path.suffix not in (".partial", ".lock"))


def _resources_of(experiment: Experiment) -> Iterator[Path]:
    manifests = [*map(experiment.model_manifest, experiment.models), *map(experiment.task_manifest, experiment.tasks)]
    manifests += [staged_tokens(experiment, cell) for cell in experiment.kinds]
    return (Path(manifest).parent for manifest in manifests)
