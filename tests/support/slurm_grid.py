"""Calls of snakemake on the test cluster, and what SLURM and the cells' own files say about them."""

import contextlib
import json
import os
import shlex
import signal
import subprocess
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from clones import Clone
from cluster import Cluster
from waiting import wait_until

from gluegrid.experiment.loading import load_experiment
from gluegrid.operations.estimates import Estimate, estimates_of
from gluegrid.operations.measured_speeds import PATH as MEASURED_SPEEDS

# The profile's own pauses are longer, to spare SLURM's controller.
QUICK = ("--slurm-init-seconds-before-status-checks", "2", "--seconds-between-status-checks", "3")
SLURM = ("--profile", "slurm", *QUICK)
DEMO = (*SLURM, "--configfile", "demo/config.yaml")
MINE = (*SLURM, "--configfile", "mine.yaml")
ALONE = ("--set-resources", "train:pack_minutes=0")  # each cell in its own job
LONG_ENOUGH = 400  # epochs of wnli: minutes
CELL = "bert-demo-small/{task}/base/seed-42"


def folder_of_cell(clone: Clone, part: str, experiment: str, task: str) -> Path:
    """Return the folder of a cell below an experiment's runs/ or state/."""
    return clone.root / "results" / experiment / part / CELL.format(task=task)


def attempts_of(clone: Clone, experiment: str, task: str) -> list[dict]:
    """Read the attempts of a cell."""
    path = folder_of_cell(clone, "state", experiment, task) / "attempts.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def reasons_of(clone: Clone, experiment: str, task: str) -> list[str | None]:
    """Return how each attempt at a cell ended."""
    return [attempt["reason"] for attempt in attempts_of(clone, experiment, task)]


def causes_of(clone: Clone, experiment: str, task: str) -> list[str | None]:
    """Return the same as the values that programs decide by."""
    return [attempt["cause"] for attempt in attempts_of(clone, experiment, task)]


def is_running(clone: Clone, experiment: str, task: str) -> bool:
    """Tell whether an attempt at a cell has started and not ended."""
    return None in reasons_of(clone, experiment, task)[-1:]


def progress_of(clone: Clone, experiment: str, task: str) -> dict:
    """Read the progress of a cell's training."""
    path = folder_of_cell(clone, "state", experiment, task) / "progress.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def has_checkpoint(clone: Clone, experiment: str, task: str) -> bool:
    """Tell whether a training could resume from a checkpoint."""
    folder = folder_of_cell(clone, "state", experiment, task)
    return any(folder.glob("checkpoints/step-*/checkpoint.json"))


def record_of(clone: Clone, experiment: str, task: str) -> dict:
    """Read the record of a cell's result."""
    path = folder_of_cell(clone, "runs", experiment, task) / "run_record.json"
    return json.loads(path.read_text(encoding="utf-8"))


def estimate_of(clone: Clone, task: str) -> Estimate:
    """Return the estimate for the experiment of `MINE` on a task, as a call of snakemake would make it now."""
    with contextlib.chdir(clone.root):
        experiment = load_experiment(Path("mine.yaml"))
        estimates, _ = estimates_of(experiment)
        return estimates.of(next(cell for cell in experiment.cells.values() if cell.task == task))


def table_of(clone: Clone, experiment: str) -> str:
    """Read the tables of an experiment."""
    return (clone.root / f"results/{experiment}/results.md").read_text(encoding="utf-8")


def accounted(cluster: Cluster, comment: str, *fields: str) -> list[list[str]]:
    """Return what sacct lists about jobs whose comment contains a text."""
    # Snakemake learns of a job's end from the queue, perhaps before slurmctld has told the accounting.
    assert wait_until(lambda: "DBD Agent queue size: 0" in cluster.run("sdiag"))
    return [row for row in cluster.accounting("JobID", "Comment%200", *fields) if comment in row[1]]


def fields_of_jobs(cluster: Cluster, clone: Clone, comment: str, *fields: str) -> list[list[str]]:
    """Return these fields of a clone's jobs whose comment contains a text, oldest first."""
    rows = accounted(cluster, comment, "WorkDir%300", *fields)
    return [row[3:] for row in rows if row[2] == str(clone.root)]


def jobs_of(cluster: Cluster, clone: Clone, task: str, *fields: str) -> list[list[str]]:
    """Return these fields of a clone's jobs for one task's cell, oldest first."""
    return fields_of_jobs(cluster, clone, f"rule_train_wildcards_bert-demo-small_{task}_", *fields)


def jobs_of_packs(cluster: Cluster, clone: Clone, ending: str, *fields: str) -> list[list[str]]:
    """Return these fields of the jobs of a clone's packs whose comment ends like this, oldest first."""
    rows = accounted(cluster, "rule_pack_", "WorkDir%300", *fields)
    return [row[3:] for row in rows if row[2] == str(clone.root) and row[1].endswith(ending)]


