"""Hostile and broken checkpoints: each is refused where it is fetched, in one line, and sound ones are described."""

import json
import math
import os
import shutil

import builders
import pytest
import safetensors.torch
import torch
from checkpoints import assert_refused, change
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification

from gluegrid.common.errors import TrainingError
from gluegrid.common.files import read_json
from gluegrid.models import classifier
from gluegrid.staging.model_check import describe_checkpoint

TASK = builders.task()
KINDS = {
    "bert": {},
    "roberta": {},
    "xlm-roberta": {},
    "mpnet": {},
    "distilbert": {},
    "electra": {"embedding_size": 16},
    "albert": {"embedding_size": 16},
    "deberta-v2": {"relative_attention": True, "position_buckets": 8, "pos_att_type": ["p2c", "c2p"]},
    "modernbert": {"bos_token_id": 2, "eos_token_id": 3, "cls_token_id": 2, "sep_token_id": 3},
}


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """A tiny BERT. To be copied, not changed."""
    return builders.write_model(tmp_path_factory.mktemp("bert"))


@pytest.fixture
def copy(bert, tmp_path):
    """A tiny BERT to be broken."""
    return builders.copy(bert, tmp_path / "model")


# Sound ones


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_of_any_kind_is_described(tmp_path, kind):
    folder = builders.write_model(tmp_path / "model", kind, **KINDS[kind])
    described = describe_checkpoint(folder, trust_remote_code=False)
    encoder = AutoModelForSequenceClassification.from_pretrained(folder).base_model
    assert described["parameters"] == sum(parameter.numel() for parameter in encoder.parameters())
    assert described["embeddings"] == 26
    # These two count from the padding's position.
    assert described["positions"] == {"roberta": 65, "xlm-roberta": 63, "mpnet": 63}.get(kind, 64)
    assert (described["tokenizer"]["vocabulary"], described["tokenizer"]["pad_token_id"]) == (26, 0)


def saved_again(folder, cls=AutoModelForSequenceClassification, **options):
    """Save a model another way."""
    loaded = cls.from_pretrained(folder, dtype=options.pop("dtype", None))
    (folder / "model.safetensors").unlink()
    loaded.save_pretrained(folder, **options)


def in_shards(folder):
    saved_again(folder, max_shard_size="20KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 2


def with_the_old_index_beside_it(folder):
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "model-00001-of-00001.safetensors"}}')


@pytest.mark.parametrize(
    "variant",
    [
        lambda folder: saved_again(folder, AutoModel),
        lambda folder: saved_again(folder, dtype=torch.float16),
        lambda folder: saved_again(folder, dtype=torch.bfloat16),
        in_shards,
        with_the_old_index_beside_it,
        lambda folder: change(folder / "config.json", num_hidden_layers=1),
        lambda folder: change(folder / "config.json", id2label={str(number): str(number) for number in range(9)}),
        lambda folder: change(folder / "config.json", auto_map={"AutoConfig": "configuration_x.X"}),
        lambda folder: change(folder / "config.json", return_dict=False, chunk_size_feed_forward=3),
        lambda folder: change(folder / "tokenizer_config.json", model_max_length=10**30, special_tokens_map_file="/x"),
    ],
    ids=["encoder", "fp16", "bf16", "shards", "index", "fewer layers", "other head", "code", "options", "tokenizer"],
)
def test_what_is_unusual_and_sound_is_described_and_trained(copy, variant):
    variant(copy)
    assert describe_checkpoint(copy, trust_remote_code=False)["embeddings"] == 26
    loaded, *_ = classifier.load_model(copy, TASK, seed=1)
    inputs = torch.ones(2, 7, dtype=torch.long)
    loss = loaded(input_ids=inputs, attention_mask=inputs, labels=torch.tensor([0, 1])).loss
    loss.backward()
    assert torch.isfinite(loss)


def test_a_model_without_a_tokenizer_is_described_without_one(copy):
    (copy / "tokenizer.json").unlink()
    assert describe_checkpoint(copy, trust_remote_code=False)["tokenizer"] is None


