"""Whole experiments with crafted results that look like real ones, for the report, which trains nothing."""

import json
import math
import random
from functools import cache
from pathlib import Path

import builders
import yaml

from gluegrid.common.paths import state_folder
from gluegrid.experiment.cell import Cell
from gluegrid.experiment.experiment import Experiment
from gluegrid.experiment.loading import load_experiment
from gluegrid.results.outcomes import Outcome, read_outcomes
from gluegrid.results.selection import chosen
from gluegrid.results.summary import Group, groups

GPU = "NVIDIA A100-SXM4-40GB"
# Typical values of fine-tuning: the score of a base model, its spread over seeds, and GPU-seconds per epoch.
LEVELS = {
    "cola": (0.58, 0.012, 45),
    "sst2": (0.928, 0.003, 350),
    "mrpc": (0.86, 0.013, 20),
    "stsb": (0.885, 0.003, 31),
    "qqp": (0.909, 0.001, 1900),
    "mnli": (0.845, 0.002, 2050),
    "qnli": (0.912, 0.003, 550),
    "rte": (0.66, 0.021, 14),
    "wnli": (0.53, 0.035, 4),
}
APART = {"mrpc": 0.04, "qqp": -0.03, "stsb": -0.004, "mnli": 0.001}  # the second metric from the first
MODELS = {
    name: {"source": f"google-bert/{name}", "revision": revision}
    for name, revision in (
        ("bert-base-uncased", "86b5e0934494bd15c9632b12f734a8a67f723594"),
        ("bert-large-uncased", "6da4b6a26a1877e173fca3225479512db81a5e5b"),
    )
}


def load(folder: Path, **values) -> Experiment:
    """Return an experiment of two BERTs on GLUE, from a file in `folder`, where the caller must be."""
    content = {
        "experiment": "bert-glue",
        "models": MODELS,
        "tasks": dict.fromkeys(LEVELS),
        "seeds": [1, 2, 3],
        "eval_strategy": "epoch",
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(content | values, sort_keys=False), encoding="utf-8")
    return load_experiment(Path("config.yaml"))


def write_cell(of: Experiment, cell: Cell, gain: float = 0.0, speed: float = 1.0, **record) -> None:
    """Write the files that a cell's training would leave, with a score `gain` above a base model's, plus seed noise."""
    level, spread, seconds = LEVELS.get(cell.task, (0.7, 0.01, 30))
    chance = random.Random(cell.name)
    final = min(level + gain + chance.gauss(0, spread), 0.995)
    epochs = cell.values["num_train_epochs"]
    curve = [_epoch(cell, epoch, final - 0.12 * math.exp(-1.3 * epoch) + 0.12 * math.exp(-1.3 * epochs), chance)
             for epoch in range(1, int(epochs) + 1)]  # fmt: skip
    curve[-1] |= _metrics(cell, final)
    runtime = seconds * epochs / speed * chance.uniform(0.97, 1.03)
    builders.write_result(
        of,
        cell,
        _metrics(cell, final) | {"epoch": epochs, "train_runtime": runtime} | _samples(of, cell),
        **(_record(cell, chance, speed) | {"curve": curve} | record),
    )


def _metrics(cell: Cell, score: float) -> dict[str, float]:
    """Return the metrics of a cell's task; if there are several, they lie around the score."""
    suffixes = cell.run["task"]["validation"].values()
    keys = [f"eval_{metric}{suffix}" for suffix in suffixes for metric in cell.run["task"]["metrics"]]
    apart = APART.get(cell.task, 0)
    return {key: score + apart * (number - (len(keys) - 1) / 2) for number, key in enumerate(keys)}


def _epoch(cell: Cell, epoch: int, score: float, chance: random.Random) -> dict:
    loss = 0.3 + 0.25 * math.exp(-epoch) + chance.uniform(0, 0.02)
    return {"epoch": epoch, "step": 100 * epoch, "eval_loss": loss, **_metrics(cell, score + chance.gauss(0, 0.004))}


def _samples(of: Experiment, cell: Cell) -> dict[str, int]:
    official = of.tasks[cell.task].get("official", {})
    counted = {split: f"eval_samples{suffix}" for split, suffix in cell.run["task"]["validation"].items()}
    counted["train"] = "train_samples"
    return {key: official[split]["rows"] if official else 100 for split, key in counted.items()}


def _record(cell: Cell, chance: random.Random, speed: float) -> dict:
    def digest() -> str:
        return f"{chance.getrandbits(256):064x}"

    gigabytes = 1.2 + 2.1 / speed + (1 if cell.task in ("qnli", "rte") else 0)
    start = f"2026-11-{chance.randint(10, 27)}T{chance.randint(0, 23):02}:15:"
    return {
        "identity": cell.wildcards | {"experiment": "bert-glue", "seed": cell.seed},
        "model_files": {"config.json": f"{len(cell.model):064x}", "model.safetensors": f"{7 * len(cell.model):064x}"},
        "model_revision": cell.run["model"]["revision"],
        "task_files": _official_files(cell),
        "tokens_files": {f"{split}.arrow": f"{len(cell.task):064x}" for split in ("train", "validation")},
        "predictions_sha256": {split: digest() for split in cell.run["task"]["validation"]},
        "started": f"{start}00+00:00",
        "finished": f"{start}42+00:00",
        "attempts": 1,
        "continued": [],
        "device": GPU,
        "driver": "580.65.06",
        "processes": cell.values["gpus"],
        "peak_memory_bytes": {"host": int(2.9e9 * chance.uniform(1, 1.1)), "gpu": int(gigabytes * 1e9)},
        "padding": None,
        "train_rows": _rows(cell),
        "train_tokens_per_second": 31000 * speed,
        "utilisation": {"cpu": 0.31, "gpu": 0.94},
        "job": {"host": "gpu07", "pid": 4711, "slurm_job_id": str(chance.randint(10000, 99999)), "slurm_node": "gpu07"},
        "versions": {
            "python": "3.11.9",
            "torch": "2.13.0",
            "transformers": "5.23.0",
            "accelerate": "1.15.0",
            "tokenizers": "0.23.3",
        },
        "git": {"commit": "5e0cb48f9d0b4d2c8a7f1e6b3c5a9d8e7f605142", "dirty": False},
    }


