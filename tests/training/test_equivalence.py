"""Our loop and transformers.Trainer, as run_glue.py sets it up, compute the same: a real encoder on real data."""

from functools import partial

import builders
import numpy
import pyarrow.parquet
import pytest
import torch
from reference_trainer import RowsForTrainer, padded, trained_by_transformers

from gluegrid.experiment.config import TASK_DEFAULTS, load_registry
from gluegrid.experiment.task import Task, definition
from gluegrid.training.cell_trainer import CellTraining

MAX_SEQ_LENGTH = 64
VALUES = {
    "learning_rate": 2e-5,
    "per_device_train_batch_size": 10,
    "per_device_eval_batch_size": 10,
    "num_train_epochs": 2,
    "max_seq_length": MAX_SEQ_LENGTH,
    "threads": 1,
}
TRAINED, SCORED = 123, 120  # 13 steps an epoch, the last of 3 rows
WITHOUT_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
OPTIONS = {
    "lr_scheduler_type": "cosine",
    "warmup_ratio": 0.2,
    "weight_decay": 0.1,
    "max_grad_norm": 0.5,
    "train_sampling_strategy": "group_by_length",
}


@pytest.fixture(scope="module")
def files(tmp_path_factory, shared):
    """Return task, model and tokens of each task, all made before torch has threads: staging forks."""
    return {name: real_files(tmp_path_factory.mktemp(name), shared, name) for name in ("sst2", "stsb", "mnli")}


def real_files(folder, shared, name):
    """Stage the real encoder, without dropout, and real rows of a task."""
    values = TASK_DEFAULTS | load_registry()[name] | {"source": f"./{name}", "folder": "", "revision": "1", "test": []}
    values["validation"] = dict(list(values["validation"].items())[:1])
    task = Task(name=name, **definition(values))
    splits = {}
    for split, count in ((task.train, TRAINED), (*task.validation, SCORED)):
        table = pyarrow.parquet.read_table(shared / "glue" / name / f"{split}-00000-of-00001.parquet")
        splits[split] = table.slice(0, count).to_pydict()
    model = builders.copy(shared / "models" / "minilm-l6-h384", folder / "source", **WITHOUT_DROPOUT)
    return task, *builders.cell_files(folder, task, model, MAX_SEQ_LENGTH, **splits)


@pytest.mark.parametrize(
    ("name", "options"), [("sst2", {}), ("stsb", {}), ("mnli", OPTIONS)], ids=["sst2", "stsb", "mnli with options"]
)
def test_losses_and_predictions_are_those_of_run_glue(tmp_path, files, name, options):
    task, staged, tokens = files[name]
    ours = CellTraining(builders.run(task, **(VALUES | options)), staged, tokens)
    split = next(iter(ours.run.task.validation))
    theirs = {key: value for key, value in options.items() if key != "warmup_ratio"}
    theirs["warmup_steps"] = options.get("warmup_ratio", 0)  # transformers 5 takes a share there
    trainer, _ = trained_by_transformers(
        ours, tmp_path / "trainer", staged, partial(padded, longest=MAX_SEQ_LENGTH), **theirs
    )
    ours.train()
    losses = ours.training.state()["losses"].tolist()
    assert len(losses) == len(trainer.losses) == 26
    assert losses == pytest.approx(trainer.losses, rel=1e-4)
    trainer.args.train_sampling_strategy = "random"  # else Trainer predicts in an order of its own
    with torch.no_grad():
        expected = trainer.predict(RowsForTrainer(ours.tokens.split(split))).predictions
    found = numpy.stack(ours.predict(split)[0].column("logits").to_numpy())
    if ours.run.task.is_regression:
        assert found == pytest.approx(expected, abs=1e-3)
    else:
        top = numpy.sort(expected, axis=1)
        is_clear = top[:, -1] - top[:, -2] > 1e-3
        assert is_clear.mean() > 0.9
        assert numpy.array_equal(found.argmax(axis=1)[is_clear], expected.argmax(axis=1)[is_clear])
