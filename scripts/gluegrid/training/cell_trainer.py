"""Train, predict and score one cell's model on its device. Writes no files."""

import logging
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy
import pyarrow
import torch
from accelerate import Accelerator
from transformers import PreTrainedModel

from gluegrid.common.errors import TrainingError
from gluegrid.experiment.run import HOLDOUT, HOLDOUT_SUFFIX, Run, updates_by_graphs
from gluegrid.models.classifier import agree_on_padding, check_head, check_inputs_fit, load_model, takes_token_types
from gluegrid.models.device_memory import again_if_out_of_memory
from gluegrid.models.lora import with_adapters
from gluegrid.training.dataset import Rows, Tokens, held_out
from gluegrid.training.device import prepare_device
from gluegrid.training.distributed import Processes
from gluegrid.training.epochs import EpochScores
from gluegrid.training.forward_pass import ForwardPass, MicroBatches
from gluegrid.training.metrics import score
from gluegrid.training.predict import predict
from gluegrid.training.step_graphs import Capture, CudaGraphs, StepGraphs
from gluegrid.training.trackers import Trackers
from gluegrid.training.trainer import Keeper, Training

logger = logging.getLogger(__name__)

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}  # of autocast, by accelerate's names
TOKENS_AT_ONCE = {"cpu": 0, "cuda": 32768}  # in a batch of predictions, at least


