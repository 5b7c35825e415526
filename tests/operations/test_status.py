"""`make status`: where each cell is, from its files and SLURM's queue. SLURM's programs are played."""

import datetime
import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import builders
import pytest
from fake_slurm import NAME, FakeSlurm, slurm_in_a_folder, squeue_line
from waiting import HANG

from gluegrid import operations
from gluegrid.common.files import read_json, write_json
from gluegrid.common.formatting import duration
from gluegrid.common.paths import state_folder
from gluegrid.common.provenance import this_process
from gluegrid.execution import attempts, invocation, reasons
from gluegrid.execution.controller import note_submission
from gluegrid.execution.job_logs import has_error, last_line
from gluegrid.execution.reasons import Cause, Reason
from gluegrid.execution.slurm_queue import MOST_NAMED, Job, jobs_in_queue
from gluegrid.execution.submissions import note_refusal
from gluegrid.experiment.cell import Cell, run_hash, run_text
from gluegrid.experiment.experiment import Experiment
from gluegrid.operations.cell_status import CellStatus, State
from gluegrid.operations.makespan import time_left
from gluegrid.operations.plan import why
from gluegrid.operations.status import Observer, Snapshot, look
from gluegrid.operations.status_text import Paper, status_text
from gluegrid.results.outcomes import train_log

SEEDS = [1, 2, 3, 4, 5, 6]
EARLIER, LATER = "2026-01-01T00:00:00+00:00", "2099-01-01T00:00:00+00:00"
BEFORE = "2025-01-01T00:00:00+00:00"
SCORES = {"eval_accuracy": 0.75, "eval_f1": 0.8, "eval_samples": 10}
DEAD = {"pid": 1, "process_started": "never"}
REASON = "the loss is nan at step 3, learning rate 2e-05; try a smaller learning_rate"


@pytest.fixture
def slurm(tmp_path, monkeypatch) -> FakeSlurm:
    monkeypatch.setattr(operations.status, "ANSWER_SECONDS", HANG)
    slurm = slurm_in_a_folder(tmp_path, monkeypatch)
    slurm.answers("squeue", (0, "", ""))
    return slurm


@pytest.fixture
def experiment(tmp_path, slurm) -> Experiment:
    """One model on two tasks with some seeds; all is staged, and a head of this process has planned it."""
    experiment = builders.experiment(tmp_path, seeds=SEEDS)
    for manifest in manifests(experiment):
        write_json(manifest, {})
    invocation.freeze(experiment.config, Path(experiment.paths.heads))
    return experiment


def manifests(experiment: Experiment) -> list[Path]:
    """Return those of the model, of both tasks, and of both tasks' tokens."""
    keys = [
        f"models/{experiment.model_key('tiny')}",
        *(f"tasks/{experiment.task_key(task)}" for task in experiment.tasks),
    ]
    tokens = [Path(experiment.tokens_manifest(cell_of(experiment, SEEDS[0], task))) for task in experiment.tasks]
    return [*(Path("resources") / key / "manifest.json" for key in keys), *tokens]


def cell_of(experiment: Experiment, seed: int, task: str = "pair") -> Cell:
    return experiment.cells["tiny", task, "base", str(seed)]


def state_of(experiment: Experiment, cell: Cell) -> Path:
    return state_folder(Path(experiment.paths.run.format(**cell.wildcards)))


def write_lock(experiment: Experiment, cell: Cell, **holder) -> Path:
    mine = {**this_process(), "slurm_job_id": None, "slurm_node": None, "since": EARLIER, "head": None, "token": "t"}
    path = state_of(experiment, cell) / "lock"
    write_json(path, mine | holder)
    return path


def write_progress(experiment: Experiment, cell: Cell, **values) -> None:
    noted = {"run_sha256": run_hash(run_text(cell)), "time": LATER, "step": 43, "steps": 100, "loss": 0.5}
    path = state_of(experiment, cell) / "progress.json"
    write_json(path, noted | {"learning_rate": 1e-5, "train_seconds": 430.0} | values)


def submit(experiment: Experiment, cell: Cell, number: str) -> None:
    write_json(state_of(experiment, cell) / "slurm_job.json", {"slurm_job_id": number, "submitted": EARLIER})


def begin(experiment: Experiment, cell: Cell, reason: str | Reason | None = None, **changes) -> None:
    """Note an attempt of this process, and how it ended if it did."""
    state = state_of(experiment, cell)
    attempts.start(state, run_hash(run_text(cell)))
    if reason is not None:
        attempts.end(state, Reason(Cause.FAILED, reason) if isinstance(reason, str) else reason)
    if changes:
        path = state / "attempts.jsonl"
        path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes) + "\n", encoding="utf-8")


