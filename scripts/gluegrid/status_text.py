"""Where each cell is, as a text for people: models and tasks, totals, and why cells have failed."""

import datetime
import textwrap
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gluegrid import escaping, table
from gluegrid.cell_status import STARTING, CellStatus, State
from gluegrid.status import Snapshot
from gluegrid.summary import Group, groups

NARROWEST, WIDEST = 60, 120  # columns
LONGEST_TASK = 24  # characters
MOST_ROWS = 60  # of models x tasks, where nothing limits them
MOST_FAILURES = 10  # that are told in full
MOST_SHARES = 4  # of the cells of one row
COLOURS = {State.DONE: "32", State.RUNNING: "36", State.QUEUED: "33", State.FAILED: "1;31", State.STOPPED: "35"}
BOLD = "1"
URGENT = (State.RUNNING, State.QUEUED, State.FAILED, State.STOPPED)


@dataclass(frozen=True)
class Paper:
    """What a text is written for: its columns, its lines (None: as many as it takes), and whether it has colours."""

    width: int = 80
    lines: int | None = None
    colours: bool = False

    def painted(self, text: str, code: str | None) -> str:
        """Return a text in a colour of ECMA-48, or as it is."""
        return f"\x1b[{code}m{text}\x1b[0m" if self.colours and code else text


@dataclass(frozen=True)
class Row:
    """The cells of one model on one task."""

    group: Group
    cells: Sequence[CellStatus]

    @property
    def state(self) -> State:
        """What is said of it first."""
        return min((cell.state for cell in self.cells), key=list(State).index)


