"""Low-rank adapters: what they change, what is trained, and the model without them."""

import builders
import pytest
import torch

from gluegrid.common.errors import TrainingError
from gluegrid.models.classifier import load_model, load_shapes
from gluegrid.models.lora import load_trained_weights, merged, target_layers, trained_weights, with_adapters

pytestmark = pytest.mark.usefixtures("one_thread")

FAMILIES = {
    "bert": {},
    "roberta": {},
    "distilbert": {},
    "albert": {"embedding_size": 16},
    "electra": {"embedding_size": 16},
    "deberta-v2": {},
    "modernbert": {"global_attn_every_n_layers": 1},
}
LORA = {"r": 4, "lora_alpha": 8, "lora_dropout": 0, "target_modules": "all-linear"}
BATCH = {
    "input_ids": torch.tensor([[2, 11, 12, 13, 3], [2, 14, 15, 3, 0]]),
    "attention_mask": torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 1, 0]]),
}
POOLER = "bert.pooler.dense"


@pytest.fixture(scope="module", params=FAMILIES)
def family(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("family") / "model"
    return builders.write_model(folder, request.param, **FAMILIES[request.param])


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return builders.write_model(tmp_path_factory.mktemp("bert") / "model")


def plain(folder):
    return load_model(folder, builders.task(), seed=1)[0].eval()


def adapted(folder, seed=1, new=(), **changes):
    return with_adapters(plain(folder), LORA | changes, set(new), seed)


def logits(model):
    with torch.no_grad():
        return model(**BATCH).logits


def train(model, steps=3):
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=0.05)
    for _ in range(steps):
        model(**BATCH, labels=torch.tensor([1, 0])).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model


def adapter_weights(model):
    return {name: weights for name, weights in model.named_parameters() if ".lora_" in name}


def adapted_layers(model):
    return {name.partition(".lora_")[0] for name in adapter_weights(model)}


def linear_layers(model):
    return {name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}


def test_only_adapters_and_the_head_are_trained(family):
    before = plain(family)
    head = [name for name, _ in before.named_parameters() if not name.startswith(f"{before.base_model_prefix}.")]
    model = adapted(family)
    assert torch.equal(logits(model), logits(before))
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == {*head, *adapter_weights(model)}
    in_encoder = {name for name in linear_layers(before) if name.startswith(f"{before.base_model_prefix}.")}
    assert adapted_layers(model) == in_encoder
    frozen = {name: weights.clone() for name, weights in model.named_parameters() if name not in trained}
    start = {name: weights.detach().clone() for name, weights in model.named_parameters() if name in trained}
    after = dict(train(model).named_parameters())
    assert all(torch.equal(after[name], weights) for name, weights in frozen.items())
    assert not any(torch.equal(after[name], weights) for name, weights in start.items())


def test_merged_adapters_give_a_plain_model_of_the_same_outputs(family):
    before = plain(family)
    model = train(adapted(family))
    expected, random_state = logits(model), torch.get_rng_state()
    result = merged(model)
    assert not torch.allclose(expected, logits(before), atol=0.1)
    torch.testing.assert_close(logits(result), expected, atol=1e-5, rtol=1e-5)
    assert type(result) is type(before)
    assert result.state_dict().keys() == before.state_dict().keys()
    assert torch.equal(random_state, torch.get_rng_state())
    # The training can go on.
    assert torch.equal(logits(model), expected)
    train(model, 1)
    assert not torch.equal(logits(model), expected)


def test_a_model_without_adapters_is_merged_already(bert):
    model = plain(bert)
    assert merged(model) is model


