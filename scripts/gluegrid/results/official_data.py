"""Compare a result's data with the official files, by the rows and hashes under `official` in the task's entry."""

from gluegrid.experiment.sources import split_of
from gluegrid.experiment.task import Task

SYNTHETIC = "synthetic"  # for tasks with `synthetic: true`, which are not compared with official files
KINDS = ("train", "validation", "test")  # how the names of official splits begin


def sample_keys(task: Task, is_trained: bool) -> dict[str, str]:
    """Map each split that a number is made from to the key of all_results.json that counts its examples."""
    trained_on = {task.train: "train_samples"} if is_trained else {}
    return trained_on | {split: f"eval_samples{suffix}" for split, suffix in task.validation.items()}


def difference(official: dict[str, dict], task: Task, results: dict, task_files: dict[str, str]) -> str:
    """Describe how the data of a result differ, such as `train 41,294 of 392,702`; return "" if they do not.

    `official` maps splits to rows and sha256, and `results` is an all_results.json. `task_files` comes from its
    run_record.json and maps the names of parquet files to hashes.
    """
    if not official:
        return ""
    counts, others = [], []
    for split, key in sample_keys(task, "train_samples" in results).items():
        samples, rows = results[key], official.get(split, {}).get("rows")
        kind, used = ("train", "trained") if split == task.train else ("validation", "scored")
        # An official split may be used for another purpose than its own, such as a test split that is scored.
        if split not in official or split.startswith(tuple(other for other in KINDS if other != kind)):
            counts.append(f"{used} on {split}")
        elif samples != rows:
            # More rows than the official split has cannot be a part of it.
            counts.append(f"{split} {samples:,} {'of' if samples < rows else 'instead of'} {rows:,}")
        elif not _is_official(official, split, task_files):
            others.append(split)
    return ", ".join(counts + ([f"other data: {', '.join(others)}"] if others else []))


def other_files(official: dict[str, dict], task: Task, task_files: dict[str, str]) -> list[str]:
    """Return the splits of a task, including test splits, whose file is not the official one."""
    if not official:
        return []
    return [split for split in task.splits if not _is_official(official, split, task_files)]


def _is_official(official: dict[str, dict], split: str, task_files: dict[str, str]) -> bool:
    hashes = [digest for name, digest in task_files.items() if split_of(name) == split]
    return split in official and hashes == [official[split]["sha256"]]
