"""Prepare a Snakemake process: its experiment, its programs, its terminal."""

import atexit
import gc
import io
import os
import shutil
import signal
import sys
from collections.abc import Iterable, Sequence
from contextlib import nullcontext, redirect_stderr
from pathlib import Path

from gluegrid.common.cli import print_what_can_be_shown
from gluegrid.common.errors import GluegridError
from gluegrid.common.formatting import counted
from gluegrid.common.provenance import EXECUTOR, now
from gluegrid.execution.environment import leave_caller, leave_job_of_caller
from gluegrid.execution.invocation import LIVE, freeze, show_messages
from gluegrid.execution.scratch import note_scratch
from gluegrid.execution.visible_gpus import visible_gpus
from gluegrid.experiment.experiment import Experiment
from gluegrid.experiment.references import read_all_references
from gluegrid.operations.estimates import Estimates, learn
from gluegrid.operations.measured_speeds import PATH as MEASURED_SPEEDS
from gluegrid.operations.measured_speeds import add_speeds
from gluegrid.operations.staged import staged_table
from gluegrid.results.outcomes import Outcome, read_outcomes
from gluegrid.results.results_md import write_tables
from gluegrid.workflow.code_copy import copy_code
from gluegrid.workflow.experiment_file import (
    check_that_it_is_the_whole_workflow,
    estimates_of_workflow,
    experiment_of_workflow,
)
from gluegrid.workflow.interruption import end_when_asked
from gluegrid.workflow.last_words import FROM_WHAT_THERE_IS, NOTHING_DONE, last_words
from gluegrid.workflow.pack_jobs import SmallCells
from gluegrid.workflow.progress import Call, Progress, call_of
from gluegrid.workflow.run_end import finished_now, note_expectations
from gluegrid.workflow.site_choices import site_choices
from gluegrid.workflow.slurm_patches import check_version, patch_slurm_plugin
from gluegrid.workflow.snakemake_patches import (
    before_execution,
    begin_with_the_longest,
    keep_files_of_jobs,
    let_jobs_run,
    run_in_packs,
    tell_jobs_of_interruption,
    where_nothing_is_to_be_done,
)
from gluegrid.workflow.terminal import handler_in_use, log_files, refusal

BEGUN = now()  # before anything is planned
PROGRAMS = ("bash", "tee")  # that the rules' shell commands call
OF_SLURM = ("sbatch", "scancel", "squeue")  # to submit, follow and cancel jobs
FETCHES_AT_ONCE = 2  # the hub answers more with 429 (too many requests)


def prepare(workflow) -> tuple[Experiment, Estimates]:
    """Prepare this process to plan or to run a job; return the experiment and the estimates of its cells."""
    check_that_it_is_the_whole_workflow(workflow)
    gc.disable()  # while planning: it would scan the growing plan again and again, and find next to no garbage
    let_jobs_find_programs(workflow)
    outlive_warnings(workflow)
    # A warning about an untested Snakemake version appears once, not in the log of each job.
    with nullcontext() if workflow.is_main_process else redirect_stderr(io.StringIO()):
        keep_files_of_jobs()
        begin_with_the_longest()
        patch_slurm_plugin()
    cap_fetches(workflow)
    experiment = experiment_of_workflow(workflow)
    estimates = estimates_of_workflow(experiment, workflow)
    if workflow.is_main_process:
        print_what_can_be_shown()
        small = SmallCells(experiment, estimates, site_choices(workflow).pack_minutes)
        before_execution(workflow, lambda executor: prepare_execution(experiment, small, workflow, executor))
        where_nothing_is_to_be_done(workflow, lambda: tell_what_there_is(experiment, workflow))
    else:
        note_scratch()
    return experiment, estimates


