"""The training options, each declared once, as a field of `Options`.

The schema of an experiment file, its checks, run.json, the notes of tables and docs/config.md's table come from here.
Each option can be set at every level of a file (levels.py). To add one: declare it, implement it, and run
scripts/write_docs.py.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields

from gluegrid.common.escaping import shortened
from gluegrid.experiment.option import Conflict, Option, integer, number, one_of, option, positive

LONGEST_ADAPTERS = 120  # characters of the description of adapters
LEAST_RATE = 1e-7  # the final learning rate of transformers' polynomial schedule

ALL_LINEAR = "all-linear"
# The defaults of the keys of `lora`; run.json states them all.
LORA = {"r": 8, "lora_alpha": 16, "lora_dropout": 0, "target_modules": ALL_LINEAR}
# As `text` in schemas/config.schema.yaml.
TEXT = {
    "type": "string",
    "minLength": 1,
    "maxLength": 300,
    "pattern": r"\A[^\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]+\Z",
    "description": "text of 1 to 300 characters on one line, without control characters",
}


def _conflict_of_rate(run: Mapping) -> Conflict | None:
    if run["lr_scheduler_type"] == "polynomial" and run["learning_rate"] <= LEAST_RATE:
        advice = f"polynomial ends at a rate of {LEAST_RATE:g}, so choose a higher learning_rate, or linear"
        return Conflict(("lr_scheduler_type",), advice)
    return None


def _conflict_of_warmup(run: Mapping) -> Conflict | None:
    if run["lr_scheduler_type"] == "constant" and run["warmup_ratio"] > 0:
        return Conflict(("lr_scheduler_type",), "constant has no warm-up, so choose constant_with_warmup")
    if run["lr_scheduler_type"] == "polynomial" and run["warmup_ratio"] == 1:
        advice = "polynomial needs updates after the warm-up, so choose a value below 1"
        return Conflict(("lr_scheduler_type",), advice)
    return None


def _conflict_of_precision(run: Mapping) -> Conflict | None:
    if run["precision"] in ("tf32", "fp16") and run["device"] == "cpu":
        return Conflict(("device",), f"{run['precision']} needs a GPU, so choose bf16 or fp32")
    return None


def _conflict_of_attention(run: Mapping) -> Conflict | None:
    if run["attn_implementation"] != "flash_attention_2":
        return None
    if run["device"] == "cpu":
        return Conflict(("device",), "it needs a GPU, so choose auto, sdpa or eager")
    if run["precision"] in ("fp32", "tf32"):
        return Conflict(("precision",), "it computes in 16 bits, so choose the precision auto, bf16 or fp16")
    return None


def _conflict_of_saving(run: Mapping) -> Conflict | None:
    if run["save_model"] == "best" and run["eval_strategy"] != "epoch":
        advice = "the best epoch is chosen by its score, so set eval_strategy to epoch"
        return Conflict(("eval_strategy",), advice)
    return None


def _conflict_of_batch(run: Mapping) -> Conflict | None:
    batch, devices = run["global_batch_size"], run["gpus"] * run["nodes"]
    parts = devices * run["gradient_accumulation_steps"]
    several = [key for key in ("gpus", "nodes") if run[key] > 1]
    if batch % devices:
        advice = f"each device takes an equal part, so choose a multiple of {devices}"
        return Conflict((*several,), advice)
    if batch < parts:
        more = ["gradient_accumulation_steps"] if run["gradient_accumulation_steps"] > 1 else []
        return Conflict((*several, *more), f"it is computed in {parts} parts, so choose at least {parts}")
    return None


def _adapters(run: Mapping) -> str:
    values = shortened(json.dumps(run["lora"], sort_keys=True, ensure_ascii=False), LONGEST_ADAPTERS)
    return f"Low-rank adapters trained, not all weights (lora {values})"


def _together(run: Mapping) -> str:
    kind = "CPU processes" if run["device"] == "cpu" else "GPUs"
    on_nodes = f" ({run['gpus']} on each of {run['nodes']} nodes)" if run["nodes"] > 1 else ""
    return f"Trained by {run['gpus'] * run['nodes']} {kind} together{on_nodes}"


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of a run, named as in Hugging Face's libraries where possible. Tables have columns in this order."""

    seed: int = option(
        [42],
        {"type": "array", "minItems": 1, "maxItems": 1000, "uniqueItems": True}
        | {"items": integer(0, 2**32 - 1) | {"description": "a seed"}},
        "one cell per seed, such as [42, 43]",
        "one cell for each; at most 1,000",
        key="seeds",
        in_recipe=False,
        is_swept=False,
    )
    threads: int = option(
        4,
        integer(1, 1024),
        "CPU threads of one cell (part of the run, since results are bit-identical only with equal numbers of threads)",
        "CPU threads of each process of a cell. Results are bit-equal only with equal threads",
        in_recipe=False,
        is_swept=False,
        for_prediction=True,
    )
    # Batch size, learning rate and length from appendix A.3 of the BERT paper, as most often used with run_glue.py.
    learning_rate: float = option(2e-5, positive(1), "peak learning rate of AdamW", conflict=_conflict_of_rate)
    per_device_train_batch_size: int = option(
        32,
        integer(1, 65536),
        "examples per device and update",
        "examples per device and batch",
    )
    per_device_eval_batch_size: int = option(
        32, integer(1, 65536), "examples per device and evaluation step", for_prediction=True
    )
    num_train_epochs: float = option(
        3,
        positive(10000),
        "passes over the training examples",
        "passes over the training examples, such as 1.5",
    )
    max_seq_length: int = option(
        128,
        integer(4, 65536),
        "longer inputs are truncated to this many tokens",
        "tokens after which inputs are truncated, the longer text of a pair first; at most what the model takes",
        for_prediction=True,
    )
    max_train_samples: int | None = option(
        None,
        integer(1, 10**9) | {"type": ["integer", "null"]},
        "only the first so many training examples",
        "train on the first so many examples",
        docs_default="all",
    )
    max_eval_samples: int | None = option(
        None,
        integer(1, 10**9) | {"type": ["integer", "null"]},
        "only the first so many examples of each validation split",
        "score the first so many examples of each validation split",
        docs_default="all",
        for_prediction=True,
    )
    device: str = option(
        "cuda",
        one_of("cuda", "cpu"),
        "cuda: fail at once if the job has no GPU; cpu: train without one",
        "`cuda`: fail at once if the job has no GPU; `cpu`: [train without one](install.md#without-a-gpu)",
        is_swept=False,
        for_prediction=True,
    )
    precision: str = option(
        "fp32",
        one_of("auto", "fp32", "tf32", "bf16", "fp16"),
        "arithmetic on fp32 weights; auto: bf16 if the GPU supports it, else fp32",
        "arithmetic over fp32 weights: `fp32`, `bf16`, on GPUs also `tf32` (fp32 with matrix products in TF32) and"
        " `fp16`, or `auto` (bf16 if the GPU has it, else fp32)",
        for_prediction=True,
        conflict=_conflict_of_precision,
    )
    train_sampling_strategy: str = option(
        "random",
        one_of("random", "group_by_length"),
        "random: random batches; group_by_length: batches of examples of similar length, which give other results",
        "`random`, or `group_by_length`: batches of similar length, as in transformers; hardly faster here",
        beside=lambda _: "group_by_length",
        note=lambda _: "Batches of examples of like length, not random ones (train_sampling_strategy group_by_length)",
    )
    lr_scheduler_type: str = option(
        "linear",
        one_of(
            *("linear", "cosine", "cosine_with_restarts", "polynomial"),
            *("constant", "constant_with_warmup", "inverse_sqrt"),
        ),
        "how the learning rate changes over the updates",
        "`linear`, `cosine`, `cosine_with_restarts` (one cycle, so the same), `polynomial`, `constant`,"
        " `constant_with_warmup` or `inverse_sqrt`, as in transformers",
    )
    warmup_ratio: float = option(
        0,
        number(0, 1),
        "share of the updates in which the learning rate rises from 0",
        "share of the updates in which the learning rate rises from 0",
        conflict=_conflict_of_warmup,
    )
    weight_decay: float = option(
        0,
        number(0, 10),
        "decay of AdamW, on all weights but biases and those of normalisations",
    )
    max_grad_norm: float = option(
        1,
        number(0, 1000000),
        "norm to which gradients are clipped; 0: not clipped",
    )
    gradient_accumulation_steps: int = option(1, integer(1, 65536), "batches per update")
    gradient_checkpointing: bool = option(
        False,
        {"type": "boolean"},
        "true: compute activations twice instead of keeping them; less memory, more time",
        "`true`: less memory and about a third more time, with the same numbers",
    )
    attn_implementation: str = option(
        "auto",
        one_of("auto", "eager", "sdpa", "flash_attention_2"),
        "auto: the fastest that the model and the device support, without padding if possible",
        "`auto`: [without padding](results.md) where the model allows it; `sdpa`, `eager`, `flash_attention_2` (needs"
        " the package flash-attn): transformers' own, with padding",
        for_prediction=True,
        conflict=_conflict_of_attention,
    )
    lora: dict | None = option(
        None,
        {
            "type": ["object", "null"],
            "additionalProperties": False,
            "properties": {
                "r": integer(1, 4096) | {"description": "rank of the adapters"},
                "lora_alpha": positive(1000000) | {"description": "scale of the adapters, divided by r"},
                "lora_dropout": {
                    **{"type": "number", "minimum": 0, "exclusiveMaximum": 1},
                    "description": "dropout before the adapters",
                },
                "target_modules": {
                    **{"type": ["array", "string"], "minItems": 1, "minLength": 1, "maxLength": 300},
                    **{"uniqueItems": True, "items": TEXT},
                    "description": "names of the linear layers to adapt, such as [query, value];"
                    " all-linear for all of the encoder's",
                },
            },
        },
        "train low-rank adapters instead of all weights: r, lora_alpha, lora_dropout, target_modules",
        "train low-rank adapters (peft) and the head instead of all weights: [LoRA](#lora)",
        beside=lambda _: "lora",
        note=_adapters,
    )
    eval_strategy: str = option(
        "no",
        one_of("no", "epoch"),
        "epoch: also score the validation splits after each epoch, and keep the curve",
        "`epoch`: also score the validation splits after each epoch, for the curve in `run_record.json`; the tables"
        " have the last epoch's scores",
    )
    save_model: str = option(
        "none",
        one_of("none", "last", "best"),
        "none, last (the last epoch) or best (the epoch with the best score, with eval_strategy: epoch), as a folder"
        " that transformers loads",
        "keep the model of the `last` or of the `best` epoch (needs `eval_strategy: epoch`) in `model/`, for"
        " `from_pretrained`",
        conflict=_conflict_of_saving,
    )
    gpus: int = option(
        1,
        integer(1, 64),
        "GPUs per node that train one cell together (with device: cpu, processes)",
        "GPUs per node that train one cell together: [Several GPUs](#several-gpus)",
        for_prediction=True,
        note=_together,
    )
    nodes: int = option(
        1,
        integer(1, 64),
        "nodes of one cell",
        "nodes that train one cell together; SLURM only",
        for_prediction=True,
        note=_together,
    )
    init_from: dict | None = option(  # in run.json, the cell: task, variant, run_sha256
        None,
        {"type": ["string", "null"], "minLength": 1, "maxLength": 64},
        "a task in this file: start from the model trained on it with the same seed",
        "a task of this file: start from the model that was trained on it ([From another task](#from-another-task))",
        is_swept=False,
        for_prediction=True,
        beside=lambda run: f"from {run['init_from']['task']}",
        note=lambda run: (
            f"Begun with the weights that the same model has after {run['init_from']['task']} with the same seed"
        ),
    )
    do_train: bool = option(
        True,
        {"type": "boolean"},
        "false: evaluate and predict with the checkpoint's own head, without training",
        "`false`: only evaluate and predict ([A finished checkpoint](#a-finished-checkpoint))",
        is_swept=False,
        for_prediction=True,
        beside=lambda _: "not trained here",
        note=lambda _: "Not trained here: scored or predicted with the head it came with",
    )
    selection: str = option(
        "validation",
        one_of("validation", "holdout"),
        "which data select the best of several variants: the validation splits, or a tenth of train that is set aside"
        " from training",
        "what the best variant of a [sweep](#sweeps) is chosen on: `validation` or `holdout`",
        is_swept=False,
    )
    global_batch_size: int | None = option(
        None,
        integer(1, 1048576),
        "examples per update over all devices, instead of per_device_train_batch_size",
        "examples per update over all devices and accumulated batches; replaces `per_device_train_batch_size`",
        in_recipe=False,
        conflict=_conflict_of_batch,
    )


OPTIONS: dict[str, Option] = {
    each.metadata["option"].key or each.name: each.metadata["option"] for each in fields(Options)
}
BATCH_KEYS = ("per_device_train_batch_size", "global_batch_size")  # mutually exclusive
SWEPT_KEYS = {key for key, declared in OPTIONS.items() if declared.is_swept}

RECIPE = 1
# A recipe is frozen once released: run.json stores only what differs from it, so changing a recipe would change the
# meaning of old runs. New defaults get a new number.
RECIPES: dict[int, dict[str, object]] = {
    1: {key: declared.default for key, declared in OPTIONS.items() if declared.in_recipe}
}
