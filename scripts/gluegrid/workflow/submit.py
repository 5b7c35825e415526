"""Do what `make submit` does on the login node, then submit the controller as a job (execution/controller.py)."""

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from gluegrid.common.errors import GluegridError, TransientError
from gluegrid.common.provenance import PROJECT
from gluegrid.execution.controller import (
    COMMENT,
    FOLDER,
    LOG,
    environment_to_take_along,
    forget_end,
    note_submission,
)
from gluegrid.execution.environment import leave_caller, leave_job_of_caller
from gluegrid.execution.invocation import write_plan
from gluegrid.execution.locks import describe, lock
from gluegrid.execution.sbatch import clusters_asked_for, number_in
from gluegrid.execution.slurm_queue import complaint, job_named, without_cluster
from gluegrid.experiment.experiment import Experiment
from gluegrid.operations.site_profile import Profile
from gluegrid.operations.staged import resources
from gluegrid.workflow.code_copy import copy_code

# What the job requests, unless the profile sets it in set-resources, for a rule called `controller`.
RULE = "controller"
DEFAULTS = {"cpus_per_task": 1, "mem_mb": 4000, "runtime": "1d"}
OPTIONS = {
    "slurm_account": "--account",
    "slurm_partition": "--partition",
    "qos": "--qos",
    "constraint": "--constraint",
    "clusters": "--clusters",
    "cpus_per_task": "--cpus-per-task",
}
NETWORK = "network"  # not 0: the controller's node can fetch what is not staged
MINUTES = {"s": 1 / 60, "m": 1, "h": 60, "d": 1440, "w": 10080}
LONGEST_WARNING = 300  # seconds before its time limit at which the job is told to requeue itself
LARGEST_FILE = 1_000_000  # bytes, of a file that is copied together with the profile


def submit(experiment: Experiment, file: Path, profile: Profile) -> list[str]:
    """Stage what is missing, then submit the controller of the experiment read from `file`; return lines for people.

    Raise GluegridError if that fails, or if the experiment already has a controller.
    """
    folder = Path(experiment.paths.root)
    wanted = profile.resources_of(RULE, DEFAULTS)
    options = [*options_of(wanted, profile), *_options_of_a_controller(folder)]
    snakemake = [sys.executable, "-m", "snakemake", "--profile", str(profile.file), "--configfile", str(file)]
    with lock(folder / FOLDER / "lock", _refuse_beside):
        _refuse_second(experiment, folder, clusters_asked_for(options))
        _check(snakemake)
        if not wanted.get(NETWORK) and any(resource.is_missing for resource in resources(experiment)):
            _stage(snakemake)
        plan, command = _frozen(experiment, folder, profile)
        number = _submitted([*options, f"--wrap={shlex.join(['exec', *command, '--', *options])}"], folder)
        note_submission(folder, number, _name(folder), plan)
    return [
        f"Submitted: the controller of {experiment.name} is SLURM job {number}.",
        f"  Follow its log: tail -f {folder / LOG}",
        f"  See its cells:  make status EXPERIMENT={experiment.name}",
        f"  Cancel it:      make cancel EXPERIMENT={experiment.name}",
    ]


def options_of(wanted: dict[str, object], profile: Profile) -> list[str]:
    """Return sbatch's options for resources that are named as in the SLURM plugin. Raise GluegridError if invalid."""
    wanted = {"qos": profile.content.get("slurm-qos"), **wanted}
    options = [f"{option}={wanted[name]}" for name, option in OPTIONS.items() if wanted.get(name)]
    if wanted.get("mem_mb_per_cpu"):
        options.append(f"--mem-per-cpu={wanted['mem_mb_per_cpu']}")
    elif wanted.get("mem_mb"):
        options.append(f"--mem={wanted['mem_mb']}")
    limit = _minutes(wanted["runtime"], profile)
    # At this signal, the job requeues itself; SLURM may send it a minute early.
    warning = min(LONGEST_WARNING, limit * 60 // 2)
    return [
        *options,
        f"--time={limit}",
        *shlex.split(str(wanted.get("slurm_extra") or "")),
        f"--signal=B:USR1@{warning}",
    ]


def _options_of_a_controller(folder: Path) -> Iterator[str]:
    yield from ("--nodes=1", "--ntasks=1", "--export=ALL", f"--job-name={_name(folder)}", f"--comment={COMMENT}")
    # Relative, since sbatch would replace a % in the full path.
    yield from (f"--output={folder / LOG}", "--open-mode=append", "--requeue")


def _minutes(runtime: object, profile: Profile) -> int:
    """Return the minutes of a `runtime` in Snakemake's format: minutes, or 10h, 2d. Raise GluegridError for others."""
    text = str(runtime).strip()
    if parts := re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhdw]?)[a-z]*", text):
        return max(1, round(float(parts[1]) * MINUTES[parts[2] or "m"]))
    raise GluegridError(
        f"{profile.file}: set-resources: {RULE}: runtime: {text} is no duration; write minutes, or 10h, 2d"
    )


