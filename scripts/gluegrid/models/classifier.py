"""From a staged checkpoint to a classifier (or regressor) in fp32 whose outputs are the task's labels."""

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

OWN_CLASSES = ("AutoConfig", "AutoModelForSequenceClassification")  # of those in an auto_map, what is used
NAMES_OF_HEADS = ("classifier", "pre_classifier", "classification_head", "score", "head", "pooler")


def load_model(
    folder: Path, task: Task, seed: int, trust_remote_code: bool = False
) -> tuple[PreTrainedModel, list[int] | None, set[str]]:
    """Return the model with a head for the task, its output for each label of the data, and the names of new weights.

    New are those that the checkpoint lacks, which are drawn at random. The order is None where it is the data's own. A
    checkpoint that was trained on the same label names in another order (as an MNLI checkpoint may be) keeps its order,
    as in run_glue.py; a head of another size is drawn anew.
    Raises TrainingError.
    """
    try:
        config = _config(folder, trust_remote_code)
        order = label_order(config, task)
        _describe_outputs(config, task, order)
        # Before the model is built: a new head is drawn from this seed.
        set_seed(seed)
        model, new = _load(folder, config, trust_remote_code)
        return model, order, new
    except StagingError as error:
        raise TrainingError(f"{folder}: {error}") from error


def load_shapes(folder: Path, trust_remote_code: bool = False) -> PreTrainedModel:
    """Return the model as load_model finds it, but of shapes alone: no weight is read. Raises StagingError."""
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
    # transformers forgets these names where there is no id2label.
    config.label2id = as_written.get("label2id") or config.label2id
    # Neither changes what the model computes, and other values would end the training.
    config.return_dict = True
    config.chunk_size_feed_forward = 0
    return config


def _check_architecture(folder: Path, config: dict, trust_remote_code: bool) -> None:
    """Raise StagingError for a model that nobody has code for, and for one whose own code is needed and not trusted.

    A model with code of its own that transformers knows too is transformers' own unless its code is trusted.
    """
    kind = config.get("model_type")
    is_known = isinstance(kind, str) and kind in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES
    own_classes = config.get("auto_map") or {}
    if not isinstance(own_classes, dict):
        raise StagingError(f"{CONFIG}: auto_map is {shown(own_classes)}, no mapping from Auto classes to the model's")
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
            " the model's own code has no classifier to train"
        )
    check_trusted_code(CONFIG, [own_classes.get(name) for name in OWN_CLASSES], folder)


