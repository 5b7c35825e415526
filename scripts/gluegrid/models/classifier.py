"""Load a staged checkpoint as a classifier (or regressor) in fp32 whose outputs are the task's labels."""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import torch
import transformers
from transformers import PreTrainedConfig, PreTrainedModel, set_seed
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
)
from transformers.utils import logging as transformers_logging

from gluegrid.common.errors import StagingError, TrainingError, one_line_errors
from gluegrid.execution.scratch import read_from
from gluegrid.experiment.task import Task
from gluegrid.models.model_config import CONFIG, NOT_TRUSTED, check_trusted_code, read_model_config, shown
from gluegrid.models.tokenizer import positions_of

OWN_CLASSES = ("AutoConfig", "AutoModelForSequenceClassification")  # the entries of an auto_map that are used
NAMES_OF_HEADS = ("classifier", "pre_classifier", "classification_head", "score", "head", "pooler")


def load_model(
    folder: Path, task: Task, seed: int, trust_remote_code: bool = False
) -> tuple[PreTrainedModel, list[int] | None, set[str]]:
    """Return the model with a head for the task, its output for each label of the data, and the names of new weights.

    New weights are those that the checkpoint lacks; they are initialized at random. The label order is None if it is
    that of the data. A checkpoint that was trained on the same label names in another order (as an MNLI checkpoint may
    be) keeps its order, as in run_glue.py; a head of another size is initialized anew. Raises TrainingError.
    """
    try:
        config = _config(folder, trust_remote_code)
        order = label_order(config, task)
        _describe_outputs(config, task, order)
        # Before the model is built, since this seed initializes a new head.
        set_seed(seed)
        model, new = _load(folder, config, trust_remote_code)
        return model, order, new
    except StagingError as error:
        raise TrainingError(f"{folder}: {error}") from error


def load_shapes(folder: Path, trust_remote_code: bool = False) -> PreTrainedModel:
    """Return the model as load_model does, but with shapes only: no weights are read. Raises StagingError."""
    model, _ = _load(folder, _config(folder, trust_remote_code), trust_remote_code, device_map="meta")
    return model


def _config(folder: Path, trust_remote_code: bool) -> PreTrainedConfig:
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    folder = read_from(folder)
    as_written = read_model_config(folder)
    _check_architecture(folder, as_written, trust_remote_code)
    with one_line_errors(f"{CONFIG}: cannot be used"):
        config = transformers.AutoConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=trust_remote_code
        )
    # transformers drops these names if there is no id2label.
    config.label2id = as_written.get("label2id") or config.label2id
    # Neither changes what the model computes, but other values would break the training.
    config.return_dict = True
    config.chunk_size_feed_forward = 0
    return config


def _check_architecture(folder: Path, config: dict, trust_remote_code: bool) -> None:
    """Raise StagingError for a model without any code, and for one that needs its own code but is not trusted.

    If transformers also knows a model with its own code, transformers' code is used, unless its own is trusted.
    """
    kind = config.get("model_type")
    is_known = isinstance(kind, str) and kind in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES
    own_classes = config.get("auto_map") or {}
    if not isinstance(own_classes, dict):
        raise StagingError(f"{CONFIG}: auto_map is {shown(own_classes)}; it must map Auto classes to the model's own")
    if trust_remote_code and own_classes and (not is_known or own_classes.keys() & {*OWN_CLASSES}):
        _check_own_code(folder, own_classes)
    elif is_known:
        return
    elif own_classes:
        raise StagingError(f"{CONFIG}: the model {NOT_TRUSTED}")
    elif isinstance(kind, str) and kind in transformers.CONFIG_MAPPING:
        raise StagingError(f"{CONFIG}: transformers has no sequence classifier for the model_type {shown(kind)}")
    else:
        raise StagingError(
            f"{CONFIG}: the model_type {shown(kind)} is unknown to transformers {transformers.__version__}"
        )


