"""Decoders with a classifier on the row's last token (GPT-2, Llama, Qwen): padded as transformers finds that token."""

import json

import builders
import numpy
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, GPT2Tokenizer, PreTrainedTokenizerFast

from gluegrid.common.errors import StagingError
from gluegrid.models.classifier import is_decoder
from gluegrid.staging.model_check import describe_checkpoint
from gluegrid.training.cell_trainer import CellTraining
from gluegrid.training.saved_model import write_model

pytestmark = pytest.mark.usefixtures("one_thread")

END, BEGIN, PADDING = "<|end|>", "<|begin|>", "<|endoftext|>"
SHAPES = ("gpt2", "llama", "qwen2", "opt")
TASKS = {
    "two labels": builders.task(text_columns=["first", "second"]),
    "three labels": builders.task(labels=builders.NLI_LABELS, test=["test"]),
    "a number": builders.task(labels=None, metrics=["pearson"]),
}
SIZES = {"intermediate_size": 64, "num_key_value_heads": 2, "head_dim": 16, "ffn_dim": 64, "word_embed_proj_dim": 32}
WITHOUT_DROPOUT = ("resid_pdrop", "embd_pdrop", "attn_pdrop", "dropout", "attention_dropout", "hidden_dropout")
ABOUT = {
    **{"results": {}, "epoch": 1, "run_sha256": "0" * 64, "task_files": {}},
    **{"git": {"commit": None, "dirty": None}, "versions": {}},
}


def write_tokenizer(folder, kind):
    """Save a tokenizer of bytes as people have those of the kind: GPT-2's pads with the end, Llama's has no padding
    token, and begins each text with one of its own, others pad with a token that is not the end. Most pad on the left.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate((BEGIN, PADDING, *alphabet, END))}
    if kind == "gpt2":
        ends = dict.fromkeys(("bos_token", "eos_token", "unk_token", "pad_token"), END)
        tokenizer = GPT2Tokenizer(vocab=vocabulary, merges=[], padding_side="left", **ends)
    else:
        plain = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
        plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        plain.decoder = decoders.ByteLevel()
        if kind == "llama":
            begin = [(BEGIN, 0)]
            plain.post_processor = processors.TemplateProcessing(
                single=f"{BEGIN} $A", pair=f"{BEGIN} $A {BEGIN}:0 $B:0", special_tokens=begin
            )
        options = {"bos_token": BEGIN, "eos_token": END, "model_input_names": ["input_ids", "attention_mask"]}
        if kind != "llama":
            options |= {"pad_token": PADDING, "padding_side": "left"}
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=plain, **options)
    tokenizer.save_pretrained(folder)
    return len(vocabulary)


def write_decoder(folder, kind, **values):
    """Save a decoder without a head, whose config.json names no padding, and its tokenizer."""
    size = write_tokenizer(folder, kind)
    values = dict.fromkeys(WITHOUT_DROPOUT, 0.0) | SIZES | {"vocab_size": size, "pad_token_id": None} | values
    builders.write_classifier(folder, kind, **values)
    return folder


@pytest.fixture(scope="module", params=SHAPES)
def decoder(request, tmp_path_factory):
    """A decoder of each shape. To be copied, not changed."""
    return write_decoder(tmp_path_factory.mktemp(request.param) / "model", request.param)


def columns_of(task):
    """Return rows among which are an empty text, ends of texts within one and at its end, and nothing but one."""
    columns = builders.rows(16, task)
    first = task.text_columns[0]
    columns[first][3] = ""
    columns[first][5] = f"the cat{END} sat"
    columns[first][7] = f"a dog ran{END}"
    columns[first][9] = END
    for name in task.text_columns[1:]:
        columns[name][3] = ""
    return columns


def texts_of(task, columns):
    return list(zip(*(columns[name] for name in task.text_columns), strict=True))


def cell_of(folder, source, task, **changes):
    """Return a cell's training, and the rows that it is trained on and predicts."""
    columns = columns_of(task)
    model, tokens = builders.cell_files(folder, task, source, 64, **dict.fromkeys(task.splits, columns))
    values = {"max_seq_length": 64, "num_train_epochs": 1, "per_device_train_batch_size": 8} | changes
    return CellTraining(builders.run(task, **values), model, tokens), columns


def logits_of(table):
    return numpy.stack(table.column("logits").to_numpy())


def plain(training):
    """Return transformers' own model with the trained weights."""
    model = AutoModelForSequenceClassification.from_config(training.model.config, attn_implementation="eager").eval()
    model.load_state_dict(training.model.state_dict())
    return model


def computed(model, tokenizer, texts):
    """Return what transformers computes of texts, padded where there are several."""
    inputs = tokenizer(*(list(column) for column in zip(*texts, strict=True)), padding=True, return_tensors="pt")
    if not inputs["input_ids"].numel():
        # transformers can take no row without a token.
        inputs = {"input_ids": torch.tensor([[tokenizer.pad_token_id]]), "attention_mask": torch.ones(1, 1).long()}
    with torch.no_grad():
        return model(**inputs).logits.numpy()


@pytest.mark.parametrize("name", TASKS)
def test_decoders_are_trained_and_predict_what_transformers_does_of_each_row_alone(tmp_path, decoder, name):
    task = TASKS[name]
    training, columns = cell_of(tmp_path, decoder, task)
    training.train()
    assert numpy.isfinite(training.training.state()["losses"].numpy()).all()
    table, _ = training.predict("validation")
    tokenizer = AutoTokenizer.from_pretrained(training.tokens.tokenizer_folder)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    assert training.model.config.pad_token_id == tokenizer.pad_token_id
    model, texts = plain(training), texts_of(task, columns)
    alone = numpy.concatenate([computed(model, tokenizer, [text]) for text in texts])
    assert logits_of(table) == pytest.approx(alone, abs=1e-5)
    # And of rows padded on the right, but for one without tokens, of which transformers has padding alone.
    tokenizer.padding_side = "right"
    some = [number for number, text in enumerate(texts) if "".join(text)]
    padded = computed(model, tokenizer, [texts[number] for number in some])
    assert logits_of(table)[some] == pytest.approx(padded, abs=1e-5)


