"""What a reader must know to judge an experiment's numbers. Nothing is escaped."""

import json
from collections.abc import Iterable, Sequence

from gluegrid.common import escaping
from gluegrid.common.provenance import without_commit
from gluegrid.results.outcomes import Outcome


def notes(found: Sequence[Outcome]) -> list[str]:
    """Return lines on what is missing and, where there is any result, on what is behind the numbers."""
    done = [outcome for outcome in found if outcome.is_done]
    lines = [f"Cells: {len(done)} of {len(found)} have a result."]
    if len(done) < len(found):
        missing = ", ".join(outcome.cell.name for outcome in found if not outcome.is_done)
        lines.append(f"Missing: {missing}. Means leave them out.")
    if not done:
        return lines
    seeds = sorted({outcome.cell.seed for outcome in found})
    lines.append(
        f"Seeds: {', '.join(map(str, seeds))}."
        + (" One seed says little about small tasks." if len(seeds) == 1 else "")
    )
    for title, key in (("Device", "device"), ("Driver", "driver"), ("Precision", "precision")):
        lines += _distinct(title, (outcome.record[key] for outcome in done))
    lines += _distinct("Versions", (_versions(outcome) for outcome in done))
    lines += _distinct("Code", (_code(outcome) for outcome in done))
    lines += _distinct("Models that ran Python code of their own", (_model_with_code(outcome) for outcome in done))
    lines += _other_files(done)
    lines += _ways_to_train(done)
    return lines + _peculiarities(done)


def _model_with_code(outcome: Outcome) -> str | None:
    return outcome.cell.model if outcome.cell.run["model"].get("trust_remote_code") else None


def _distinct(title: str, values: Iterable) -> list[str]:
    texts = sorted({str(value) for value in values if value is not None})
    return [f"{title}: {'; '.join(texts)}."] if texts else []


def _other_files(done: Sequence[Outcome]) -> list[str]:
    """Return a line with the splits whose files are not the official ones, and the tasks that they are of."""
    tasks: dict[str, dict[str, None]] = {}
    for outcome in done:
        if outcome.other_files:
            tasks.setdefault(", ".join(outcome.other_files), {})[outcome.cell.task] = None
    texts = [f"{splits} of {', '.join(names)}" for splits, names in tasks.items()]
    return [f"Not the official files: {'; '.join(texts)}."] if texts else []


def _ways_to_train(done: Sequence[Outcome]) -> list[str]:
    """Return a line for each way to train that is not the ordinary one, with the cells that were trained so."""
    lines = []
    for way, names in cells_by_way({outcome.cell.name: outcome.cell.run for outcome in done}).items():
        cells = "all cells" if len(names) == len(done) else ", ".join(names)
        lines.append(f"{way}: {cells}.")
    return lines


def _peculiarities(done: Sequence[Outcome]) -> list[str]:
    """Return a line for each peculiarity, with the cells that have it: of many seeds, many often do."""
    cells: dict[str, list[str]] = {}
    for outcome in done:
        for line in peculiarities(outcome):
            cells.setdefault(line, []).append(outcome.cell.name)
    return [f"{line[0].upper()}{line[1:]}: {', '.join(names)}." for line, names in cells.items()]


def _versions(outcome: Outcome) -> str:
    names = ("python", "torch", "transformers", "accelerate", "tokenizers")
    return ", ".join(f"{name} {outcome.record['versions'][name]}" for name in names)


def _code(outcome: Outcome) -> str:
    git = outcome.record["git"]
    if git["commit"] is None:
        return without_commit(git)
    return f"commit {git['commit'][:12]}" + (", with uncommitted changes" if git["dirty"] else "")


