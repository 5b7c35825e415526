"""A small cell on disk, trained by scripts/train.py in a process that can be killed."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import builders
import pyarrow.parquet
import warm_start
from waiting import HANG, wait_until

from gluegrid.common.files import canonical_json, read_json, write_json
from gluegrid.common.provenance import now, this_process
from gluegrid.execution import attempts

TASK = builders.task(text_columns=["first", "second"], labels=builders.NLI_LABELS, test=["test"])
MANIFESTS = {"model": "model", "task": "task/task", "tokens": "tokens"}


@dataclass(frozen=True)
class TrainableCell:
    """A cell below `folder`, whose resources may be shared. `head` is the file of a call of snakemake, if any."""

    folder: Path
    resources: Path
    epochs: float
    head: Path | None = None
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def run(self) -> Path:
        return self.folder / "results/e/runs/tiny/pair/base/seed-42/run.json"

    @property
    def state(self) -> Path:
        return self.folder / "results/e/state/tiny/pair/base/seed-42"

    @property
    def results(self) -> Path:
        return self.run.with_name("all_results.json")

    @property
    def record(self) -> dict:
        return read_json(self.run.with_name("run_record.json"))

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def write_run(self, **changes) -> None:
        """Write the cell's run.json."""
        content = {
            "recipe": 1,
            "experiment": "e",
            "model": {"name": "tiny", "source": "./tiny", "revision": "1"},
            "task": vars(TASK),
            "variant": "base",
            "seed": 42,
            "threads": 1,
            "num_train_epochs": self.epochs,
            "per_device_train_batch_size": 4,
            "learning_rate": 1e-3,
            "max_seq_length": 16,
            "device": "cpu",
        }
        self.run.parent.mkdir(parents=True, exist_ok=True)
        self.run.write_text(canonical_json(content | changes), encoding="utf-8")

    def start(self, launched: bool = False, cold: bool = False) -> subprocess.Popen | warm_start.Started:
        """Start a training in a process group of its own, its output added to the log.

        `cold`: by a Python that has imported nothing yet, as a launcher does.
        """
        script = str(builders.SCRIPTS / "train.py")
        options = [f"--{name}={self.resources / path / 'manifest.json'}" for name, path in MANIFESTS.items()]
        outputs = [f"--results={self.results}", f"--record={self.run.with_name('run_record.json')}"]
        command = [script, f"--run={self.run}", *options, *outputs]
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM_", "ACCELERATE_"))}
        environment |= {"PATH": builders.PATH} | ({"GLUEGRID_HEAD": str(self.head)} if self.head else {})
        environment |= self.environment
        if not launched and not cold:
            return warm_start.start(command, environment, self.log)
        started_by = ["bash", str(builders.LAUNCH), "1", "1"] if launched else [sys.executable]
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [*started_by, *command], env=environment, stdout=log, stderr=log, start_new_session=True
            )

    def train(self, **options: bool) -> int:
        """Train to the end; return the exit code. For the options see `start`."""
        return self.start(**options).wait(HANG)

    def has_begun(self) -> bool:
        """Tell whether there is a checkpoint."""
        return any((self.state / "checkpoints").glob("step-*"))

    def attempts(self) -> list[dict]:
        """Return the recorded attempts."""
        return attempts.read(self.state)

    def bits(self) -> dict:
        """Return all results except for times."""
        predictions = {
            path.name: pyarrow.parquet.read_table(path).to_pydict()
            for path in sorted(self.run.parent.glob("predictions_*.parquet"))
        }
        timed = ("runtime", "per_second")
        metrics = {key: value for key, value in read_json(self.results).items() if not key.endswith(timed)}
        return {"predictions": predictions, "metrics": metrics}


def make_resources(folder: Path) -> Path:
    """Stage a model with dropout and a task of 200 rows, and make the tokens."""
    dropout = {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}
    builders.cell_files(
        folder, TASK, builders.write_model(folder / "source", **dropout), train=builders.rows(200, TASK)
    )
    return folder


def write_head(path: Path, checkpoint_seconds: float = 0.2, process: dict | None = None, **config) -> Path:
    """Write the file of a call of snakemake that starts now."""
    config["checkpoint_minutes"] = checkpoint_seconds / 60
    write_json(path, {"started": now(), "process": process or this_process(), "config": config})
    return path


def kill_group(process: subprocess.Popen | warm_start.Started) -> None:
    """Kill a training, and its launcher."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(HANG)


def child_of(process: subprocess.Popen) -> int:
    """Return the process id of the training that a launcher has started."""
    path = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    assert wait_until(lambda: bool(path.read_text().split()))
    return int(path.read_text().split()[0])


def is_alive(pid: int) -> bool:
    """Tell whether a process runs."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def dead_process() -> dict:
    """Return what identifies a process of this host that has ended."""
    return this_process() | {"process_started": "1"}


def lines_of(log: Path) -> list[str]:
    """Return the log's lines."""
    return log.read_text(encoding="utf-8").splitlines()


def our_error(log: Path) -> str:
    """Return the last line of our own script."""
    return [line for line in lines_of(log) if line.startswith("gluegrid: ")][-1]


def holder_of(cell: TrainableCell) -> dict:
    """Return who holds the cell's lock."""
    return json.loads((cell.state / "lock").read_text())
