"""From a staged checkpoint to a classifier (or regressor) in fp32 whose outputs are the task's labels."""

import inspect
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    PreTrainedConfig,
    PreTrainedModel,
    set_seed,
)
from transformers.utils import logging as transformers_logging

from gluegrid.errors import TrainingError
from gluegrid.model_tokenizer import positions_of
from gluegrid.tasks import Task


def load_model(folder: Path, task: Task, seed: int) -> tuple[PreTrainedModel, list[int] | None]:
    """Return the model with a head for the task, and the model's output for each label of the data.

    The order is None where it is the data's own. A checkpoint that was trained on the same label names in another
    order (as an MNLI checkpoint may be) keeps its order, as in run_glue.py; a head of another size is drawn anew.
    Raises TrainingError.
    """
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    config = _config(folder)
    order = label_order(config, task)
    _describe_outputs(config, task, order)
    # Before the model is built: a new head is drawn from this seed.
    set_seed(seed)
    try:
        model, loading = AutoModelForSequenceClassification.from_pretrained(
            folder,
            config=config,
            # transformers keeps the file's dtype otherwise; training in fp16 weights diverges or learns nothing.
            dtype=torch.float32,
            use_safetensors=True,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            local_files_only=True,
            trust_remote_code=False,
        )
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise TrainingError(f"{folder}: the model cannot be loaded: {str(error).splitlines()[0]}") from error
    _check_encoder_is_whole(folder, model, loading)
    return model, order


def _check_encoder_is_whole(folder: Path, model: PreTrainedModel, loading: dict) -> None:
    """Raise TrainingError when transformers has drawn more at random than head and pooler, which it does silently."""
    drawn = {*loading["missing_keys"], *(name for name, *_ in loading["mismatched_keys"])}
    encoder = f"{model.base_model_prefix}."
    lacking = sorted(name for name in drawn if name.startswith(encoder) and "pooler" not in name)
    if lacking:
        raise TrainingError(
            f"{folder}: lacks {len(lacking)} of the weights that its config.json asks for, such as {lacking[0]};"
            " are they of another architecture or shape?"
        )


def _config(folder: Path) -> PreTrainedConfig:
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise TrainingError(f"{folder}/config.json: cannot be used: {str(error).splitlines()[0]}") from error


def label_order(config: PreTrainedConfig, task: Task) -> list[int] | None:
    """Return, for each label of the data, the checkpoint's number for that name; None where there is nothing to map."""
    if task.labels is None or not config.label2id:
        return None
    numbers = {str(name).lower(): number for name, number in config.label2id.items()}
    if numbers.keys() != {name.lower() for name in task.labels}:
        return None
    order = [int(numbers[name.lower()]) for name in task.labels]
    is_a_permutation = sorted(order) == list(range(len(order)))
    return order if is_a_permutation and order != sorted(order) else None


def _describe_outputs(config: PreTrainedConfig, task: Task, order: list[int] | None) -> None:
    config.num_labels = task.number_of_outputs
    config.problem_type = "regression" if task.is_regression else "single_label_classification"
    if task.labels is not None:
        numbers = order or range(len(task.labels))
        config.label2id = dict(zip(task.labels, numbers, strict=True))
        config.id2label = {number: name for name, number in config.label2id.items()}


def takes_token_types(model: PreTrainedModel) -> bool:
    """Tell whether the model has an input for the segment of each token, and more than one kind of segment."""
    has_input = "token_type_ids" in inspect.signature(model.forward).parameters
    # RoBERTa has the input and one kind; a tokenizer borrowed from a BERT would index past its table.
    return has_input and getattr(model.config, "type_vocab_size", 2) > 1


def check_inputs_fit(model: PreTrainedModel, vocabulary: int, longest: int) -> None:
    """Raise TrainingError when tokens of a (borrowed) tokenizer cannot be fed to this model."""
    embeddings = model.get_input_embeddings().num_embeddings
    if vocabulary > embeddings:
        raise TrainingError(
            f"the tokenizer has {vocabulary} entries and the model embeds {embeddings};"
            " name the right `tokenizer:` in the config"
        )
    positions = positions_of(model.config)
    if positions is not None and longest > positions:
        raise TrainingError(
            f"inputs of {longest} tokens do not fit the model's {positions} positions;"
            f" set max_seq_length: {positions} for it"
        )
