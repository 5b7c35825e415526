"""Show the state of the cells, by model and task and in total, and why cells failed."""

import datetime
import os
import shutil
import sys
import textwrap
from collections import Counter
from dataclasses import dataclass

from gluegrid.common import escaping
from gluegrid.common.formatting import clock, counted, duration, first_of
from gluegrid.operations.cell_status import CellStatus, State
from gluegrid.operations.status import Snapshot
from gluegrid.operations.status_rows import Row, rows_of
from gluegrid.results import tables
from gluegrid.results.result_text import MARK

NARROWEST, WIDEST = 60, 140  # columns
LONGEST_TASK = 24  # characters
MOST_ROWS = 60  # of models x tasks, without another limit
MOST_FAILURES = 10  # that are shown in full
COLOURS = {State.DONE: "32", State.RUNNING: "36", State.QUEUED: "33", State.FAILED: "1;31", State.STOPPED: "35"}
BOLD = "1"
WHOLE_WORDS = {"break_long_words": False, "break_on_hyphens": False}  # so that paths can be copied
URGENT = (State.RUNNING, State.QUEUED, State.FAILED, State.STOPPED)


@dataclass(frozen=True)
class Paper:
    """The room for a text: its columns, its lines (None for any number), and whether it has colours."""

    width: int = 80
    lines: int | None = None
    colours: bool = False

    def painted(self, text: str, code: str | None) -> str:
        """Return a text in a colour of ECMA-48, or unchanged."""
        return f"\x1b[{code}m{text}\x1b[0m" if self.colours and code else text


