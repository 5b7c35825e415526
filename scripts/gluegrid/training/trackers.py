"""TensorBoard, Weights & Biases and MLflow, through accelerate's trackers, if an experiment asks for them.

All write to files of the cell, since compute nodes have no network. None may stop a training: one that fails is
reported once and then ignored.
"""

import logging
import os
import tempfile
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from accelerate import Accelerator
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker

from gluegrid.common import paths
from gluegrid.common.errors import in_one_line
from gluegrid.experiment.run import Run

logger = logging.getLogger(__name__)

# The servers, keys and run names in the user's environment belong to other runs; nothing may be sent there.
OF_TRACKERS = ("WANDB_", "MLFLOW_")
WITHOUT_NETWORK = {
    "WANDB_MODE": "offline",
    "WANDB_SILENT": "true",
    "WANDB_ERROR_REPORTING": "false",
    "WANDB_DISABLE_GIT": "true",
    "WANDB_DISABLE_CODE": "true",
    "WANDB__SERVICE_WAIT": "120",  # seconds for its process to start, on a busy node or from a cold shared disk
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "1",
}
# Folders that wandb would otherwise put into the user's home.
FOLDERS_OF_WANDB = ("WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR", "WANDB_ARTIFACT_DIR")
# The cell's log has the console, and run_record.json utilization and machine.
SETTINGS_OF_WANDB = {"console": "off", "x_disable_stats": True, "x_disable_meta": True, "x_disable_machine_info": True}


class Trackers:
    """The trackers of one training: call `start` once, `log` in the order of steps, and `finish` once.

    Without names, and in all processes but the main one, the calls do nothing.
    """

    def __init__(self, names: Iterable[str], folder: Path, run: Run, accelerator: Accelerator):
        self._names = list(names) if accelerator.is_main_process else []
        self._folder = folder.resolve()
        self._experiment = run.experiment
        self._cell = paths.CELL.format(model=run.model["name"], task=run.task.name, variant=run.variant, seed=run.seed)
        self._running: dict[str, GeneralTracker] = {}

    def start(self, values: dict, step: int = 0) -> None:
        """Start tracking a training with these settings, of which earlier attempts have done `step` steps."""
        if not self._names:
            return
        _prepare_environment(self._folder)
        values = flat(values) | ({"continued_from_step": step} if step else {})
        for name in self._names:
            self._attempt(name, partial(self._start, name, values, step))

    def log(self, values: dict[str, float], step: int) -> None:
        """Log values of a step, counted from 1."""
        for name, tracker in [*self._running.items()]:
            self._attempt(name, partial(tracker.log, values, step=step))

    def finish(self) -> None:
        """Flush and close the trackers."""
        for name, tracker in [*self._running.items()]:
            self._attempt(name, tracker.finish)
        self._running.clear()

    def _attempt(self, name: str, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:
            self._running.pop(name, None)
            remedy = f"; install {name}, or remove it from report_to" if isinstance(error, ImportError) else ""
            logger.warning("%s no longer tracks this training: %s%s", name, in_one_line(error), remedy)

    def _start(self, name: str, values: dict, step: int) -> None:
        folder = self._folder / name
        folder.mkdir(parents=True, exist_ok=True)
        kind, is_new = LOGGER_TYPE_TO_CLASS[name], True
        if name == "tensorboard":
            last = max((int(path.name) for path in folder.iterdir() if path.name.isdecimal()), default=0)
            is_new = step == 0 or last == 0
            # Steps that an attempt logged after its last checkpoint are trained again: purge them.
            tracker = kind(str(last + is_new), folder, purge_step=None if is_new else step + 1)
        elif name == "wandb":
            options = {"dir": str(folder), "name": self._cell, "group": self._cell, "settings": SETTINGS_OF_WANDB}
            tracker = kind(self._experiment, **options)
        else:
            tracker = kind(self._experiment, logging_dir=str(folder / "artifacts"), run_name=self._cell)
        tracker.start()
        if is_new:
            tracker.store_init_configuration(values)
        self._running[name] = tracker


def flat(values: dict, prefix: str = "") -> dict[str, bool | int | float | str]:
    """Flatten nested values, with names such as "task.name" and values that every tracker accepts."""
    content = {}
    for key, value in values.items():
        if isinstance(value, dict):
            content |= flat(value, f"{prefix}{key}.")
        else:
            content[f"{prefix}{key}"] = value if isinstance(value, bool | int | float | str) else _text(value)
    return content


def _text(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return "none" if value is None else str(value)


def _prepare_environment(folder: Path) -> None:
    for name in [name for name in os.environ if name.startswith(OF_TRACKERS)]:
        del os.environ[name]
    private = Path(os.environ.get("XDG_CACHE_HOME", tempfile.gettempdir())) / "wandb"
    os.environ |= WITHOUT_NETWORK | dict.fromkeys(FOLDERS_OF_WANDB, str(private))
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder / 'mlflow' / 'mlflow.db'}"