def let_jobs_find_programs(workflow) -> None:
    """Tell every job where this clone's scripts are, whatever the working folder, and which Python runs them.

    Without activation, `.venv/bin/snakemake` would find no `accelerate`, or that of another environment.
    """
    if workflow.is_main_process:
        leave_caller()
    _put_first_on_path(Path(sys.executable).parent)
    srun = shutil.which("srun")
    if srun and "SLURM_CONF" in os.environ and "GLUEGRID_SRUN" not in os.environ:
        os.environ.update(GLUEGRID_SRUN=srun, GLUEGRID_SLURM_CONF=os.environ["SLURM_CONF"])
    if "SLURM_CONF" in os.environ and not workflow.is_main_process:
        os.environ["GLUEGRID_SLURM_CONF"] = os.environ["SLURM_CONF"]  # maybe not the controller's cluster
    _use_scripts(Path(workflow.basedir) / "scripts")


def _use_scripts(scripts: Path) -> None:
    os.environ["GLUEGRID_SCRIPTS"] = str(scripts)
    if "GLUEGRID_SRUN" in os.environ:
        _put_first_on_path(scripts / "slurm" / "in_job")


def outlive_warnings(workflow) -> None:
    """Keep SIGUSR1, a site's warning of the time limit, from ending a job: its training saves its work and exits."""
    if not workflow.is_main_process:
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)


def cap_fetches(workflow) -> None:
    """Limit how many fetches run at once, unless --resources hub=... sets the limit.

    The profiles cannot do this: any --resources on the command line replaces all that a profile sets.
    """
    if "hub" not in workflow.global_resources:
        workflow.register_resource("hub", FETCHES_AT_ONCE)


def prepare_execution(experiment: Experiment, small: SmallCells, workflow, executor: str) -> None:
    """Do what depends on the executor, which is not known earlier."""
    os.environ[EXECUTOR] = executor
    leave_job_of_caller(executor)
    if executor == "local":
        limit_gpus(experiment, workflow)
    if executor == "slurm":
        check_version()
    # All cells of a pack share this call's environment, so no rule may have its own.
    if executor in ("local", "slurm") and small.pack_minutes and not workflow.deployment_settings.deployment_method:
        run_in_packs(small.packs)


def limit_gpus(experiment: Experiment, workflow) -> None:
    """Run at most as many cells at once on this machine as it has GPUs, unless --resources gpu=... sets the limit.

    Cells on the CPU request a `gpu`, too: if no cell needs a real one, the number of cores is the limit. The profile
    cannot set it, for the reason given in `cap_fetches`.
    """
    gpus = len(visible_gpus()) if experiment.needs_gpus else None
    if "gpu" not in workflow.global_resources:
        limit = max(workflow.resource_settings.cores, experiment.most_gpus) if gpus is None else gpus or 1
        workflow.register_resource("gpu", limit)
    elif gpus and (given := workflow.global_resources["gpu"].value) > gpus:
        print(f"warning: --resources gpu={given}, but there are {gpus} here; cells wait for free ones", file=sys.stderr)


def begin_run(experiment: Experiment, estimates: Estimates, workflow) -> None:
    """Freeze the plan of this call of snakemake, and the code, for its jobs."""
    heads = Path(experiment.paths.heads)
    try:
        check_programs(os.environ.get(EXECUTOR))
        read_all_references()
        freeze(experiment.config, heads, started=BEGUN, site=site_choices(workflow))
        note_expectations(experiment, estimates)
        call = call_of(experiment, estimates, workflow, site_choices(workflow).pack_minutes)
        code = copy_code(Path(workflow.basedir), heads)
    except GluegridError as error:
        raise refusal(f"{error}\nnothing was started") from None
    except OSError as error:
        raise refusal(f"{error.filename or heads}: {error.strerror}; nothing was started") from None
    _use_scripts(code / "scripts")
    let_jobs_run(code / "Snakefile")
    _put_sbatch_first(code / "scripts")
    end_when_asked()
    tell_jobs_of_interruption()
    show_messages()
    warn_without_gpus(call)
    show_progress(call, workflow)
    gc.freeze()  # the plan stays in memory with the controller, which may run for days
    gc.enable()