def in_queue(cluster: Cluster, *arguments: str) -> list[str]:
    """Return the jobs that wait or run, in the given squeue format, by default their numbers."""
    return cluster.run("squeue", "--noheader", *(arguments or ("--format=%i",))).split("\n")


def start_head(clone: Clone, log: Path, *arguments: str, group: int | None = 0) -> subprocess.Popen:
    """Start snakemake in the background, by default as a process group leader, as a shell does."""
    with log.open("a", encoding="utf-8") as stream:
        return subprocess.Popen(
            clone.command(*arguments),
            cwd=clone.root,
            env=clone.full_environment(),
            stdout=stream,
            stderr=subprocess.STDOUT,
            process_group=group,
        )


def start_head_in_a_job(clone: Clone, log: Path, *arguments: str) -> subprocess.Popen:
    """Submit snakemake as a job with another layout than a cell's; wait for it in a process with the same exit code."""
    cut = ("--nodes=2", "--ntasks=2", "--cpus-per-task=3", "--gpus-per-node=1", "--mem-per-cpu=700", "--time=60")
    command = shlex.join(clone.command(*arguments))
    submission = ["sbatch", "--wait", *cut, f"--output={log}", f"--wrap={command}"]
    return subprocess.Popen(submission, cwd=clone.root, env=clone.full_environment())


def drain(cluster: Cluster, *nodes: str) -> None:
    """Keep jobs from starting on these nodes."""
    for node in nodes:
        cluster.run("scontrol", "update", f"nodename={node}", "state=drain", "reason=test")


def undrain(cluster: Cluster, *nodes: str) -> None:
    """Let jobs start on these nodes again."""
    for node in nodes:
        cluster.run("scontrol", "update", f"nodename={node}", "state=resume")


def pack_everything(clone: Clone) -> None:
    """Make all cells count as small, however slow this machine is, or was while one of them was suspended."""
    clone.replace("scripts/gluegrid/operations/packs.py", "SMALL = 5 ", "SMALL = 1e6 ")
    (clone.root / MEASURED_SPEEDS).unlink(missing_ok=True)


def packs_of(clone: Clone, experiment: str) -> list[Path]:
    """Return the files of an experiment's packs, in the order of the calls that made them."""
    return sorted((clone.root / f"results/{experiment}/heads").glob("*.packs/*.json"))


def order_of_pack(pack: Path) -> list[str]:
    """Return the tasks of a pack's cells."""
    return [Path(cell["run"]).parts[-4] for cell in json.loads(pack.read_text(encoding="utf-8"))["cells"]]


def process_of_pack(training: int) -> int:
    """Return the process that started a training in a pack."""
    return int(Path(f"/proc/{training}/stat").read_text().rpartition(")")[2].split()[1])


@contextlib.contextmanager
def pause_at_checkpoint(clone: Clone, experiment: str, task: str, log: Path) -> Iterator[int]:
    """Wait until the training of a cell could be resumed, and suspend it meanwhile; yield its process."""
    wait(lambda: has_checkpoint(clone, experiment, task), log)
    with paused(clone, experiment, task):
        yield attempts_of(clone, experiment, task)[-1]["pid"]


def pause_all_at_checkpoints(
    pauses: contextlib.ExitStack, clone: Clone, experiment: str, tasks: Iterable[str], log: Path
) -> None:
    """Suspend the training of each cell as soon as it could be resumed, until the stack is closed."""
    moving = {*tasks}

    def stand_still() -> bool:
        for task in [task for task in moving if has_checkpoint(clone, experiment, task)]:
            pauses.enter_context(paused(clone, experiment, task))
            moving.remove(task)
        return not moving

    wait(stand_still, log)


@contextlib.contextmanager
def paused(clone: Clone, experiment: str, task: str) -> Iterator[None]:
    """Suspend the training of a cell meanwhile, however fast the machine is; it may be killed."""
    lock = folder_of_cell(clone, "state", experiment, task) / "lock"
    training = json.loads(lock.read_text(encoding="utf-8"))["pid"]
    os.kill(training, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(training, signal.SIGCONT)


def wait(condition: Callable[[], object], log: Path) -> None:
    """Wait until a condition holds; otherwise show the output of snakemake."""
    assert wait_until(condition), log.read_text(encoding="utf-8")[-5000:]


def ended(head: subprocess.Popen, log: Path) -> int:
    """Wait for a call of snakemake to end; otherwise show its output."""
    wait(lambda: head.poll() is not None, log)
    return head.returncode


def never_overlap(attempts: list[dict]) -> bool:
    """Tell whether each attempt started after the previous one had ended."""
    ends = [attempt["end"] or attempt["start"] for attempt in attempts]
    return all(end <= later["start"] for end, later in zip(ends, attempts[1:], strict=False))
