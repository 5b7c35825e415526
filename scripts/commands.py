"""The commands behind `make`: plan, status, verify and the rest; each has its own --help."""

import argparse
import re
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from gluegrid.common.cli import reader_may_leave, run_script
from gluegrid.common.errors import GluegridError

RESULTS = Path("results")
CONFIG = Path("config.yaml")
PROPOSED = Path("profiles/proposed")
SECONDS_BETWEEN_LOOKS = 5
REPORTS = ("results", "parity_table", "compare", "report")  # scripts that take --head, as their rules call them
IMPORT = 'make import EXPERIMENT=merged FILES="a.zip b.zip"'

parser = argparse.ArgumentParser(description=__doc__)
commands = parser.add_subparsers(metavar="COMMAND", required=True)


def command(name: str, *arguments: tuple[tuple, dict]) -> Callable:
    """Make a function of the parsed arguments a command. It imports what it needs, so that others start fast."""

    def add(function: Callable[[argparse.Namespace], None]) -> Callable:
        added = commands.add_parser(name, help=function.__doc__, description=function.__doc__)
        for names, options in arguments:
            added.add_argument(*names, **options)
        added.set_defaults(function=function)
        return function

    return add


def argument(*names: str, **options) -> tuple[tuple, dict]:
    """Return the names and options of an argument, for argparse."""
    return names, options


def number_of_gpus(text: str) -> int:
    """Return the number of GPUs that a text gives. Raise GluegridError if it gives none."""
    if not re.fullmatch(r"\d{1,6}", text, re.ASCII):
        raise GluegridError(f"GPUS={text}: must be a whole number of GPUs, such as 8; 0 for this machine's CPU")
    return int(text)


ONE = argument("experiment", nargs="?", help="its name; not needed where there is only one")
ONE_OR_ALL = argument("experiment", nargs="?", help="its name; all experiments when none is given")
ITS_FILE = argument("--configfile", type=Path, help="an experiment file, for the experiment that has its name in it")


@command(
    "plan",
    argument("--configfile", type=Path, help="the experiment file; config.yaml without it"),
    argument("--experiment", help="the experiment's name; with a file, a new name for it"),
    argument("--gpus", type=number_of_gpus, help="time on this many GPUs; 0: on this CPU; default: on 1, 2, 4, ..."),
    argument("--device", default="", help="the GPU to plan for, such as A100 or rtx4090; default: the profile's"),
    argument("--profile", help="the profile whose gpu_model says which GPU cells get (profiles/slurm)"),
    argument("--all", action="store_true", help="show every row of the table"),
)
def plan(arguments: argparse.Namespace) -> None:
    """Show what a call of snakemake would train, why, and what it costs."""
    from gluegrid.operations.estimates import estimates_of
    from gluegrid.operations.plan import plan
    from gluegrid.operations.plan_text import MOST_LINES, plan_text, warnings_of_cards
    from gluegrid.operations.site_profile import gpu_model_of_profile, pack_minutes_of_profile

    experiment = experiment_to_plan(arguments.configfile, arguments.experiment)
    gpu_model = gpu_model_of_profile(arguments.profile)
    estimates, problem = estimates_of(experiment, arguments.device.strip(), gpu_model)
    found = plan(experiment, estimates, pack_minutes_of_profile(arguments.profile))
    text = plan_text(found, arguments.gpus, None if arguments.all else MOST_LINES)
    for warning in (*experiment.warnings, *([problem] if problem else []), *warnings_of_cards(found)):
        print(f"warning: {warning}")
    print(text)


@command("tasks", argument("--configfile", type=Path, help="an experiment file, for its own tasks too"))
def tasks(arguments: argparse.Namespace) -> None:
    """List the tasks that an experiment can name, with their metrics, text columns and labels."""
    from gluegrid.experiment.loading import load_experiment
    from gluegrid.operations.known import known_tasks

    print(known_tasks(load_experiment(arguments.configfile) if arguments.configfile else None))
    print("\nYour own: docs/data.md; all keys of a task: docs/config.md")


@command("models", argument("--configfile", type=Path, help="the experiment file; config.yaml without it"))
def models(arguments: argparse.Namespace) -> None:
    """List the models of an experiment and those staged here, with their revisions."""
    from gluegrid.experiment.loading import load_experiment
    from gluegrid.operations.known import known_models

    print(known_models(load_experiment(arguments.configfile or CONFIG)))
    print("\nAdd any encoder of the hub, or a folder, under `models:` (docs/config.md)")