def peculiarities(outcome: Outcome) -> list[str]:
    """Return what is out of the ordinary about one cell's number; what the tables say beside it is left out."""
    results, record, most = outcome.results, outcome.record, outcome.cell.run.get("max_eval_samples")
    lines = []
    is_trained = "train_samples" in results
    if is_trained and results["train_samples"] < record["train_rows"] and not outcome.data:
        lines.append(f"trained on a subset, {results['train_samples']:,} of {record['train_rows']:,} examples")
    if most is not None and not outcome.data:
        lines.append(f"scored on at most {most:,} examples of each validation split")
    if results.get("degenerate"):
        lines.append("degenerate (one answer for all examples of a validation split, or an undefined metric)")
    if rows := record.get("micro_batch_rows", {}).get("train"):
        lines.append(f"trained in micro-batches of {rows} for want of the device's memory, with the same updates")
    return lines + _parts_by_others(record)


def _parts_by_others(record: dict) -> list[str]:
    """Return from which step on another code or device than before has trained: attempts that went on."""
    parts = [*record.get("continued", []), {**record, "step": None}]
    makers = [(code_of(part["git"]), part["device"]) for part in parts]
    return [
        f"{before[0]} on {before[1]} until step {part['step']:,}, then {after[0]} on {after[1]}"
        for part, before, after in zip(parts, makers, makers[1:], strict=False)
        if before != after
    ]


def code_of(git: dict) -> str:
    """Name the code that a record says."""
    if git["commit"] is None:
        return f"code that is {without_commit(git)}"
    return f"code {git['commit'][:12]}" + (" with uncommitted changes" if git["dirty"] else "")


LONGEST_ADAPTERS = 120  # characters of what says how adapters are made


def named_options(run: dict) -> list[str]:
    """Return the options of a run.json that tables name beside its number, since they make it another number."""
    named = {
        "group_by_length": run.get("train_sampling_strategy") == "group_by_length",
        "lora": run.get("lora") is not None,
        f"from {_beginning(run)}": _beginning(run) is not None,
        "not trained here": not run.get("do_train", True),
    }
    return [name for name, is_used in named.items() if is_used]


def depends_on_seed(run: dict) -> bool:
    """Tell whether another seed would give another result: not where a finished checkpoint is only evaluated."""
    return run.get("do_train", True) or _beginning(run) is not None


def ways_to_train(run: dict) -> list[str]:
    """Return a sentence for each thing about the training of a run.json that a reader must know; none as a rule."""
    return [*_of_batches(run), *_of_adapters(run), *_of_devices(run), *_of_beginning(run), *_of_no_training(run)]


def cells_by_way(runs: dict[str, dict]) -> dict[str, list[str]]:
    """Return for each way to train the names of the cells that have it. `runs` are their run.json by name."""
    cells: dict[str, list[str]] = {}
    for name, run in runs.items():
        for way in ways_to_train(run):
            cells.setdefault(way, []).append(name)
    return cells


def _of_batches(run: dict) -> list[str]:
    if run.get("train_sampling_strategy") != "group_by_length":
        return []
    return ["Batches of examples of like length, not random ones (train_sampling_strategy group_by_length)"]


def _of_adapters(run: dict) -> list[str]:
    if run.get("lora") is None:
        return []
    values = escaping.shortened(json.dumps(run["lora"], sort_keys=True, ensure_ascii=False), LONGEST_ADAPTERS)
    return [f"Low-rank adapters trained, not all weights (lora {values})"]


def _of_devices(run: dict) -> list[str]:
    gpus, nodes = run.get("gpus", 1), run.get("nodes", 1)
    if gpus * nodes == 1:
        return []
    kind = "CPU processes" if run.get("device") == "cpu" else "GPUs"
    on_nodes = f" ({gpus} on each of {nodes} nodes)" if nodes > 1 else ""
    return [f"Trained by {gpus * nodes} {kind} together{on_nodes}"]


def _beginning(run: dict) -> str | None:
    """Return the task of the cell whose weights a run begins with; None where it begins with the model's own."""
    return (run.get("init_from") or {}).get("task")


def _of_beginning(run: dict) -> list[str]:
    task = _beginning(run)
    return [f"Begun with the weights that the same model has after {task} with the same seed"] if task else []


def _of_no_training(run: dict) -> list[str]:
    return [] if run.get("do_train", True) else ["Not trained here: scored or predicted with the head it came with"]