# config.json


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"hidden_size": 10**9}, r"hidden_size is 1000000000, but the largest dimension of the weights is 64"),
        ({"vocab_size": 65}, "vocab_size is 65, but the largest dimension of the weights is 64"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers is 1000000000, but the weights have 41 tensors"),
        ({"num_hidden_layers": 3}, r"lacks 16 of the weights .* such as bert\.encoder\.layer\.2\."),
        ({"intermediate_size": 32}, r"lacks 6 of the weights .*intermediate\.dense"),
        ({"max_position_embeddings": 10**9}, "max_position_embeddings is 1000000000, more positions than any model"),
        ({"max_position_embeddings": 65}, "lacks 1 of the weights .*position_embeddings"),
        ({"type_vocab_size": 10**9}, "lacks 1 of the weights .*token_type_embeddings"),
        ({"hidden_size": -32}, "hidden_size is -32; it must be a positive whole number"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0; it must be a positive whole number"),
        ({"num_attention_heads": True}, "num_attention_heads is true; it must be a positive whole number"),
        ({"vocab_size": "26"}, 'vocab_size is "26"; it must be a positive whole number'),
        ({"intermediate_size": 64.5}, "intermediate_size is 64.5; it must be a positive whole number"),
        ({"num_attention_heads": 3}, "The hidden size .* is not a multiple of the number of attention heads"),
        ({"num_labels": 10**9}, "num_labels is 1000000000; it must be a number of labels"),
        ({"id2label": dict.fromkeys(range(100_001), "x")}, "id2label must be a mapping of up to 100000 labels"),
        ({"id2label": {"first": "x"}}, "cannot be used: invalid literal for int"),
        ({"label2id": ["a", "b"]}, "label2id must be a mapping"),
        ({"seed": 10**12}, '"seed" is 1000000000000, which is too large for any model'),
        ({"text_config": {"hidden_size": 10**9}}, "hidden_size is 1000000000, but the largest dimension"),
        ({"hidden_dropout_prob": 10**400}, r'"hidden_dropout_prob" is more than 10\^400'),
        ({"hidden_dropout_prob": float("nan")}, '"hidden_dropout_prob" is NaN, not a finite number'),
        ({"layer_norm_eps": {"__float__": "Infinity"}}, 'is "Infinity", not a finite number'),
        ({"hidden_dropout_prob": "much"}, "hidden_dropout_prob"),
        ({"hidden_dropout_prob": 5}, "dropout probability has to be between 0 and 1"),
        ({"hidden_act": "nonsense"}, "the model cannot be loaded: KeyError 'nonsense'"),
        ({"pad_token_id": 99}, "Padding_idx"),
        ({"dtype": "nonsense"}, "cannot be used"),
        ({"model_type": "nonsense"}, 'the model_type "nonsense" is unknown to transformers'),
        ({"model_type": ["bert"]}, r'the model_type \["bert"\] is unknown'),
        ({"model_type": "vit_mae"}, 'no sequence classifier for the model_type "vit_mae"'),
        ({"model_type": "roberta"}, r"lacks \d+ of the weights .* such as roberta\."),
        ({"quantization_config": {"quant_method": "gptq"}}, "says that the weights are quantized"),
        ({"transformers_weights": "../other/model.safetensors"}, "names another weights file"),
        ({"_attn_implementation": "someone/kernel"}, 'names code on the hub, "someone/kernel"'),
        ({"to_dict": 5}, "cannot be used: TypeError 'int' object is not callable"),
    ],
)
def test_a_config_with_absurd_values_is_refused(copy, values, message):
    change(copy / "config.json", **values)
    assert_refused(copy, message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read as JSON: Expecting value"),
        (b"[]", "does not contain a JSON object"),
        (b'{"model_type": "\xff"}', "cannot be read as JSON: 'utf-8' codec"),
        (b'{"a": ' * 100_000, "cannot be read as JSON: maximum recursion depth"),
        (b'{"a": ' * 40 + b"1" + b"}" * 40, '"a" is nested more than 32 levels deep'),
        (b'{"a": ' + b"9" * 5000 + b"}", "cannot be read as JSON"),
        (b'{"a": "' + b"x" * 11_000_000 + b'"}', "has 11.0 MB, but may have at most 10.0 MB"),
    ],
    ids=["empty", "list", "not UTF-8", "bottomless", "deep", "long number", "large"],
)
def test_a_config_that_is_no_config_is_refused(copy, content, message):
    (copy / "config.json").write_bytes(content)
    assert_refused(copy, rf"^config\.json: {message}")


