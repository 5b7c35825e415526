"""Where a number comes from: code, machine and job, as plain data. Imports nothing heavy."""

import datetime
import os
import platform
import socket
import subprocess
from importlib import metadata
from pathlib import Path

from gluegrid.common.errors import GluegridError

PROJECT = Path(__file__).resolve().parents[3]
# What makes the numbers. An experiment file or a profile that was edited does not make the code another.
CODE = ("Snakefile", "rules", "scripts", "schemas")
EXECUTOR = "GLUEGRID_EXECUTOR"  # the name of the executor with which a head starts its jobs
PACK = "GLUEGRID_PACK"  # the name of the pack that a process trains cells of
CLUSTERS = "GLUEGRID_CLUSTERS"  # the clusters that sbatch was told to choose from for a job, if it was
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
    """Return the commit of the code and whether it was changed since; both None outside a checkout.

    Of a checkout that git tells nothing of, `unknown` says why.
    """
    # Not git is asked: an unpacked archive may lie inside another project's checkout.
    if not (PROJECT / ".git").exists():
        return {"commit": None, "dirty": None}
    try:
        return {"commit": _git("rev-parse", "HEAD"), "dirty": bool(_git("status", "--porcelain", "--", *CODE))}
    except GluegridError as error:
        return {"commit": None, "dirty": None, "unknown": str(error)}


def without_commit(git: dict) -> str:
    """Say of code whose commit is None in such a state what is known of it."""
    return f"of an unknown commit ({git['unknown']})" if git.get("unknown") else "not from a git checkout"


def _git(*arguments: str) -> str:
    """Return what git prints about the project, which it only reads. Raises GluegridError."""
    # Another user's clone, which git mistrusts for its settings: its code is what runs here anyway.
    command = ["git", "-c", "safe.directory=*", "-C", str(PROJECT), *arguments]
    # A hook of git's, or `git rebase --exec`, tells of a repository of its own.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment |= {"GIT_OPTIONAL_LOCKS": "0", "GIT_CEILING_DIRECTORIES": str(PROJECT.parent)}
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace", timeout=30)
    except FileNotFoundError:
        raise GluegridError("git is not installed") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise GluegridError(f"git gives no answer: {error}") from None
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise GluegridError(f"git: {said[0]}")
    return done.stdout.strip()


def versions() -> dict[str, str | None]:
    """Return the versions of Python and of the packages that make the numbers."""
    used = {"python": platform.python_version()}
    for package in RECORDED_PACKAGES:
        try:
            used[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            used[package] = None
    return used


def this_process() -> dict:
    """Return what names this process: host, number, and when it started, which tells it from a later one."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "process_started": process_started(os.getpid())}


def process_started(pid: int) -> str | None:
    """Return what tells a process of this host from a later one of the same number; None when there is no such."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    has_ended = fields[0] in "ZX"  # and waits for its parent to ask how
    return None if has_ended else fields[19]


def is_running(process: dict) -> bool:
    """Tell whether a process of this host, named as by `this_process`, still runs."""
    return process["process_started"] is not None and process_started(process["pid"]) == process["process_started"]


def job() -> dict:
    """Return where this process runs: host, process id and, where SLURM runs it as a job of its own, the job.

    And of a cell in a pack, the pack.
    """
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
    """Return the job's number, with its cluster where sbatch was asked for one; of an array job's task that by which
    SLURM's programs know it alone.

    A job in which a head runs many cells is none of a cell's: it must neither be cancelled nor waited for with it.
    """
    if not has_slurm_job_of_its_own():
        return None
    number = os.environ["SLURM_JOB_ID"]
    if array := os.environ.get("SLURM_ARRAY_JOB_ID"):
        number = f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    cluster = os.environ.get("SLURM_CLUSTER_NAME") if CLUSTERS in os.environ else None
    return f"{number};{cluster}" if cluster else number


def has_slurm_job_of_its_own() -> bool:
    """Tell whether this process is in a job of SLURM's that was submitted for its cell, or by hand for a script."""
    return "SLURM_JOB_ID" in os.environ and os.environ.get(EXECUTOR) != "local"
