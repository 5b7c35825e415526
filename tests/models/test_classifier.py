import json
import shutil

import builders
import numpy
import pytest
import safetensors.torch
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from gluegrid.common.errors import StagingError, TrainingError
from gluegrid.models.classifier import check_head, label_order, load_model, takes_token_types
from gluegrid.training.cell_trainer import CellTraining

NLI = builders.task(text_columns=["first", "second"], labels=builders.NLI_LABELS)
BINARY = builders.task()
REGRESSION = builders.task(labels=None, metrics=["pearson", "spearmanr"])
KINDS = ("bert", "roberta", "distilbert", "electra")


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """A tiny BERT that was trained on nothing, with three outputs named as MNLI's labels."""
    return builders.write_model(tmp_path_factory.mktemp("bert"), labels=builders.NLI_LABELS)


def cell(folder, task, model, **changes):
    """Return the training of a model on a task of 24 rows."""
    files = builders.cell_files(folder, task, model)
    return CellTraining(builders.run(task, **{"num_train_epochs": 1} | changes), *files)


def logits_of(cell_training):
    table, _ = cell_training.predict("validation")
    return numpy.stack(table.column("logits").to_numpy())


@pytest.mark.parametrize("kind", KINDS)
def test_predictions_are_those_of_transformers_on_the_same_texts(tmp_path, kind):
    training = cell(tmp_path, NLI, builders.write_model(tmp_path / "model", kind, labels=builders.NLI_LABELS))
    texts = builders.rows(24, NLI)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    inputs = tokenizer(texts["first"], texts["second"], truncation=True, max_length=16, padding=True)
    if not takes_token_types(training.model):
        del inputs["token_type_ids"]
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model").eval()
    with torch.no_grad():
        expected = model(**inputs.convert_to_tensors("pt")).logits.numpy()
    assert logits_of(training) == pytest.approx(expected, abs=1e-5)


def weights_in(folder):
    return safetensors.torch.load_file(folder / "model.safetensors")


def write_weights(folder, weights):
    safetensors.torch.save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def halved(bert, folder):
    builders.copy(bert, folder, dtype="float16")
    write_weights(folder, {name: weight.half() for name, weight in weights_in(bert).items()})
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_of_any_kind_is_trained_and_predicts(tmp_path, kind):
    training = cell(tmp_path, NLI, builders.write_model(tmp_path / "model", kind))
    before = logits_of(training)
    metrics = training.train()
    after = logits_of(training)
    assert before.shape == after.shape == (24, 3)
    assert numpy.isfinite(metrics["train_loss"])
    assert numpy.abs(after - before).max() > 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_padding_changes_no_prediction(tmp_path, kind):
    training = cell(tmp_path, NLI, builders.write_model(tmp_path / "model", kind))
    together = logits_of(training)
    one_by_one = cell(tmp_path / "again", NLI, tmp_path / "model", per_device_eval_batch_size=1)
    one_by_one.model.load_state_dict(training.model.state_dict())
    assert logits_of(one_by_one) == pytest.approx(together, abs=1e-5)


def test_weights_of_half_precision_are_trained_in_full(tmp_path, bert):
    training = cell(tmp_path, NLI, halved(bert, tmp_path / "half"), learning_rate=1e-6)
    assert {parameter.dtype for parameter in training.model.parameters()} == {torch.float32}
    training.train()
    assert {parameter.dtype for parameter in training.model.parameters()} == {torch.float32}
    name, weight = next(iter(training.model.named_parameters()))
    # A step of 1e-6 is lost when it is added to a weight in fp16.
    assert not torch.equal(weight, weights_in(tmp_path / "half")[name].float())


def permuted(bert, folder, order, rename=str.upper):
    """Write the same model with its outputs in another order: its output n is the label `order[n]`."""
    names = [rename(builders.NLI_LABELS[label]) for label in order]
    config = {"id2label": dict(enumerate(names)), "label2id": {name: number for number, name in enumerate(names)}}
    builders.copy(bert, folder, **config)
    weights = weights_in(bert)
    for name in ("classifier.weight", "classifier.bias"):
        weights[name] = weights[name][order].contiguous()
    write_weights(folder, weights)
    return folder


