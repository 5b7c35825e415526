"""How a Snakemake process works: on which experiment, with which programs, and what its terminal ends with."""

import os
import shutil
import sys
from pathlib import Path

from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor

from gluegrid.errors import GluegridError
from gluegrid.experiment import Experiment, load_experiment
from gluegrid.head import current_head, freeze
from gluegrid.report import end_with_tables
from gluegrid.staged import end_with_staged

DEFAULT_CONFIG = Path("config.yaml")
FETCHES_AT_ONCE = 2  # a hub answers many with 429 (too many requests)


def let_jobs_find_programs(workflow) -> None:
    """Tell every job where this clone's scripts are, wherever the working folder is, and which Python runs them.

    `.venv/bin/snakemake` without activation would find no `accelerate`, or another environment's.
    """
    scripts = Path(workflow.basedir) / "scripts"
    os.environ["GLUEGRID_SCRIPTS"] = str(scripts)
    _put_first_on_path(Path(sys.executable).parent)
    srun = shutil.which("srun")
    if srun and "SLURM_CONF" in os.environ and "GLUEGRID_SRUN" not in os.environ:
        os.environ |= {"GLUEGRID_SRUN": srun, "GLUEGRID_SLURM_CONF": os.environ["SLURM_CONF"]}
        _put_first_on_path(scripts / "slurm")


def keep_pauses_between_status_checks() -> None:
    """Let --seconds-between-status-checks be the longest pause between two looks at the cluster's queue.

    The SLURM plugin (2.8.0) does not heed it: while no job ends, it lengthens its pauses by 10 s up to 180 s, notices a
    cancelled job only then, and waits out the last pause before it exits.
    """
    name = "next_seconds_between_status_checks"
    pause = getattr(RemoteExecutor, name)

    def set_pause(executor: RemoteExecutor, seconds: float) -> None:
        longest = executor.workflow.remote_execution_settings.seconds_between_status_checks
        pause.fset(executor, min(seconds, longest))

    setattr(RemoteExecutor, name, property(pause.fget, set_pause))


def cap_fetches(workflow) -> None:
    """Let few fetches run at once, unless --resources hub=... says how many.

    Not in the profiles: any --resources on the command line takes the place of all that a profile has.
    """
    if "hub" not in workflow.global_resources:
        workflow.register_resource("hub", FETCHES_AT_ONCE)


def begin_run(experiment: Experiment) -> None:
    """Freeze what this call of snakemake has planned, for its jobs."""
    freeze(experiment.config, Path(experiment.paths.heads))


def end_of_run(experiment: Experiment, workflow) -> None:
    """Let the terminal end with the tables, or where only staging was asked for, with what is staged."""
    if set(workflow.dag_settings.targets) == {"stage"}:
        end_with_staged(experiment)
    else:
        end_with_tables(experiment)


def _put_first_on_path(folder: Path) -> None:
    os.environ["PATH"] = os.pathsep.join([str(folder), os.environ["PATH"]])


def experiment_of_workflow(workflow) -> Experiment:
    """Return the experiment of this call of snakemake; what is wrong with its file ends it with one line each.

    A job takes the experiment that its head has frozen. The head reads the file given by --configfile alone, or
    config.yaml.
    """
    try:
        if not workflow.is_main_process and (head := current_head()):
            return Experiment(head["config"])
        settings = workflow.config_settings
        experiment = load_experiment(_config_file(settings.configfiles), _experiment_name(settings.config))
    except GluegridError as error:
        raise SystemExit(str(error)) from None
    for warning in experiment.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    return experiment


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
