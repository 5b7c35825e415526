"""Scripts that only tell something, and a reader who goes before all is said, as `head` does."""

import signal
import subprocess
import sys
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


@pytest.mark.parametrize("where", ["", "run_script(main)"], ids=["while it imports", "in its main"])
def test_ctrl_c_ends_a_script_with_a_line_and_no_traceback(where):
    interrupted = "signal.raise_signal(signal.SIGINT)"
    main = f"def main():\n    {interrupted}\n"
    listening = (
        "signal.signal(signal.SIGINT, signal.default_int_handler)"  # it is ignored in what a shell starts with &
    )
    text = f"import signal\nfrom gluegrid.common.cli import run_script\n{listening}\n{main}{where or interrupted}\n"
    done = subprocess.run([sys.executable, "-c", text], cwd=builders.SCRIPTS, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "gluegrid: interrupted\n")


def test_an_error_of_ours_that_nobody_expects_has_its_traceback():
    text = "import gluegrid.common.cli\nraise ValueError(1)"
    done = subprocess.run([sys.executable, "-c", text], cwd=builders.SCRIPTS, capture_output=True, text=True)
    assert done.stderr.startswith("Traceback") and done.stderr.endswith("ValueError: 1\n")
