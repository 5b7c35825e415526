"""What a call shows: events as lines, real calls of a tiny workflow beside the plugin, a block on a real terminal."""

import fcntl
import io
import json
import logging
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import builders
import pytest
from clones import PROJECT
from snakemake_interface_logger_plugins.common import LogEvent
from snakemake_interface_logger_plugins.tests import MockOutputSettings

from gluegrid.execution import attempts, invocation
from gluegrid.execution.reasons import Cause, Reason
from gluegrid.operations.estimates import estimates_of
from gluegrid.operations.plan import Plan, PlannedCell
from gluegrid.operations.plan_text import one_line
from gluegrid.results.outcomes import state_of
from gluegrid.workflow import terminal
from gluegrid.workflow.live_block import LiveBlock
from gluegrid.workflow.progress import Call, Progress, Step

PAIR = {"eval_accuracy": 0.8578, "eval_f1": 0.9, "eval_samples": 50}
CALLS = """
import io, json, sys
from contextlib import redirect_stderr, redirect_stdout
from snakemake.cli import main
outputs = []
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["snakemake", *arguments]
    told = io.StringIO(), io.StringIO()
    with redirect_stdout(told[0]), redirect_stderr(told[1]):
        try:
            main()
        except SystemExit as end:
            code = end.code
    outputs.append([code, *(each.getvalue() for each in told)])
print(json.dumps(outputs))
"""
PROFILE = """
__use_yte__: true
__definitions__:
  - import sys
  - sys.path.insert(0, {scripts!r})
  - from gluegrid.workflow.terminal import loggers
  - names = loggers()
?if names:
  logger: ?names
keep-going: true
"""
SNAKEFILE = """
import sys
from gluegrid.workflow.terminal import handler_in_use, log_files

class Shown:
    def begin(self):
        handler = handler_in_use()
        if handler and handler.block:
            handler.block.open()
            handler.block.draw(["a line", "the block"])
    def job_started(self, job_id):
        self.begin()
    def job_finished(self, job_id):
        print(f"{job_id} is done", file=sys.stderr)
    def job_failed(self, job_id, message):
        print(f"{job_id} has failed", file=sys.stderr)
    def close(self):
        pass

rule all:
    input: "good", "bad", "nothing"
rule good:
    output: "good"
    shell: "touch {output}"
rule bad:
    output: "bad"
    shell: "exit 3"
rule nothing:
    output: "nothing"
    shell: "true"

onstart:
    if handler_in_use():
        print("log:", *log_files(workflow), file=sys.stderr)
        handler_in_use().show(Shown())
"""


def handler(**settings) -> terminal.LogHandler:
    """Return a handler as Snakemake makes it."""
    common = MockOutputSettings()
    common.printshellcmds = False
    for name, value in settings.items():
        setattr(common, name, value)
    return terminal.LogHandler(common, None)


def record(event: LogEvent | None = None, text: str = "", level: int = logging.INFO, **extra) -> logging.LogRecord:
    made = logging.LogRecord("snakemake", level, "", 0, text, (), None)
    made.__dict__ |= {"event": event} if event else {}
    made.__dict__ |= extra
    return made


def exception(text: str, **extra) -> logging.LogRecord:
    return record(LogEvent.ERROR, text, logging.ERROR, exception="RuleException", **extra)


class Told:
    """What is told of jobs."""

    def __init__(self):
        self.lines = []

    def job_started(self, job_id: int) -> None:
        self.lines.append(("started", job_id))

    def job_finished(self, job_id: int) -> None:
        self.lines.append(("finished", job_id))

    def job_failed(self, job_id: int, message: str) -> None:
        self.lines.append(("failed", job_id, message))

    def close(self) -> None:
        self.lines.append("closed")


def test_prose_is_left_to_the_log_file_and_jobs_to_what_tells_of_them(capsys):
    used, told = handler(), Told()
    used.emit(record(text="Building DAG of jobs..."))
    used.show(told)
    used.emit(record(LogEvent.RUN_INFO, "Job stats: ..."))
    used.emit(record(LogEvent.JOB_INFO, "rule train", jobid=3))
    used.emit(record(LogEvent.JOB_FINISHED, "Finished jobid: 3", job_id=3))
    used.emit(record(text="Select jobs to execute..."))
    used.close()
    assert told.lines == [("started", 3), ("finished", 3), "closed"]
    assert capsys.readouterr() == ("", "")


def test_where_nothing_is_to_be_done_prose_that_comes_late_is_not_shown_either(capsys):
    used = handler()
    used.emit(record(text="Building DAG of jobs..."))
    used.forget()
    used.emit(record(text="Nothing to be done"))
    used.close()
    assert capsys.readouterr().err == ""