def _check_own_code(folder: Path, own_classes: dict) -> None:
    if "AutoModelForSequenceClassification" not in own_classes:
        raise StagingError(
            f"{CONFIG}: auto_map has no AutoModelForSequenceClassification, only {shown(sorted(own_classes))};"
            " use a model whose own code has a classifier"
        )
    check_trusted_code(CONFIG, [own_classes.get(name) for name in OWN_CLASSES], folder)


def _load(
    folder: Path, config: PreTrainedConfig, trust_remote_code: bool, **options: str
) -> tuple[PreTrainedModel, set[str]]:
    with one_line_errors("the model cannot be loaded"):
        model, loading = transformers.AutoModelForSequenceClassification.from_pretrained(
            read_from(folder),
            config=config,
            # Otherwise transformers keeps the file's dtype, and training with fp16 weights diverges or learns nothing.
            dtype=torch.float32,
            use_safetensors=True,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            local_files_only=True,
            trust_remote_code=trust_remote_code,
            **options,
        )
    new = {*loading["missing_keys"], *(name for name, *_ in loading["mismatched_keys"])}
    _check_encoder_is_whole(model, new)
    return model, new


def _check_encoder_is_whole(model: PreTrainedModel, drawn: set[str]) -> None:
    """Raise StagingError if transformers silently initialized more weights at random than head and pooler."""
    base = model.base_model_prefix
    if hasattr(model, base):
        lacking = sorted(name for name in drawn if name.startswith(f"{base}.") and "pooler" not in name)
    else:
        # A model's own code may have encoder and head side by side.
        lacking = sorted(name for name in drawn if not name.startswith(NAMES_OF_HEADS))
    if lacking:
        raise StagingError(
            f"the model lacks {len(lacking)} of the weights that its {CONFIG} requires, such as {lacking[0]};"
            " do they have another architecture or shape?"
        )
    sizes = {name: weight.numel() for name, weight in model.state_dict().items()}
    new = sum(sizes.get(name, 0) for name in drawn)
    if new > sum(sizes.values()) - new:
        raise StagingError(
            f"most of the model would be initialized at random ({new:,} of {sum(sizes.values()):,} weights);"
            f" does its {CONFIG} match its weights?"
        )


def check_head(folder: Path, task: Task, new: set[str], trust_remote_code: bool = False) -> None:
    """Raise TrainingError if a checkpoint's head does not fit this task, so that it must be trained first."""
    config = _config(folder, trust_remote_code)
    advice = "train it (do_train: true), or name a checkpoint that was trained on this task"
    if new:
        problem = f"has no head for {task.name}: {min(new)} would be initialized at random"
        raise TrainingError(f"{folder}: {problem}; {advice}")
    maps = list(_maps_of_outputs(config)) if task.labels else []
    named = [numbers for numbers in maps if not all(re.fullmatch(r"LABEL_\d+", name) for name in numbers)]
    if named and not any(_order_in(numbers, task.labels) for numbers in maps):
        ours, theirs = ", ".join(task.labels), ", ".join(named[0])
        raise TrainingError(
            f"{folder}: its outputs are {theirs}, but the labels of {task.name} are {ours}; give the task's labels the"
            f" checkpoint's names, in the order of the data's numbers, or {advice}"
        )


def _maps_of_outputs(config: PreTrainedConfig) -> Iterator[dict[str, object]]:
    """Yield the map from names to outputs according to `id2label`, then according to `label2id`."""
    yield {str(name): number for number, name in (config.id2label or {}).items()}
    yield {str(name): number for name, number in (config.label2id or {}).items()}