def _rows(cell: Cell) -> int:
    return _official(cell.task).get("train", {"rows": 100})["rows"]


@cache
def _official(task: str) -> dict:
    registry = yaml.safe_load((Path(__file__).resolve().parents[2] / "schemas" / "tasks.yaml").read_text())
    return registry.get(task, {}).get("official", {})


def _official_files(cell: Cell) -> dict[str, str]:
    official = _official(cell.task)
    return {f"{cell.task}/{split}-00000-of-00001.parquet": file["sha256"] for split, file in official.items()}


def write_failure(of: Experiment, cell: Cell, reason: str) -> None:
    """Write the files that the last attempt of a failed cell leaves."""
    state = state_folder(Path(of.paths.run.format(**cell.wildcards)))
    state.mkdir(parents=True)
    attempt = {
        "start": "2026-11-27T10:00:00+00:00",
        "end": "2026-11-27T10:05:00+00:00",
        "reason": reason,
        "host": "gpu07",
        "pid": 4711,
        "slurm_job_id": None,
        "slurm_node": None,
    }
    (state / "attempts.jsonl").write_text(json.dumps(attempt) + "\n", encoding="utf-8")


def realistic(folder: Path, name: str = "bert-glue") -> Experiment:
    """Return two BERTs on GLUE with 3 seeds: all but some cells done, two sweeps, one collapsed run."""
    swept = {
        "mrpc": {"learning_rate": [2e-5, 3e-5, 5e-5, 1e-4]},
        "rte": {"learning_rate": [1e-5, 2e-5, 3e-5], "per_device_train_batch_size": [32, 16]},
    }
    epochs = {"num_train_epochs": 5}
    tasks = dict.fromkeys(LEVELS) | {task: values | epochs for task, values in swept.items()}
    experiment = load(folder, experiment=name, tasks=tasks)
    for cell in experiment.cells.values():
        _write_realistic(experiment, cell)
    write_comparisons(experiment)
    return experiment


def write_comparisons(of: Experiment) -> None:
    """Write a comparisons.json in the format of `snakemake compare`, with made-up intervals."""
    chosen_groups = chosen(groups(of, read_outcomes(of)))
    tasks = [_compared(first, second) for first, second in _pairs(chosen_groups)]
    mean_of_all = _entry(
        [entry["tasks"][0] for entry in tasks], tasks[0]["first"], tasks[0]["second"], (0.79, 0.81), 0.01
    )
    content = {
        "experiment": of.name,
        "method": {"name": "paired bootstrap over examples and seeds", "resamples": 10000, "level": 0.95},
        "inputs": [_input(outcome) for group in chosen_groups for outcome in group.outcomes],
        "tasks": tasks,
        "means": [mean_of_all],
        "left_out": [],
    }
    Path(of.paths.comparisons_json).write_text(json.dumps(content), encoding="utf-8")


def _pairs(of_all: list[Group]) -> list[tuple[Group, Group]]:
    first, second = dict.fromkeys(group.model for group in of_all)
    by_name = {(group.model, group.task.name): group for group in of_all}
    return [
        (by_name[first, task], by_name[second, task]) for task in dict.fromkeys(group.task.name for group in of_all)
    ]


def _compared(first: Group, second: Group) -> dict:
    return _entry([first.task.name], first.model, second.model, (first.score(), second.score()), 0.014)


def _entry(tasks: list[str], first: str, second: str, scores: tuple[float, float], half: float) -> dict:
    value = scores[0] - scores[1]
    difference = {"value": value, "low": value - half, "high": value + half, "probability": 0.02, "p_value": 0.04}
    return {
        "tasks": tasks,
        "first": first,
        "second": second,
        "scores": scores,
        "difference": difference,
        "is_of_one_seed": False,
        "adjusted": 0.09 if abs(value) < 2 * half else 0.01,
    }


def _input(outcome: Outcome) -> dict:
    record = outcome.record or {}
    hashes = {key: record.get(key) for key in ("run_sha256", "predictions_sha256")}
    return outcome.cell.wildcards | {"score": None, "degenerate": False, "reason": outcome.reason} | hashes


def _write_realistic(experiment: Experiment, cell: Cell) -> None:
    is_large = cell.model == "bert-large-uncased"
    if is_large and (cell.task, cell.seed) == ("qqp", 3):
        write_failure(experiment, cell, "OutOfMemoryError: CUDA out of memory. Tried to allocate 96.00 MiB")
    elif is_large and (cell.task, cell.seed) == ("mnli", 3):
        pass
    else:
        rate = math.log(cell.values["learning_rate"] / 3e-5)
        swept = -0.02 * rate * rate if cell.task in ("mrpc", "rte") else 0
        gain = {"cola": 0.03, "rte": 0.045, "wnli": 0, "qqp": 0.004}.get(cell.task, 0.016) if is_large else 0
        collapsed = {"degenerate": True} if is_large and (cell.task, cell.seed) == ("wnli", 2) else {}
        write_cell(experiment, cell, gain + swept, speed=0.36 if is_large else 1)
        if collapsed:
            path = Path(experiment.paths.all_results.format(**cell.wildcards))
            path.write_text(json.dumps(json.loads(path.read_text()) | collapsed), encoding="utf-8")
