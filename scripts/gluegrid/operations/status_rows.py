"""Describe one model on one task: the states of its cells, one per seed and variant."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gluegrid.common import escaping
from gluegrid.common.formatting import clock, duration, percent
from gluegrid.experiment.experiment import Experiment
from gluegrid.operations.cell_status import CellStatus, Phase, State
from gluegrid.results.result_text import MARK, PREDICTED, best_of
from gluegrid.results.selection import chosen, was_chosen
from gluegrid.results.summary import Group, groups

# Their reasons are long and follow below in full. In a row, they would leave no room for other states.
WITH_REASONS = (State.FAILED, State.STOPPED)
MOST_SHARES = 4  # of the cells of one row


@dataclass(frozen=True)
class Row:
    """The cells of one model on one task; `group` is the variant that tables show, as far as is known now."""

    group: Group
    cells: Sequence[CellStatus]

    @property
    def state(self) -> State:
        """The state that the row names first."""
        return min((cell.state for cell in self.cells), key=list(State).index)

    @property
    def text(self) -> str:
        """The rest of the row, on one line; for several cells, how many are in each state."""
        return escaping.one_line(_details(self))


def rows_of(experiment: Experiment, cells: list[CellStatus]) -> list[Row]:
    """Return a row for each model and task, in the order of the experiment file."""
    statuses: dict[tuple[str, str], list[CellStatus]] = {}
    for status in cells:
        statuses.setdefault((status.outcome.cell.model, status.outcome.cell.task), []).append(status)
    grouped = groups(experiment, [status.outcome for status in cells])
    return [Row(group, statuses[group.model, group.task.name]) for group in chosen(grouped)]


def _details(row: Row) -> str:
    if len(row.cells) == 1:
        return _said_of(row, row.state)
    counts = Counter(cell.state for cell in row.cells)
    if len(counts) == 1:
        return ", ".join(filter(None, [_counted(row), _said_of(row, row.state)]))
    first, *others = sorted(counts, key=list(State).index)
    told = {State.DONE} if first in WITH_REASONS else {first, State.DONE}
    order = [first, *([State.DONE] if counts[State.DONE] else []), *(state for state in others if state != State.DONE)]
    parts = [f"{counts[state]} {state} {_said_of(row, state) if state in told else ''}".rstrip() for state in order]
    return f"{_counted(row)}: {', '.join(parts)}"


def _counted(row: Row) -> str:
    return f"{len(row.cells)} {'cells' if len(row.group.chosen_from) > 1 else 'seeds'}"


def _said_of(row: Row, state: State) -> str:
    return SAID[state](row, [cell for cell in row.cells if cell.state == state])


def _done(row: Row, cells: list[CellStatus]) -> str:
    group = row.group
    if not group.task.metric_keys():
        return PREDICTED
    points = f" {best_of(group)}" if was_chosen(group) else ""
    return percent(group.score()) + (MARK if group.has_other_data else "") + points


def _running(row: Row, cells: list[CellStatus]) -> str:
    if len(cells) > 1:
        counts = Counter((cell.why, "" if cell.why else _share(cell)) for cell in cells)
        parts = [share or f"{count} {why}" for (why, share), count in counts.items()]
        return ", ".join(parts[:MOST_SHARES]) + (", ..." if len(parts) > MOST_SHARES else "")
    (cell,) = cells
    if cell.why:
        return f"{cell.why} ({_share(cell)} before)" if cell.progress and cell.why is Phase.STARTING else cell.why
    left, limit = cell.progress.seconds_left, cell.job and cell.job.seconds_left
    loss = f", loss {cell.progress.loss:.4f}" if len(row.cells) == 1 else ""  # beside others, it has no room
    text = f"{_share(cell)}{loss}, {duration(left)} left"
    return text + (f", time limit in {duration(limit)}" if limit is not None and limit < left else "")


def _queued(row: Row, cells: list[CellStatus]) -> str:
    parts = [*dict.fromkeys(cell.why for cell in cells if cell.why)]
    if starts := [cell.job.starts for cell in cells if cell.job and cell.job.waits and cell.job.starts]:
        parts.append(f"starts about {clock(min(starts))}")
    return ", ".join([*parts, *(f"{_share(cell)} done" for cell in cells if cell.progress)])


def _failed(row: Row, cells: list[CellStatus]) -> str:
    return cells[0].why


def _stopped(row: Row, cells: list[CellStatus]) -> str:
    shares = ", ".join(f"at {_share(cell)}" for cell in cells if cell.progress)
    return ", ".join(filter(None, [shares, "goes on with the next call"]))


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
