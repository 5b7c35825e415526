"""An experiment of all GLUE's tasks, its cells with invented predictions of official sizes, and what GLUE wants.

Nothing here is taken from the code that writes submissions: files, names and sizes stand here once more.
"""

import hashlib
import json
from pathlib import Path

import builders
import numpy
import pyarrow
import pyarrow.parquet

from gluegrid.experiment.cell import Cell
from gluegrid.experiment.config import load_registry
from gluegrid.experiment.experiment import Experiment

NLI = ("entailment", "neutral", "contradiction")
TWO_WAY = ("entailment", "not_entailment")
# File, task, split, rows, and GLUE's names for class 0, 1, ... of the hub's data; None: a score from 0 to 5.
WANTED = (
    ("CoLA.tsv", "cola", "test", 1063, ("0", "1")),
    ("SST-2.tsv", "sst2", "test", 1821, ("0", "1")),
    ("MRPC.tsv", "mrpc", "test", 1725, ("0", "1")),
    ("STS-B.tsv", "stsb", "test", 1379, None),
    ("QQP.tsv", "qqp", "test", 390965, ("0", "1")),
    ("MNLI-m.tsv", "mnli", "test_matched", 9796, NLI),
    ("MNLI-mm.tsv", "mnli", "test_mismatched", 9847, NLI),
    ("QNLI.tsv", "qnli", "test", 5463, TWO_WAY),
    ("RTE.tsv", "rte", "test", 3000, TWO_WAY),
    ("WNLI.tsv", "wnli", "test", 146, ("0", "1")),
    ("AX.tsv", "ax", "test", 1104, NLI),
)
TASKS = dict.fromkeys(task for _, task, *_ in WANTED)
TRAINED = [task for task in TASKS if task != "ax"]


def experiment(folder: Path, **values) -> Experiment:
    """Return an experiment of all tasks; `values` replace what its file says. The caller must be in the folder."""
    return builders.experiment(folder, **{"tasks": dict(TASKS), "seeds": [1, 2]} | values)


def logits_for(rows: int, outputs: int, key: str) -> numpy.ndarray:
    """Return logits of shape (rows, outputs), other ones for each key; a regression's go beyond 0 and 5."""
    generator = numpy.random.default_rng(list(key.encode()))
    values = generator.normal(size=(rows, outputs))
    return (values if outputs > 1 else 2.5 + 2 * values).astype(numpy.float32)


def write_predictions(path: Path, logits: numpy.ndarray, idx: list[int] | None = None) -> str:
    """Write a split's predictions as training does; return the file's hash."""
    rows, outputs = logits.shape
    columns = {
        "idx": pyarrow.array(range(rows) if idx is None else idx, pyarrow.int64()),
        "label": pyarrow.array(numpy.full(rows, -1), pyarrow.int64() if outputs > 1 else pyarrow.float32()),
        "logits": pyarrow.ListArray.from_arrays(numpy.arange(0, logits.size + 1, outputs), logits.ravel()),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_cell(
    of: Experiment, cell: Cell, score: float | None = 0.5, logits: dict | None = None, results: dict | None = None
) -> None:
    """Write a cell's results, all metrics being `score` but for those of `results`, and its predictions.

    `logits` are predictions by split, in place of invented ones.
    """
    hashes = {}
    for _, task, split, rows, names in WANTED:
        if task == cell.task:
            given = (logits or {}).get(split)
            values = logits_for(rows, len(names or "1"), f"{cell.name} {split}") if given is None else given
            path = Path(of.paths.all_results.format(**cell.wildcards)).with_name(f"predictions_{split}.parquet")
            hashes[split] = write_predictions(path, values)
    official = load_registry()[cell.task]["official"]
    files = {f"{split}-00000-of-00001.parquet": known["sha256"] for split, known in official.items()}
    all_results = results_of(cell, score) | (results or {})
    path = builders.write_result(of, cell, all_results, predictions_sha256=hashes, task_files=files)
    if cell.task == "ax":
        content = json.loads(path.read_text())
        path.write_text(json.dumps({key: content[key] for key in content if not key.startswith(("train_", "epoch"))}))


def results_of(cell: Cell, score: float | None) -> dict:
    """Return the metrics of a cell, and the number of examples they are computed on."""
    entry = load_registry()[cell.task]
    validation = entry.get("validation", {"validation": ""})
    official = entry["official"]
    results = {f"eval_{metric}{suffix}": score for suffix in validation.values() for metric in entry["metrics"]}
    results |= {f"eval_samples{suffix}": official[split]["rows"] for split, suffix in validation.items()}
    return results | ({"train_samples": official["train"]["rows"]} if "train" in official else {})


def text_of(names: tuple[str, ...] | None, logits: numpy.ndarray) -> bytes:
    """Return the file that GLUE expects for these logits, made line by line."""
    lines = ["index\tprediction"]
    for index, row in enumerate(logits.tolist()):
        if names is None:
            said = repr(float(str(numpy.float32(min(max(row[0], 0.0), 5.0)))))
        else:
            said = names[row.index(max(row))]
        lines.append(f"{index}\t{said}")
    return ("\n".join(lines) + "\n").encode()