def end_heads(experiment: Experiment, **process) -> None:
    """Let the process of every head be another one: dead, if nothing else is said."""
    for path in Path(experiment.paths.heads).glob("*.json"):
        content = json.loads(path.read_text(encoding="utf-8"))
        content["process"] |= process or DEAD
        path.write_text(json.dumps(content), encoding="utf-8")


def snapshot_of(experiment: Experiment) -> Snapshot:
    (snapshot,) = look([Observer(Path(experiment.paths.root))])
    return snapshot


def status_of(experiment: Experiment, cell: Cell) -> CellStatus:
    return next(status for status in snapshot_of(experiment).cells if status.outcome.cell.name == cell.name)


def text_of(experiment: Experiment, *paper: Paper) -> str:
    return status_text(snapshot_of(experiment), *paper)


def test_each_cell_of_a_pack_that_runs_is_where_its_turn_is(slurm, experiment, monkeypatch):
    """The pack was started again on another node: where it was lost, a lock was left; who had left has its turn yet."""
    trained, lost, left, killed, untouched, _ = (cell_of(experiment, seed) for seed in SEEDS)
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    for cell in (trained, lost, left, killed, untouched):
        path = state_of(experiment, cell) / "slurm_job.json"
        pack = {"name": NAME, "comment": "rule_pack_1_of_1_tiny_5_cells", "is_pack": True}
        write_json(path, {"slurm_job_id": "17", "submitted": EARLIER} | pack)
    begin(experiment, left, Reason(Cause.SIGTERM))
    begin(experiment, killed, Reason(Cause.KILLED))
    on_a_node = {"slurm_job_id": "17", "pack": "x/pack", "host": "node7"}
    write_lock(experiment, trained, **on_a_node)
    lock = write_lock(experiment, lost, **on_a_node)
    os.utime(lock, (time.time() - 1000,) * 2)
    slurm.answers("squeue", (0, squeue_line("17", "RUNNING", comment="rule_pack_1_of_1_tiny_5_cells"), ""))
    cells = (trained, lost, left, killed, untouched)
    (snapshot,) = look([Observer(Path(experiment.paths.root))])
    states = {cell.outcome.cell.name: cell.state for cell in snapshot.cells}
    expected = [State.RUNNING, State.QUEUED, State.QUEUED, State.STOPPED, State.QUEUED]
    assert [states[cell.name] for cell in cells] == expected
    assert "SLURM jobs: 1 running, 0 queued; 1 of them for several cells.\n" in status_text(snapshot)


def test_each_cell_is_where_its_files_and_the_queue_say(slurm, experiment):
    done, running, queued, failed, stopped, _ = (cell_of(experiment, seed) for seed in SEEDS)
    builders.write_result(experiment, done, SCORES)
    begin(experiment, running)
    write_lock(experiment, running)
    write_progress(experiment, running)
    submit(experiment, queued, "17")
    begin(experiment, failed, REASON)
    begin(experiment, stopped, slurm_job_id="18")
    write_lock(experiment, stopped, host="node7", slurm_job_id="18")
    write_progress(experiment, stopped)
    slurm.answers(
        "squeue",
        (
            0,
            squeue_line("17", "PENDING", starts="2099-01-02T10:00:00", reason="Resources")
            + squeue_line("19", "RUNNING"),
            "",
        ),
    )
    text = text_of(experiment)
    head_started = datetime.datetime.fromisoformat(
        read_json(Path(os.environ[invocation.VARIABLE]))["started"]
    ).astimezone()
    states = [status.state for status in snapshot_of(experiment).cells][: len(SEEDS)]
    assert states == [State.DONE, State.RUNNING, State.QUEUED, State.FAILED, State.STOPPED, State.NOT_BEGUN]
    assert text.splitlines()[:2] == [
        f"small: 1 model x 2 tasks, 12 cells, at {text.splitlines()[0][-8:]}",
        f"Snakemake is running: process {os.getpid()} since {head_started:%H:%M}",
    ]
    counted = "6 seeds: 1 running 43 %, 10 min left, 1 done 77.50, 1 queued, 1 failed, 1 stopped, 1 not begun"
    assert f"  pair    running    {counted}\n" in text_of(experiment, Paper(width=140))
    assert "  pair    running    6 seeds: 1 running 43 %, 10 min left, 1 done 77.50," in text
    assert "  number  not begun  6 seeds\n" in text
    assert "Cells: 1 done, 1 running, 1 queued, 1 stopped, 1 failed, 7 not begun.\n" in text
    assert f"FAILED tiny/pair/base/seed-4: {REASON}" in " ".join(text.split())
    assert f"\n  log: {train_log(experiment, failed)}\n" in text
    assert f"STOPPED tiny/pair/base/seed-5: {Reason(Cause.KILLED)}" in " ".join(text.split())
    assert slurm.calls("squeue")[0][-1] == "--jobs=17,18"


