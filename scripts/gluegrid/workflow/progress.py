"""Report the jobs of a call: one line at the start, then a live block or a line per finished cell; failures at once.

Snakemake's events say that a job begins, ends or fails. What became of a cell is read from its files, as `make status`
does it: so a cell of a pack is reported when it is done, not when the whole pack is.
"""

import sys
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gluegrid.common import escaping
from gluegrid.common.errors import GluegridError
from gluegrid.common.formatting import clock, counted, duration, percent
from gluegrid.execution.job_logs import last_line
from gluegrid.experiment.cell import Cell
from gluegrid.experiment.experiment import Experiment
from gluegrid.operations.estimates import Estimates
from gluegrid.operations.plan import Plan, PlannedCell
from gluegrid.operations.plan_text import KINDS, one_line
from gluegrid.operations.staged import resources
from gluegrid.operations.status import Observer, Snapshot, look
from gluegrid.operations.status_text import WHOLE_WORDS, Paper, live_text
from gluegrid.results import tables
from gluegrid.results.outcomes import Outcome, outcome
from gluegrid.results.result_text import PREDICTED
from gluegrid.results.summary import groups
from gluegrid.workflow.live_block import LiveBlock
from gluegrid.workflow.pack_jobs import places_for
from gluegrid.workflow.run_end import seconds_taken
from gluegrid.workflow.snakemake_patches import TRAIN

WIDTH = 80  # columns, without a terminal
LINES_OF_BLOCK = 30
STEPS_IN_BLOCK = 4
BUSY = 10  # pause this many times as long as a look at files takes
SECONDS_BETWEEN_LOOKS = {False: 2, True: 10}  # local cells; SLURM's, since each look asks its queue
SECONDS_WITHOUT_NEWS = {False: 5, True: 30}  # between looks while no job ends
DOING = {"fetch_model": ("fetching", "fetched"), "fetch_task": ("fetching", "fetched")}
DOING |= {"tokenize_task": ("tokenizing", "tokenized")}
STAGED = {"fetch_model": "model", "fetch_task": "dataset", "tokenize_task": "tokenized task"}
LONG_STEP = 30  # seconds; shorter steps are reported together


@dataclass(frozen=True)
class Step:
    """A job that trains no cell: its rule, what it works on (in words for users), and its log."""

    rule: str
    what: str
    log: Path | None

    @property
    def doing(self) -> str:
        """What it does while it runs, and how far a download is."""
        if self.rule not in DOING:
            return self.what
        text = f"{DOING[self.rule][0]} {self.what}"
        has_begun = self.log is not None and self.log.exists() and self.log.stat().st_size
        return f"{text}: {last_line(self.log)}" if has_begun else text


@dataclass(frozen=True)
class Call:
    """What a call of snakemake is about to do: its plan; by job number, its cells, other steps and allowed attempts."""

    plan: Plan
    cells: dict[int, Cell]
    steps: dict[int, Step]
    tries: dict[int, int]
    places: int
    is_remote: bool


def call_of(experiment: Experiment, estimates: Estimates, workflow, pack_minutes: float) -> Call:
    """Return what a call of snakemake is about to do, once it is planned."""
    dag = workflow.dag
    jobs = {dag.jobid(job): job for job in dag.needrun_jobs()}
    trained = {number: job for number, job in jobs.items() if job.rule.name == TRAIN}
    names = {number: job.wildcards for number, job in trained.items()}
    cells = {number: experiment.cell(of.model, of.task, of.variant, of.seed) for number, of in names.items()}
    planned = [PlannedCell(cell, "", estimates.of(cell), estimates.card_of(cell)) for cell in cells.values()]
    planned.sort(key=lambda each: each.estimate.seconds, reverse=True)
    made = {str(output) for job in jobs.values() for output in job.output}
    needed = [each for each in resources(experiment) if str(each.manifest) in made]
    kinds = {str(each.manifest): each for each in needed}
    steps = {
        number: Step(job.rule.name, _what(job, kinds), Path(job.log[0]) if job.log else None)
        for number, job in jobs.items()
        if number not in trained and job.rule.name != "all"
    }
    return Call(
        plan=Plan(experiment, planned, needed, pack_minutes),
        cells=cells,
        steps=steps,
        tries={number: job.restart_times + 1 for number, job in jobs.items()},
        places=_places(workflow, planned, trained.values()),
        is_remote=not workflow.local_exec,
    )


