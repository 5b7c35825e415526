"""From an experiment file, or from what a call of snakemake has frozen of it, to the experiment."""

import math
from collections.abc import Callable
from pathlib import Path

from gluegrid.common.files import read_json
from gluegrid.common.paths import is_local
from gluegrid.experiment.config import load_config
from gluegrid.experiment.config_checks import check_starts
from gluegrid.experiment.config_errors import Problems
from gluegrid.experiment.experiment import Experiment
from gluegrid.experiment.option_checks import check_options
from gluegrid.experiment.options import OPTIONS
from gluegrid.experiment.references import read_in
from gluegrid.experiment.sources import name_states_of_folders
from gluegrid.experiment.variants import swept

MOST_CELLS = 100_000  # each is some jobs and a dozen files; Snakemake plans for minutes long before


def load_experiment(
    path: Path, experiment: object = None, look_at_data: Callable[[Experiment, Problems], None] | None = None
) -> Experiment:
    """Load an experiment file; ConfigError has a line for each mistake, and nothing was written.

    `experiment` is the value of `--config experiment=...`, None without one. `look_at_data` notes what of the data does
    not suit the file, where somebody is to be told that before anything runs.
    """
    config, problems = load_config(path, experiment)
    _check_number_of_cells(Experiment(config), problems)
    check_options(problems, config)
    check_starts(problems, config)
    for entry in (*config["models"].values(), *config["tasks"].values()):
        if not is_local(entry["source"]):
            entry.setdefault("revision", "main")
    name_states_of_folders(config, problems)
    read_in(config, problems)
    loaded = Experiment(config)
    if look_at_data is not None:
        look_at_data(loaded, problems)
        problems.raise_any()
    loaded.warnings += problems.warnings
    return loaded


def planned_experiment(head: Path) -> Experiment:
    """Return the experiment as a call of snakemake has frozen it in its head's file. Raises DataError."""
    return Experiment(read_json(head)["config"])


def _check_number_of_cells(experiment: Experiment, problems: Problems) -> None:
    number = 0
    for model in experiment.models:
        for task in experiment.tasks:
            values = experiment.values(model, task)
            number += len(values.get("seeds", OPTIONS["seeds"].default)) * math.prod(map(len, swept(values).values()))
            if number > MOST_CELLS:
                counted = "models x tasks x seeds x values of lists"
                problems.add((), f"more than {MOST_CELLS} cells ({counted}); make several files of it")
                problems.raise_any()