def _name(folder: Path) -> str:
    """Return the name of the controller's job in SLURM's queue: one for each experiment of a clone."""
    return f"gluegrid-{folder.name}-{hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:8]}"


def _refuse_beside(holder: dict) -> None:
    raise GluegridError(f"another make submit of this experiment is running: {describe(holder)}")


def _refuse_second(experiment: Experiment, folder: Path, clusters: str) -> None:
    try:
        job = job_named(_name(folder), clusters)
    except TransientError as error:
        raise GluegridError(f"nothing was submitted: SLURM does not answer ({error}); see make doctor") from None
    if job:
        state = "waits in SLURM's queue" if job.waits else "runs"
        raise GluegridError(
            f"{experiment.name}: its controller, SLURM job {job.number}, {state} already; what it says:"
            f" {folder / LOG}; to end it: make cancel EXPERIMENT={experiment.name}"
        )


def _check(snakemake: list[str]) -> None:
    """Let Snakemake plan everything with this profile; show its output only if it cannot."""
    done = subprocess.run([*snakemake, "--dry-run", "--quiet", "all"], capture_output=True, text=True, errors="replace")
    if done.returncode != 0:
        print(done.stdout + done.stderr, file=sys.stderr)
        raise GluegridError("nothing was submitted: Snakemake cannot plan the experiment (see above)")


def _stage(snakemake: list[str]) -> None:
    """Fetch and tokenize here what is missing."""
    if subprocess.run([*snakemake, "--", "stage"]).returncode != 0:
        raise GluegridError("nothing was submitted: staging failed (see above)")


def _frozen(experiment: Experiment, folder: Path, profile: Profile) -> tuple[Path, list[str]]:
    """Freeze all that the controller works from; return the file of its plan, and the command of its job."""
    heads = Path(experiment.paths.heads)
    plan = write_plan(experiment.config, heads)
    code = copy_code(PROJECT, heads)
    copy = folder / FOLDER / "profile"
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir(parents=True)
    # With files that it may name, such as a table of partitions.
    for path in profile.file.parent.iterdir():
        if path.is_file() and path.stat().st_size <= LARGEST_FILE:
            shutil.copy(path, copy)
    script = [sys.executable, str(code / "scripts/controller.py")]
    return plan, [*script, f"--plan={plan}", f"--profile={copy / profile.file.name}"]


def _submitted(arguments: list[str], folder: Path) -> str:
    """Call sbatch and return the job's number. Raise GluegridError if it fails."""
    (folder / LOG).parent.mkdir(parents=True, exist_ok=True)
    forget_end(folder)
    leave_caller()
    leave_job_of_caller("slurm")
    environment = os.environ | environment_to_take_along()
    command = ["sbatch", "--parsable", *arguments]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace")
    except OSError as error:
        raise GluegridError(f"sbatch: {error.strerror}; install it, or load its module") from None
    if done.returncode != 0:
        raise GluegridError(f"SLURM rejected the controller: {complaint(done)}")
    if (answer := number_in(done.stdout)) is None:
        raise GluegridError(f"sbatch accepted the controller, but returned no job number: {done.stdout.strip()}")
    # If no cluster was requested, name none to other programs, either: a site may see to that itself.
    return answer if clusters_asked_for(arguments) else without_cluster(answer)
