"""How a Snakemake process works: on which experiment, with which programs, and what its terminal ends with."""

import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from snakemake_interface_executor_plugins.executors.real import RealExecutor

from gluegrid.common.errors import GluegridError
from gluegrid.common.provenance import EXECUTOR, now
from gluegrid.execution.environment import leave_caller, leave_job_of_caller
from gluegrid.execution.invocation import current_invocation, freeze, show_messages
from gluegrid.execution.visible_gpus import visible_gpus
from gluegrid.experiment.experiment import Experiment
from gluegrid.experiment.experiment_index import is_import
from gluegrid.experiment.loading import load_experiment
from gluegrid.experiment.references import read_all_references
from gluegrid.operations.estimates import Estimates, estimates_of, learn
from gluegrid.operations.measured_speeds import PATH as MEASURED_SPEEDS
from gluegrid.operations.measured_speeds import add_speeds
from gluegrid.operations.staged import end_with_staged
from gluegrid.results.outcomes import outcomes
from gluegrid.workflow.code_copy import copy_code
from gluegrid.workflow.interruption import end_when_asked
from gluegrid.workflow.run_end import end_with_tables, finished_now, note_expectations
from gluegrid.workflow.slurm_patches import check_version
from gluegrid.workflow.snakemake_patches import wake_garbage_collector

BEGUN = now()  # before anything is planned
DEFAULT_CONFIG = Path("config.yaml")
PROGRAMS = ("bash", "tee")  # of the rules' shells
OF_SLURM = ("sbatch", "scancel", "squeue")  # without which no job is submitted, followed or ended
FETCHES_AT_ONCE = 2  # a hub answers many with 429 (too many requests)


def let_jobs_find_programs(workflow) -> None:
    """Tell every job where this clone's scripts are, wherever the working folder is, and which Python runs them.

    `.venv/bin/snakemake` without activation would find no `accelerate`, or another environment's.
    """
    if workflow.is_main_process:
        leave_caller()
    _put_first_on_path(Path(sys.executable).parent)
    srun = shutil.which("srun")
    if srun and "SLURM_CONF" in os.environ and "GLUEGRID_SRUN" not in os.environ:
        os.environ |= {"GLUEGRID_SRUN": srun, "GLUEGRID_SLURM_CONF": os.environ["SLURM_CONF"]}
    _use_scripts(Path(workflow.basedir) / "scripts")


def _use_scripts(scripts: Path) -> None:
    os.environ["GLUEGRID_SCRIPTS"] = str(scripts)
    if "GLUEGRID_SRUN" in os.environ:
        _put_first_on_path(scripts / "slurm" / "in_job")


def outlive_warnings(workflow) -> None:
    """Let no job end by SIGUSR1, a site's warning of the time limit: its training saves its work and leaves."""
    if not workflow.is_main_process:
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)


def cap_fetches(workflow) -> None:
    """Let few fetches run at once, unless --resources hub=... says how many.

    Not in the profiles: any --resources on the command line takes the place of all that a profile has.
    """
    if "hub" not in workflow.global_resources:
        workflow.register_resource("hub", FETCHES_AT_ONCE)


def begin_with_the_longest() -> None:
    """Let the jobs that Snakemake has chosen begin in the order of their priorities, by which it only chooses them."""
    from snakemake.scheduling.job_scheduler import JobScheduler  # there already where there is a workflow

    run = JobScheduler.run

    def run_in_order(scheduler: JobScheduler, jobs: Iterable, executor=None) -> None:
        run(scheduler, sorted(jobs, key=lambda job: job.priority, reverse=True), executor)

    JobScheduler.run = run_in_order


def run_where_needed(workflow, rules: Iterable[str], files: Iterable[str]) -> None:
    """Let these rules run, and what makes these files, where something needs it, though it is there: it is outdated.

    Whatever its time is: that of a result may lie in the future, where a clock was wrong.
    """
    build = workflow._build_dag

    def build_dag() -> None:
        workflow.dag.forcerules.update(map(workflow.get_rule, rules))
        workflow.dag.forcefiles.update(files)
        build()

    workflow._build_dag = build_dag


def keep_results(workflow, rule: str, has_result: Callable[..., bool]) -> None:
    """Let no job of a rule run because Snakemake remembers other inputs of it, where `has_result` of its wildcards.

    Where tokens lie is no part of a run, and earlier releases had them elsewhere.
    """
    build = workflow._build_dag

    def build_dag() -> None:
        changed = workflow.persistence.input_changed

        def input_changed(job, file=None):
            if job.rule.name == rule and has_result(*job.wildcards):
                return False if file else iter(())
            return changed(job, file=file)

        workflow.persistence.input_changed = input_changed
        build()

    workflow._build_dag = build_dag


def limit_gpus(experiment: Experiment, workflow) -> None:
    """Let as many cells run at once on this machine as it has GPUs, unless --resources gpu=... says how many.

    Cells on the CPU ask for one too: where there are no others, as many run as there are cores. Not in the profile, for
    the reason of `cap_fetches`; and only when the workflow is executed, since what with is not known before.
    """
    if not workflow.is_main_process:
        return
    execute = workflow.execute

    def execute_within_limit(*, executor_plugin, **settings):
        os.environ[EXECUTOR] = executor_plugin.name
        leave_job_of_caller(executor_plugin.name)
        if executor_plugin.name == "local":
            _limit_gpus(experiment, workflow)
        if executor_plugin.name == "slurm":
            check_version()
        return execute(executor_plugin=executor_plugin, **settings)

    workflow.execute = execute_within_limit


