"""Find the experiment of a Snakemake process: in the file on the command line, or as its controller froze it."""

import sys
from pathlib import Path

from gluegrid.common.errors import GluegridError
from gluegrid.execution.invocation import current_invocation, submitted_plan
from gluegrid.experiment.experiment import Experiment
from gluegrid.experiment.experiment_index import is_import
from gluegrid.experiment.loading import load_experiment
from gluegrid.operations.estimates import Estimates, estimates_of
from gluegrid.operations.local_data import look_at_local_data
from gluegrid.operations.site_profile import RESOURCE, gpu_model_of
from gluegrid.workflow.site_choices import resource_of_train

DEFAULT_CONFIG = Path("config.yaml")


def experiment_of_workflow(workflow) -> Experiment:
    """Return the experiment of this call of snakemake; end the call with one line per error in its file.

    A job uses the experiment that its call has frozen. The call reads only the file given with --configfile, or
    config.yaml: from the working folder, else from beside the Snakefile. A controller uses what was submitted, also
    after each requeue.
    """
    try:
        if frozen := submitted_plan() if workflow.is_main_process else current_invocation():
            return Experiment(frozen["config"])
        settings = workflow.config_settings
        file = _config_file(settings.configfiles, Path(workflow.basedir).resolve())
        # Only in the process that plans: jobs need not repeat its check.
        look_at_data = look_at_local_data if workflow.is_main_process else None
        experiment = load_experiment(file, _experiment_name(settings.config), look_at_data)
        check_that_it_is_no_import(experiment)
    except GluegridError as error:
        raise SystemExit(str(error)) from None
    for warning in experiment.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    return experiment


def check_that_it_is_the_whole_workflow(workflow) -> None:
    """End the call with one line if another workflow uses this one with `module:` or `include:`.

    The experiment file, the final tables and the packs belong to the whole call of snakemake.
    """
    snakefile = Path(workflow.current_basedir.get_path_or_uri(secret_free=True)) / "Snakefile"
    if not snakefile.samefile(workflow.main_snakefile):
        raise SystemExit(
            f"{workflow.main_snakefile}: gluegrid cannot be a module of another workflow or included in it;"
            f" run it on its own (snakemake -s {snakefile} ...) and use the files below results/ as inputs"
        )


def check_that_it_is_no_import(experiment: Experiment) -> None:
    """Raise GluegridError if an import has the name of this experiment."""
    folder = Path(experiment.paths.root)
    if is_import(folder):
        raise GluegridError(f"{folder}: is an import (docs/sharing.md); rename this experiment")


def estimates_of_workflow(experiment: Experiment, workflow) -> Estimates:
    """Return the estimates of this call's cells; only warn if the file of measured speeds is broken."""
    gpu_model = gpu_model_of(resource_of_train(workflow.resource_settings, RESOURCE))
    estimates, problem = estimates_of(experiment, gpu_model=gpu_model)
    if problem and workflow.is_main_process:
        print(f"warning: {problem}; time limits are estimated without it", file=sys.stderr)
    return estimates


def _config_file(given: list[Path], project: Path) -> Path:
    if len(given) > 1:
        names = ", ".join(str(path) for path in given)
        raise GluegridError(f"--configfile: one experiment file at a time, not {len(given)} ({names})")
    if not given and not DEFAULT_CONFIG.exists() and (project / DEFAULT_CONFIG).exists():
        print(f"{Path.cwd()} has no {DEFAULT_CONFIG}; using {project / DEFAULT_CONFIG}", file=sys.stderr)
        return project / DEFAULT_CONFIG
    path = given[0] if given else DEFAULT_CONFIG
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _experiment_name(overrides: dict) -> object:
    unknown = sorted(set(overrides) - {"experiment"})
    if unknown:
        raise GluegridError(
            f"--config {unknown[0]}=...: only 'experiment' can be set on the command line;"
            " write other values into the experiment file"
        )
    # Snakemake passes None for `--config experiment=`, which names nothing.
    return "" if overrides.get("experiment", "") is None else overrides.get("experiment")
