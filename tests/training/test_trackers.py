"""Trackers: what they write is read back; they are off unless asked for, and end no training."""

import json
import os
import re
import sys
import types
from dataclasses import asdict
from pathlib import Path

import builders
import pytest
from accelerate import Accelerator
from network_trace import contacts
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from waiting import HANG

from gluegrid.common import paths
from gluegrid.training.trackers import Trackers, flat

RUN = builders.run(builders.task(), lora={"r": 8, "target_modules": ["query", "key"]})
CELL = "tiny/tiny/base/seed-42"
HEADER_OF_WANDB = 7
BLOCK = 32768

TRACK = """if True:
    import sys
    from dataclasses import asdict
    from pathlib import Path
    from accelerate import Accelerator
    import builders, resource
    from gluegrid.common import cli
    from gluegrid.training.trackers import Trackers
    cli.setup()
    names, folder, first, last, size = sys.argv[1].split(","), Path(sys.argv[2]), *map(int, sys.argv[3:])
    run = builders.run(builders.task())
    trackers = Trackers(names, folder, run, Accelerator(cpu=True))
    trackers.start(asdict(run), first - 1)
    if size:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    for step in range(first, last + 1):
        trackers.log({"loss": 1 / step, "learning_rate": 0.5}, step)
    trackers.finish()
    print("trained")
"""


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """Undo what trackers set, and let them find a user's settings."""
    for name in list(os.environ):
        if name.startswith(("WANDB_", "MLFLOW_")):
            monkeypatch.delenv(name)
    before = dict(os.environ)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://of.the.user")
    yield
    for name in os.environ.keys() - before.keys():
        del os.environ[name]


def trackers_of(names, folder, accelerator=None):
    return Trackers(names, folder, RUN, accelerator or Accelerator(cpu=True))


def track(names, folder, first, last):
    """Track steps first to last of a training as an attempt does."""
    trackers = trackers_of(names, folder)
    trackers.start(asdict(RUN), first - 1)
    for step in range(first, last + 1):
        trackers.log({"loss": 1 / step}, step)
    trackers.finish()


def track_in_a_process(names, folder, first, last, size=0, **environment):
    """Do so in a process with a home of its own; return its output and log."""
    searched = os.pathsep.join([str(builders.SCRIPTS), str(Path(builders.__file__).parent)])
    environment |= {"PYTHONPATH": searched, "HOME": str(folder.parent / "home"), "TMPDIR": str(folder.parent / "tmp")}
    for name in ("HOME", "TMPDIR"):
        Path(environment[name]).mkdir(exist_ok=True)
    process = builders.python(TRACK, ",".join(names), folder, first, last, size, env=environment, cwd=folder.parent)
    output, errors = process.communicate(timeout=HANG)
    assert process.returncode == 0, errors
    return output, errors


def scalars(folder, tag="loss"):
    events = EventAccumulator(str(folder))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(tag)]


def expected(steps):
    return [(step, pytest.approx(1 / step)) for step in steps]