class CellTraining:
    """One cell's model and data on its device. Raise GluegridError for problems that users can fix.

    `capture` makes graphs of updates; None stands for CUDA graphs on a GPU.
    """

    def __init__(
        self,
        run: Run,
        model_folder: Path,
        tokens: Tokens,
        processes: Processes | None = None,
        trackers: Trackers | None = None,
        capture: Capture | None = None,
    ):
        self.run = run
        self.tokens = tokens
        self.processes = processes or Processes(prepare_device(run))
        self.accelerator: Accelerator = self.processes.accelerator
        self.trackers = trackers or Trackers([], Path(), run, self.accelerator)
        trusted = run.model.get("trust_remote_code", False)
        model, label_order, new = load_model(model_folder, run.task, run.seed, trusted)
        if not run.do_train:
            check_head(model_folder, run.task, new, trusted)
        check_inputs_fit(model, tokens.manifest["vocabulary"], tokens.longest)
        agree_on_padding(model, tokens.manifest["pad_token_id"])
        if run.lora is not None:
            model = with_adapters(model, run.lora, new, run.seed)
        if not self.processes.is_main:
            # Each further process draws its own dropout.
            torch.manual_seed(run.seed + self.processes.rank)
        self.model: PreTrainedModel = again_if_out_of_memory("the model", lambda: model.to(self.accelerator.device))
        self.forward = ForwardPass(
            self.model,
            tokens.longest,
            tokens.manifest["pad_token_id"],
            tokens.manifest["token_type_ids"] and takes_token_types(model),
            label_order,
            run.attn_implementation,
            self.accelerator.autocast,
            is_static=None if capture is None else True,
        )
        self.capture = capture
        if run.gradient_checkpointing:
            _checkpoint_gradients(self.model)
        self.epochs = EpochScores(run, self.evaluate) if run.eval_strategy == "epoch" else None
        self.training: Training | None = None
        self.micro_batch_rows: dict[str, int | None] = {"train": None, "eval": None}

    @property
    def compute_paths(self) -> list[str]:
        """The compute paths (path_check.PATHS) of the updates of all attempts."""
        return [self.forward.path] if self.training is None else self.training.gradients.paths

    def train(self, keeper: Keeper | None = None) -> dict:
        """Train on the training split; return run_glue.py's train metrics."""
        rows, _ = self._training_rows()
        parameters = sum(parameter.numel() for parameter in self.model.parameters())
        logger.info("%s, %s parameters, on %s", self.run.model["name"], f"{parameters:,}", self.accelerator.device)
        logger.info(
            "%s: %s examples, %d per update", self.run.task.name, f"{len(rows):,}", self.run.examples_per_update
        )
        self.training = Training(
            self.processes, self.forward, rows, self.run, self.trackers, self.epochs, self._step_graphs(len(rows))
        )
        metrics = self.training.finish(keeper)
        self.micro_batch_rows["train"] = self._smallest_rows(self.training.gradients.micro_batches)
        return metrics

    def _step_graphs(self, rows: int) -> StepGraphs | None:
        """Return the graphs for an epoch of so many rows; None if batches cannot be static."""
        run, processes = self.run, self.processes
        if self.forward.static is None or not updates_by_graphs(vars(run)):
            return None
        capture = self.capture or CudaGraphs()
        examples = len(range(processes.rank, min(run.examples_per_update, rows), processes.count))
        return StepGraphs(self.forward, examples, DTYPES.get(self.accelerator.mixed_precision), capture)

    def _training_rows(self) -> tuple[Rows, Rows]:
        """Return the rows to train on and the rows held out."""
        rows = self.tokens.split(self.run.task.train, self.run.max_train_samples)
        if not self.run.holds_out:
            return rows, rows.only(numpy.empty(0, int))
        if len(rows) < 2:
            raise TrainingError("selection: holdout needs at least two training examples")
        is_held_out = held_out(len(rows))
        return rows.only(numpy.flatnonzero(~is_held_out)), rows.only(numpy.flatnonzero(is_held_out))

    def scored_splits(self) -> Iterator[tuple[str, str, Rows]]:
        """Yield the name, the suffix for metric names and the rows of each scored split."""
        for split, suffix in self.run.task.validation.items():
            yield split, suffix, self.tokens.split(split, self.run.max_eval_samples)
        if self.run.holds_out:
            yield HOLDOUT, HOLDOUT_SUFFIX, self._training_rows()[1]

    def predict(self, split: str, most: int | None = None) -> tuple[pyarrow.Table, float]:
        """Return a split's idx, label and logits, and the seconds that prediction took."""
        return self.predict_rows(split, self.tokens.split(split, most))

    def predict_rows(
        self, name: str, rows: Rows, between_batches: Callable[[], None] = lambda: None
    ) -> tuple[pyarrow.Table, float]:
        """Return idx, label and logits of rows, and the seconds that prediction took; `name` is for the log."""
        logger.info("predicting %s: %s examples", name, f"{len(rows):,}")
        rows_at_once = self.micro_batch_rows["eval"]
        micro_batches = MicroBatches("prediction", self.forward.parts, rows=rows_at_once, device=self.forward.device)
        # As many tokens as a batch of the longest rows would have; fewer would not keep a GPU busy.
        asked = self.run.per_device_eval_batch_size * self.run.max_seq_length
        tokens_at_once = max(asked, TOKENS_AT_ONCE[self.forward.device.type])
        logits, seconds = predict(self.processes, self.forward, rows, tokens_at_once, micro_batches, between_batches)
        self.micro_batch_rows["eval"] = self._smallest_rows(micro_batches)
        return pyarrow.table({"idx": rows.idx, "label": rows.labels, "logits": list(logits)}), seconds

    def _smallest_rows(self, micro_batches: MicroBatches) -> int | None:
        """Return the smallest micro-batch to which any process had to fall back for memory; None if none had to."""
        return min((rows for rows in self.processes.gathered(micro_batches.rows) if rows is not None), default=None)

    def evaluate(self, between_batches: Callable[[], None] = lambda: None) -> dict:
        """Return run_glue.py's eval metrics of all scored splits."""
        metrics = {}
        for split, suffix, rows in self.scored_splits():
            table, seconds = self.predict_rows(split, rows, between_batches)
            metrics |= evaluation_metrics(self.run, table, seconds, suffix)
        return metrics


def _checkpoint_gradients(model: PreTrainedModel) -> None:
    if not model.supports_gradient_checkpointing:
        name = type(model).__name__
        raise TrainingError(f"gradient_checkpointing: {name} does not support it; set it to false for this model")
    model.gradient_checkpointing_enable()


def evaluation_metrics(run: Run, table: pyarrow.Table, seconds: float, suffix: str) -> dict:
    """Return run_glue.py's eval metrics of one split, with the split's suffix in their names."""
    logits = numpy.stack(table.column("logits").to_numpy())
    labels = table.column("label").to_numpy()
    scores = score(run.task, logits, labels)
    degenerate = scores.pop("degenerate")
    steps = math.ceil(len(table) / run.per_device_eval_batch_size)
    scores |= {"runtime": seconds, "samples": len(table)}
    scores |= {"samples_per_second": len(table) / seconds, "steps_per_second": steps / seconds}
    metrics = {f"eval_{name}{suffix}": value for name, value in scores.items()}
    return metrics | ({"degenerate": True} if degenerate else {})