def _limit_gpus(experiment: Experiment, workflow) -> None:
    gpus = len(visible_gpus()) if experiment.needs_gpus else None
    if "gpu" not in workflow.global_resources:
        limit = max(workflow.resource_settings.cores, experiment.most_gpus) if gpus is None else gpus or 1
        workflow.register_resource("gpu", limit)
    elif gpus and (given := workflow.global_resources["gpu"].value) > gpus:
        print(f"warning: --resources gpu={given}, of which there are {gpus} here: cells wait for them", file=sys.stderr)


def begin_run(experiment: Experiment, estimates: Estimates, workflow) -> None:
    """Freeze what this call of snakemake has planned, and the code, for its jobs."""
    heads = Path(experiment.paths.heads)
    try:
        check_programs(os.environ.get(EXECUTOR))
        read_all_references()
        freeze(experiment.config, heads, started=BEGUN)
        note_expectations(experiment, estimates)
        code = copy_code(Path(workflow.basedir), heads)
    except GluegridError as error:
        raise SystemExit(f"{error}\nnothing was started") from None
    except OSError as error:
        raise SystemExit(f"{error.filename or heads}: {error.strerror}; nothing was started") from None
    _let_jobs_run(code, workflow)
    _put_sbatch_first(code / "scripts")
    end_when_asked()
    show_messages()
    wake_garbage_collector()


def check_programs(executor: str | None) -> None:
    """Raise GluegridError where a program is missing that jobs need, or that they are submitted with."""
    needed = (*PROGRAMS, *(OF_SLURM if executor == "slurm" else ()))
    if missing := [name for name in needed if not shutil.which(name)]:
        raise GluegridError(f"{', '.join(missing)}: not found in any folder of PATH ({os.environ.get('PATH', '')})")


def _let_jobs_run(code: Path, workflow) -> None:
    """Let all jobs of this head run a copy of the code, and read no config: the user edits both while they are queued.

    Snakemake would read the file of --configfile in each job, before any code of ours that could do without.
    """
    _use_scripts(code / "scripts")
    RealExecutor.get_snakefile = lambda executor: str(code / "Snakefile")
    workflow.spawned_job_args_factory.get_configfiles_arg = lambda: ""


def _put_sbatch_first(scripts: Path) -> None:
    """Let the SLURM plugin submit its jobs by our sbatch (gluegrid/execution/sbatch.py), which calls SLURM's."""
    if sbatch := shutil.which("sbatch"):
        os.environ.setdefault("GLUEGRID_SBATCH", sbatch)
        _put_first_on_path(scripts / "slurm" / "on_head")


def end_of_run(experiment: Experiment, workflow) -> None:
    """Let the terminal end with the tables, or where only staging was asked for, with what is staged."""
    if set(workflow.dag_settings.targets) == {"stage"}:
        end_with_staged(experiment)
        return
    found = outcomes(experiment)
    end_with_tables(experiment, found)
    try:
        add_speeds(learn(experiment, finished_now(found)))
    except (OSError, GluegridError, KeyError) as error:
        print(f"warning: {MEASURED_SPEEDS}: nothing was added: {error}", file=sys.stderr)


def _put_first_on_path(folder: Path) -> None:
    os.environ["PATH"] = os.pathsep.join([str(folder), os.environ.get("PATH", os.defpath)])


def experiment_of_workflow(workflow) -> Experiment:
    """Return the experiment of this call of snakemake; what is wrong with its file ends it with one line each.

    A job takes the experiment that its head has frozen. The head reads the file given by --configfile alone, or
    config.yaml.
    """
    try:
        if not workflow.is_main_process and (head := current_invocation()):
            return Experiment(head["config"])
        settings = workflow.config_settings
        experiment = load_experiment(_config_file(settings.configfiles), _experiment_name(settings.config))
        _check_that_it_is_no_import(experiment)
    except GluegridError as error:
        raise SystemExit(str(error)) from None
    for warning in experiment.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    return experiment


def _check_that_it_is_no_import(experiment: Experiment) -> None:
    folder = Path(experiment.paths.root)
    if is_import(folder):
        raise GluegridError(f"{folder}: is an import (docs/sharing.md); give this experiment another name")


def estimates_of_workflow(experiment: Experiment, workflow) -> Estimates:
    """Return the estimates of this call's cells; a file of measured speeds that is broken costs a line, and no more."""
    estimates, problem = estimates_of(experiment)
    if problem and workflow.is_main_process:
        print(f"warning: {problem}; time limits are guessed", file=sys.stderr)
    return estimates


def _config_file(given: list[Path]) -> Path:
    if len(given) > 1:
        names = ", ".join(str(path) for path in given)
        raise GluegridError(f"--configfile: one experiment file at a time, not {len(given)} ({names})")
    path = given[0] if given else DEFAULT_CONFIG
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _experiment_name(overrides: dict) -> object:
    unknown = sorted(set(overrides) - {"experiment"})
    if unknown:
        raise GluegridError(
            f"--config {unknown[0]}=...: only 'experiment' can be set on the command line;"
            " write other values into the experiment file"
        )
    # Snakemake gives None for `--config experiment=`, which names nothing.
    return "" if overrides.get("experiment", "") is None else overrides.get("experiment")