def test_one_seed_each_is_told_in_a_line_with_score_time_left_reason_and_start(slurm, tmp_path):
    experiment = builders.experiment(tmp_path, seeds=[1])
    pair, number = cell_of(experiment, 1), cell_of(experiment, 1, "number")
    invocation.freeze(experiment.config, Path(experiment.paths.heads))
    builders.write_result(experiment, pair, SCORES)
    submit(experiment, number, "17")
    write_progress(experiment, number)
    slurm.answers("squeue", (0, squeue_line("17", "PENDING", starts="2099-01-02T10:00:00", reason="Priority"), ""))
    assert "  pair    done       77.50\n" in text_of(experiment)
    assert "  number  queued     Priority, starts about 2099-01-02 10:00, 43 % done\n" in text_of(experiment)
    slurm.answers("squeue", (0, squeue_line("17", "RUNNING"), ""))
    assert "  number  running    starting (43 % before)\n" in text_of(experiment)
    write_lock(experiment, number, host="node7", slurm_job_id="17")
    limited = "  number  running    43 %, loss 0.5000, 10 min left, time limit in 5 min\n"
    assert limited in text_of(experiment)
    write_progress(experiment, number, step=100)
    assert "  number  running    scoring\n" in text_of(experiment)
    write_progress(experiment, number, time=BEFORE)  # of the attempt before
    assert "  number  running    starting (43 % before)\n" in text_of(experiment)
    write_progress(experiment, number, run_sha256="of another run")
    assert "  number  running    starting\n" in text_of(experiment)


@pytest.mark.parametrize(
    ("holder", "listed", "seconds_ago", "expected"),
    [
        ({}, "", 1000, State.RUNNING),  # its process is there, whatever its heart does
        (DEAD, "", 0, State.STOPPED),
        ({"host": "node7"}, "", 0, State.RUNNING),
        ({"host": "node7"}, "", 1000, State.STOPPED),
        ({"host": "node7", "slurm_job_id": "17"}, "", 0, State.STOPPED),  # the job is gone: its heart has just stopped
        ({"host": "node7", "slurm_job_id": "17"}, squeue_line("17", "RUNNING"), 1000, State.RUNNING),
        ({"host": "node7", "slurm_job_id": "17"}, squeue_line("17", "PENDING"), 0, State.QUEUED),  # requeued
        ({"host": "node7", "slurm_job_id": "17"}, squeue_line("17", "NODE_FAIL"), 0, State.STOPPED),
        # Somebody else's job has its number now; snakemake was called in an allocation.
        ({"host": "node7", "slurm_job_id": "17"}, squeue_line("17", "RUNNING", "other"), 1000, State.STOPPED),
        ({"host": "node7", "slurm_job_id": "17"}, squeue_line("17", "RUNNING", "salloc"), 0, State.RUNNING),
        ({"host": "node7", "slurm_job_id": "17"}, None, 0, State.RUNNING),  # SLURM is silent, the heart is not
        ({"host": "node7", "slurm_job_id": "17"}, None, 1000, State.STOPPED),
    ],
)
def test_a_cell_runs_as_long_as_whoever_holds_it_lives(slurm, experiment, holder, listed, seconds_ago, expected):
    cell = cell_of(experiment, 1)
    begin(experiment, cell, slurm_job_id=holder.get("slurm_job_id"))
    lock = write_lock(experiment, cell, **holder)
    os.utime(lock, (time.time() - seconds_ago,) * 2)
    write_progress(experiment, cell)
    slurm.answers("squeue", (1, "", "Unable to contact slurm controller") if listed is None else (0, listed, ""))
    status = status_of(experiment, cell)
    assert status.state == expected
    assert status.progress.step == 43
    assert f"{expected}" in text_of(experiment)
    assert ("SLURM does not answer (Unable to contact slurm controller)" in text_of(experiment)) == (
        listed is None and holder.get("slurm_job_id") is not None
    )


@pytest.mark.parametrize(
    ("submitted", "expected"),
    [
        ({"name": NAME}, State.QUEUED),
        ({"name": "another"}, State.STOPPED),
        ({"slurm_job_id": "hello\n17"}, State.STOPPED),
    ],
)
def test_another_job_that_has_its_number_is_not_shown_as_a_cells(slurm, experiment, submitted, expected):
    cell = cell_of(experiment, 1)
    write_json(state_of(experiment, cell) / "slurm_job.json", {"slurm_job_id": "17"} | submitted)
    begin(experiment, cell, Reason(Cause.KILLED))
    slurm.answers("squeue", (0, squeue_line("17", "PENDING"), ""))
    assert status_of(experiment, cell).state == expected


