"""Keep training progress: save checkpoints by the clock and at the ends of epochs, and stop in time.

    checkpoints/step-<steps done>/state.pt          Training.state() and who made it, by torch.save
                                 /checkpoint.json   its SHA-256, and which run it belongs to

A checkpoint is a folder that gets its name only when it is complete and on the disk. The last good one is kept while
the next is written, and after that as well.
"""

import logging
import math
import shutil
import time
from dataclasses import replace
from pathlib import Path

import torch

from gluegrid.common.errors import DataError, TransientError
from gluegrid.common.files import read_json, sha256, size_in_words, sync, telling_of_full_disk, write_json
from gluegrid.common.provenance import now, this_process
from gluegrid.execution.preemption import Preemption
from gluegrid.execution.reasons import Cause, Preempted, Reason
from gluegrid.models.lora import trained_weights
from gluegrid.training.device import lacks_device
from gluegrid.training.trainer import Training

logger = logging.getLogger(__name__)

CHECKPOINT_MINUTES = 10  # between two checkpoints, unless the experiment file sets it
FORMAT = 2
MOST_SHARE_OF_TIME = 0.05  # for checkpoints at the ends of short epochs
BYTES_PER_SECOND = 500_000_000  # assumed for saving until the first checkpoint is timed
GO_ON, SAVE, LEAVE = range(3)  # what a process wants; all processes take the largest
# Resuming with other versions of these would mix the numbers of two programs.
VERSIONS_OF_A_CHECKPOINT = ("torch", "transformers", "accelerate")