def test_a_saved_decoder_computes_the_same_however_many_rows_it_is_given(tmp_path, decoder):
    task = TASKS["three labels"]
    training, columns = cell_of(tmp_path, decoder, task)
    training.train()
    table, _ = training.predict("validation")
    write_model(tmp_path / "saved", training.model, training.tokens.tokenizer_folder, training.run, ABOUT)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "saved")
    config = json.loads((tmp_path / "saved" / "config.json").read_text(encoding="utf-8"))
    assert config["pad_token_id"] == tokenizer.pad_token_id == training.tokens.manifest["pad_token_id"]
    texts = texts_of(task, columns)
    some = [number for number, text in enumerate(texts) if "".join(text)]
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved", attn_implementation="eager").eval()
    found = computed(model, tokenizer, [texts[number] for number in some])
    assert found == pytest.approx(logits_of(table)[some], abs=1e-5)


def test_a_config_that_names_another_padding_than_the_tokenizer_follows_the_tokenizer(tmp_path, decoder):
    """As where a padding token was chosen after the config was written."""
    other = builders.copy(decoder, tmp_path / "other", pad_token_id=40)
    task = TASKS["two labels"]
    expected, _ = cell_of(tmp_path / "one", decoder, task)
    training, _ = cell_of(tmp_path / "two", other, task)
    weights = expected.model.state_dict()
    training.model.load_state_dict(weights)
    pairs = (cell.predict("validation")[0] for cell in (training, expected))
    assert numpy.array_equal(*map(logits_of, pairs))


def test_an_end_that_is_padding_too_is_trained_where_it_stands_in_a_text(tmp_path):
    training, _ = cell_of(tmp_path, write_decoder(tmp_path / "source", "llama"), TASKS["two labels"])
    end = training.tokens.manifest["pad_token_id"]
    before = training.model.get_input_embeddings().weight[end].clone()
    training.train()
    assert (training.model.get_input_embeddings().weight[end] - before).abs().max() > 1e-4


def test_adapters_of_decoders_are_in_all_their_layers(tmp_path, decoder):
    lora = {"r": 2, "lora_alpha": 4, "lora_dropout": 0, "target_modules": "all-linear"}
    training, columns = cell_of(tmp_path, decoder, TASKS["two labels"], lora=lora)
    before = {name: weight.clone() for name, weight in training.model.state_dict().items()}
    training.train()
    changed = {name for name, weight in training.model.state_dict().items() if not torch.equal(weight, before[name])}
    adapted = {name.partition(".lora_")[0].rpartition(".")[2] for name in changed if ".lora_" in name}
    assert len(adapted) >= 3
    assert {name for name in changed if ".lora_" not in name} == {"score.weight"}
    table, _ = training.predict("validation")
    from gluegrid.models.lora import merged

    write_model(tmp_path / "saved", merged(training.model), training.tokens.tokenizer_folder, training.run, ABOUT)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved").eval()
    texts = texts_of(TASKS["two labels"], columns)
    alone = [computed(model, AutoTokenizer.from_pretrained(tmp_path / "saved"), [text]) for text in texts if text[0]]
    some = [number for number, text in enumerate(texts) if text[0]]
    assert numpy.concatenate(alone) == pytest.approx(logits_of(table)[some], abs=1e-4)


def test_a_tokenizer_without_padding_or_end_is_refused(tmp_path):
    folder = write_decoder(tmp_path / "source", "llama")
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({key: value for key, value in settings.items() if key != "eos_token"}), encoding="utf-8")
    with pytest.raises(StagingError, match="neither a padding token nor an end-of-text token; set pad_token"):
        describe_checkpoint(folder, trust_remote_code=False)


def test_encoders_are_no_decoders(tmp_path):
    from transformers import AutoConfig

    kinds = ("bert", "roberta", "electra", "deberta-v2", "albert", "distilbert", "modernbert", "bart", "t5")
    assert not any(is_decoder(AutoConfig.for_model(kind)) for kind in kinds)
    assert all(is_decoder(AutoConfig.for_model(kind)) for kind in (*SHAPES, "qwen3", "gpt_neox", "mistral", "gemma"))


def test_rows_of_xlnet_are_padded_on_the_left_since_it_takes_the_last_place_for_the_last_token(tmp_path):
    from encoder_families import xlnet_tokenizer
    from transformers import AutoConfig

    tokenizer = xlnet_tokenizer([builders.sentence(number) for number in range(40)])
    tokenizer.save_pretrained(tmp_path / "source")
    sizes = {"vocab_size": len(tokenizer), "d_model": 32, "n_layer": 2, "n_head": 2, "d_inner": 64, "dropout": 0.0}
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(AutoConfig.for_model("xlnet", **sizes))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.2)
    model.save_pretrained(tmp_path / "source")
    task = TASKS["two labels"]
    training, columns = cell_of(tmp_path, tmp_path / "source", task)
    training.train()
    table, _ = training.predict("validation")
    alone = [computed(plain(training), tokenizer, [text]) for text in texts_of(task, columns)]
    assert logits_of(table) == pytest.approx(numpy.concatenate(alone), abs=1e-5)