@pytest.mark.parametrize("order", [[2, 0, 1], [1, 2, 0], [2, 1, 0], [0, 1, 2]])
def test_a_checkpoint_with_its_labels_in_another_order_gives_the_same_predictions(tmp_path, bert, order):
    ours = cell(tmp_path / "ours", NLI, bert)
    other = cell(tmp_path / "other", NLI, permuted(bert, tmp_path / "permuted", order))
    assert (other.forward.label_order is None) == (order == [0, 1, 2])
    assert logits_of(other) == pytest.approx(logits_of(ours), abs=1e-6)
    metrics = ours.train()
    assert other.train()["train_loss"] == pytest.approx(metrics["train_loss"], rel=1e-6)
    assert logits_of(other) == pytest.approx(logits_of(ours), abs=1e-5)
    assert other.model.config.id2label == {number: builders.NLI_LABELS[label] for number, label in enumerate(order)}


def test_labels_are_mapped_by_name_and_case_does_not_count(tmp_path, bert):
    model, order, _ = load_model(permuted(bert, tmp_path / "permuted", [2, 0, 1], str.title), NLI, seed=1)
    assert order == [1, 2, 0]
    assert model.config.label2id == {"entailment": 1, "neutral": 2, "contradiction": 0}


def test_hidden_labels_are_not_mapped(tmp_path, bert):
    training = cell(tmp_path, NLI, permuted(bert, tmp_path / "permuted", [2, 0, 1]))
    rows = training.tokens.split("train")
    rows.labels = numpy.array([-1, 0, 2])
    assert training.forward.inputs(rows, numpy.arange(3))["labels"].tolist() == [-1, 1, 0]


@pytest.mark.parametrize("names", [["LABEL_0", "LABEL_1", "LABEL_2"], ["entailment", "neutral", "other"]])
def test_other_label_names_are_left_in_the_order_of_the_data(bert, names):
    config = AutoConfig.from_pretrained(bert)
    config.label2id = {name: 2 - number for number, name in enumerate(names)}
    assert label_order(config, NLI) is None


@pytest.mark.parametrize("numbers", [(0, 0, 5), ("one", "two", "three"), (None, None, None)])
def test_a_label_map_that_is_no_permutation_is_not_used(bert, numbers):
    config = AutoConfig.from_pretrained(bert)
    config.label2id = dict(zip(("entailment", "neutral", "contradiction"), numbers, strict=True))
    assert label_order(config, NLI) is None


ORDERS_OF_MAPS = [
    # id2label, label2id; the number of no and of yes
    (["yes", "no"], None, [1, 0]),
    (["Yes", "NO"], {}, [1, 0]),
    (["yes", "no"], {"LABEL_0": 0, "LABEL_1": 1}, [1, 0]),
    (None, {"yes": 0, "no": 1}, [1, 0]),
    (["LABEL_0", "LABEL_1"], {"yes": "0", "no": "1"}, [1, 0]),
    (["no", "yes"], None, None),
    (None, {"no": 0, "yes": 1}, None),
]


def with_maps(folder, id2label, label2id):
    """Write a classifier whose config.json has these maps between its outputs and their names, or has them not."""
    path = builders.write_model(folder) / "config.json"
    config = json.loads(path.read_text())
    maps = {"id2label": id2label and dict(enumerate(id2label)), "label2id": label2id}
    kept = {key: value for key, value in config.items() if key not in maps}
    path.write_text(json.dumps(kept | {key: value for key, value in maps.items() if value is not None}))
    return folder


@pytest.mark.parametrize(("id2label", "label2id", "expected"), ORDERS_OF_MAPS)
def test_either_of_a_checkpoints_maps_says_what_its_outputs_are(tmp_path, id2label, label2id, expected):
    folder = with_maps(tmp_path / "model", id2label, label2id)
    _, order, new = load_model(folder, BINARY, seed=1)
    assert order == expected
    assert check_head(folder, BINARY, new) is None


def test_maps_that_contradict_each_other_are_named_with_both_orders(tmp_path):
    folder = with_maps(tmp_path / "model", ["no", "yes"], {"yes": 0, "no": 1})
    problem = r"config.json: its outputs are \[no, yes\] in id2label but \[yes, no\] in label2id; correct the wrong one"
    with pytest.raises(TrainingError, match=problem):
        load_model(folder, BINARY, seed=1)
    # Another task's names do not matter to this one, whose head is trained.
    assert load_model(folder, builders.task(labels=["bad", "good"]), seed=1)[1] is None