def status_text(snapshot: Snapshot, paper: Paper = Paper()) -> str:
    """Return the state of each cell of an experiment in lines that fit the paper; only paths may be longer."""
    paper = Paper(min(max(paper.width, NARROWEST), WIDEST), paper.lines, paper.colours)
    head, totals = _head(snapshot, paper), _totals(snapshot, paper)
    room = None if paper.lines is None else paper.lines - len(head) - len(totals) - 2
    failures = _failures(snapshot, paper, MOST_FAILURES if room is None else room // 8)
    most = MOST_ROWS if room is None else max(room - len(failures), 1)
    rows = _table(rows_of(snapshot.experiment, snapshot.cells), most, paper)
    lines = [*head, "", *rows, "", *totals, *failures]
    return "\n".join(lines[: paper.lines])


def live_text(snapshot: Snapshot, paper: Paper) -> str:
    """Return the state of each cell during a call, in as many lines as the paper has."""
    counts = snapshot.counts
    states = [
        state for state in (State.DONE, State.RUNNING, State.QUEUED, State.STOPPED, State.FAILED) if counts[state]
    ]
    parts = [paper.painted(f"{counts[state]:,} {state}", COLOURS[state]) for state in states]
    to_come = [f"{counts[State.NOT_BEGUN]:,} to come"] if counts[State.NOT_BEGUN] else []
    cells = f"{counted(len(snapshot.cells), 'cell')}: {', '.join([*parts, *to_come])}"
    end = snapshot.taken + datetime.timedelta(seconds=snapshot.time_left.seconds)
    left = f"; {duration(snapshot.time_left.seconds)} left, ends ~{clock(end.isoformat())}"
    rows = _table(rows_of(snapshot.experiment, snapshot.cells), paper.lines - 1, paper)
    return "\n".join([*rows, cells + (left if snapshot.time_left.gpu_hours else "")])


def _head(snapshot: Snapshot, paper: Paper) -> list[str]:
    experiment = snapshot.experiment
    models, tasks = counted(len(experiment.models), "model"), counted(len(experiment.tasks), "task")
    size = f"{models} x {tasks}, {counted(len(snapshot.cells), 'cell')}"
    lines = [paper.painted(f"{experiment.name}: {size}, at {snapshot.taken:%H:%M:%S}", BOLD)]
    invocations = snapshot.invocations
    if running := [each for each in invocations.running if not invocations.is_controlled(each)]:
        named = ", ".join(f"process {each['process']['pid']} since {clock(each['started'])}" for each in running)
        lines += [f"Snakemake is running: {named}"]
    lines += [line for each in _controller(snapshot) for line in textwrap.wrap(each, paper.width, **WHOLE_WORDS)]
    if snapshot.silence is not None:
        said = f"SLURM does not answer ({escaping.one_line(snapshot.silence)}); this is what the files say."
        lines += [
            paper.painted(line, COLOURS[State.FAILED]) for line in textwrap.wrap(said, paper.width, **WHOLE_WORDS)
        ]
    return lines


def _controller(snapshot: Snapshot) -> list[str]:
    """Return the lines about the controller that `make submit` has submitted."""
    controller, job = snapshot.controller, snapshot.controller_job
    if controller is None:
        return []
    end, number = controller.end, f"SLURM job {controller.job.number}"
    again = " Its cells' jobs keep running; run the same make submit to continue." if "exit_code" not in end else ""
    if job is not None:
        has_begun = any(each.get("submitted") == controller.plan for each in snapshot.invocations.all)
        waits = f"{'was requeued and waits' if has_begun else 'waits'}{f' ({job.reason})' if job.reason else ''}"
        left = f"; it requeues itself in {duration(job.seconds_left)} at the latest" if job.seconds_left else ""
        said = f"{number} {waits if job.waits else f'runs{left}'}"
    elif snapshot.silence is not None and again:
        said, again = f"{number} when SLURM last answered", ""
    elif "exit_code" in end:
        said = f"{number} ended at {clock(end['ended'])} with exit code {end['exit_code']}"
    else:
        said = f"{number} was cancelled, killed, or at its time limit."
    reason = f": {escaping.one_line(end['reason'])}" if end.get("reason") and job is None else ""
    return [f"controller: {said}{reason}{again if job is None else ''}", f"  log: {controller.log}"]


def _table(rows: list[Row], most: int, paper: Paper) -> list[str]:
    """Return a line for each row, under its model; of too many rows, the most urgent ones and a count of the rest."""
    models = dict.fromkeys(row.group.model for row in rows)
    if len(rows) + len(models) <= most:
        width = min(max((len(row.group.task.name) for row in rows), default=0), LONGEST_TASK)
        lines = []
        for model in models:
            lines.append(paper.painted(escaping.shortened(model, paper.width), BOLD))
            lines += [
                _line(row, f"  {_fitted(row.group.task.name, width)}", paper)
                for row in rows
                if row.group.model == model
            ]
        return lines
    urgent = _most_urgent(rows, most - 1)
    names = [f"{row.group.model} {row.group.task.name}" for row in urgent]
    width = min(max(map(len, names), default=0), paper.width // 2)
    lines = [_line(row, _fitted(name, width), paper) for row, name in zip(urgent, names, strict=True)]
    rest = Counter(row.state for row in rows) - Counter(row.state for row in urgent)
    counts = ", ".join(f"{rest[state]:,} {state}" for state in State if rest[state])
    return [*lines, f"and {rest.total():,} more rows: {counts}"]


def _most_urgent(rows: list[Row], most: int) -> list[Row]:
    """Return rows that run, wait, failed or stopped, in this order, with some of each state."""
    of_state = {state: [row for row in rows if row.state == state] for state in URGENT}
    chosen, states = [], sorted(URGENT, key=lambda state: len(of_state[state]))
    for place, state in enumerate(states):  # rarest state first: the others share the room that it leaves
        chosen += of_state[state][: (most - len(chosen)) // (len(states) - place)]
    return sorted(chosen, key=lambda row: URGENT.index(row.state))


def _fitted(name: str, width: int) -> str:
    return escaping.shortened(name, width).ljust(width)


def _line(row: Row, name: str, paper: Paper) -> str:
    state = f"{row.state:9}"
    room = paper.width - len(name) - len(state) - 4
    return f"{name}  {paper.painted(state, COLOURS.get(row.state))}  {escaping.shortened(row.text, room)}".rstrip()


def _totals(snapshot: Snapshot, paper: Paper) -> list[str]:
    counts = snapshot.counts
    states = (State.DONE, State.RUNNING, State.QUEUED, State.STOPPED, State.FAILED, State.NOT_BEGUN)
    counted = ", ".join(f"{counts[state]:,} {state}" for state in states if counts[state] or state != State.STOPPED)
    lines = [f"Cells: {counted}.", *_packs(snapshot), *_time_left(snapshot), *_next_call(snapshot)]
    if any(status.outcome.has_other_data for status in snapshot.cells):
        lines.append(f"Numbers with {MARK} are not from the official data; see {snapshot.experiment.paths.results_md}")
    return [line for each in lines for line in textwrap.wrap(each, paper.width, **WHOLE_WORDS)]


def _packs(snapshot: Snapshot) -> list[str]:
    """Return how many SLURM jobs work on the cells, if one works on several."""
    jobs = {cell.job.number: cell.job for cell in snapshot.cells if cell.job is not None}
    cells = Counter(cell.job.number for cell in snapshot.cells if cell.job is not None)
    packs = sum(number > 1 for number in cells.values())
    if not packs:
        return []
    waiting = sum(job.waits for job in jobs.values())
    return [f"SLURM jobs: {len(jobs) - waiting:,} running, {waiting:,} queued; {packs:,} of them for several cells."]


def _time_left(snapshot: Snapshot) -> list[str]:
    left = snapshot.time_left
    if not left.gpu_hours or snapshot.experiment.imported:
        return []
    gpu = "" if all(cell.outcome.cell.run.get("device") == "cpu" for cell in snapshot.cells) else "GPU-"
    hours, minutes = f"{left.gpu_hours:,.1f} {gpu}hours", f"{60 * left.gpu_hours:.1f} {gpu}minutes"
    parts = [f"{hours if left.gpu_hours >= 1 else minutes} of training"]
    if snapshot.is_under_way:
        end = snapshot.taken + datetime.timedelta(seconds=left.seconds)
        parts.append(f"ends about {clock(end.isoformat())}, in {duration(left.seconds)}")
    return [f"Left: {'; '.join(parts)}."]


def _next_call(snapshot: Snapshot) -> list[str]:
    missing = len(snapshot.cells) - snapshot.counts[State.DONE]
    if not missing or snapshot.goes_on:
        return []
    if snapshot.experiment.imported:
        return ["This is an import; what is missing was missing where it ran."]
    if elsewhere := snapshot.invocations.unknown:
        host = elsewhere["process"]["host"]
        unknown = f"Snakemake was started on {host}; whether it still runs is unknown here."
        return [f"{unknown} If not, run the same command to continue."]
    return [f"Snakemake is not running; run the same command to continue ({counted(missing, 'cell')} left)."]


def _failures(snapshot: Snapshot, paper: Paper, most: int) -> list[str]:
    """Return the reasons and logs of the cells that failed or stopped, with equal reasons together."""
    alike: dict[tuple[State, str], list[CellStatus]] = {}
    for status in snapshot.cells:
        if status.state in (State.FAILED, State.STOPPED):
            reason = escaping.shortened(escaping.one_line(status.why), tables.LONGEST_REASON)
            alike.setdefault((status.state, reason), []).append(status)
    told = sorted(alike, key=lambda key: list(State).index(key[0]))
    lines = []
    for state, reason in told[:most]:
        names = first_of([status.outcome.cell.name for status in alike[state, reason]])
        text = f"{state.upper()} {names}: {reason}"
        lines += ["", *textwrap.wrap(text, paper.width, subsequent_indent="  ", **WHOLE_WORDS)]
        lines.append(f"  log: {alike[state, reason][0].outcome.log}")
    left = sum(len(alike[key]) for key in told[most:])
    return [*lines, *(["", f"{left:,} more failed or stopped cells, for other reasons"] if left else [])]


HOME, CLEAR_LINE, CLEAR_BELOW, CLEAR_ALL = "\x1b[H", "\x1b[K", "\x1b[J", "\x1b[2J"


class Screen:
    """Standard output: a terminal is redrawn in place; in a pipe, one text follows the other."""

    def __init__(self):
        self.is_terminal = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self._is_drawn = False

    def paper(self, share: float | None = None) -> Paper:
        """Return the room for a text: `share` of the terminal's height, or any height if None."""
        if not self.is_terminal:
            return Paper()
        columns, lines = shutil.get_terminal_size()
        height = None if share is None else max(int(lines * share) - 1, 1)
        # https://no-color.org
        return Paper(columns, height, colours=not os.environ.get("NO_COLOR"))

    def draw(self, text: str) -> None:
        """Show a text in place of the previous one."""
        if self.is_terminal:
            text = HOME + text.replace("\n", f"{CLEAR_LINE}\n") + CLEAR_LINE + CLEAR_BELOW
            text = text if self._is_drawn else CLEAR_ALL + text
        elif self._is_drawn:
            text = "\n" + text
        self._is_drawn = True
        print(text, flush=True)