def experiment_to_plan(file: Path | None, name: str | None):
    """Return the experiment of a file, renamed if a name is given; without a file, the one of that name.

    That is config.yaml's, or what its last call of snakemake has planned. Raise GluegridError if there is none.
    """
    from gluegrid.experiment.config import name_in
    from gluegrid.experiment.config_errors import Problems
    from gluegrid.experiment.experiment_index import PLANNED, experiment_folders, newest_plan
    from gluegrid.experiment.loading import load_experiment
    from gluegrid.operations.local_data import look_at_local_data

    if file or not name or (CONFIG.exists() and name_in(CONFIG) == name):
        return load_experiment(file or CONFIG, name, look_at_local_data)
    try:
        (folder,) = experiment_folders(RESULTS, name, PLANNED)
    except GluegridError as error:
        raise GluegridError(f"{error}; for a file under this name: make plan CONFIG=mine.yaml EXPERIMENT=...") from None
    experiment = newest_plan(folder)
    look_at_local_data(experiment, Problems(folder / "heads", {}))
    return experiment


@command(
    "submit",
    argument("--configfile", type=Path, help="the experiment file; config.yaml without it"),
    argument("--profile", help="the profile that says how jobs are asked for (profiles/slurm)"),
)
def submit(arguments: argparse.Namespace) -> None:
    """Run an experiment on SLURM: stage what is missing here, then submit the controller as a job."""
    from gluegrid.experiment.loading import load_experiment
    from gluegrid.operations.local_data import look_at_local_data
    from gluegrid.operations.site_profile import slurm_profile
    from gluegrid.workflow.submit import submit

    file = arguments.configfile or CONFIG
    experiment = load_experiment(file, look_at_data=look_at_local_data)
    for warning in experiment.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    print(*submit(experiment, file, slurm_profile(arguments.profile)), sep="\n")


@command(
    "status",
    ONE_OR_ALL,
    ITS_FILE,
    argument("--watch", action="store_true", help="refresh every few seconds, until Ctrl-C"),
)
def status(arguments: argparse.Namespace) -> None:
    """Show where each cell is, and when the rest will be done."""
    from gluegrid.operations.status import Observer, experiments, look
    from gluegrid.operations.status_text import Screen, status_text

    observers = [Observer(folder) for folder in experiments(RESULTS, arguments.experiment)]
    screen = Screen()
    with suppress(KeyboardInterrupt):
        while True:
            snapshots = look(observers)
            paper = screen.paper(1 / len(snapshots) if arguments.watch else None)
            text = "\n\n".join(status_text(snapshot, paper) for snapshot in snapshots)
            if not arguments.watch:
                print(text)
                return
            screen.draw(text)
            if all(snapshot.is_final for snapshot in snapshots):
                return
            time.sleep(SECONDS_BETWEEN_LOOKS)


@command(
    "verify",
    argument("experiments", nargs="*", metavar="experiment", help=ONE_OR_ALL[1]["help"]),
    ITS_FILE,
    argument("--results", type=Path, default=RESULTS, help="folder of the experiments (results)"),
)
def verify(arguments: argparse.Namespace) -> None:
    """Recompute an experiment's metrics, hashes and tables; report mismatches and exit non-zero."""
    everything_fits = False  # until the reader of the findings has seen them all
    with reader_may_leave():
        everything_fits = fits(arguments.results, arguments.experiments)
    raise SystemExit(0 if everything_fits else 1)


def fits(results: Path, names: list[str]) -> bool:
    """Verify experiments, print what is found, and tell whether everything fits."""
    from gluegrid.verification.findings import Hashes
    from gluegrid.verification.verify import experiment_folders, summary, verify_experiment

    hashes = Hashes()
    problems: dict[str, None] = {}  # without repetitions: experiments share resources
    for folder in experiment_folders(results, names):
        print(f"{folder}:", flush=True)
        findings = verify_experiment(folder, hashes)
        print(*summary(findings), sep="\n", flush=True)
        problems |= dict.fromkeys(findings.problems)
    print(*problems, verdict(len(problems)), sep="\n")
    return not problems


def verdict(problems: int) -> str:
    """Return the last line of a verification."""
    if problems == 0:
        return "verified: everything fits"
    return "1 thing does not fit" if problems == 1 else f"{problems} things do not fit"


@command(
    "export",
    ONE,
    ITS_FILE,
    argument("--file", type=Path, help="the zip file to write; <experiment>.zip without it"),
    argument("--format", help="every_eval_ever: only scores, in the format of the database Every Eval Ever"),
)
def export(arguments: argparse.Namespace) -> None:
    """Write an experiment into one file: results, predictions, records, config and tables, but no weights."""
    from gluegrid.experiment.experiment_index import the_experiment
    from gluegrid.sharing import every_eval_ever
    from gluegrid.sharing.archive import SUFFIX
    from gluegrid.sharing.exporting import export_experiment

    kind = arguments.format
    if kind not in (None, every_eval_ever.FORMAT):
        raise GluegridError(f"FORMAT={kind}: unknown; choose {every_eval_ever.FORMAT}, or leave it out for an archive")
    name = the_experiment(RESULTS, arguments.experiment).name
    if kind:
        file = arguments.file or Path(f"{name}-{kind}{SUFFIX}")
        print(*every_eval_ever.export_evaluations(RESULTS, name, file), sep="\n")
    else:
        print(*export_experiment(RESULTS, name, arguments.file or Path(f"{name}{SUFFIX}")), sep="\n")


