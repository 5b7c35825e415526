"""Small experiment files for tests, and how they load."""

from pathlib import Path

import pytest

from gluegrid.common.errors import ConfigError
from gluegrid.experiment.experiment import Experiment
from gluegrid.experiment.loading import load_experiment

# Lines 1 to 4 of most of them.
START = """\
experiment: small
models:
  bert: {source: org/bert}
tasks: [cola, rte]
"""


def load(text: str) -> Experiment:
    path = Path("c.yaml")
    path.write_text(text, encoding="utf-8", newline="")
    return load_experiment(path)


def problems_of(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(text)
    return caught.value.problems


def with_model(entry: str) -> str:
    return START.replace("{source: org/bert}", entry)


def with_tasks(tasks: str) -> str:
    return START.replace("[cola, rte]", tasks)
