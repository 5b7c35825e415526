"""Small tasks, texts, tokenizers, models and experiments for the tests. Heavy libraries load on first use."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow
import pyarrow.parquet
import yaml

from gluegrid.experiment import sources
from gluegrid.experiment.cell import Cell, run_hash, run_text
from gluegrid.experiment.experiment import Experiment
from gluegrid.experiment.loading import load_experiment
from gluegrid.experiment.metrics import METRICS, problem_of_metric
from gluegrid.experiment.options import RECIPE, RECIPES
from gluegrid.experiment.run import Run
from gluegrid.experiment.task import Task
from gluegrid.staging.repositories import Source
from gluegrid.staging.stage import stage

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
LAUNCH = SCRIPTS / "launch.sh"
# PATH where `python` is the one that runs the tests.
PATH = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
WORDS = ("the", "a", "cat", "dog", "bird", "sat", "ran", "flew", "on", "under", "mat", "tree", "big", "small", "red")
NLI_LABELS = ["entailment", "neutral", "contradiction"]


def python(code: str, *arguments: object, **options) -> subprocess.Popen:
    """Start a Python process that can import gluegrid."""
    environment = os.environ | {"PYTHONPATH": str(SCRIPTS), "OMP_NUM_THREADS": "1"} | options.pop("env", {})
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def run_without_reader(command: str, *arguments: object, unbuffered: str) -> subprocess.CompletedProcess:
    """Run a command of scripts/commands.py with nobody reading its output; `unbuffered` is for PYTHONUNBUFFERED."""
    read, write = os.pipe()
    os.close(read)
    try:
        return subprocess.run(
            [sys.executable, SCRIPTS / "commands.py", command, *arguments],
            env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
            stdout=write,
            stderr=subprocess.PIPE,
            text=True,
        )
    finally:
        os.close(write)


def task(**changes) -> Task:
    """Return a task with two labels and one text, with the given changes; `labels=None` makes it a regression."""
    values = {
        "name": "tiny",
        "source": "./tiny",
        "revision": "1",
        "text_columns": ["sentence"],
        "label_column": "label",
        "train": "train",
        "validation": {"validation": ""},
        "test": [],
        "metrics": ["accuracy"],
        "labels": ["no", "yes"],
    }
    return Task(**(values | changes))


def metrics_for(labels: list[str] | None) -> list[str]:
    """Return the names of all metrics that suit a task with these labels."""
    return [name for name in METRICS if problem_of_metric(name, labels) is None]


def run(of_task: Task, **changes) -> Run:
    """Return a run on the CPU with one thread."""
    values = {
        "experiment": "test",
        "model": {"name": "tiny", "source": "./tiny", "revision": "1"},
        "task": of_task,
        "variant": "base",
        "seed": 42,
        "threads": 1,
        "learning_rate": 1e-3,
        "per_device_train_batch_size": 4,
        "per_device_eval_batch_size": 8,
        "num_train_epochs": 3,
        "max_seq_length": 16,
        "max_train_samples": None,
        "max_eval_samples": None,
        "device": "cpu",
    }
    return Run(**(RECIPES[RECIPE] | values | changes))


def sentence(number: int) -> str:
    """Return a sentence of 2 to 7 words that depends on the number."""
    return " ".join(WORDS[(number * 7 + place * (number % 11 + 1)) % len(WORDS)] for place in range(2 + number % 6))


def rows(count: int, of_task: Task) -> dict[str, list]:
    """Return columns of `count` examples."""
    columns: dict[str, list] = {
        name: [sentence(3 * number + place) for number in range(count)]
        for place, name in enumerate(of_task.text_columns)
    }
    outputs = of_task.number_of_outputs
    labels = [number * 7 % 11 / 2 if of_task.is_regression else number * 5 % 7 % outputs for number in range(count)]
    return columns | {of_task.label_column: labels, "idx": list(range(count))}


def write_split(folder: Path, split: str, columns: dict) -> Path:
    """Write a split as Parquet, named as on the hub."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{split}-00000-of-00001.parquet"
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    return path


def stage_task(target: Path, source: Path) -> Path:
    """Stage a folder of Parquet files; return the manifest."""
    import fetch_task

    manifest = target / "manifest.json"
    manifest.unlink(missing_ok=True)
    stage(
        Source("dataset", str(source), "1"),
        manifest,
        lambda names: sources.wanted_task_files(names, ""),
        lambda folder: {"rows": fetch_task.count_rows(folder)},
    )
    return manifest


def task_manifest(folder: Path, of_task: Task, **splits: dict) -> Path:
    """Write and stage a task, with `rows` rows for each split that is not given; return the manifest."""
    for split in of_task.splits:
        write_split(folder / "parquet", split, splits.get(split) or rows(24, of_task))
    return stage_task(folder / "task", folder / "parquet")