@pytest.mark.parametrize("maps", [(["bad", "good"], None), (None, {"bad": 0, "good": 1}), (None, {"no": 0, "yes": 0})])
def test_a_finished_checkpoint_of_other_names_is_refused_whichever_map_has_them(tmp_path, maps):
    folder = with_maps(tmp_path / "model", *maps)
    with pytest.raises(TrainingError, match=r"its outputs are (bad, good|no, yes), but the labels of tiny are no, yes"):
        check_head(folder, BINARY, set())


def test_capitals_count_where_they_alone_tell_labels_apart(bert):
    config = AutoConfig.from_pretrained(bert)
    config.id2label = {0: "A", 1: "a"}
    config.label2id = {"A": 0, "a": 1}
    assert label_order(config, builders.task(labels=["a", "A"])) == [1, 0]


def head(model):
    return {name: weight for name, weight in model.state_dict().items() if name.startswith("classifier")}


@pytest.mark.parametrize(("task", "outputs"), [(NLI, 3), (REGRESSION, 1)], ids=["three labels", "regression"])
def test_a_head_of_another_size_is_drawn_anew(tmp_path, task, outputs):
    folder = builders.write_model(tmp_path / "model", labels=["no", "yes"])
    model, order, _ = load_model(folder, task, seed=1)
    assert order is None
    assert head(model)["classifier.weight"].shape == (outputs, 32)
    assert torch.equal(model.bert.pooler.dense.weight, weights_in(folder)["bert.pooler.dense.weight"])
    cell(tmp_path / "cell", task, folder).train()


def without_head(bert, folder):
    builders.copy(bert, folder)
    write_weights(folder, {name: weight for name, weight in weights_in(bert).items() if name.startswith("bert.")})
    return folder


def test_a_new_head_is_decided_by_the_seed_alone(tmp_path, bert):
    encoder = without_head(bert, tmp_path / "encoder")
    first = head(load_model(encoder, NLI, seed=1)[0])
    torch.rand(100)
    again = head(load_model(encoder, NLI, seed=1)[0])
    other = head(load_model(encoder, NLI, seed=2)[0])
    assert torch.equal(first["classifier.weight"], again["classifier.weight"])
    assert not torch.equal(first["classifier.weight"], other["classifier.weight"])


def test_a_head_that_fits_is_kept(bert):
    assert torch.equal(
        head(load_model(bert, NLI, seed=1)[0])["classifier.weight"], weights_in(bert)["classifier.weight"]
    )


def test_an_encoder_saved_without_its_prefix_is_loaded(tmp_path, bert):
    weights = {
        name.removeprefix("bert."): weight for name, weight in weights_in(without_head(bert, tmp_path / "a")).items()
    }
    write_weights(tmp_path / "a", weights)
    model, *_ = load_model(tmp_path / "a", NLI, seed=1)
    assert torch.equal(model.bert.embeddings.word_embeddings.weight, weights["embeddings.word_embeddings.weight"])


def test_an_encoder_without_a_pooler_gets_a_new_one(tmp_path, bert):
    """As a model that was trained on masked words alone is saved."""
    without_head(bert, tmp_path / "a")
    write_weights(
        tmp_path / "a", {name: weight for name, weight in weights_in(tmp_path / "a").items() if "pooler" not in name}
    )
    assert load_model(tmp_path / "a", NLI, seed=1)


def test_a_model_without_token_types_is_given_none(tmp_path):
    training = cell(tmp_path, NLI, builders.write_model(tmp_path / "model", "distilbert"))
    assert not takes_token_types(training.model)
    assert "token_type_ids" not in training.forward.inputs(training.tokens.split("train"), numpy.arange(1))
    training.train()


def test_a_borrowed_tokenizer_with_too_many_words_is_refused_before_training(tmp_path, bert):
    small = builders.write_model(tmp_path / "small", vocab_size=20)
    _, tokens = builders.cell_files(tmp_path, NLI, bert)
    with pytest.raises(TrainingError, match="the tokenizer has 26 entries, but the model embeds 20"):
        CellTraining(builders.run(NLI), small, tokens)