@pytest.mark.parametrize("seconds", [-600, 600])
def test_what_the_file_servers_clock_says_is_compared_with_what_it_says(slurm, experiment, seconds):
    """A host's own clock is ahead of it, or behind."""
    before, after = cell_of(experiment, 1), cell_of(experiment, 2)
    begin(experiment, before, REASON)
    begin(experiment, after, REASON)
    moment = time.time() + seconds
    os.utime(os.environ[invocation.VARIABLE], (moment, moment))
    for cell, written in ((before, moment - 60), (after, moment + 60)):
        os.utime(state_of(experiment, cell) / "attempts.jsonl", (written, written))
    assert [status_of(experiment, cell).state for cell in (before, after)] == [State.NOT_BEGUN, State.FAILED]


def test_progress_is_the_holders_that_has_noted_it_whatever_the_clocks_say(slurm, experiment):
    cell = cell_of(experiment, 1)
    write_lock(experiment, cell, since=LATER)
    write_progress(experiment, cell, time=EARLIER, process=this_process())
    assert status_of(experiment, cell).why == ""
    write_lock(experiment, cell, since=EARLIER)
    write_progress(experiment, cell, time=LATER, process=this_process() | DEAD)
    assert status_of(experiment, cell).why == "starting"


def test_a_job_that_was_queued_when_slurm_fell_silent_is_taken_for_queued(slurm, experiment):
    cell = cell_of(experiment, 1)
    submit(experiment, cell, "17")
    slurm.answers("squeue", (1, "", "Unable to contact slurm controller"))
    assert status_of(experiment, cell).state == State.QUEUED
    begin(experiment, cell, REASON, slurm_job_id="17")
    assert status_of(experiment, cell).state == State.FAILED


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        (Reason(Cause.SIGUSR1, step=40), State.STOPPED),
        (Reason(Cause.TIME_LIMIT, step=0), State.STOPPED),
        (Reason(Cause.INTERRUPTED), State.STOPPED),
        (Reason(Cause.KILLED), State.STOPPED),
        (Reason(Cause.FAILED, "interrupted: so says an error"), State.FAILED),
    ],
)
def test_what_was_only_asked_to_leave_has_not_failed(slurm, experiment, reason, expected):
    cell = cell_of(experiment, 1)
    begin(experiment, cell, reason)
    assert (status_of(experiment, cell).state, status_of(experiment, cell).why) == (expected, str(reason))


def states_of_all_kinds(experiment: Experiment) -> list[tuple[State, Cause | None]]:
    """Let cells have no result for all reasons there are, but for what is not staged; return where they are."""
    for name in ("pair", "number"):
        for seed in SEEDS:
            shutil.rmtree(state_of(experiment, cell_of(experiment, seed, name)), ignore_errors=True)
    endings = [
        Reason(cause, "SLURM took no job for it: not run yet") for cause in [*sorted(reasons.PREEMPTED), Cause.FAILED]
    ]
    for cell, reason in zip(experiment.cells.values(), endings, strict=False):
        begin(experiment, cell, reason)
    *_, cancelled, refused, killed, unreported, untried = experiment.cells.values()
    attempts.cancel(state_of(experiment, cancelled))
    note_refusal(state_of(experiment, refused), "Invalid qos")
    begin(experiment, killed)
    begin(experiment, killed, Reason(Cause.TIME_LIMIT, step=3))
    begin(experiment, unreported)
    assert not state_of(experiment, untried).exists()
    statuses = snapshot_of(experiment).cells
    assert plan_reasons(experiment)[-1] == "new"
    return [(status.state, status.outcome.why.cause) for status in statuses]


def plan_reasons(experiment: Experiment) -> list[str | None]:
    return [why(experiment, cell) for cell in experiment.cells.values()]


def test_no_word_that_is_said_to_people_decides_anything(slurm, experiment, monkeypatch):
    """All sentences are others, and each is the beginning of the next; what is decided stays the same."""
    before = states_of_all_kinds(experiment)
    assert {State.STOPPED, State.FAILED, State.NOT_BEGUN} == {state for state, _ in before}
    others = {cause: "x" * number for number, cause in enumerate(Cause, start=1)}
    monkeypatch.setattr(reasons, "SENTENCES", others)
    assert states_of_all_kinds(experiment) == before
    assert "xxx" in text_of(experiment)


def test_what_an_earlier_call_has_left_is_no_failure_while_another_runs(slurm, experiment):
    failed, cancelled = cell_of(experiment, 1), cell_of(experiment, 2)
    begin(experiment, failed, REASON)
    attempts.cancel(state_of(experiment, cancelled))
    assert [status_of(experiment, cell).state for cell in (failed, cancelled)] == [State.FAILED] * 2
    for path in (state_of(experiment, failed) / "attempts.jsonl", state_of(experiment, cancelled) / "cancelled.json"):
        os.utime(path, (time.time() - 1000,) * 2)
    assert [status_of(experiment, cell).state for cell in (failed, cancelled)] == [State.NOT_BEGUN] * 2
    assert "not begun  6 seeds, before this call: the loss is nan" in text_of(experiment)
    end_heads(experiment)
    assert [status_of(experiment, cell).state for cell in (failed, cancelled)] == [State.FAILED] * 2