class Checkpointing:
    """Keep one cell's training in a folder of checkpoints.

    `identity` says which run the checkpoints belong to (hashes of run.json, model, data and tokens, versions), `maker`
    what makes them (code and device); both are plain data. Other programs read the progress from `progress_path`.
    """

    def __init__(
        self,
        folder: Path,
        progress_path: Path,
        identity: dict,
        maker: dict,
        seconds_between: float,
        leaving: Preemption,
    ):
        self.folder = folder
        self.progress_path = progress_path
        self.identity = {"format": FORMAT, **identity}
        self.maker = maker
        self.seconds_between = seconds_between
        self.leaving = leaving
        self.continued: list[dict] = []
        self._last_good: Path | None = None
        self._last_step = 0
        self._last_time = time.monotonic()
        self._seconds_to_save = 0.0

    def restore(self, training: Training) -> None:
        """Resume a fresh training from the newest complete checkpoint of the same run.

        Log and skip checkpoints that cannot be used; without any, training starts from the beginning.
        """
        # AdamW keeps two numbers per weight.
        size = 3 * sum(parameter.nbytes for parameter in training.parameters)
        self._seconds_to_save = size / BYTES_PER_SECOND
        processes = training.processes
        folder, content = self._newest_usable(training) if processes.is_main else (None, None)
        folder = processes.from_main(folder)
        if folder is None:
            training.count_earlier(self._seconds_noted())
            return
        content = content or self._read(folder)
        training.restore(content["training"], max(content["training"]["seconds"], self._seconds_noted()))
        self.continued = [*content["continued"], {"step": training.step, **content["maker"]}]
        self._last_good, self._last_step = folder, training.step
        logger.info("resuming after step %d of %d, from %s", training.step, training.steps, folder)

    def look_after(self, training: Training) -> None:
        """Save a checkpoint if one is due. When it is time to stop, save new steps and raise Preempted."""
        reason = self.leaving.reason(2 * self._seconds_to_save)
        wish = LEAVE if reason is not None else SAVE if self._is_due(training) else GO_ON
        agreed = training.processes.largest(wish)
        if agreed == GO_ON:
            return
        if training.step > self._last_step:
            training.check_finite()
            training.check_equal()
            self._save(training)
        if agreed == LEAVE:
            raise Preempted(replace(reason or Reason(Cause.PEER_PREEMPTED), step=self._last_step))

    def note_progress(self, progress: dict) -> None:
        """Write how far training is, for other programs, and the time spent so far, for the next attempt."""
        try:
            noted = {"run_sha256": self.identity["run_sha256"], "time": now(), "process": this_process()}
            write_json(self.progress_path, noted | progress)
        except (OSError, TransientError) as error:
            logger.warning("the progress could not be written: %s", error)

    def delete(self) -> None:
        """Delete the checkpoints of a finished cell."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.progress_path.unlink(missing_ok=True)

    def _is_due(self, training: Training) -> bool:
        waited = time.monotonic() - self._last_time
        if waited >= self.seconds_between:
            return True
        return training.is_at_end_of_epoch and waited * MOST_SHARE_OF_TIME >= self._seconds_to_save

    def _save(self, training: Training) -> None:
        started = time.monotonic()
        folder = self.folder / f"step-{training.step:08d}"
        state = training.state()
        if training.processes.is_main:
            self._keep(folder, state)
        # Wait for the main process: one that stopped earlier would end it, too.
        training.processes.from_main(None)
        self._last_good, self._last_step, self._last_time = folder, training.step, time.monotonic()
        self._seconds_to_save = self._last_time - started

    def _keep(self, folder: Path, state: dict) -> None:
        started = time.monotonic()
        try:
            with telling_of_full_disk(folder):
                self._remove_all_but_the_last_good()
                self._write(folder, state)
        finally:
            shutil.rmtree(self._partial, ignore_errors=True)
        size = size_in_words((folder / "state.pt").stat().st_size)
        logger.info("saved a checkpoint of step %d, %s in %.1f s", state["step"], size, time.monotonic() - started)

    @property
    def _partial(self) -> Path:
        return self.folder / "partial"

    def _write(self, folder: Path, state: dict) -> None:
        content = {"training": state, "maker": self.maker, "continued": self.continued}
        self._partial.mkdir(parents=True)
        path = self._partial / "state.pt"
        with path.open("wb") as stream:
            torch.save(content, stream)
        sync(path)
        write_json(self._partial / "checkpoint.json", {"identity": self.identity, "sha256": sha256(path)})
        self._partial.rename(folder)
        sync(self.folder)

    def _remove_all_but_the_last_good(self) -> None:
        """Make room for the next checkpoint, so that there are never more than two."""
        for path in self.folder.glob("*"):
            if path != self._last_good:
                remove = shutil.rmtree if path.is_dir() else Path.unlink
                remove(path)

    def _newest_usable(self, training: Training) -> tuple[Path, dict] | tuple[None, None]:
        """Return the newest checkpoint from which this training can resume, and its content; None if there is none."""
        for folder in sorted(self.folder.glob("step-*"), reverse=True):
            try:
                content = self._read(folder)
                _check_fits(training, content["training"])
            except _UnusableError as error:
                logger.warning("%s: this checkpoint cannot be used: %s", folder, error)
            else:
                return folder, content
        return None, None

    def _read(self, folder: Path) -> dict:
        try:
            about = read_json(folder / "checkpoint.json")
        except DataError as error:
            raise _UnusableError("its checkpoint.json is missing or broken") from error
        if not isinstance(about.get("identity"), dict) or not isinstance(about.get("sha256"), str):
            raise _UnusableError("its checkpoint.json lacks identity or sha256")
        others = [name for name, value in self.identity.items() if about["identity"].get(name) != value]
        if others:
            raise _UnusableError(f"it belongs to another run ({', '.join(others)})")
        path = folder / "state.pt"
        try:
            if sha256(path) != about["sha256"]:
                raise _UnusableError("its state.pt does not match its hash")
            return torch.load(path, map_location="cpu", weights_only=True)
        except OSError as error:
            raise _UnusableError(f"its state.pt cannot be read ({error.strerror})") from error

    def _seconds_noted(self) -> float:
        """Return the training time that earlier attempts at this run last noted; 0 if there is none."""
        try:
            noted = read_json(self.progress_path)
        except DataError:
            return 0.0
        seconds = noted.get("train_seconds")
        is_time = isinstance(seconds, int | float) and math.isfinite(seconds) and seconds >= 0
        return float(seconds) if is_time and noted.get("run_sha256") == self.identity["run_sha256"] else 0.0


class _UnusableError(Exception):
    """Why a checkpoint cannot be used."""


def _check_fits(training: Training, state: dict) -> None:
    """Compare names and shapes beforehand, so that nothing is half restored. Raise _UnusableError if they differ."""
    weights = (trained_weights(training.model), state["model"])
    here, there = ({name: tensor.shape for name, tensor in each.items()} for each in weights)
    if here != there:
        raise _UnusableError("its weights belong to another model")
    if not 0 < state["step"] <= training.steps or len(state["losses"]) != state["step"]:
        raise _UnusableError(f"it is of step {state['step']} of {training.steps}")
    states = state["random_states"]
    if len(states) != training.processes.count or any(lacks_device(each, training.forward.device) for each in states):
        raise _UnusableError("its random states belong to other devices")