def test_inputs_longer_than_the_models_positions_are_refused_before_training(tmp_path, bert):
    short = builders.write_model(tmp_path / "short", max_position_embeddings=8)
    _, tokens = builders.cell_files(tmp_path, NLI, bert)
    with pytest.raises(TrainingError, match=r"inputs of \d+ tokens exceed the model's 8 positions"):
        CellTraining(builders.run(NLI), short, tokens)


def test_a_model_of_pickles_alone_is_refused_when_it_is_staged(tmp_path, bert):
    builders.copy(bert, tmp_path / "pickled")
    (tmp_path / "pickled" / "model.safetensors").rename(tmp_path / "pickled" / "pytorch_model.bin")
    with pytest.raises(StagingError, match=r"no safetensors weights \(only pytorch_model\.bin, which run code"):
        builders.stage_model(tmp_path / "staged", tmp_path / "pickled")
    with pytest.raises(TrainingError, match=r"pickled: the model cannot be loaded"):
        load_model(tmp_path / "pickled", NLI, seed=1)


def test_a_model_without_weights_is_refused(tmp_path, bert):
    builders.copy(bert, tmp_path / "empty")
    (tmp_path / "empty" / "model.safetensors").unlink()
    with pytest.raises(StagingError, match="no safetensors weights; name a revision that has them"):
        builders.stage_model(tmp_path / "staged", tmp_path / "empty")
    with pytest.raises(TrainingError, match="empty: the model cannot be loaded"):
        load_model(tmp_path / "empty", NLI, seed=1)


def test_a_truncated_file_of_weights_is_refused(tmp_path, bert):
    builders.copy(bert, tmp_path / "cut")
    path = tmp_path / "cut" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(TrainingError, match="cut: the model cannot be loaded"):
        load_model(tmp_path / "cut", NLI, seed=1)


@pytest.mark.parametrize("missing", ["bert.encoder.layer.1.output.dense.weight", "bert.embeddings."])
def test_an_encoder_that_would_be_drawn_at_random_in_part_is_refused(tmp_path, bert, missing):
    builders.copy(bert, tmp_path / "part")
    weights = {name: weight for name, weight in weights_in(bert).items() if not name.startswith(missing)}
    write_weights(tmp_path / "part", weights)
    with pytest.raises(TrainingError, match=rf"lacks .*{missing}"):
        load_model(tmp_path / "part", NLI, seed=1)


def test_weights_of_another_architecture_are_refused(tmp_path, bert):
    other = builders.write_model(tmp_path / "other", "distilbert")
    shutil.copy(bert / "model.safetensors", other / "model.safetensors")
    with pytest.raises(TrainingError, match=r"lacks .*distilbert\."):
        load_model(other, NLI, seed=1)


def test_an_encoder_of_another_shape_than_its_config_is_refused(tmp_path, bert):
    builders.copy(bert, tmp_path / "wide", vocab_size=40)
    with pytest.raises(TrainingError, match=r"lacks .*word_embeddings"):
        load_model(tmp_path / "wide", NLI, seed=1)


@pytest.mark.parametrize("text", ["", "{}", '{"model_type": "no-such-model"}'])
def test_a_config_that_cannot_be_used_is_named(tmp_path, bert, text):
    builders.copy(bert, tmp_path / "broken")
    (tmp_path / "broken" / "config.json").write_text(text, encoding="utf-8")
    with pytest.raises(
        TrainingError, match=r"broken: config\.json: (cannot be read as JSON|the model_type .* is unknown)"
    ):
        load_model(tmp_path / "broken", NLI, seed=1)


def test_a_regression_is_trained_on_squared_errors(tmp_path):
    training = cell(tmp_path, REGRESSION, builders.write_model(tmp_path / "model"), learning_rate=0.0)
    batch = training.forward.inputs(training.tokens.split("train"), numpy.arange(5))
    loss = training.model(**batch).loss
    outputs = training.model(**batch).logits[:, 0]
    assert loss.item() == pytest.approx(((outputs - batch["labels"]) ** 2).mean().item())


def test_a_real_encoder_of_half_precision_is_loaded_in_full(shared):
    model, order, _ = load_model(shared / "models" / "minilm-l6-h384", NLI, seed=1)
    assert (order, {parameter.dtype for parameter in model.parameters()}) == (None, {torch.float32})
