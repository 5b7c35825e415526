"""Low-rank adapters (LoRA) with peft: which layers get one, what else is trained, and how adapters are merged."""

import copy
import re

import torch
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D  # GPT-2's linear layers

from gluegrid.common.errors import TrainingError
from gluegrid.experiment.config_errors import suggest
from gluegrid.experiment.options import ALL_LINEAR
from gluegrid.models.classifier import NAMES_OF_HEADS

ADAPTER = "default"  # peft's own name for the one adapter


def with_adapters(model: PreTrainedModel, lora: dict, new: set[str], seed: int) -> PreTrainedModel:
    """Add adapters to the model's linear layers, in place, and make only them and new weights trainable; return it.

    `lora` has r, lora_alpha, lora_dropout and target_modules; `new` has the names of the randomly initialized weights,
    which are trained in full, as is the whole head. The model keeps its class, and its outputs until it is trained.
    Raises TrainingError as target_layers does, and if nothing is left to adapt.
    """
    # The import takes seconds.
    from peft import LoraConfig, inject_adapter_in_model

    whole = _trained_whole(model, new)
    layers = [name for name in target_layers(model, lora["target_modules"]) if not _is_within(name, whole)]
    if not layers:
        raise TrainingError("lora: all layers in target_modules are trained in full; name layers of the encoder")
    # A pattern of full names, since peft matches names in a list against the ends of layer names.
    pattern = "|".join(re.escape(name) for name in layers)
    config = LoraConfig(
        r=lora["r"],
        lora_alpha=lora["lora_alpha"],
        lora_dropout=lora["lora_dropout"],
        target_modules=pattern,
        fan_in_fan_out=all(isinstance(model.get_submodule(name), Conv1D) for name in layers),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(config, model, ADAPTER)
    for name, parameter in model.named_parameters():
        if _is_within(name, whole):
            parameter.requires_grad_(True)
    return model


def target_layers(model: PreTrainedModel, names: list[str] | str) -> list[str]:
    """Return the linear layers that target_modules names: those whose name equals it, or ends in it after a dot.

    Raises TrainingError for a name that no layer has, with the nearest match. The model may consist of shapes alone, as
    from gluegrid.models.classifier.load_shapes.
    """
    layers = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear | Conv1D)]
    if not layers:
        raise TrainingError("lora: the model has no linear layers; train it without lora")
    if names == ALL_LINEAR:
        return layers
    listed = [names] if isinstance(names, str) else names
    for name in listed:
        if not any(_is_called(layer, name) for layer in layers):
            ends = {layer.rpartition(".")[2] for layer in layers}
            raise TrainingError(
                f"lora: target_modules has {name!r}, but no linear layer of the model has that name."
                f"{suggest(name.rpartition('.')[2], ends)}; or {ALL_LINEAR}"
            )
    return [layer for layer in layers if any(_is_called(layer, name) for name in listed)]


def trained_weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return the model's state without the frozen weights, which are in its checkpoint."""
    frozen = _frozen(model)
    return {name: tensor for name, tensor in model.state_dict().items() if name not in frozen}


def load_trained_weights(model: torch.nn.Module, weights: dict[str, torch.Tensor]) -> None:
    """Load the result of trained_weights. Raises TrainingError if it does not match the weights this model trains."""
    loading = model.load_state_dict(weights, strict=False)
    other = [*loading.unexpected_keys, *sorted({*loading.missing_keys} - _frozen(model))]
    if other:
        raise TrainingError(f"the checkpoint's weights belong to another model; they differ in {other[0]}")


def merged(model: PreTrainedModel) -> PreTrainedModel:
    """Return a copy of the model with each adapter merged into its layer's weights; a model without adapters as it is.

    The model and all random generators stay unchanged, so that training can continue.
    """
    if not hasattr(model, "peft_config"):
        return model
    from peft.tuners.lora import LoraLayer

    plain = copy.deepcopy(model)
    adapted = {name: module for name, module in plain.named_modules() if isinstance(module, LoraLayer)}
    for name, module in adapted.items():
        module.merge()
        plain.set_submodule(name, module.get_base_layer())
    del plain.peft_config
    return plain


def _frozen(model: torch.nn.Module) -> set[str]:
    parameters = model.named_parameters(remove_duplicate=False)
    return {name for name, parameter in parameters if not parameter.requires_grad}


def _trained_whole(model: PreTrainedModel, new: set[str]) -> set[str]:
    """Return the names of the modules in the head, and of those that have no pretrained weights to adapt."""
    has_encoder = hasattr(model, model.base_model_prefix)
    children = [name for name, _ in model.named_children()]
    if has_encoder:
        head = {name for name in children if name != model.base_model_prefix}
    else:
        # A model's own code may have encoder and head side by side.
        head = {name for name in children if name.startswith(NAMES_OF_HEADS)}
    return head | {name.rpartition(".")[0] or name for name in new}


def _is_within(name: str, modules: set[str]) -> bool:
    return any(name == module or name.startswith(f"{module}.") for module in modules)


def _is_called(layer: str, name: str) -> bool:
    return layer == name or layer.endswith(f".{name}")  # as in peft