def _load(
    folder: Path, config: PreTrainedConfig, trust_remote_code: bool, **options: str
) -> tuple[PreTrainedModel, set[str]]:
    with one_line_errors("the model cannot be loaded"):
        model, loading = transformers.AutoModelForSequenceClassification.from_pretrained(
            read_from(folder),
            config=config,
            # transformers keeps the file's dtype otherwise; training in fp16 weights diverges or learns nothing.
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
    """Raise StagingError when transformers has drawn more at random than head and pooler, which it does silently."""
    base = model.base_model_prefix
    if hasattr(model, base):
        lacking = sorted(name for name in drawn if name.startswith(f"{base}.") and "pooler" not in name)
    else:
        # Code of its own may keep encoder and head side by side.
        lacking = sorted(name for name in drawn if not name.startswith(NAMES_OF_HEADS))
    if lacking:
        raise StagingError(
            f"the model lacks {len(lacking)} of the weights that its {CONFIG} asks for, such as {lacking[0]};"
            " are they of another architecture or shape?"
        )
    sizes = {name: weight.numel() for name, weight in model.state_dict().items()}
    new = sum(sizes.get(name, 0) for name in drawn)
    if new > sum(sizes.values()) - new:
        raise StagingError(
            f"most of the model would be drawn at random ({new:,} of {sum(sizes.values()):,} weights);"
            f" does its {CONFIG} fit its weights?"
        )


def check_head(folder: Path, task: Task, new: set[str], trust_remote_code: bool = False) -> None:
    """Raise TrainingError when a checkpoint's head is not one for this task, so that it must be trained first."""
    config = _config(folder, trust_remote_code)
    advice = "train it (do_train: true), or name a checkpoint that was trained on this task"
    if new:
        raise TrainingError(f"{folder}: has no head for {task.name}: {min(new)} would be drawn at random; {advice}")
    maps = list(_maps_of_outputs(config)) if task.labels else []
    named = [numbers for numbers in maps if not all(re.fullmatch(r"LABEL_\d+", name) for name in numbers)]
    if named and not any(_order_in(numbers, task.labels) for numbers in maps):
        ours, theirs = ", ".join(task.labels), ", ".join(named[0])
        raise TrainingError(
            f"{folder}: its outputs are {theirs}, the labels of {task.name} are {ours}; give the task the names that"
            f" the checkpoint has, in the order of the data's numbers, or {advice}"
        )


def _maps_of_outputs(config: PreTrainedConfig) -> Iterator[dict[str, object]]:
    """Yield the output of each name as `id2label` and then `label2id` have it."""
    yield {str(name): number for number, name in (config.id2label or {}).items()}
    yield {str(name): number for name, number in (config.label2id or {}).items()}


def label_order(config: PreTrainedConfig, task: Task) -> list[int] | None:
    """Return, for each label of the data, the checkpoint's number for that name; None where there is nothing to map.

    Raises StagingError where the checkpoint's two maps between numbers and names contradict each other.
    """
    maps = _maps_of_outputs(config) if task.labels else ()
    orders = [order for numbers in maps if (order := _order_in(numbers, task.labels))]
    if len(orders) > 1 and orders[0] != orders[1]:
        by_id, by_label = (
            ", ".join(sorted(task.labels, key=dict(zip(task.labels, order, strict=True)).get)) for order in orders
        )
        raise StagingError(
            f"{CONFIG}: its outputs are [{by_id}] by id2label and [{by_label}] by label2id; correct the wrong one"
        )
    return orders[0] if orders and orders[0] != sorted(orders[0]) else None


def _order_in(numbers: dict[str, object], labels: list[str]) -> list[int] | None:
    """Return the number of each label by its name, where capitals count only if names else are equal."""
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
    """Tell whether a model was made to write text, as GPT-2 and Llama: its classifier looks at a row's last token."""
    kind = config.model_type
    return kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and kind not in MODEL_FOR_MASKED_LM_MAPPING_NAMES


def pads_left(config: PreTrainedConfig) -> bool:
    """Tell whether a model takes what stands in the last place for a row's last token, padding or not."""
    return config.model_type == "xlnet"


def agree_on_padding(model: PreTrainedModel, pad_token_id: int) -> None:
    """Let the config of a decoder, or of a model of its own code that names none, name the token that rows are padded
    with.

    A decoder takes for a row's last token the last that is not the config's pad_token_id, whatever mask it is given. It
    is told when the weights are there: an embedding that is built for padding is never trained, and this token may have
    a meaning too, where the end of a text is used for padding. An encoder keeps what its config says, since some count
    positions by it.
    """
    if model.config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES:
        return
    for config in {id(config): config for config in (model.config, model.config.get_text_config())}.values():
        if is_decoder(model.config) or getattr(config, "pad_token_id", None) is None:
            config.pad_token_id = pad_token_id
        if is_decoder(model.config):
            config.use_cache = False  # of what only helps to write on


def takes_token_types(model: PreTrainedModel) -> bool:
    """Tell whether the model has an input for the segment of each token, and more than one kind of segment."""
    has_input = "token_type_ids" in inspect.signature(model.forward).parameters
    # RoBERTa has the input and one kind; a tokenizer borrowed from a BERT would index past its table.
    return has_input and getattr(model.config, "type_vocab_size", 2) > 1


def embeddings_of(model: PreTrainedModel) -> int:
    """Return for how many tokens the model has an embedding. Raises StagingError."""
    with one_line_errors("the model does not tell its table of embeddings"):
        return model.get_input_embeddings().weight.shape[0]


def check_inputs_fit(model: PreTrainedModel, vocabulary: int, longest: int) -> None:
    """Raise TrainingError when tokens of a (borrowed) tokenizer cannot be fed to this model."""
    embeddings = embeddings_of(model)
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
