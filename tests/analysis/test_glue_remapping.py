"""Names of predictions under label remapping: a checkpoint may have its labels in another order than the data.

What is right is said by transformers alone, from the checkpoint's own id2label. `run_glue.py` names the number of the
checkpoint's output by the data's list, which is shown to be wrong for the same model.
"""

import builders
import pyarrow.parquet
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from gluegrid.analysis.glue_submission import content_of
from gluegrid.common.files import sha256
from gluegrid.experiment.cell import Cell
from gluegrid.results.glue_choice import FILES
from gluegrid.results.outcomes import Outcome
from gluegrid.training.cell_trainer import CellTraining

pytestmark = pytest.mark.usefixtures("one_thread")

FILE = {file.name: file for file in FILES}
NLI = ["entailment", "neutral", "contradiction"]
TWO_WAY = ["entailment", "not_entailment"]
ROWS = 60
# GLUE's file, the data's labels, and the checkpoint's: output 0, 1, ... is that label.
ORDERS = [
    ("AX.tsv", NLI, NLI),
    ("AX.tsv", NLI, ["contradiction", "entailment", "neutral"]),
    ("AX.tsv", NLI, ["CONTRADICTION", "NEUTRAL", "ENTAILMENT"]),
    ("MNLI-m.tsv", NLI, ["neutral", "contradiction", "entailment"]),
    ("RTE.tsv", TWO_WAY, ["not_entailment", "entailment"]),
    ("QNLI.tsv", TWO_WAY, TWO_WAY),
    ("WNLI.tsv", ["not_entailment", "entailment"], ["entailment", "not_entailment"]),
    ("CoLA.tsv", ["unacceptable", "acceptable"], ["acceptable", "unacceptable"]),
]


def texts(task):
    """Return texts of several lengths, and with labels as the hub hides them."""
    return builders.rows(ROWS, task) | {task.label_column: [-1] * ROWS}


def outputs_of(folder, task):
    """Return what transformers computes with the model in a folder, and the names that it gives to its outputs."""
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = texts(task)
    inputs = tokenizer(*(rows[name] for name in task.text_columns), truncation=True, max_length=16, padding=True)
    with torch.no_grad():
        logits = model(**inputs.convert_to_tensors("pt")).logits.numpy()
    return logits.argmax(axis=1), [model.config.id2label[number].lower() for number in range(logits.shape[1])]


def submitted(cell, file, task, folder):
    """Return what is submitted for the cell's predictions, written as training writes them."""
    table, _ = cell.predict(file.split)
    pyarrow.parquet.write_table(table, folder / "p.parquet")
    record = {"predictions_sha256": {file.split: sha256(folder / "p.parquet")}}
    outcome = Outcome(Cell("m", "t", "base", 1, {}), folder, results={}, record=record)
    lines = content_of(file, task, outcome, folder / "p.parquet").text.decode().splitlines()[1:]
    assert [line.split("\t")[0] for line in lines] == [str(number) for number in range(ROWS)]
    return [line.split("\t")[1] for line in lines]


@pytest.mark.parametrize(("name", "labels", "of_checkpoint"), ORDERS, ids=lambda value: str(value))
def test_predictions_bear_the_names_that_the_checkpoint_gives_them(tmp_path, name, labels, of_checkpoint):
    file = FILE[name]
    task = builders.task(text_columns=["first", "second"], labels=labels, test=[file.split])
    checkpoint = builders.write_model(tmp_path / "checkpoint", labels=of_checkpoint)
    files = builders.cell_files(tmp_path, task, checkpoint, **{file.split: texts(task)})
    cell = CellTraining(builders.run(task, num_train_epochs=1), *files)

    numbers, names = outputs_of(checkpoint, task)
    right = [file.names[names[number]] for number in numbers]
    assert len(set(right)) == len(labels)
    assert submitted(cell, file, task, tmp_path) == right
    as_run_glue_does = [file.names[labels[number]] for number in numbers]
    assert (as_run_glue_does == right) == (names == labels)

    cell.train()
    cell.model.save_pretrained(builders.write_tokenizer(tmp_path / "trained"))
    numbers, names = outputs_of(tmp_path / "trained", task)
    assert submitted(cell, file, task, tmp_path) == [file.names[names[number]] for number in numbers]