def test_a_failed_job_is_told_once_and_its_exception_not_beside_it(capsys):
    used, told = handler(), Told()
    used.show(told)
    used.emit(exception("CalledProcessError in rule train", thread=1))
    used.emit(record(LogEvent.JOB_ERROR, "Error in rule train", logging.ERROR, jobid=3, rule_msg=None, thread=1))
    used.close()
    assert told.lines == [("failed", 3, ""), "closed"]
    assert capsys.readouterr().err == ""


def test_errors_and_warnings_of_snakemake_itself_are_always_shown(capsys):
    used, told = handler(), Told()
    used.emit(record(text="Building DAG of jobs..."))
    used.emit(exception("MissingInputException: no data"))
    used.show(told)
    used.emit(exception("an output is missing", thread=2))
    used.emit(record(LogEvent.JOB_ERROR, "Error in rule train", logging.ERROR, jobid=3, rule_msg=None, thread=1))
    used.emit(record(text="SLURM job submission failed", level=logging.ERROR))
    used.emit(record(text="SLURM does not answer", level=logging.WARNING))
    used.close()
    assert capsys.readouterr().err.splitlines() == [
        "MissingInputException: no data",
        "an output is missing",
        "SLURM job submission failed",
        "SLURM does not answer",
    ]


def test_an_error_that_no_job_follows_is_told_soon(monkeypatch, capsys):
    monkeypatch.setattr(terminal, "SECONDS_TO_TELL", 0)
    used = handler()
    used.show(Told())
    used.emit(exception("an output is missing"))
    used._timer.join()
    assert capsys.readouterr().err == "an output is missing\n"


@pytest.mark.parametrize(
    "asked",
    [{"verbose": True}, {"quiet": {"all"}}, {"dryrun": True}, {"printshellcmds": True}, {"debug_dag": True}],
    ids=str,
)
def test_where_more_or_less_is_asked_for_snakemakes_own_handler_is_used(asked, capsys):
    used = handler(**asked)
    assert (used.writes_to_stream, terminal.handler_in_use()) == (False, None)
    used.emit(record(text="Building DAG of jobs..."))
    used.close()
    assert capsys.readouterr().err == ""
    assert handler().writes_to_stream


def test_a_call_that_runs_no_jobs_says_what_snakemake_says(capsys):
    used = handler()
    used.emit(record(text="Congratulations, your workflow is in a good condition!"))
    used.close()
    assert capsys.readouterr().err == "Congratulations, your workflow is in a good condition!\n"


@pytest.mark.parametrize(("written", "expected"), [("logger: [rich]", []), ("jobs: 3", ["gluegrid"])])
def test_another_profile_may_have_a_logger_of_its_own(tmp_path, monkeypatch, written, expected):
    (tmp_path / "config.yaml").write_text(f"{written}\n", encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["snakemake", "--profile", str(tmp_path)])
    assert terminal.loggers() == expected
    monkeypatch.setattr(sys, "argv", ["snakemake"])
    monkeypatch.setenv("SNAKEMAKE_PROFILE", str(tmp_path))
    assert terminal.loggers() == expected


@pytest.fixture
def tiny(tmp_path) -> Path:
    """A folder with a tiny workflow of which one job fails and another leaves nothing."""
    (tmp_path / "profiles/default").mkdir(parents=True)
    profile = PROFILE.format(scripts=str(PROJECT / "scripts"))
    (tmp_path / "profiles/default/config.yaml").write_text(profile, encoding="utf-8")
    (tmp_path / "Snakefile").write_text(SNAKEFILE, encoding="utf-8")
    return tmp_path


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("SNAKEMAKE_", "GLUEGRID_"))}