def test_without_a_head_the_same_call_goes_on(slurm, experiment):
    assert "No snakemake" not in text_of(experiment)
    assert "\nLeft: " in text_of(experiment)
    end_heads(experiment)
    assert "Snakemake is not running; run the same command to continue (12 cells left)." in " ".join(
        text_of(experiment).split()
    )
    end_heads(experiment, host="login2")
    assert "Snakemake was started on login2; whether it still runs is unknown here." in text_of(experiment)
    for cell in experiment.cells.values():
        scores = {"eval_pearson": 0.5, "eval_spearmanr": 0.5} if cell.task == "number" else {}
        builders.write_result(experiment, cell, SCORES | scores)
    assert snapshot_of(experiment).is_final
    assert "snakemake" not in text_of(experiment)
    end_heads(experiment, **this_process())
    assert not snapshot_of(experiment).is_final


def test_cells_wait_for_what_is_not_staged_until_that_has_failed(slurm, experiment):
    cell = cell_of(experiment, 1)
    tokens = manifests(experiment)[3]
    tokens.unlink()
    assert "  pair    not begun  6 seeds, waits for tokenize_task\n" in text_of(experiment)
    log = Path(f"results/small/logs/tokenize_task/{tokens.parent.relative_to('resources/tokens')}.log")
    log.parent.mkdir(parents=True)
    log.write_text("reading\n", encoding="utf-8")
    assert status_of(experiment, cell).state == State.NOT_BEGUN
    log.write_text("reading\ngluegrid: no such column\nTraceback\n", encoding="utf-8")
    status = status_of(experiment, cell)
    assert (status.state, status.why, status.outcome.log) == (
        State.FAILED,
        "tokenize_task failed: no such column",
        log,
    )
    assert "FAILED tiny/pair/base/seed-1 and 5 more: tokenize_task failed: no such column" in text_of(experiment)


def test_a_job_that_has_just_begun_is_starting_and_not_failed(slurm, experiment):
    cell = cell_of(experiment, 1)
    log = train_log(experiment, cell)
    log.parent.mkdir(parents=True)
    assert (last_line(log), has_error(log)) == ("its log is empty", False)  # it may go at any moment
    log.write_text("accelerate says something\n", encoding="utf-8")
    assert (status_of(experiment, cell).state, status_of(experiment, cell).why) == (State.RUNNING, "starting")
    log.write_text("gluegrid: no such file\n", encoding="utf-8")
    assert status_of(experiment, cell).state == State.FAILED


def test_a_cell_that_ends_between_two_reads_is_seen_as_ended(slurm, experiment):
    """SLURM is asked between them: there the cell, which was running, is done, and another begins."""
    done, begun = cell_of(experiment, 1), cell_of(experiment, 2)
    begin(experiment, done)
    write_lock(experiment, done, host="node7", slurm_job_id="17")
    observer = Observer(Path(experiment.paths.root))
    reading = observer.read()
    (state_of(experiment, done) / "lock").unlink()
    builders.write_result(experiment, done, SCORES)
    begin(experiment, begun)
    write_lock(experiment, begun)
    cells = observer.snapshot(reading, {}, None).cells
    assert [status.state for status in cells[:2]] == [State.DONE, State.NOT_BEGUN]
    assert snapshot_of(experiment).cells[1].state == State.RUNNING


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"slurm_job_id": 7, "host": null, "step": "x"}'])
def test_files_that_are_half_there_are_no_news(slurm, experiment, content):
    cell = cell_of(experiment, 1)
    state = state_of(experiment, cell)
    state.mkdir(parents=True)
    for name in ("lock", "progress.json", "slurm_job.json", "cancelled.json", "refusal.json", "attempts.jsonl"):
        (state / name).write_text(content, encoding="utf-8")
    os.utime(state / "lock", (time.time() - 1000,) * 2)
    assert status_of(experiment, cell).state in (State.NOT_BEGUN, State.FAILED)
    (Path(experiment.paths.heads) / "9999.json").write_text(content, encoding="utf-8")
    assert len(snapshot_of(experiment).cells) == 12