def test_an_absurd_config_is_refused_before_anything_heavy_is_imported(copy):
    change(copy / "config.json", num_labels=10**9)
    code = """if True:
        import sys
        from pathlib import Path
        from gluegrid.staging.model_check import describe_checkpoint
        try:
            describe_checkpoint(Path(sys.argv[1]), False)
        except Exception as error:
            print(error, {"torch", "transformers"} & set(sys.modules))
    """
    output, errors = builders.python(code, copy).communicate()
    assert "num_labels is 1000000000" in output, errors
    assert output.rstrip().endswith("set()")


# Weights


def safetensors_bytes(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def tensor(**values):
    return {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]} | values


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is incomplete, or its header is wrong: 0 bytes of header in a file of 0"),
        (b"\x80\x04\x95 a pickle", "is incomplete, or its header is wrong"),
        ((2**63).to_bytes(8, "little") + b"{}", "9223372036854775808 bytes of header in a file of 10"),
        (safetensors_bytes(b" " * 10_000_001), "its header has 10.0 MB, more than 10.0 MB"),
        (safetensors_bytes({}), "contains no weights"),
        (safetensors_bytes({"a": tensor()}, bytes(15)), "not fully covered"),
        (safetensors_bytes({"a": tensor()}, bytes(17)), "not fully covered"),
        (safetensors_bytes({"a": tensor(shape=[3, 2])}, bytes(16)), "invalid shape, data type, or offset"),
        (safetensors_bytes({"a": tensor(shape=[2**33, 2**33])}, bytes(16)), "overflow"),
        (safetensors_bytes({"a": tensor(shape=[-2, -2])}, bytes(16)), "invalid value: integer `-2`"),
        (safetensors_bytes({"a": tensor(dtype="F99")}, bytes(16)), "unknown variant `F99`"),
        (safetensors_bytes({"a": tensor(), "b": tensor()}, bytes(16)), "invalid offset"),
        (safetensors_bytes({"a": tensor(shape=[1] * 17 + [4])}, bytes(16)), '"a" has 18 dimensions'),
        (safetensors_bytes(b'{"a":%b,"a":%b}' % ((json.dumps(tensor()).encode(),) * 2), bytes(16)), "appears twice"),
        (safetensors_bytes(b'{"\xff": 1}'), "invalid UTF-8 in header"),
        (safetensors_bytes(b'{"a":' * 100_000), "recursion limit"),
    ],
)
def test_a_file_of_weights_that_lies_is_refused(copy, content, message):
    (copy / "model.safetensors").write_bytes(content)
    assert_refused(copy, rf"^model\.safetensors: .*{message}")


def test_a_zero_beside_a_huge_dimension_makes_no_room_for_a_huge_config(copy):
    path = copy / "model.safetensors"
    weights = safetensors.torch.load_file(path)
    weights["empty"] = torch.empty(10**9, 0)
    safetensors.torch.save_file(weights, path, metadata={"format": "pt"})
    change(copy / "config.json", vocab_size=10**9)
    assert_refused(copy, "vocab_size is 1000000000, but the largest dimension of the weights is 64")


def test_quantised_weights_are_refused(copy):
    path = copy / "model.safetensors"
    weights = safetensors.torch.load_file(path)
    name = "bert.encoder.layer.0.output.dense.weight"
    weights[name] = weights[name].to(torch.int8)
    safetensors.torch.save_file(weights, path, metadata={"format": "pt"})
    assert_refused(copy, rf'model\.safetensors: "{name}" has the type I8, as in a quantized model')


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_weights_that_are_no_numbers_are_refused(copy, dtype, number):
    path = copy / "model.safetensors"
    weights = {name: weight.to(dtype) for name, weight in safetensors.torch.load_file(path).items()}
    weights["bert.encoder.layer.1.output.dense.bias"][-1] = number
    safetensors.torch.save_file(weights, path, metadata={"format": "pt"})
    assert_refused(
        copy, r'^model\.safetensors: "bert\.encoder\.layer\.1\.output\.dense\.bias" contains infinite values or NaN'
    )