def test_real_calls_hide_prose_and_no_error_and_a_flag_brings_all_back(tiny):
    run = ["--cores", "1", "--latency-wait", "0"]
    calls = [run, [*run, "missing"], [*run, "--verbose"], ["--dry-run"], [*run, "--no-hooks"], ["--unlock"]]
    command = [sys.executable, "-c", CALLS, json.dumps(calls)]
    done = subprocess.run(command, cwd=tiny, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    usual, missing, verbose, dry, without_hooks, unlock = json.loads(done.stdout.splitlines()[-1])
    assert usual[0] == 1
    lines = usual[2].splitlines()
    log = next(line.removeprefix("log: ") for line in lines if line.startswith("log: "))
    assert sum(line.endswith(" is done") for line in lines) == 1
    assert any(line.endswith(" has failed") for line in lines)
    assert "MissingOutputException" in usual[2] and "At least one job did not complete successfully" in usual[2]
    prose = ("Building DAG of jobs", "Job stats", "rule good:", "Select jobs", "CalledProcessError", "exit 3")
    assert not [text for text in prose if text in usual[2]]
    (logged,) = [each for each in tiny.glob(".snakemake/log/*") if str(each).endswith(log)]
    assert not [text for text in prose if text not in logged.read_text(encoding="utf-8")]
    assert missing[0] == 1 and "MissingRuleException" in missing[2]
    for each in (verbose, without_hooks):
        assert not [text for text in prose if text not in each[2] and text != "rule good:"]  # it is there by now
    assert dry[0] == 0 and "Job stats" in dry[1] and "Building DAG of jobs" in dry[1]
    assert unlock[0] == 0 and "Unlocked working directory." in unlock[2] + done.stderr


def on_a_terminal(command: list[str], folder: Path) -> str:
    """Run a command on a pseudo-terminal of 24 lines and 80 columns; return all that was written to it."""
    controller, terminal_of_child = pty.openpty()
    fcntl.ioctl(terminal_of_child, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), terminal_of_child)
    child = subprocess.Popen(command, cwd=folder, env=environment() | {"TERM": "xterm"}, **streams)
    os.close(terminal_of_child)
    parts = []
    while True:
        try:
            part = os.read(controller, 65536)
        except OSError:  # the child has closed its end
            break
        if not part:
            break
        parts.append(part)
    os.close(controller)
    child.wait()
    return b"".join(parts).decode()


def screen(written: str, columns: int = 80) -> list[str]:
    """Return the lines that a terminal shows; of control sequences it knows those of a block."""
    lines, row, column = [[" "] * columns], 0, 0
    for steer, letter in re.findall(r"\x1b\[([\d;]*[A-Za-z])|(.)", written, re.DOTALL):
        if steer.endswith("A"):
            row = max(row - int(steer[:-1]), 0)
        elif steer == "J":
            del lines[row + 1 :]
            lines[row][column:] = " " * (columns - column)
        elif letter == "\n":
            row, column = row + 1, 0
            lines += [[" "] * columns] if row == len(lines) else []
        elif letter == "\r":
            column = 0
        elif letter:
            lines[row][column] = letter
            column += 1
            if column == columns:
                row, column = row + 1, 0
                lines += [[" "] * columns] if row == len(lines) else []
    return ["".join(line).rstrip() for line in lines]


def test_a_terminal_has_a_block_while_jobs_run_and_none_after(tiny):
    written = on_a_terminal([sys.executable, "-m", "snakemake", "--cores", "1", "--latency-wait", "0"], tiny)
    assert written.count("the block\r\n") > 1
    shown = screen(written)
    assert not [line for line in shown if line in ("a line", "the block", "Planning ...")]
    assert sum(line.endswith(" is done") for line in shown) == 1
    assert any(line.endswith(" has failed") for line in shown)
    assert "At least one job did not complete successfully." in shown
    assert "\x1b[?25l" not in written  # the cursor was never hidden


class Terminal(io.StringIO):
    """A terminal of 40 columns."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def block(monkeypatch) -> LiveBlock:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(LiveBlock, "size", (40, 5))
    return LiveBlock(Terminal())


def test_what_is_printed_goes_above_the_block_line_by_line(block):
    with redirect_stdout(block.stream), redirect_stderr(block.stream):
        print_beside(block)


def print_beside(block: LiveBlock) -> None:
    block.open()
    block.draw(["one", "two"])
    print("printed", file=sys.stderr)
    sys.stdout.write("begun ")
    block.draw(["three"])
    assert screen(block.stream.getvalue(), 40) == ["printed", "three", ""]
    print("and ended")
    assert screen(block.stream.getvalue(), 40) == ["printed", "begun and ended", "three", ""]
    sys.stdout.write("without an end")
    block.close()
    assert screen(block.stream.getvalue(), 40) == ["printed", "begun and ended", "without an end", ""]
    assert sys.stderr is sys.stdout is block.stream
    block.draw(["late"])
    assert "late" not in block.stream.getvalue()


def test_lines_of_a_block_fit_the_terminal_letters_of_east_asia_too(block):
    block.open()
    block.draw([f"line {number}" for number in range(9)])
    assert screen(block.stream.getvalue(), 40) == ["line 5", "line 6", "line 7", "line 8", ""]
    block.draw(["模型" * 30, "\x1b[32m" + "x" * 39 + "\x1b[0m"])
    first, second, *_ = block.stream.getvalue().rpartition("\x1b[J")[2].splitlines()
    assert (first, second) == ("模型" * 9 + "模 ", "\x1b[32m" + "x" * 39 + "\x1b[0m")
    block.close()


@pytest.fixture
def experiment(tmp_path, monkeypatch):
    """An experiment of one model on two tasks, of which a call has begun."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    made = builders.experiment(tmp_path)
    invocation.freeze(made.config, Path(made.paths.heads))
    return made