def test_the_queue_is_read_from_one_call(slurm):
    listed = [
        "Welcome | to the cluster | of 2026 | be | kind | to | each | other",
        "1|RUNNING|2026-01-01T10:00:00|2-03:04:05|1000|name|None|(null)",
        "2|PENDING|N/A|UNLIMITED|0|name|ReqNodeNotAvail, May be reserved for other job|(null)",
        "3|PENDING|2026-01-01T10:00:00|59:01|1000|another|Priority|a|b",
        "4|COMPLETED|2026-01-01T10:00:00|0:00|1000|name|None|(null)",
        "slurm_load_jobs: a warning",
    ]
    slurm.answers("squeue", (0, "\n".join(listed), ""))
    assert list(jobs_in_queue(["1", "2", "3", "4", "3"]).values()) == [
        Job("1", "RUNNING", "", "2026-01-01T10:00:00", ((2 * 24 + 3) * 60 + 4) * 60 + 5, "1000", "name"),
        Job("2", "PENDING", "ReqNodeNotAvail, May be reserved for other job", None, None, "0", "name"),
        Job("3", "PENDING", "Priority", "2026-01-01T10:00:00", 59 * 60 + 1, "1000", "another", "a|b"),
    ]
    # A command line has no room for more; of others' jobs nothing is told.
    many = [str(number) for number in range(3, MOST_NAMED + 4)]
    assert set(jobs_in_queue(many)) == {"3"}
    assert [any(word.startswith("--jobs") for word in call) for call in slurm.calls("squeue")] == [True, False]
    assert jobs_in_queue([]) == {}
    assert len(slurm.calls("squeue")) == 2


def test_the_time_left_is_that_of_the_training_on_as_many_places_as_run(slurm, experiment):
    done, running, another, _, _, _ = (cell_of(experiment, seed) for seed in SEEDS)
    builders.write_result(experiment, done, SCORES)  # in 12.5 s
    for cell in (running, another):
        begin(experiment, cell)
        write_lock(experiment, cell)
        write_progress(experiment, cell, step=50, train_seconds=10)  # 10 s left
    cells = snapshot_of(experiment).cells
    # Three of the same task, and six of the other of which an estimate tells, on two places.
    left = time_left(cells, lambda cell: 100 * cell.run["seed"])
    assert round(left.gpu_hours * 3600, 6) == 2 * 10 + 3 * 12.5 + 100 * sum(SEEDS)
    assert left.seconds == 10 + 600 + 300 + 200
    assert "ends about " in text_of(experiment)
    on_gpus = [replace(status.outcome.cell, run=status.outcome.cell.run | {"gpus": 4}) for status in cells]
    cells = [
        replace(status, outcome=replace(status.outcome, cell=cell)) for status, cell in zip(cells, on_gpus, strict=True)
    ]
    assert time_left(cells, lambda cell: 0).gpu_hours * 3600 == pytest.approx(4 * (2 * 10 + 3 * 12.5))


CONTROLLER = "gluegrid-grid-1"


def submit_controller(experiment: Experiment) -> Path:
    """Note a controller as make submit does; return its plan's file."""
    plan = invocation.write_plan(experiment.config, Path(experiment.paths.heads))
    note_submission(Path(experiment.paths.root), "12", CONTROLLER, plan)
    return plan


def begin_controller(experiment: Experiment, plan: Path, monkeypatch) -> None:
    """Let a start of the controller begin on another host, of whose process nothing is known here."""
    with monkeypatch.context() as job:
        job.setenv(invocation.SUBMITTED, str(plan))
        elsewhere = this_process() | {"host": "node7"}
        job.setattr(invocation, "this_process", lambda: elsewhere)
        invocation.freeze(experiment.config, Path(experiment.paths.heads))


@pytest.mark.parametrize(
    ("job", "has_begun", "end", "said"),
    [
        ({"state": "PENDING", "reason": "Priority"}, False, None, "waits (Priority)"),
        ({"state": "PENDING", "reason": "BeginTime"}, True, None, "was requeued and waits (BeginTime)"),
        ({"state": "RUNNING"}, True, None, "runs; it requeues itself in 5 min at the latest"),
        (None, True, {"exit_code": 1, "reason": "no sbatch"}, "ended at .* with exit code 1: no sbatch"),
        (
            None,
            True,
            None,
            "was cancelled, killed, or at its time limit. Its cells' jobs keep running; run the same make submit",
        ),
        ({"state": "RUNNING", "name": "another"}, True, None, "was cancelled, killed, or at its time limit"),
    ],
    ids=["queued", "requeued", "running", "ended", "lost", "lost, and its number another's"],
)
def test_where_the_controller_is_and_its_log(slurm, tmp_path, monkeypatch, job, has_begun, end, said):
    experiment = builders.experiment(tmp_path)
    plan = submit_controller(experiment)
    if has_begun:
        begin_controller(experiment, plan, monkeypatch)
    if end:
        write_json(Path(experiment.paths.root) / "controller/end.json", end | {"ended": EARLIER})
    if job:
        slurm.answers("squeue", (0, squeue_line("12", **{"name": CONTROLLER, **job}), ""))
    text = " ".join(text_of(experiment).split())
    assert re.search(f"controller: SLURM job 12 {said.replace('(', '[(]').replace(')', '[)]')}", text), text
    assert f"log: {experiment.paths.root}/logs/controller.log" in text
    snapshot = snapshot_of(experiment)
    is_there = bool(job) and "name" not in job
    assert snapshot.is_under_way == is_there
    assert bool(snapshot.invocations.running) == (is_there and job["state"] == "RUNNING")
    assert "snakemake runs" not in text
    assert ("Snakemake is not running" in text or "still runs is unknown here" in text) != is_there
    # What has ended is not asked for.
    assert (slurm.calls("squeue") == []) == (end is not None)


