"""Where a number comes from: code, host and job, as plain data. Imports nothing heavy."""

import datetime
import os
import platform
import socket
import subprocess
from importlib import metadata
from pathlib import Path

from gluegrid.common.errors import GluegridError

PROJECT = Path(__file__).resolve().parents[3]
# The files that determine results. Editing an experiment file or a profile does not count as changing the code.
CODE = ("Snakefile", "rules", "scripts", "schemas")
EXECUTOR = "GLUEGRID_EXECUTOR"  # the name of the executor with which the call of snakemake starts its jobs
PACK = "GLUEGRID_PACK"  # the name of the pack whose cells a process trains
CLUSTERS = "GLUEGRID_CLUSTERS"  # the clusters that sbatch may choose from for a job, if it was told any
RECORDED_PACKAGES = (
    "torch",
    "transformers",
    "accelerate",
    "datasets",
    "evaluate",
    "tokenizers",
    "scikit-learn",
    "scipy",
    "numpy",
    "snakemake",
)


def now() -> str:
    """Return the time in UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def git_state() -> dict:
    """Return the commit of the code and whether it has uncommitted changes; both None outside a checkout.

    `unknown` says why git could not tell.
    """
    # Checked without git, since an unpacked archive may lie inside another project's checkout.
    if not (PROJECT / ".git").exists():
        return {"commit": None, "dirty": None}
    try:
        return {"commit": _git("rev-parse", "HEAD"), "dirty": bool(_git("status", "--porcelain", "--", *CODE))}
    except GluegridError as error:
        return {"commit": None, "dirty": None, "unknown": str(error)}


def without_commit(git: dict) -> str:
    """Describe code whose commit is None in a `git_state`."""
    return f"of an unknown commit ({git['unknown']})" if git.get("unknown") else "not from a git checkout"


def _git(*arguments: str) -> str:
    """Return the output of a git command that only reads the project. Raises GluegridError."""
    # git refuses another user's clone because of its settings; but the clone's code already runs here.
    command = ["git", "-c", "safe.directory=*", "-C", str(PROJECT), *arguments]
    # A git hook, or `git rebase --exec`, sets these variables to its own repository.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment |= {"GIT_OPTIONAL_LOCKS": "0", "GIT_CEILING_DIRECTORIES": str(PROJECT.parent)}
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace", timeout=30)
    except FileNotFoundError:
        raise GluegridError("git is not installed") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise GluegridError(f"git does not answer: {error}") from None
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise GluegridError(f"git: {said[0]}")
    return done.stdout.strip()


def versions() -> dict[str, str | None]:
    """Return the versions of Python and of the packages that determine results."""
    used = {"python": platform.python_version()}
    for package in RECORDED_PACKAGES:
        try:
            used[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            used[package] = None
    return used


def this_process() -> dict:
    """Return what identifies this process: host, process id, and start time, since ids are reused."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "process_started": process_started(os.getpid())}


def process_started(pid: int) -> str | None:
    """Return the start time of a process on this host, which tells it from a later one with the same id; else None."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    has_ended = fields[0] in "ZX"  # a zombie, which waits for its parent to collect its exit code
    return None if has_ended else fields[19]


def is_running(process: dict) -> bool:
    """Tell whether a process of this host, identified as by `this_process`, is still running."""
    return process["process_started"] is not None and process_started(process["pid"]) == process["process_started"]


def job() -> dict:
    """Return where this process runs: host, process id, its own SLURM job if it has one, and its pack if any."""
    pack = {"pack": os.environ[PACK]} if PACK in os.environ else {}
    return {
        **pack,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "slurm_job_id": _slurm_job_id(),
        "slurm_node": os.environ.get("SLURMD_NODENAME"),
        "cuda_visible_devices": os.environ.get("CUDA_VISIBLE_DEVICES"),
    }


def _slurm_job_id() -> str | None:
    """Return the job's number; with its cluster if sbatch was asked for one, and as <job>_<task> in an array job.

    None for a job in which a call of snakemake runs many cells: it must not be cancelled or waited for with one cell.
    """
    if not has_slurm_job_of_its_own():
        return None
    number = os.environ["SLURM_JOB_ID"]
    if array := os.environ.get("SLURM_ARRAY_JOB_ID"):
        number = f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    cluster = os.environ.get("SLURM_CLUSTER_NAME") if CLUSTERS in os.environ else None
    return f"{number};{cluster}" if cluster else number


def has_slurm_job_of_its_own() -> bool:
    """Tell whether this process is in a SLURM job that was submitted for its cell, or by hand for a script."""
    return "SLURM_JOB_ID" in os.environ and os.environ.get(EXECUTOR) != "local"
