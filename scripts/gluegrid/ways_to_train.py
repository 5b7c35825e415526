"""What tables say of trainings that are not the ordinary one: other batches, adapters, devices, beginnings, or none."""

import json

from gluegrid.common import escaping

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