def test_a_mask_may_have_infinity(copy):
    path = copy / "model.safetensors"
    weights = safetensors.torch.load_file(path) | {"mask": torch.full((2, 2), -math.inf)}
    safetensors.torch.save_file(weights, path, metadata={"format": "pt"})
    assert describe_checkpoint(copy, trust_remote_code=False)["embeddings"] > 0


@pytest.mark.parametrize("part", ["bert.encoder.layer.1.output.dense.weight", "bert.embeddings."])
def test_weights_that_lack_a_part_of_the_encoder_are_refused(copy, part):
    path = copy / "model.safetensors"
    weights = safetensors.torch.load_file(path)
    left = {name: weight for name, weight in weights.items() if not name.startswith(part)}
    safetensors.torch.save_file(left, path, metadata={"format": "pt"})
    assert_refused(copy, rf"lacks \d+ of the weights that its config\.json requires, such as {part}")


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("../model-00001-of-00002.safetensors", "which is not one of the model's files"),
        ("/tmp/model.safetensors", "which is not one of the model's files"),
        ("pytorch_model.bin", "which is not one of the model's files"),
        ("model-00009-of-00009.safetensors", "which is not one of the model's files"),
        (7, "lacks a weight_map from names to files"),
    ],
)
def test_an_index_that_names_other_files_is_refused(copy, file, message):
    in_shards(copy)
    index = copy / "model.safetensors.index.json"
    weight_map = read_json(index)["weight_map"]
    change(index, weight_map=weight_map | {"bert.pooler.dense.bias": file})
    (copy / "pytorch_model.bin").write_bytes(b"")
    assert_refused(copy, rf"^model\.safetensors\.index\.json: .*{message}")


def test_shards_without_what_the_index_expects_are_refused(copy):
    in_shards(copy)
    index = copy / "model.safetensors.index.json"
    change(index, weight_map=read_json(index)["weight_map"] | {"more": "model-00001-of-00006.safetensors"})
    assert_refused(copy, 'expects "more" in model-00001-of-00006.safetensors, which does not contain it')
    index.unlink()
    assert_refused(copy, r"index\.json: is missing, and so is model\.safetensors")


def test_a_large_model_is_described_in_little_memory(tmp_path, bert):
    """A file of 1.3 GB that takes no room on the disk."""
    sizes = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
    folder = builders.copy(bert, tmp_path / "model", vocab_size=30522, **sizes)
    with torch.device("meta"):
        shapes = AutoModel.from_config(AutoConfig.from_pretrained(folder)).state_dict()
    header, end = {}, 0
    for name, weight in shapes.items():
        start, end = end, end + 4 * weight.numel()
        header[name] = tensor(shape=list(weight.shape), data_offsets=[start, end])
    (folder / "model.safetensors").write_bytes(safetensors_bytes(header))
    os.truncate(folder / "model.safetensors", (folder / "model.safetensors").stat().st_size + end)
    code = """if True:
        import resource, sys
        from pathlib import Path
        import gluegrid.models.classifier
        from gluegrid.staging.model_check import describe_checkpoint
        # What the libraries map themselves depends on torch's build: 1 GiB, with CUDA 4.
        libraries = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (libraries + 4 * 2**30, libraries + 4 * 2**30))
        described = describe_checkpoint(Path(sys.argv[1]), False)
        print(described["parameters"], resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)
    """
    output, errors = builders.python(code, folder).communicate()
    assert output, errors
    parameters, megabytes = map(int, output.split())
    assert end > 1.3e9
    assert parameters == end / 4
    assert megabytes < 900


# Tokenizer


def tokenizer_json(folder, **values):
    change(folder / "tokenizer.json", **values)


def words(**ids):
    def put(folder):
        content = read_json(folder / "tokenizer.json")["model"]
        tokenizer_json(folder, model=content | {"vocab": content["vocab"] | ids})

    return put


def settings(**values):
    return lambda folder: change(folder / "tokenizer_config.json", **values)


def cut(folder):
    path = folder / "tokenizer.json"
    path.write_bytes(path.read_bytes()[:1000])


def vocabulary_of(name, text):
    def put(folder):
        (folder / "tokenizer.json").unlink()
        (folder / name).write_text(text, encoding="utf-8")

    return put