def test_a_controller_is_not_told_of_once_another_call_of_snakemake_has_begun(slurm, tmp_path, monkeypatch):
    experiment = builders.experiment(tmp_path)
    begin_controller(experiment, submit_controller(experiment), monkeypatch)
    slurm.answers("squeue", (1, "", "Unable to contact slurm controller"))
    assert "controller: SLURM job 12 when SLURM last answered" in text_of(experiment)
    invocation.freeze(experiment.config, Path(experiment.paths.heads))
    assert "controller: " not in text_of(experiment)


def test_a_finished_variant_tells_nothing_of_how_long_another_takes(slurm, tmp_path):
    epochs = {"tiny": {"pair": {"num_train_epochs": [2, 4]}}}
    experiment = builders.experiment(tmp_path, seeds=[1, 2], cells=epochs)
    invocation.freeze(experiment.config, Path(experiment.paths.heads))
    builders.write_result(experiment, cell_of(experiment, 1), SCORES)  # in 12.5 s
    left = time_left(snapshot_of(experiment).cells, lambda cell: 100)
    assert left.gpu_hours * 3600 == pytest.approx(12.5 + 2 * 100 + 2 * 100)


def test_a_sweep_is_counted_in_cells_and_shows_its_best_point_so_far(slurm, tmp_path):
    rates = [2e-5, 3e-5, 5e-5]
    experiment = builders.experiment(tmp_path, seeds=[1, 2], cells={"tiny": {"pair": {"learning_rate": rates}}})
    invocation.freeze(experiment.config, Path(experiment.paths.heads))
    for variant, accuracy in (("base", 0.75), ("learning_rate-3e-05", 0.85)):
        for seed in "12":
            cell = experiment.cells["tiny", "pair", variant, seed]
            builders.write_result(experiment, cell, SCORES | {"eval_accuracy": accuracy})
    assert ", 4 done 82.50 best of 2 of 3 points\n" in text_of(experiment, Paper(width=140))
    for seed in "12":
        builders.write_result(experiment, experiment.cells["tiny", "pair", "learning_rate-5e-05", seed], SCORES)
    assert "  pair    done       6 cells, 82.50 best of 3 points\n" in text_of(experiment)


def test_a_prediction_has_no_score(slurm, tmp_path):
    text = {"source": "./pair", "text_columns": ["sentence"], "labels": ["no", "yes"], "metrics": ["accuracy"]}
    hidden = text | {"train": None, "validation": {}, "test": ["test"], "do_train": False}
    experiment = builders.experiment(tmp_path, tasks={"hidden": hidden})
    invocation.freeze(experiment.config, Path(experiment.paths.heads))
    (cell,) = experiment.cells.values()
    builders.write_result(experiment, cell, {"predict_samples": 6})
    assert "  hidden  done       predicted\n" in text_of(experiment)


def test_durations_are_for_people():
    seconds = (5, 99, 100, 3600 - 31, 3600, 3900, 47 * 3600, 50 * 3600)
    expected = ["5 s", "99 s", "2 min", "59 min", "1 h 00 min", "1 h 05 min", "47 h 00 min", "2 d 02 h"]
    assert [duration(each) for each in seconds] == expected


@pytest.mark.parametrize("tasks", [1, 12, 300])
def test_however_many_tasks_there_are_it_fits_80_columns(slurm, tmp_path, tasks):
    experiment = builders.experiment(tmp_path, seeds=[1])
    entry = experiment.config["tasks"]["pair"]
    names = [f"a-task-with-a-name-that-is-long-{number}" for number in range(tasks)]
    config = experiment.config | {"tasks": dict.fromkeys(names, entry)}
    invocation.freeze(config, Path(experiment.paths.heads))
    experiment = Experiment(config)
    for task in names[-5:]:
        begin(experiment, cell_of(experiment, 1, task), f"\x1b[31m{task}: {REASON}")
    submit(experiment, cell_of(experiment, 1, names[0]), "17")
    slurm.answers("squeue", (0, squeue_line("17", "RUNNING"), ""))
    lines = text_of(experiment).splitlines()
    assert max(len(line) for line in lines if not line.startswith("  log: ")) <= 80
    assert "\x1b" not in "".join(lines)
    assert len(lines) < 120
    assert sum("running" in line and "starting" in line for line in lines) == 1
    assert sum(" failed  " in line for line in lines) == min(5, tasks - 1) or tasks == 1
    if tasks == 300:
        assert "running" in lines[3]
        assert "and 294 more rows: 294 not begun" in lines
    for height in (3, 10, 24):
        assert len(text_of(experiment, Paper(80, height)).splitlines()) <= height


