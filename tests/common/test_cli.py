"""Scripts that only tell something, and a reader who goes before all is said, as `head` does."""

from pathlib import Path

import builders
import pytest
from fake_slurm import slurm_in_a_folder

from gluegrid.execution import invocation


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("command", ["status", "plan", "disk", "clean-state"])
def test_what_only_tells_something_ends_in_silence(tmp_path, monkeypatch, command, unbuffered):
    slurm_in_a_folder(tmp_path, monkeypatch)
    experiment = builders.experiment(tmp_path)
    invocation.freeze(experiment.config, Path(experiment.paths.heads))
    arguments = ["--configfile", builders.SCRIPTS.parent / "config.yaml"] if command == "plan" else []
    done = builders.run_without_reader(command, *arguments, unbuffered=unbuffered)
    assert (done.returncode, done.stderr) == (0, "")
