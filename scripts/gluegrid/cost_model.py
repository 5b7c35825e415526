"""What a run costs, as a count: the floating-point operations of its training and of its predictions.

Kaplan et al., "Scaling Laws for Neural Language Models" (2020), section 2.1: about 2 operations per parameter and token
forwards, and twice as many backwards. Attention between tokens is left out, since it is little at GLUE's lengths. Time
is operations divided by a speed, which is what is measured of a device (measured_speeds.py): so the speed also stands
for all that a device does not do as well as it could.
"""

import math

from gluegrid.sizes import ModelSize, TaskSize

FORWARDS = 2
BACKWARDS = 4
BACKWARDS_OF_ADAPTERS = 2  # gradients of activations; hardly any of weights

MB_OF_SNAKEMAKE = 500
MARGIN_OF_MEMORY = 1.5


def operations(passed: int, tokens: float, passes: float) -> float:
    """Return the operations of so many tokens that pass so many parameters, with `passes` operations each."""
    return passed * tokens * passes


def operations_of_training(values: dict, model: ModelSize, task: TaskSize) -> float:
    """Return the operations of a run's training, over all its epochs and processes, with the scores of epochs.

    `values` are all of the run's, those of its recipe too.
    """
    if not values["do_train"]:
        return 0
    backwards = BACKWARDS if values["lora"] is None else BACKWARDS_OF_ADAPTERS
    passes = FORWARDS + backwards + (FORWARDS if values["gradient_checkpointing"] else 0)
    epochs = values["num_train_epochs"]
    trained = operations(model.passed, task.train.tokens_of(values["max_train_samples"]) * epochs, passes)
    scored_epochs = epochs if values["eval_strategy"] == "epoch" else 0
    return trained + operations(model.passed, _scored_tokens(values, task) * scored_epochs, FORWARDS)


def operations_of_predicting(values: dict, model: ModelSize, task: TaskSize) -> float:
    """Return the operations of predicting the validation and test splits once, which follows a training."""
    tokens = _scored_tokens(values, task) + sum(split.tokens for split in task.test)
    return operations(model.passed, tokens, FORWARDS)


def _scored_tokens(values: dict, task: TaskSize) -> float:
    return sum(split.tokens_of(values["max_eval_samples"]) for split in task.validation)


def memory_in_mb(values: dict, model: ModelSize) -> int:
    """Return the host memory in MB that a run is thought to need on each node.

    Snakemake's own two processes of each job count too. On a GPU: the libraries, and a copy of weights and optimizer
    while they are loaded or saved. On a CPU also all that is trained: weights, gradients and two moments, 4 bytes each,
    and the activations (about 34 x 2 bytes for each token, layer and hidden unit: Korthikanti et al., "Reducing
    Activation Recomputation" (2022), section 4).
    """
    if values["device"] == "cuda":
        of_process = 5_000 + 24 * model.parameters / 1e6
        return _rounded(MB_OF_SNAKEMAKE + of_process * values["gpus"])
    batch = values.get("global_batch_size") or values["per_device_train_batch_size"]
    layers_by_width = model.passed / (12 * model.hidden_size)
    activations = batch * values["max_seq_length"] * 68 * layers_by_width
    of_process = 2_000 + (20 * model.parameters + activations) / 1e6
    return _rounded(MB_OF_SNAKEMAKE + of_process * values["gpus"])


def memory_as_measured(values: dict, peak_bytes: int) -> int:
    """Return the host memory in MB that a run needs on each node, by the highest peak of a process seen, with room."""
    return _rounded(MB_OF_SNAKEMAKE + MARGIN_OF_MEMORY * peak_bytes / 1e6 * values["gpus"])


def _rounded(megabytes: float) -> int:
    return math.ceil(megabytes / 500) * 500