@pytest.mark.parametrize(
    ("breaking", "message"),
    [
        (cut, "the tokenizer cannot be loaded: Unterminated string"),
        (lambda folder: (folder / "tokenizer.json").write_text("[" * 100_000), "cannot be loaded: .*recursion depth"),
        (lambda folder: tokenizer_json(folder, model=[]), "the tokenizer cannot be loaded"),
        (lambda folder: tokenizer_json(folder, added_tokens=7), "the tokenizer cannot be loaded"),
        (words(cat=26), r'has token ids up to 26 \("cat"\), but the model embeds 26 tokens'),
        (words(cat=2**32 - 1), r"has token ids up to 4294967295 .* but the model embeds 26 tokens"),
        (words(cat=-1), "the tokenizer cannot be loaded"),
        (words(cat=2**70), "the tokenizer cannot be loaded"),
        (words(cat="1"), "the tokenizer cannot be loaded"),
        (words(cat=12, dog=12), "gives the same id to several tokens"),
        (settings(unk_token=None), "Missing .* token from the vocabulary"),
        (settings(pad_token=None), "neither a padding token nor an end-of-text token"),
        (settings(cls_token="[NEW]"), r'up to 26 \("\[NEW\]"\), but the model embeds 26'),
        (settings(model_max_length=4), "takes at most 4 tokens"),
        (settings(model_max_length="long"), "the tokenizer cannot be used: TypeError"),
        (settings(model_input_names=7), "the tokenizer cannot be loaded: TypeError"),
        (settings(vocab="/etc/passwd"), r"tokenizer_config\.json: vocab would replace"),
        (settings(fast_tokenizer_files=["../x/tokenizer.4.0.0.json"]), "not a list of file names"),
        (settings(added_tokens_decoder={"999999999": {"content": "x"}}), "not a mapping from token ids"),
        (settings(added_tokens_decoder=[1]), "not a mapping from token ids"),
        (settings(auto_map={"AutoTokenizer": [None, "x.Y"]}, tokenizer_class="Y"), "has its own Python code"),
        (settings(auto_map=["x.Y", None], tokenizer_class="Y"), "has its own Python code"),
        (settings(tokenizer_class="CanineTokenizer"), "a CanineTokenizer, has no fast version"),
        (
            lambda folder: (folder / "tokenizer_config.json").write_text("[]"),
            r"tokenizer_config\.json: does not contain a JSON",
        ),
        (
            lambda folder: (folder / "special_tokens_map.json").write_text("{"),
            r"special_tokens_map\.json: cannot be read as JSON",
        ),
        (lambda folder: change(folder / "special_tokens_map.json", unk_token=[1]), "the tokenizer cannot be"),
        (vocabulary_of("vocab.txt", ""), "has only special tokens in its vocabulary"),
        (vocabulary_of("vocab.json", '{"cat": 5}'), "has only special tokens in its vocabulary"),
        (vocabulary_of("tokenizer.model", "nonsense"), "the tokenizer cannot be loaded"),
    ],
)
def test_a_tokenizer_that_is_broken_or_of_another_model_is_refused(copy, breaking, message):
    breaking(copy)
    assert_refused(copy, message)


def test_a_file_that_a_library_in_rust_panics_on_is_refused(copy):
    settings(tokenizer_class="PreTrainedTokenizerFast")(copy)
    post_processor = read_json(copy / "tokenizer.json")["post_processor"]
    del post_processor["special_tokens"]["[SEP]"]
    tokenizer_json(copy, post_processor=post_processor)
    assert_refused(copy, "the tokenizer cannot be used: no entry found for key")


@pytest.mark.parametrize("longer", [{"type": "Replace", "pattern": {"String": "a"}, "content": "b " * 99}, None])
def test_a_tokenizer_that_makes_many_tokens_of_a_few_letters_is_refused(copy, longer):
    settings(tokenizer_class="PreTrainedTokenizerFast")(copy)
    tokenizer_json(copy, normalizer=longer)
    if longer is None:
        post_processor = read_json(copy / "tokenizer.json")["post_processor"]
        tokenizer_json(copy, post_processor=post_processor | {"single": post_processor["single"][:1] * 99})
    assert_refused(copy, r'the tokenizer makes \d+ tokens of "A cat sat\."')