def stage_model(target: Path, source: Path) -> Path:
    """Stage a model's folder; return the manifest."""
    import fetch_model

    from gluegrid.staging.model_check import describe_checkpoint

    def wanted(names: list[str]) -> list[str]:
        return fetch_model.checked_model_files(str(source), names)

    manifest = target / "manifest.json"
    stage(Source("model", str(source), "1"), manifest, wanted, lambda folder: describe_checkpoint(folder, False))
    return manifest


def write_tokenizer(folder: Path, words: tuple[str, ...] = WORDS, max_length: int = 64) -> Path:
    """Save a WordPiece tokenizer with these words."""
    from transformers import BertTokenizer

    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "##s", "##ing", ".", "!", "中", "文", *words]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    BertTokenizer(vocab=vocabulary, model_max_length=max_length).save_pretrained(folder)
    return folder


def write_model(folder: Path, kind: str = "bert", **options) -> Path:
    """Save a small classifier and a WordPiece tokenizer of our WORDS; `options` are those of write_classifier."""
    return write_tokenizer(write_classifier(folder, kind, **options))


def write_classifier(
    folder: Path, kind: str = "bert", labels: list[str] | None = None, seed: int = 0, **values
) -> Path:
    """Save a classifier of 2 layers x 32 with random weights and no dropout."""
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    common = {"vocab_size": 26, "max_position_embeddings": 66 if kind == "roberta" else 64, "pad_token_id": 0}
    if kind == "distilbert":
        shape = {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64, "dropout": 0.0, "seq_classif_dropout": 0.0}
        shape["attention_dropout"] = 0.0
    else:
        shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
        shape |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    names = labels or ["LABEL_0", "LABEL_1"]
    heads = {"id2label": dict(enumerate(names)), "label2id": {name: number for number, name in enumerate(names)}}
    torch.manual_seed(seed)
    config = AutoConfig.for_model(kind, **(common | shape | heads | values))
    model = AutoModelForSequenceClassification.from_config(config)
    # Weights of about 0.02 would make all logits nearly equal.
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.2)
    model.save_pretrained(folder)
    return folder


def cell_files(folder: Path, of_task: Task, model: Path, max_seq_length: int = 16, **splits: dict) -> tuple:
    """Stage a model and a task and make tokens; return the model's folder and the Tokens of a run."""
    from gluegrid.staging.tokenization import tokenize_task
    from gluegrid.training.dataset import Tokens

    model_manifest = stage_model(folder / "model", model)
    data = task_manifest(folder / "task", of_task, **splits)
    manifest = folder / "tokens" / "manifest.json"
    tokenize_task(model_manifest, data, of_task, max_seq_length, manifest)
    tokens = Tokens(run(of_task, max_seq_length=max_seq_length), manifest, model_manifest, data)
    return model_manifest.parent, tokens


def experiment(folder: Path, **values) -> Experiment:
    """Return an experiment of one local model on two local tasks, from a file in `folder`, where the caller must be."""
    (folder / "model").mkdir(exist_ok=True)
    for name in ("config.json", "model.safetensors", "vocab.txt"):
        (folder / "model" / name).write_text("{}", encoding="utf-8")
    pair = {"source": "./pair", "text_columns": ["sentence"], "labels": ["no", "yes"], "metrics": ["accuracy", "f1"]}
    number = {"source": "./number", "text_columns": ["sentence"], "metrics": ["pearson", "spearmanr"]}
    for entry in (pair, number):
        write_split(folder / entry["source"], "train", {"sentence": ["a"], "label": [1]})
    content = {
        "experiment": "small",
        "models": {"tiny": {"source": "./model"}},
        "tasks": {"pair": {**pair, "display_name": "Pair"}, "number": number},
        "device": "cpu",
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(content | values, sort_keys=False), encoding="utf-8")
    return load_experiment(Path("config.yaml"))


def write_result(of: Experiment, cell: Cell, results: dict, **record) -> Path:
    """Write a cell's run.json, record and results as training does; return the path of the results."""
    text = run_text(cell)
    of_run = {
        "schema_version": 1,
        "run_sha256": run_hash(text),
        "train_rows": 100,
        "device": "CPU",
        "driver": None,
        "precision": "fp32",
        "versions": dict.fromkeys(("python", "torch", "transformers", "accelerate", "tokenizers"), "1.0"),
        "git": {"commit": "0123456789abcdef", "dirty": False},
    }
    path = Path(of.paths.all_results.format(**cell.wildcards))
    path.parent.mkdir(parents=True, exist_ok=True)
    (path.parent / "run.json").write_text(text, encoding="utf-8")
    (path.parent / "run_record.json").write_text(json.dumps(of_run | record), encoding="utf-8")
    common = {"epoch": 3, "train_runtime": 12.5, "train_samples": 100} if cell.values["do_train"] else {}
    path.write_text(json.dumps(common | results), encoding="utf-8")
    return path


def copy(source: Path, target: Path, **changed_config) -> Path:
    """Copy a model's folder and change values of its config.json."""
    shutil.copytree(source, target)
    path = target / "config.json"
    config = json.loads(path.read_text(encoding="utf-8")) | changed_config
    path.write_text(json.dumps(config), encoding="utf-8")
    return target