def status_text(snapshot: Snapshot, paper: Paper = Paper()) -> str:
    """Return where each cell of an experiment is, in lines that fit the paper; only paths of logs may be longer."""
    paper = Paper(min(max(paper.width, NARROWEST), WIDEST), paper.lines, paper.colours)
    head, totals = _head(snapshot, paper), _totals(snapshot, paper)
    room = None if paper.lines is None else paper.lines - len(head) - len(totals) - 2
    failures = _failures(snapshot, paper, MOST_FAILURES if room is None else room // 8)
    most = MOST_ROWS if room is None else max(room - len(failures), 1)
    rows = _table(_rows(snapshot), most, paper)
    lines = [*head, "", *rows, "", *totals, *failures]
    return "\n".join(lines[: paper.lines])


def _rows(snapshot: Snapshot) -> list[Row]:
    statuses: dict[tuple[str, str], list[CellStatus]] = {}
    for status in snapshot.cells:
        statuses.setdefault((status.outcome.cell.model, status.outcome.cell.task), []).append(status)
    grouped = groups(snapshot.experiment, [status.outcome for status in snapshot.cells])
    return [Row(group, statuses[group.model, group.task.name]) for group in grouped if group.outcomes]


def _head(snapshot: Snapshot, paper: Paper) -> list[str]:
    experiment = snapshot.experiment
    models, tasks = _counted(len(experiment.models), "model"), _counted(len(experiment.tasks), "task")
    size = f"{models} x {tasks}, {_counted(len(snapshot.cells), 'cell')}"
    lines = [paper.painted(f"{experiment.name}: {size}, at {snapshot.taken:%H:%M:%S}", BOLD)]
    if running := snapshot.heads.running:
        named = ", ".join(f"process {head['process']['pid']} since {_clock(head['started'])}" for head in running)
        lines += [f"snakemake runs: {named}"]
    if snapshot.silence is not None:
        said = f"SLURM does not answer ({escaping.one_line(snapshot.silence)}); this is what the files tell."
        lines += [paper.painted(line, COLOURS[State.FAILED]) for line in textwrap.wrap(said, paper.width)]
    return lines


def _table(rows: list[Row], most: int, paper: Paper) -> list[str]:
    """Return a line for each row, under its model; of too many, what runs, waits or failed, and how many are left."""
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
    return [*lines, f"and {rest.total():,} more of models x tasks: {counts}"]


def _most_urgent(rows: list[Row], most: int) -> list[Row]:
    """Return rows with something that runs, waits, failed or stopped, in this order, and some of each."""
    of_state = {state: [row for row in rows if row.state == state] for state in URGENT}
    chosen, states = [], sorted(URGENT, key=lambda state: len(of_state[state]))
    for place, state in enumerate(states):  # the fewest first: what they leave free the others share
        chosen += of_state[state][: (most - len(chosen)) // (len(states) - place)]
    return sorted(chosen, key=lambda row: URGENT.index(row.state))


def _fitted(name: str, width: int) -> str:
    return escaping.shortened(name, width).ljust(width)


def _line(row: Row, name: str, paper: Paper) -> str:
    state = f"{row.state:9}"
    text = escaping.one_line(_details(row))
    room = paper.width - len(name) - len(state) - 4
    return f"{name}  {paper.painted(state, COLOURS.get(row.state))}  {escaping.shortened(text, room)}".rstrip()


def _details(row: Row) -> str:
    """Return what is to be said of the cells of a row, by state; with several cells also how many."""
    if len(row.cells) == 1:
        return _said_of(row, row.state)
    counts = Counter(cell.state for cell in row.cells)
    if len(counts) == 1:
        return ", ".join(filter(None, [f"{len(row.cells)} seeds", _said_of(row, row.state)]))
    first, *others = sorted(counts, key=list(State).index)
    parts = [f"{counts[first]} of {len(row.cells)} seeds", _said_of(row, first)]
    parts += [" ".join(filter(None, [f"{counts[state]} {state}", _said_of(row, state)])) for state in others]
    return ", ".join(filter(None, parts))


def _said_of(row: Row, state: State) -> str:
    return SAID[state](row, [cell for cell in row.cells if cell.state == state])


def _done(row: Row, cells: list[CellStatus]) -> str:
    return table.percent(row.group.score()) + (table.MARK if row.group.data else "")


def _running(row: Row, cells: list[CellStatus]) -> str:
    if len(cells) > 1:
        counts = Counter(cell.why or _share(cell) for cell in cells)
        parts = [why if why.endswith("%") else f"{count} {why}" for why, count in counts.items()]
        return ", ".join(parts[:MOST_SHARES]) + (", ..." if len(parts) > MOST_SHARES else "")
    (cell,) = cells
    if cell.why:
        return f"{cell.why} ({_share(cell)} before)" if cell.progress and cell.why == STARTING else cell.why
    left, limit = cell.progress.seconds_left, cell.job and cell.job.seconds_left
    text = f"{_share(cell)}, loss {cell.progress.loss:.4f}, {duration(left)} left"
    return text + (f", time limit in {duration(limit)}" if limit is not None and limit < left else "")


def _queued(row: Row, cells: list[CellStatus]) -> str:
    parts = [*dict.fromkeys(cell.why for cell in cells if cell.why)]
    if starts := [cell.job.starts for cell in cells if cell.job and cell.job.starts]:
        parts.append(f"starts about {_clock(min(starts))}")
    return ", ".join([*parts, *(f"{_share(cell)} done" for cell in cells if cell.progress)])


def _failed(row: Row, cells: list[CellStatus]) -> str:
    return cells[0].why


def _stopped(row: Row, cells: list[CellStatus]) -> str:
    shares = ", ".join(f"at {_share(cell)}" for cell in cells if cell.progress)
    return ", ".join(filter(None, [shares, "goes on with the next call or attempt"]))


def _not_begun(row: Row, cells: list[CellStatus]) -> str:
    shares = [f"{_share(cell)} before" for cell in cells if cell.progress]
    return ", ".join([*dict.fromkeys(cell.why for cell in cells if cell.why), *shares])


SAID: dict[State, Callable[[Row, list[CellStatus]], str]] = {
    State.DONE: _done,
    State.RUNNING: _running,
    State.QUEUED: _queued,
    State.FAILED: _failed,
    State.STOPPED: _stopped,
    State.NOT_BEGUN: _not_begun,
}


def _share(cell: CellStatus) -> str:
    return f"{100 * cell.progress.step // cell.progress.steps:.0f} %" if cell.progress else ""


def _totals(snapshot: Snapshot, paper: Paper) -> list[str]:
    counts = snapshot.counts
    states = (State.DONE, State.RUNNING, State.QUEUED, State.STOPPED, State.FAILED, State.NOT_BEGUN)
    counted = ", ".join(f"{counts[state]:,} {state}" for state in states if counts[state] or state != State.STOPPED)
    lines = [f"Cells: {counted}.", *_time_left(snapshot), *_next_call(snapshot)]
    if any(status.outcome.data for status in snapshot.cells):
        lines.append(
            f"Numbers with {table.MARK} are not from the official data: {snapshot.experiment.paths.results_md}"
        )
    return [line for each in lines for line in textwrap.wrap(each, paper.width, break_on_hyphens=False)]


def _time_left(snapshot: Snapshot) -> list[str]:
    left = snapshot.time_left
    if not left.gpu_hours:
        return [f"Left: nothing tells yet how long {left.unknown:,} cells take."] if left.unknown else []
    at_least = "at least " if left.unknown else ""
    gpu = "" if all(cell.outcome.cell.run.get("device") == "cpu" for cell in snapshot.cells) else "GPU-"
    hours, minutes = f"{left.gpu_hours:,.1f} {gpu}hours", f"{60 * left.gpu_hours:.1f} {gpu}minutes"
    parts = [f"{at_least}{hours if left.gpu_hours >= 1 else minutes} of training"]
    if snapshot.is_under_way:
        end = snapshot.taken + datetime.timedelta(seconds=left.seconds)
        word = "not before" if left.unknown else "at about"
        parts.append(f"the last cell {word} {_clock(end.isoformat())}, in {duration(left.seconds)}")
    if left.unknown:
        parts.append(f"of {left.unknown:,} cells nothing tells yet how long they take")
    return [f"Left: {'; '.join(parts)}."]


def _next_call(snapshot: Snapshot) -> list[str]:
    missing = len(snapshot.cells) - snapshot.counts[State.DONE]
    if not missing or snapshot.heads.running:
        return []
    if elsewhere := snapshot.heads.unknown:
        host = elsewhere["process"]["host"]
        return [f"Whether snakemake, called on {host}, still runs is not known here. If not: the same call goes on."]
    return [f"No snakemake runs; the same call again goes on with what is left ({_counted(missing, 'cell')})."]


def _failures(snapshot: Snapshot, paper: Paper, most: int) -> list[str]:
    """Return reason and log of cells that failed or stopped; those for which they are the same together."""
    alike: dict[tuple[State, str], list[CellStatus]] = {}
    for status in snapshot.cells:
        if status.state in (State.FAILED, State.STOPPED):
            reason = escaping.shortened(escaping.one_line(status.why), table.LONGEST_REASON)
            alike.setdefault((status.state, reason), []).append(status)
    told = sorted(alike, key=lambda key: list(State).index(key[0]))
    lines = []
    for state, reason in told[:most]:
        first, *others = alike[state, reason]
        names = first.outcome.cell.name + (f" and {len(others):,} more" if others else "")
        text = f"{state.upper()} {names}: {reason}"
        lines += ["", *textwrap.wrap(text, paper.width, subsequent_indent="  ", break_on_hyphens=False)]
        lines.append(f"  log: {first.outcome.log}")
    left = sum(len(alike[key]) for key in told[most:])
    return [*lines, *(["", f"{left:,} more failed or stopped cells, for other reasons"] if left else [])]


def _counted(number: int, thing: str) -> str:
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def duration(seconds: float) -> str:
    """Return a time for people, such as 40 s, 12 min, 1 h 05 min, 2 d 03 h."""
    minutes, hours = round(seconds / 60), round(seconds / 3600)
    if seconds < 100:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    if hours < 48:
        return f"{minutes // 60} h {minutes % 60:02} min"
    return f"{hours // 24} d {hours % 24:02} h"


def _clock(moment: str) -> str:
    """Return a moment, in ISO 8601, as this host's clock shows it: the hour today, else with the day."""
    at = datetime.datetime.fromisoformat(moment).astimezone()
    is_today = at.date() == datetime.datetime.now().date()
    return f"{at:%H:%M}" if is_today else f"{at:%a %H:%M}" if _is_soon(at) else f"{at:%Y-%m-%d %H:%M}"


def _is_soon(at: datetime.datetime) -> bool:
    return abs(at - datetime.datetime.now().astimezone()) < datetime.timedelta(days=6)
