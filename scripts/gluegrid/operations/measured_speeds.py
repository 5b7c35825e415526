"""resources/measured_speeds.json: how fast this place's devices were at what was trained on them.

Written by each call of snakemake from the cells that it has finished; people may read it, edit it, delete it, and
take it to a cluster with the same devices. It decides time limits and order, never what runs.
"""

import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from gluegrid.common.errors import DataError
from gluegrid.common.files import read_json, write_json
from gluegrid.execution.locks import lock

PATH = Path("resources/measured_speeds.json")
KEPT = 5  # of the last runs of one model on one task: their median outlives a run on a busy machine
CPU = "CPU ("  # with which the names of devices that are no GPU begin (device.py)


@dataclass
class Measured:
    """What finished runs of a model on a task have shown on a device; the last of each list is the newest.

    `operations_per_second` is of one process, on a CPU of one thread. `seconds_beside_training` is from a run's start
    to its end without its training. `host_memory_bytes` is the highest peak.
    """

    device: str
    precision: str
    model: str
    passed_parameters: int
    task: str
    operations_per_second: list[float] = field(default_factory=list)
    seconds_beside_training: list[float] = field(default_factory=list)
    host_memory_bytes: int = 0

    @property
    def kind(self) -> tuple[str, str, str, str]:
        """What it was measured of."""
        return (self.device, self.precision, self.model, self.task)

    @property
    def speed(self) -> float:
        """The median of its operations per second."""
        return statistics.median(self.operations_per_second)

    @property
    def is_of_a_cpu(self) -> bool:
        """Whether its device is no GPU."""
        return self.device.startswith(CPU)


def read_speeds() -> list[Measured]:
    """Return what was measured; nothing where there is no such file. Raises DataError for one that is broken."""
    if not PATH.exists():
        return []
    try:
        entries = [Measured(**entry) for entry in read_json(PATH)["speeds"]]
        if not all(entry.speed > 0 and entry.passed_parameters > 0 for entry in entries):
            raise ValueError("a speed is not positive")
    except (KeyError, TypeError, ValueError, statistics.StatisticsError) as error:
        raise DataError(f"{PATH}: is no table of speeds ({error}); mend or delete it") from error
    return entries


def add_speeds(measured: Iterable[Measured]) -> None:
    """Add what was measured now, with one speed each, to the file. Raises DataError for a file that is broken."""
    measured = list(measured)
    if not measured:
        return
    with lock(PATH.with_name(f"{PATH.name}.lock"), on_wait=lambda holder: None):
        known = {entry.kind: entry for entry in read_speeds()}
        for new in measured:
            entry = known.setdefault(new.kind, new)
            if entry is new:
                continue
            entry.passed_parameters = new.passed_parameters
            entry.host_memory_bytes = max(entry.host_memory_bytes, new.host_memory_bytes)
            for values, added in (
                (entry.operations_per_second, new.operations_per_second),
                (entry.seconds_beside_training, new.seconds_beside_training),
            ):
                values[:] = [*values, *added][-KEPT:]
        write_json(PATH, {"speeds": [asdict(known[kind]) for kind in sorted(known)]})