def _what(job, kinds: dict) -> str:
    """Return what a job works on, named as in the experiment file and not by folder."""
    resource = kinds.get(str(job.output[0])) if job.output else None
    if resource is None:
        return job.message or job.rule.name
    if resource.kind == "tokens":
        return f"{resource.name} for {resource.source}"
    return f"{KINDS[resource.kind]} {resource.name}"


def _places(workflow, planned: Sequence[PlannedCell], jobs) -> int:
    """Return how many GPUs, or CPU processes, the cells of a call use at once."""
    job = next(iter(jobs), None)
    if job is None:
        return 0
    at_once = places_for(workflow, job.resources)
    return min(at_once * max(planned[0].cell.values["gpus"], 1), sum(each.cell.values["gpus"] for each in planned))


class Progress:
    """The report of a call's jobs: in a block at the end of a terminal, or line by line."""

    def __init__(self, call: Call, logs: Sequence[str], block: LiveBlock | None):
        self._call = call
        self._logs = logs
        self._block = block
        self._experiment = call.plan.experiment
        self._observer = Observer(Path(self._experiment.paths.root))
        self._awaited = {planned.cell.name for planned in call.plan.cells}
        self._width = max(map(len, self._awaited), default=0)
        self._done = 0
        self._staged: Counter[str] = Counter()
        self._begun = time.monotonic()
        self._running: dict[int, tuple[Step, float]] = {}
        self._failures: dict[int, list[str]] = {}
        self._first_with: dict[str, str] = {}  # by reason, what failed first
        self._snapshot: Snapshot | None = None
        self._is_over = threading.Event()
        self._has_news = threading.Event()
        self._lock = threading.RLock()
        self._watcher = threading.Thread(target=self._watch, daemon=True)

    def begin(self) -> None:
        """Say what will run and for how long; watch it from then on."""
        call = self._call
        rules = [*dict.fromkeys(step.rule for step in call.steps.values() if step.rule not in DOING)]
        for text in (one_line(call.plan, call.places, call.is_remote, rules), self._where()):
            _tell("\n".join(textwrap.wrap(text, self._columns, subsequent_indent="  ", **WHOLE_WORDS)))
        if self._block:
            self._block.open()
        self._watcher.start()

    @property
    def _columns(self) -> int:
        return self._block.size[0] if self._block else WIDTH

    def _where(self) -> str:
        return f"Log: {', '.join(self._logs)}" if self._logs else ""

    def job_started(self, job_id: int) -> None:
        """Note that a step begins."""
        if step := self._call.steps.get(job_id):
            self._running[job_id] = (step, time.monotonic())
            self._has_news.set()

    def job_finished(self, job_id: int) -> None:
        """Report a long step that is done, or that all is staged; let the watcher look at the cells."""
        step, begun = self._running.pop(job_id, (None, 0.0))
        if step and step.rule in DOING and not self._block:
            self._tell_of_staged(step, time.monotonic() - begun)
        self._has_news.set()

    def _tell_of_staged(self, step: Step, seconds: float) -> None:
        if seconds >= LONG_STEP:
            _tell(f"{_time()} {DOING[step.rule][1]} {step.what}, {duration(seconds)}")
        self._staged[STAGED[step.rule]] += 1
        if self._staged.total() == sum(each.rule in DOING for each in self._call.steps.values()):
            counts = ", ".join(counted(self._staged[kind], kind) for kind in STAGED.values() if self._staged[kind])
            _tell(f"{_time()} staged {counts}, {duration(time.monotonic() - self._begun)}")

    def job_failed(self, job_id: int, message: str) -> None:
        """Report at once why a job has failed and where its log is; report attempts that fail alike once."""
        step, _ = self._running.pop(job_id, (self._call.steps.get(job_id), 0.0))
        told = self._failures.setdefault(job_id, [])
        cell = self._call.cells.get(job_id)
        ended = outcome(self._experiment, cell) if cell else None
        if ended and not (ended.is_done or ended.is_stopped or ended.has_failed):
            return  # its pack ended before it began
        what, reason, log = _failure_of(ended) if ended else _failure_of_step(step)
        reason = escaping.shortened(escaping.one_line(reason or message).rstrip("."), tables.LONGEST_REASON)
        if reason not in told:
            tries = self._call.tries.get(job_id, 1)
            which = f" (attempt {len(told) + 1} of {tries})" if tries > 1 else ""
            first = self._first_with.setdefault(reason, what)
            why = reason if first == what else f"for the same reason as {first.partition(' ')[2]}"
            _tell(f"{_time()} {what}{which}: {why}; log: {log}")
        told.append(reason)
        self._has_news.set()

    def close(self) -> None:
        """Stop drawing."""
        self._is_over.set()
        self._has_news.set()

    def end(self, outcomes: Sequence[Outcome]) -> None:
        """Report the finished cells that were not reported yet, and stop drawing."""
        self.close()
        if self._watcher.is_alive():
            self._watcher.join(timeout=SECONDS_WITHOUT_NEWS[False])
        self._tell_of_done(outcomes)
        if self._block:
            self._block.close()

    def _watch(self) -> None:
        while not self._is_over.is_set():
            begun = time.monotonic()
            self._look()
            pause = max(SECONDS_BETWEEN_LOOKS[self._call.is_remote], BUSY * (time.monotonic() - begun))
            if not self._is_over.wait(pause):
                self._has_news.wait(SECONDS_WITHOUT_NEWS[self._call.is_remote] if not self._block else 0)
                self._has_news.clear()

    def _look(self) -> None:
        try:
            self._snapshot = look([self._observer])[0] if self._call.cells else None
        except (GluegridError, OSError):  # a file is half written or a disk is away: the next look will tell
            return
        if self._is_over.is_set():
            return
        if self._block:
            steps = [*self._steps()]
            self._block.draw([*steps, *self._cells(len(steps))])
        elif self._snapshot:
            self._tell_of_done([status.outcome for status in self._snapshot.cells])

    def _steps(self) -> Iterator[str]:
        running = [step for step, _ in list(self._running.values())]
        yield from (escaping.one_line(step.doing) for step in running[:STEPS_IN_BLOCK])
        if len(running) > STEPS_IN_BLOCK:
            yield f"and {len(running) - STEPS_IN_BLOCK:,} more"

    def _cells(self, steps: int) -> list[str]:
        if self._snapshot is None:
            return []
        columns, lines = self._block.size
        room = min(lines - steps - 2, LINES_OF_BLOCK)
        return live_text(self._snapshot, Paper(columns - 1, max(room, 3), self._block.has_colours)).splitlines()

    def _tell_of_done(self, outcomes: Sequence[Outcome]) -> None:
        with self._lock:
            for each in outcomes:
                if each.is_done and each.cell.name in self._awaited:
                    self._awaited.remove(each.cell.name)
                    self._done += 1
                    if not self._block:
                        _tell(self._line_of_done(each))

    def _line_of_done(self, done: Outcome) -> str:
        total = len(self._call.plan.cells)
        (group,) = groups(self._experiment, [done])
        said = percent(group.score()) if group.task.metric_keys() else PREDICTED
        seconds = duration(seconds_taken(self._experiment, done))
        end = f"  ends ~{self._end()}" if self._snapshot and self._done < total else ""
        count = f"{self._done:>{len(f'{total:,}')},}/{total:,}"
        return f"{_time()} {count} {done.cell.name:<{self._width}} {said:>6} {seconds:>7}{end}"

    def _end(self) -> str:
        """Return when the last cell is expected to be done."""
        moment = self._snapshot.taken.timestamp() + self._snapshot.time_left.seconds
        return clock(time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(moment)))


def _failure_of(ended: Outcome) -> tuple[str, str, Path | None]:
    what = f"{'STOPPED' if ended.is_stopped else 'FAILED'} {ended.cell.name}"
    return what, "" if ended.is_done else ended.reason or "", ended.log


def _failure_of_step(step: Step | None) -> tuple[str, str, Path | None]:
    if step is None:
        return "FAILED a job", "", None
    name = f"{DOING[step.rule][0]} {step.what}" if step.rule in DOING else step.rule
    return f"FAILED {name}", last_line(step.log) if step.log and step.log.exists() else "", step.log


def _time() -> str:
    return time.strftime("%H:%M:%S")


def _tell(line: str) -> None:
    if line:
        print(escaping.encodable(line), file=sys.stderr, flush=True)