def test_segments_that_the_model_does_not_have_are_refused(copy):
    settings(tokenizer_class="PreTrainedTokenizerFast")(copy)
    post_processor = read_json(copy / "tokenizer.json")["post_processor"]
    post_processor["pair"][-1]["SpecialToken"]["type_id"] = 5
    tokenizer_json(copy, post_processor=post_processor)
    assert_refused(copy, "numbers segments up to 5, but the model has 2")


def test_the_vocabulary_is_the_highest_id_and_one_not_the_number_of_tokens(copy):
    vocabulary_of("vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\ncat\ncat\ncat\ndog\n")(copy)
    assert describe_checkpoint(copy, trust_remote_code=False)["tokenizer"]["vocabulary"] == 9


# Pickles


class Bomb:
    """Unpickling it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def test_pickles_are_never_opened(copy, tmp_path):
    mark = tmp_path / "exploded"
    for name in ("pytorch_model.bin", "training_args.bin", "tokenizer.pkl", "optimizer.pt", "spiece.pkl"):
        torch.save(Bomb(str(mark)), copy / name)
    assert describe_checkpoint(copy, trust_remote_code=False)["tokenizer"]
    classifier.load_model(copy, TASK, seed=1)
    (copy / "model.safetensors").unlink()
    assert_refused(copy, r"is missing, and so is model\.safetensors")
    with pytest.raises(TrainingError, match="cannot be loaded"):
        classifier.load_model(copy, TASK, seed=1)
    shutil.copy(copy / "pytorch_model.bin", copy / "model.safetensors")
    assert_refused(copy, r"^model\.safetensors: is incomplete")
    with pytest.raises(TrainingError, match="cannot be loaded"):
        classifier.load_model(copy, TASK, seed=1)
    assert not mark.exists()


# Whatever else

MUTATIONS = """if True:
    import json, random, resource, sys, time
    from pathlib import Path
    import gluegrid.models.classifier
    from gluegrid.staging.model_check import describe_checkpoint
    from gluegrid.common.errors import StagingError
    from gluegrid.models.tokenizer import describe_tokenizer

    VALUES = [None, True, -1, 0, 7, 2**31 - 1, 2**64, 1.5, "", "x", "../x", [], [1], {}, {"a": 1}, [[]], "\\ud800"]

    def places(value, place=()):
        yield place
        items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for key, item in items:
            yield from places(item, (*place, key))

    def mutated(content, place, value):
        if not place:
            return value
        content = json.loads(json.dumps(content))
        parent = content
        for key in place[:-1]:
            parent = parent[key]
        parent[place[-1]] = value
        return content

    def flipped(content, end):
        content = bytearray(content)
        content[random.randrange(end)] ^= 1 << random.randrange(8)
        return bytes(content)

    resource.setrlimit(resource.RLIMIT_AS, (8 * 2**30, 8 * 2**30))
    random.seed(int(sys.argv[2]))
    folder = Path(sys.argv[1])
    # Once here, so that the children find everything imported.
    gluegrid.models.classifier.load_shapes(folder)
    describe_tokenizer(folder)
    refused = slowest = 0
    for case in range(120):
        path = folder / random.choice(
            ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"]
        )
        sound = path.read_bytes()
        if case % 10 == 0:
            path.write_bytes(sound[: random.randrange(len(sound))])
        elif path.suffix == ".json":
            content = json.loads(sound)
            place = random.choice(list(places(content)))
            path.write_text(json.dumps(mutated(content, place, random.choice(VALUES))))
        else:
            path.write_bytes(flipped(sound, 4000))
        started = time.monotonic()
        try:
            describe_checkpoint(folder, False)
        except StagingError as error:
            assert len(str(error).splitlines()) == 1, error
            refused += 1
        slowest = max(slowest, time.monotonic() - started)
        path.write_bytes(sound)
    megabytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
    print(refused, int(slowest), megabytes)
"""


def test_mutated_files_are_refused_or_described_and_nothing_else(copy):
    output, errors = builders.python(MUTATIONS, copy, 1).communicate()
    assert output, errors
    refused, slowest_in_seconds, megabytes = map(int, output.split())
    assert refused > 60
    assert slowest_in_seconds < 120
    assert megabytes < 1500
    assert "Traceback" not in errors
