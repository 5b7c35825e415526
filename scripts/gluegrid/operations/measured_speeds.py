"""resources/measured_speeds.json: the measured training speeds of this place's devices.

Each call of snakemake adds the cells that it has finished. You may read, edit or delete the file, or copy it to a
cluster with the same devices. It decides time limits and the order of cells, never what runs.
"""

import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from gluegrid.common.errors import DataError
from gluegrid.common.files import read_json, write_json
from gluegrid.execution.locks import lock

PATH = Path("resources/measured_speeds.json")
KEPT = 5  # last runs of a model on a task, whose median is robust against one run on a busy machine
CPU = "CPU ("  # the beginning of CPU names (device.py)


@dataclass
class Measured:
    """Measurements of finished runs of a model on a task on a device; the last of each list is the newest.

    `operations_per_second` is per process, on a CPU per thread. `seconds_beside_training` is the duration of a run
    without its training. `host_memory_bytes` is the highest peak.
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
        """The key of the entry: device, precision, model and task."""
        return (self.device, self.precision, self.model, self.task)

    @property
    def speed(self) -> float:
        """The median of its operations per second."""
        return statistics.median(self.operations_per_second)

    @property
    def is_of_a_cpu(self) -> bool:
        """Whether its device is a CPU."""
        return self.device.startswith(CPU)


def read_speeds() -> list[Measured]:
    """Return the measurements; none if there is no file. Raise DataError for a broken file."""
    if not PATH.exists():
        return []
    try:
        entries = [Measured(**entry) for entry in read_json(PATH)["speeds"]]
        if not all(entry.speed > 0 and entry.passed_parameters > 0 for entry in entries):
            raise ValueError("a speed is not positive")
    except (KeyError, TypeError, ValueError, statistics.StatisticsError) as error:
        raise DataError(f"{PATH}: is not a table of speeds ({error}); correct or delete it") from error
    return entries


def add_speeds(measured: Iterable[Measured]) -> None:
    """Add new measurements, with one speed each, to the file. Raise DataError for a broken file."""
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