def progress_of(experiment, tries: int = 1, is_remote: bool = False) -> Progress:
    """Return the progress of a call that trains all cells, as the jobs 1, 2, ..., and fetches a model as job 0."""
    estimates = estimates_of(experiment)[0]
    cells = dict(enumerate(experiment.cells.values(), start=1))
    planned = [PlannedCell(cell, "", estimates.of(cell)) for cell in cells.values()]
    log = Path("fetch.log")
    steps = {0: Step("fetch_model", "model tiny", log)}
    call = Call(Plan(experiment, planned, []), cells, steps, dict.fromkeys([0, *cells], tries), 2, is_remote)
    return Progress(call, ["snakemake.log"], None)


def test_a_finished_cell_is_a_line_with_score_seconds_count_and_end(experiment, capsys):
    progress = progress_of(experiment)
    pair = experiment.cells["tiny", "pair", "base", "42"]
    builders.write_result(experiment, pair, PAIR | {"train_runtime": 12.5})
    progress._look()
    progress._look()
    (line,) = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"\d\d:\d\d:\d\d 1/2 tiny/pair/base/seed-42 +87\.89 +12 s  ends ~.*\d\d:\d\d", line)
    assert len(line) <= 80


def test_a_failure_is_one_line_with_reason_and_log_and_alike_ones_are_told_once(experiment, capsys):
    progress = progress_of(experiment, tries=3)
    for job, cell in enumerate(experiment.cells.values(), start=1):
        attempts.start(state_of(experiment, cell), "0")
        attempts.end(state_of(experiment, cell), Reason(Cause.FAILED, "the loss is nan\nat step 3"))
        progress.job_failed(job, "")
        progress.job_failed(job, "")
    Path("fetch.log").write_text("12:00:00 1 of 2\ngluegrid: the hub does not answer\n", encoding="utf-8")
    progress.job_failed(0, "")
    first, second, step = capsys.readouterr().err.splitlines()
    log = "results/small/logs/train/tiny/{}/base/seed-42.log"
    assert first[9:] == (
        f"FAILED tiny/pair/base/seed-42 (attempt 1 of 3): the loss is nan at step 3; log: {log.format('pair')}"
    )
    assert second[9:] == (
        "FAILED tiny/number/base/seed-42 (attempt 1 of 3): for the same reason as tiny/pair/base/seed-42;"
        f" log: {log.format('number')}"
    )
    assert step[9:] == "FAILED fetching model tiny (attempt 1 of 3): the hub does not answer; log: fetch.log"


def test_a_cell_that_its_pack_did_not_begin_has_not_failed(experiment, capsys):
    progress_of(experiment).job_failed(1, "")
    assert capsys.readouterr().err == ""


def test_a_call_begins_with_what_will_run_and_ends_with_what_was_not_told_yet(experiment, capsys, monkeypatch):
    monkeypatch.setattr(threading.Thread, "start", lambda self: None)
    progress = progress_of(experiment)
    progress.begin()
    lines = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"small: 2 cells to train on the CPU, 2 at a time, about .*\.", lines[0])
    assert lines[1:] == ["Log: snakemake.log"]


def test_what_was_staged_is_told_once_it_is_all_and_a_long_step_by_itself(experiment, capsys, monkeypatch):
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    progress = progress_of(experiment)
    progress._call.steps[9] = Step("fetch_task", "dataset pair", None)
    progress.job_started(9)
    progress.job_finished(9)
    assert capsys.readouterr().err == ""
    progress.job_started(0)
    now += 40
    progress.job_finished(0)
    lines = [line[9:] for line in capsys.readouterr().err.splitlines()]
    assert lines == ["fetched model tiny, 40 s", "staged 1 model, 1 dataset, 40 s"]


@pytest.mark.parametrize(
    ("is_remote", "rules", "expected"),
    [
        (False, ["compare", "report"], "small: no cell to train; to run: compare, report."),
        (True, [], "small: no cell to train."),
    ],
)
def test_a_call_without_cells_says_what_it_runs(experiment, is_remote, rules, expected):
    assert one_line(Plan(experiment, [], []), 0, is_remote, rules) == expected