def test_adapters_follow_from_the_seed_alone(bert):
    first = adapter_weights(adapted(bert, seed=1))
    torch.rand(7)
    again, other = adapter_weights(adapted(bert, seed=1)), adapter_weights(adapted(bert, seed=2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first if ".lora_A." in name)
    plain(bert)
    without = torch.get_rng_state()
    adapted(bert, seed=3)
    assert torch.equal(without, torch.get_rng_state())


def test_what_the_checkpoint_lacks_is_trained_whole(bert):
    assert POOLER in adapted_layers(adapted(bert))
    model = adapted(bert, new=[f"{POOLER}.weight", f"{POOLER}.bias", "classifier.weight", "classifier.bias"])
    assert POOLER not in adapted_layers(model)
    assert all(parameter.requires_grad for parameter in model.bert.pooler.parameters())


def test_named_layers_are_adapted_and_no_others(bert):
    ends = ["query", "attention.output.dense", "bert.encoder.layer.1.intermediate.dense"]
    layers = {
        f"bert.encoder.layer.{layer}.attention.{name}" for layer in (0, 1) for name in ("self.query", "output.dense")
    }
    assert adapted_layers(adapted(bert, target_modules=ends)) == layers | {ends[2]}
    assert adapted_layers(adapted(bert, target_modules="query")) == {name for name in layers if "query" in name}


@pytest.mark.parametrize("name", ["qury", "attention.self.qury"])
def test_a_name_that_no_layer_has_is_refused_with_the_nearest_before_weights_are_read(bert, name):
    shapes = load_shapes(bert)
    assert {parameter.device.type for parameter in shapes.parameters()} == {"meta"}
    with pytest.raises(TrainingError, match=rf"{name}'.*Did you mean 'query'\? Known: classifier, dense, key, query"):
        target_layers(shapes, ["value", name])
    with pytest.raises(TrainingError, match="Did you mean 'query'"):
        adapted(bert, target_modules=["value", name])


@pytest.mark.parametrize("names", ["all-linear", "query", ["query", "bert.pooler.dense"]])
def test_names_that_layers_have_are_accepted(bert, names):
    target_layers(load_shapes(bert), names)


@pytest.mark.parametrize("name", ["uery", "self", "LayerNorm", "word_embeddings", "layer.0"])
def test_a_part_of_a_name_or_another_layer_is_no_linear_layer(bert, name):
    with pytest.raises(TrainingError, match="no linear layer"):
        target_layers(load_shapes(bert), [name])


def test_the_head_alone_is_nothing_to_adapt(bert):
    with pytest.raises(TrainingError, match="trained in full"):
        adapted(bert, target_modules=["classifier"])


def test_a_checkpoint_has_the_trained_weights_only_and_brings_them_back(family):
    model = train(adapted(family))
    weights = trained_weights(model)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained <= weights.keys() < model.state_dict().keys()
    another = adapted(family, seed=2)
    load_trained_weights(another, weights)
    assert torch.equal(logits(another), logits(model))


def test_without_adapters_a_checkpoint_has_all_weights(bert):
    model = plain(bert)
    assert trained_weights(model).keys() == model.state_dict().keys()


@pytest.mark.parametrize("changes", [{"target_modules": ["query"]}, {"target_modules": ["query", "key", "value"]}])
def test_a_checkpoint_of_other_adapters_is_refused(bert, changes):
    weights = trained_weights(adapted(bert, target_modules=["query", "key"]))
    with pytest.raises(TrainingError, match=r"belong to another model; they differ in .*lora_"):
        load_trained_weights(adapted(bert, **changes), weights)


def test_gradient_checkpointing_gives_adapters_the_same_gradients(family):
    if not plain(family).supports_gradient_checkpointing:
        assert plain(family).config.model_type == "albert"
        return
    gradients = []
    for is_checkpointed in (False, True):
        model = adapted(family).train()
        if is_checkpointed:
            model.activation_checkpointing_enable({"use_reentrant": False})
        model(**BATCH, labels=torch.tensor([1, 0])).loss.backward()
        gradients.append({name: weights.grad for name, weights in model.named_parameters() if weights.requires_grad})
    without, with_checkpoints = gradients
    for name, gradient in without.items():
        torch.testing.assert_close(with_checkpoints[name], gradient, msg=lambda text, name=name: f"{name}: {text}")
    assert any(gradient.abs().max() > 0 for name, gradient in without.items() if ".lora_B." in name)