def folders(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_folder_lies_beside_runs():
    run = Path("results/e/runs/m/t/base/seed-1/run.json")
    assert paths.trackers_folder(run) == Path("results/e/trackers/m/t/base/seed-1")


def test_nothing_is_tracked_when_nobody_asks(tmp_path):
    before = dict(os.environ)
    track([], tmp_path / "trackers", 1, 3)
    assert not (tmp_path / "trackers").exists()
    assert os.environ == before


def test_only_the_main_process_tracks(tmp_path):
    # A mock of an accelerator: one of the other processes'.
    trackers = trackers_of(["tensorboard"], tmp_path / "trackers", types.SimpleNamespace(is_main_process=False))
    trackers.start({"a": 1})
    trackers.log({"loss": 1.0}, 1)
    trackers.finish()
    assert not (tmp_path / "trackers").exists()


def test_values_are_flat_for_every_tracker():
    values = {"a": 1, "b": {"c": None, "d": {"e": [1, "x"]}}, "f": True, "g": Path("h")}
    assert flat(values) == {"a": 1, "b.c": "none", "b.d.e": "1, x", "f": True, "g": "h"}
    assert flat(asdict(RUN))["lora.target_modules"] == "query, key"


def test_tensorboard_has_the_values_at_their_steps(tmp_path):
    track(["tensorboard"], tmp_path, 1, 5)
    assert scalars(tmp_path / "tensorboard" / "1") == expected(range(1, 6))
    [values] = tmp_path.glob("tensorboard/1/*/hparams.yml")
    assert "learning_rate: 0.001" in values.read_text()


def test_tensorboard_goes_on_where_a_continued_attempt_does(tmp_path):
    track(["tensorboard"], tmp_path, 1, 5)
    # The checkpoint was made after step 3: 4 and 5 are done again.
    track(["tensorboard"], tmp_path, 4, 8)
    assert folders(tmp_path / "tensorboard") == ["1"]
    assert scalars(tmp_path / "tensorboard" / "1") == expected(range(1, 9))
    assert len(list(tmp_path.glob("tensorboard/1/*/hparams.yml"))) == 1


def test_a_rerun_is_another_run_of_tensorboard(tmp_path):
    track(["tensorboard"], tmp_path, 1, 5)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    track(["tensorboard"], tmp_path, 1, 2)
    assert folders(tmp_path / "tensorboard") == ["1", "2"]
    assert scalars(tmp_path / "tensorboard" / "2") == expected([1, 2])
    assert {path: path.read_bytes() for path in before} == before


def test_an_attempt_that_finds_no_earlier_one_of_a_tracker_begins_it(tmp_path):
    track(["tensorboard"], tmp_path, 4, 5)
    assert scalars(tmp_path / "tensorboard" / "1") == expected([4, 5])


def records_of_wandb(path):
    """Yield the records in a file of wandb's: a header, then pieces of records in blocks, as in LevelDB's log."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, place, record = path.read_bytes(), HEADER_OF_WANDB, b""
    while place + 7 <= len(content):
        if BLOCK - place % BLOCK < 7:
            place += BLOCK - place % BLOCK
            continue
        length, kind = int.from_bytes(content[place + 4 : place + 6], "little"), content[place + 6]
        record += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last piece
            yield Record.FromString(record)
            record = b""


def run_of_wandb(path):
    """Return the run, its values and its history."""
    runs, values, history = [], {}, []
    for record in records_of_wandb(path):
        if record.HasField("run"):
            runs.append(record.run)
        changes = [*record.run.config.update, *record.config.update]
        values |= {change.key or change.nested_key[0]: json.loads(change.value_json) for change in changes}
        if record.HasField("history"):
            items = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
            history.append((items["_step"], items["loss"]))
    return runs[0], values, history


def test_wandb_is_offline_and_a_continued_attempt_another_run_of_the_same_group(tmp_path):
    folder = tmp_path / "trackers"
    of_the_user = {"WANDB_MODE": "online", "WANDB_API_KEY": "0" * 40, "WANDB_PROJECT": "other", "WANDB_RUN_ID": "other"}
    for first, last in ((1, 5), (4, 6)):
        track_in_a_process(["wandb"], folder, first, last, **of_the_user)
    files = sorted(folder.glob("wandb/wandb/offline-run-*/run-*.wandb"), key=lambda path: path.stat().st_mtime_ns)
    (first, values, history), (second, more_values, more_history) = map(run_of_wandb, files)
    assert history == expected(range(1, 6))
    assert more_history == expected(range(4, 7))
    assert (first.project, first.display_name, first.run_group) == ("test", CELL, CELL)
    assert (second.project, second.display_name, second.run_group) == ("test", CELL, CELL)
    assert first.run_id != second.run_id
    assert (values["learning_rate"], values["task.metrics"]) == (1e-3, "accuracy")
    assert "continued_from_step" not in values
    assert more_values["continued_from_step"] == 3
    # Neither the home nor the folder it was called in.
    assert not list((tmp_path / "home").iterdir())
    assert folders(tmp_path) == ["home", "tmp", "trackers"]


def test_trackers_contact_nobody(tmp_path, monkeypatch, strace):
    trace = tmp_path / "trace"
    start = [*strace, "-o", str(trace), sys.executable]
    monkeypatch.setattr(builders.subprocess, "Popen", _traced(builders.subprocess.Popen, start))
    track_in_a_process(["wandb", "tensorboard"], tmp_path / "trackers", 1, 2)
    lines = trace.read_text(errors="replace").splitlines()
    assert [line for line in lines if "execve(" in line and "wandb-core" in line]
    found = list(contacts(lines))
    assert found
    assert not [contact for contact in found if contact.leaves_the_machine()]


def _traced(popen, start):
    return lambda command, **options: popen([*start, *command[1:]], **options)


class MockOfMlflow(types.ModuleType):
    """A mock of the package: it keeps what accelerate's MLflowTracker calls."""

    def __init__(self):
        super().__init__("mlflow")
        self.calls = []
        limits = types.SimpleNamespace(MAX_PARAM_VAL_LENGTH=500, MAX_PARAMS_TAGS_PER_BATCH=100)
        self.utils = types.SimpleNamespace(validation=limits)

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        returned = {"search_experiments": [], "create_experiment": "7"}

        def call(*arguments, **options):
            self.calls.append((name, arguments, options))
            return returned.get(name)

        return call


def test_mlflow_writes_into_a_file_of_the_cell(tmp_path, monkeypatch):
    mock = MockOfMlflow()
    monkeypatch.setitem(sys.modules, "mlflow", mock)
    track(["mlflow"], tmp_path, 1, 2)
    calls = {name: options for name, _, options in mock.calls}
    assert os.environ["MLFLOW_TRACKING_URI"] == f"sqlite:///{tmp_path}/mlflow/mlflow.db"
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert calls["create_experiment"]["name"] == "test"
    assert calls["create_experiment"]["artifact_location"] == f"{tmp_path}/mlflow/artifacts"
    assert (calls["start_run"]["experiment_id"], calls["start_run"]["run_name"]) == ("7", CELL)
    [(values,)] = [arguments for name, arguments, _ in mock.calls if name == "log_params"]
    assert values["learning_rate"] == 1e-3
    logged = [(arguments, options["step"]) for name, arguments, options in mock.calls if name == "log_metrics"]
    assert logged == [(({"loss": 1.0},), 1), (({"loss": 0.5},), 2)]
    assert mock.calls[-1][0] == "end_run"


def test_a_tracker_that_is_not_installed_is_told_once_and_the_others_go_on(tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    track(["mlflow", "tensorboard"], tmp_path, 1, 3)
    [warning] = caplog.messages
    assert re.match(r"mlflow no longer tracks this training: .*; install mlflow, or remove it from report_to", warning)
    assert scalars(tmp_path / "tensorboard" / "1") == expected([1, 2, 3])


@pytest.mark.parametrize("call", ["log_params", "log_metrics", "end_run"])
def test_a_tracker_that_fails_later_is_told_once_and_the_others_go_on(tmp_path, monkeypatch, caplog, call):
    mock = MockOfMlflow()
    monkeypatch.setitem(sys.modules, "mlflow", mock)
    monkeypatch.setattr(mock, call, lambda *_, **__: 1 / 0)
    track(["mlflow", "tensorboard"], tmp_path, 1, 3)
    assert caplog.messages == ["mlflow no longer tracks this training: ZeroDivisionError division by zero"]
    assert scalars(tmp_path / "tensorboard" / "1") == expected([1, 2, 3])


def test_a_folder_that_cannot_be_made_ends_no_training(tmp_path, caplog):
    (tmp_path / "file").touch()
    track(["tensorboard"], tmp_path / "file" / "trackers", 1, 3)
    [warning] = caplog.messages
    assert "tensorboard no longer tracks this training" in warning


def test_a_disk_that_is_full_ends_no_training(tmp_path):
    output, errors = track_in_a_process(["tensorboard"], tmp_path / "trackers", 1, 300, size=2000)
    assert output == "trained\n"
    assert errors.count("tensorboard no longer tracks this training") == 1