@command(
    "import",
    argument("experiment", nargs="?", help="the name that it gets below results/"),
    argument("files", nargs="*", metavar="FILE", help="archive of `make export`, or label=archive"),
)
def import_experiments(arguments: argparse.Namespace) -> None:
    """Merge exported archives into one experiment, which can be compared and verified like any other."""
    from gluegrid.sharing.importing import import_archives

    if not arguments.files:
        raise GluegridError(f"name the files and the new experiment: {IMPORT}")
    print(*import_archives(RESULTS, arguments.experiment, arguments.files), sep="\n")


@command("reports", ONE, ITS_FILE)
def reports(arguments: argparse.Namespace) -> None:
    """Rewrite an experiment's tables and reports from its results, without Snakemake; works for imports, too."""
    from gluegrid.experiment.experiment_index import newest_invocation, newest_plan, the_experiment

    folder = the_experiment(RESULTS, arguments.experiment)
    is_compared = len(newest_plan(folder).models) > 1
    wanted = [name for name in REPORTS if name != "compare" or is_compared]
    failed = [name for name in wanted if not _is_made(name, newest_invocation(folder))]
    if made := [name for name in wanted if name not in failed]:
        print(f"Rewritten below {folder}: {', '.join(made)}")
    if failed:
        raise GluegridError(f"{', '.join(failed)}: failed (see above)")


def _is_made(report: str, head: Path) -> bool:
    script = Path(__file__).with_name(f"{report}.py")
    return subprocess.run([sys.executable, script, "--head", head], stdout=subprocess.DEVNULL).returncode == 0


@command(
    "cancel",
    argument("cell", nargs="?", default="", help="<model>/<task>/base/seed-<seed>, as below results/<experiment>/runs"),
    argument("--experiment", help="its name; not needed where only one has this cell"),
    ITS_FILE,
)
def cancel(arguments: argparse.Namespace) -> None:
    """Cancel a cell for good; without a cell, the controller of `make submit` and all its jobs."""
    from gluegrid.operations.cancel import cancel_cell, cancel_experiment

    if arguments.experiment and not arguments.cell:
        print(cancel_experiment(arguments.experiment))
    else:
        print(cancel_cell(arguments.cell.strip("/"), arguments.experiment or None))


@command("disk", ONE_OR_ALL, ITS_FILE)
def disk(arguments: argparse.Namespace) -> None:
    """Show disk usage by experiment, and by the models, datasets and tokens that they share."""
    from gluegrid.operations.disk import disk_use

    print(disk_use(RESULTS, Path("resources"), Path(".snakemake"), arguments.experiment))


@command("clean-state", ONE_OR_ALL, ITS_FILE, argument("--yes", action="store_true", help="delete what is listed"))
def clean_state(arguments: argparse.Namespace) -> None:
    """List files that are safe to delete; with --yes, delete them."""
    from gluegrid.common.files import size_in_words
    from gluegrid.operations.cleanup import delete, find_leftovers

    leftovers = find_leftovers(RESULTS, arguments.experiment)
    size = size_in_words(sum(place.size for place in leftovers))
    with reader_may_leave():
        for place in leftovers:
            print(*place.report(), sep="\n")
        if not arguments.yes:
            print(f"Nothing was deleted. Add YES=1 to delete {size}.")
    if arguments.yes:
        left = delete(leftovers)
        print(*left, f"Deleted: {size}" if not left else "Deleted: the rest", sep="\n")


@command(
    "doctor",
    argument("--profile", type=Path, default=PROPOSED, help="the folder for the proposed profile (profiles/proposed)"),
)
def doctor(arguments: argparse.Namespace) -> None:
    """Check this machine, SLURM and a compute node; propose a profile for the site."""
    from gluegrid.site.doctor import examine

    if arguments.profile.name in ("", ".."):
        raise GluegridError("PROFILE: name a folder for the profile, such as profiles/mine")
    raise SystemExit(0 if examine(arguments.profile) else 1)


def name_experiment(arguments: argparse.Namespace) -> None:
    """Take the name of the experiment from its file, if only a file was given. Raise ConfigError if it is broken."""
    file = getattr(arguments, "configfile", None)
    if file is None:
        return
    from gluegrid.experiment.config import name_in

    if "experiments" in arguments:
        arguments.experiments = arguments.experiments or [name_in(file)]
    else:
        arguments.experiment = arguments.experiment or name_in(file)


def main() -> None:
    """Run the command that is asked for. Its reader may leave before all is printed."""
    arguments = parser.parse_args()
    if arguments.function not in (plan, submit, tasks, models):
        name_experiment(arguments)
    with reader_may_leave():
        arguments.function(arguments)


if __name__ == "__main__":
    run_script(main)