def label_order(config: PreTrainedConfig, task: Task) -> list[int] | None:
    """Return, for each label of the data, the checkpoint's number for that name; None if there is nothing to map.

    Raises StagingError if the checkpoint's two maps between numbers and names contradict each other.
    """
    maps = _maps_of_outputs(config) if task.labels else ()
    orders = [order for numbers in maps if (order := _order_in(numbers, task.labels))]
    if len(orders) > 1 and orders[0] != orders[1]:
        by_id, by_label = (
            ", ".join(sorted(task.labels, key=dict(zip(task.labels, order, strict=True)).get)) for order in orders
        )
        raise StagingError(
            f"{CONFIG}: its outputs are [{by_id}] in id2label but [{by_label}] in label2id; correct the wrong one"
        )
    return orders[0] if orders and orders[0] != sorted(orders[0]) else None


def _order_in(numbers: dict[str, object], labels: list[str]) -> list[int] | None:
    """Return the number of each label by its name, ignoring case unless the names match exactly."""
    plain = str if numbers.keys() == {*labels} else str.lower
    lowered = {plain(name): number for name, number in numbers.items()}
    try:
        order = [int(lowered[plain(label)]) for label in labels]
    except (TypeError, ValueError, KeyError, OverflowError):
        return None
    return order if len(numbers) == len(labels) and sorted(order) == [*range(len(order))] else None


def _describe_outputs(config: PreTrainedConfig, task: Task, order: list[int] | None) -> None:
    config.num_labels = task.number_of_outputs
    config.problem_type = task.kind.problem_type
    if task.labels is not None:
        numbers = order or range(len(task.labels))
        config.label2id = dict(zip(task.labels, numbers, strict=True))
        config.id2label = {number: name for name, number in config.label2id.items()}


def is_decoder(config: PreTrainedConfig) -> bool:
    """Tell whether a model generates text, like GPT-2 and Llama, so that its classifier uses a row's last token."""
    kind = config.model_type
    return kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and kind not in MODEL_FOR_MASKED_LM_MAPPING_NAMES


def pads_left(config: PreTrainedConfig) -> bool:
    """Tell whether a model takes the last position as a row's last token, even if it is padding."""
    return config.model_type == "xlnet"


def agree_on_padding(model: PreTrainedModel, pad_token_id: int) -> None:
    """Set the padding token in the config of a decoder, and in that of a model with its own code that names none.

    A decoder takes as a row's last token the last one that is not the config's pad_token_id, whatever mask it gets. Set
    it only after the weights are loaded: an embedding that is built for padding is never trained, but the end-of-text
    token may serve as padding, too. An encoder keeps its config, since some count positions by it.
    """
    if model.config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES:
        return
    for config in {id(config): config for config in (model.config, model.config.get_text_config())}.values():
        if is_decoder(model.config) or getattr(config, "pad_token_id", None) is None:
            config.pad_token_id = pad_token_id
        if is_decoder(model.config):
            config.use_cache = False  # only useful for generation


def takes_token_types(model: PreTrainedModel) -> bool:
    """Tell whether the model has an input for the segment of each token, and more than one segment."""
    has_input = "token_type_ids" in inspect.signature(model.forward).parameters
    # RoBERTa has the input but one segment; a tokenizer borrowed from BERT would index past its table.
    return has_input and getattr(model.config, "type_vocab_size", 2) > 1


def embeddings_of(model: PreTrainedModel) -> int:
    """Return the number of tokens that the model embeds. Raises StagingError."""
    with one_line_errors("the model's table of embeddings cannot be found"):
        return model.get_input_embeddings().weight.shape[0]


def check_inputs_fit(model: PreTrainedModel, vocabulary: int, longest: int) -> None:
    """Raise TrainingError if this model cannot take the tokens of its (perhaps borrowed) tokenizer."""
    embeddings = embeddings_of(model)
    if vocabulary > embeddings:
        raise TrainingError(
            f"the tokenizer has {vocabulary} entries, but the model embeds {embeddings};"
            " set the right `tokenizer:` in the experiment file"
        )
    positions = positions_of(model.config)
    if positions is not None and longest > positions:
        raise TrainingError(
            f"inputs of {longest} tokens exceed the model's {positions} positions;"
            f" set max_seq_length: {positions} for this model"
        )