def test_what_runs_does_not_hide_what_failed(slurm, tmp_path):
    experiment = builders.experiment(tmp_path, seeds=[1])
    config = experiment.config | {"tasks": {f"task{n}": experiment.config["tasks"]["pair"] for n in range(100)}}
    experiment = Experiment(config)
    invocation.freeze(config, Path(experiment.paths.heads))
    *running, failed = experiment.cells.values()
    for cell in running:
        write_lock(experiment, cell)
    begin(experiment, failed, REASON)
    lines = text_of(experiment).splitlines()
    assert sum("  running " in line for line in lines) == 58
    assert any(line.startswith("tiny task99  failed ") for line in lines)
    assert "and 41 more rows: 41 running" in lines


def test_what_is_done_is_read_once(slurm, experiment):
    path = builders.write_result(experiment, cell_of(experiment, 1), SCORES)
    observer = Observer(Path(experiment.paths.root))
    assert look([observer])[0].counts[State.DONE] == 1
    (path.parent / "run_record.json").unlink()
    assert look([observer])[0].counts[State.DONE] == 1
    os.utime(path, (0, 0))
    assert look([observer])[0].counts[State.DONE] == 0


def test_colours_are_for_terminals_alone(slurm, experiment):
    begin(experiment, cell_of(experiment, 1), REASON)
    snapshot = snapshot_of(experiment)
    coloured = status_text(snapshot, Paper(colours=True))
    assert "\x1b[1;31mfailed   \x1b[0m" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == status_text(snapshot)


def script(*arguments: str) -> list[str]:
    path = Path(__file__).resolve().parents[2] / "scripts/commands.py"
    return [sys.executable, str(path), "status", *arguments]


def test_the_script_asks_slurm_once_for_all_experiments(slurm, experiment):
    other = Experiment(experiment.config | {"experiment": "other"})
    invocation.freeze(other.config, Path(other.paths.heads))
    for each, number in ((experiment, "17"), (other, "18")):
        submit(each, cell_of(each, 1), number)
    Path("results/about-to-begin/heads").mkdir(parents=True)
    done = subprocess.run(script(), capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.partition(":")[0] for line in done.stdout.splitlines() if " model x " in line] == ["other", "small"]
    assert [call[-1] for call in slurm.calls("squeue")] == ["--jobs=17,18"]
    done = subprocess.run(script("smal"), capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert (
        done.stderr == "gluegrid: results/smal is not an experiment; there are: other, small (did you mean 'small'?)\n"
    )


def test_the_script_loads_nothing_heavy(slurm, experiment):
    python, *arguments = script("small")
    done = subprocess.run([python, "-X", "importtime", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "gluegrid" in loaded
    assert not loaded & {"snakemake", "torch", "transformers", "numpy", "pandas", "pyarrow"}


def test_it_is_watched_in_a_terminal_until_ctrl_c(slurm, experiment, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    process, terminal = pty.fork()
    if process == 0:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # tests that run in the background inherit that it is ignored
        os.execv(sys.executable, script("small", "--watch"))
    first = next_frame(terminal)
    assert "\x1b[H\x1b[1msmall: " in first
    assert "not begun." in first
    begin(experiment, cell_of(experiment, 1), REASON)
    frames = [next_frame(terminal)]
    while "1 failed" not in frames[-1]:
        frames.append(next_frame(terminal))
    assert all(frame.startswith("\r\n\x1b[H") for frame in frames)
    os.write(terminal, b"\x03")
    assert "Traceback" not in read_until_end(terminal)
    _, status = os.waitpid(process, 0)
    assert os.waitstatus_to_exitcode(status) in (0, -signal.SIGINT)


def test_watching_a_pipe_is_plain_and_ends_when_all_is_done(slurm, experiment, monkeypatch):
    for cell in experiment.cells.values():
        begin(experiment, cell, REASON)
    end_heads(experiment)
    done = subprocess.run(script("small", "--watch"), capture_output=True, text=True, timeout=HANG)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("small: ") == 1
    assert "\x1b" not in done.stdout
    assert "Cells: 0 done, 0 running, 0 queued, 12 failed, 0 not begun." in done.stdout


def next_frame(terminal: int) -> str:
    """Return what a terminal shows until it clears what is below the next frame."""
    said = ""
    while not said.endswith("\x1b[J"):
        character = characters_of(terminal, 1)
        assert character, said
        said += character
    return said


def read_until_end(terminal: int) -> str:
    """Return what a terminal still shows."""
    said = ""
    while part := characters_of(terminal, 65536):
        said += part
    return said


def characters_of(terminal: int, most: int) -> str:
    """Return what a terminal shows next; nothing at its end."""
    assert select.select([terminal], [], [], HANG)[0], "nothing came"
    try:
        return os.read(terminal, most).decode(errors="replace")
    except OSError:  # what Linux says of a terminal that nobody writes to any more
        return ""
