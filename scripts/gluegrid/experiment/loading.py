"""Load the experiment from its file, or from the copy that a call of snakemake has frozen."""

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

MOST_CELLS = 100_000  # each means several jobs and a dozen files; Snakemake takes minutes to plan far fewer


def load_experiment(
    path: Path, experiment: object = None, look_at_data: Callable[[Experiment, Problems], None] | None = None
) -> Experiment:
    """Load an experiment file. Raises ConfigError with a line for each mistake, before anything is written.

    `experiment` is the value of `--config experiment=...`, None without one. `look_at_data`, if given, notes where the
    local data do not fit the file, so that users learn it before anything runs.
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
    """Return the experiment as a call of snakemake froze it in its file below heads/. Raises DataError."""
    return Experiment(read_json(head)["config"])


def _check_number_of_cells(experiment: Experiment, problems: Problems) -> None:
    number = 0
    for model in experiment.models:
        for task in experiment.tasks:
            values = experiment.values(model, task)
            number += len(values.get("seeds", OPTIONS["seeds"].default)) * math.prod(map(len, swept(values).values()))
            if number > MOST_CELLS:
                counted = "models x tasks x seeds x values of lists"
                problems.add((), f"more than {MOST_CELLS} cells ({counted}); split it into several experiment files")
                problems.raise_any()