def warn_without_gpus(call: Call) -> None:
    """Warn before anything is fetched if cells are to be trained here on a GPU, and none is visible."""
    cells = [planned for planned in call.plan.cells if planned.cell.values["device"] == "cuda"]
    if cells and not call.is_remote and not visible_gpus():
        what = f"without one, {counted(len(cells), 'cell')} with device: cuda will fail"
        advice = "to train on the CPU, set device: cpu in the experiment file"
        print(f"warning: nvidia-smi lists no GPU here; {what}; {advice}", file=sys.stderr)


def show_progress(call: Call, workflow) -> None:
    """Show the progress of this call in the terminal, unless Snakemake's own output is wanted."""
    if handler := handler_in_use():
        os.environ[LIVE] = "1"
        progress = Progress(call, log_files(workflow), handler.block)
        handler.show(progress)
        progress.begin()


def check_programs(executor: str | None) -> None:
    """Raise GluegridError if a program is missing that jobs need, or that submits them."""
    needed = (*PROGRAMS, *(OF_SLURM if executor == "slurm" else ()))
    if missing := [name for name in needed if not shutil.which(name)]:
        where = f"not found in any folder of PATH ({os.environ.get('PATH', '')})"
        raise GluegridError(f"{', '.join(missing)}: {where}; install it, or load its module")


def _put_sbatch_first(scripts: Path) -> None:
    """Make the SLURM plugin submit jobs with our sbatch (gluegrid/execution/sbatch.py), which calls SLURM's."""
    if sbatch := shutil.which("sbatch"):
        os.environ.setdefault("GLUEGRID_SBATCH", sbatch)
        _put_first_on_path(scripts / "slurm" / "on_head")


def end_of_run(experiment: Experiment, workflow) -> None:
    """Write the tables and print them last; if only staging was asked for, print what is staged."""
    is_only_staged = _is_only_staged(workflow)
    outcomes = [] if is_only_staged else read_outcomes(experiment)
    if handler := handler_in_use():
        handler.end(outcomes)
    if not is_only_staged:
        write_tables(experiment, outcomes)
    # At exit, because Snakemake prints its own last lines after its handlers.
    atexit.register(print, _last_words(experiment, outcomes, workflow), flush=True)
    try:
        add_speeds(learn(experiment, finished_now(outcomes)))
    except (OSError, GluegridError, KeyError) as error:
        print(f"warning: {MEASURED_SPEEDS}: not updated: {error}", file=sys.stderr)


def tell_what_there_is(experiment: Experiment, workflow) -> None:
    """Say that nothing was to be done, and print the last lines of a call that did the work."""
    if handler := handler_in_use():
        handler.forget()
        print(NOTHING_DONE)
    outcomes = [] if _is_only_staged(workflow) else read_outcomes(experiment)
    print(_last_words(experiment, outcomes, workflow), flush=True)


def _last_words(experiment: Experiment, outcomes: Sequence[Outcome], workflow) -> str:
    if _is_only_staged(workflow):
        return staged_table(experiment)
    return last_words(experiment, outcomes, *_targets(workflow.dag), log_files(workflow))


def _targets(dag) -> tuple[list[str], list[str]]:
    """Return the requested rules that were carried out, and those whose inputs are missing."""
    jobs = sorted(dag.targetjobs, key=lambda job: job.rule.name)
    waits = {job.rule.name: not _are_done(dag, dag.dependencies[job]) for job in jobs}
    waiting = [name for name in waits if waits[name] and name in FROM_WHAT_THERE_IS]
    # Of a rule without an output, such as parity, a failure is a finding, too.
    done = [job.rule.name for job in jobs if not job.output or _are_done(dag, [job])]
    return [name for name in done if name not in waiting], waiting


def _are_done(dag, jobs: Iterable) -> bool:
    return all(dag.finished(job) or not dag.needrun(job) for job in jobs)


def _is_only_staged(workflow) -> bool:
    return set(workflow.dag_settings.targets) == {"stage"}


def _put_first_on_path(folder: Path) -> None:
    os.environ["PATH"] = os.pathsep.join([str(folder), os.environ.get("PATH", os.defpath)])
