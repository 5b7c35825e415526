"""Small encoders of every family, with the family's config, head and tokenizer, and no dropout."""

import json
import math
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import builders

WORDS_OF_A_VOCABULARY = 400
TOKENS_OF_BYTES = 1000  # the 256 bytes and merges of them
POSITIONS = 96


def _words(texts: list[str]) -> list[tuple[str, int]]:
    """Return the most frequent words and their counts."""
    return Counter(word for text in texts for word in text.split()).most_common(WORDS_OF_A_VOCABULARY)


def _characters(texts: list[str]) -> list[str]:
    return sorted(set("".join(texts)) - {" "})


# Written, not trained, since the trainers of these two kinds do not choose the same tokens each time.


def bert_tokenizer(texts: list[str]):
    """Make BERT's WordPiece tokenizer."""
    from transformers import BertTokenizer

    lower = [text.lower() for text in texts]
    characters = _characters(lower)
    beginnings = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters, *(word for word, _ in _words(lower))]
    tokens = dict.fromkeys(beginnings + [f"##{character}" for character in characters])
    return BertTokenizer(vocab={token: number for number, token in enumerate(tokens)})


def _unigram(texts: list[str], special: list[str]) -> list[tuple[str, float]]:
    """Make a Unigram model like sentencepiece's; return its tokens with their scores."""
    characters = dict.fromkeys(["▁", *_characters(texts)], -12.0)
    words = {f"▁{word}": math.log(count) - 10.0 for word, count in _words(texts)}
    return [*((token, 0.0) for token in special), *(characters | words).items()]


def albert_tokenizer(texts: list[str]):
    """Make ALBERT's tokenizer."""
    from transformers import AlbertTokenizer

    vocabulary = _unigram(texts, ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"])
    return AlbertTokenizer(vocab=vocabulary)


def deberta_tokenizer(texts: list[str]):
    """Make the tokenizer of DeBERTa v2 and v3."""
    from transformers import DebertaV2Tokenizer

    vocabulary = _unigram(texts, ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"])
    return DebertaV2Tokenizer(vocab=vocabulary)


def xlnet_tokenizer(texts: list[str]):
    """Make XLNet's tokenizer, which pads on the left."""
    from transformers import XLNetTokenizer

    special = ["<unk>", "<s>", "</s>", "<cls>", "<sep>", "<pad>", "<mask>", "<eod>", "<eop>"]
    return XLNetTokenizer(vocab=_unigram(texts, special))


def _byte_level(texts: list[str], special: list[str]):
    """Train a byte-level BPE model; return vocabulary and merges."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=TOKENS_OF_BYTES,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], [tuple(merge) for merge in model["merges"]]


def roberta_tokenizer(texts: list[str]):
    """Train RoBERTa's byte-level tokenizer, whose padding token is 1 and which has no segments."""
    from transformers import RobertaTokenizer

    vocabulary, merges = _byte_level(texts, ["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    return RobertaTokenizer(vocab=vocabulary, merges=merges)


def modernbert_tokenizer(texts: list[str]):
    """Train ModernBERT's byte-level tokenizer, which has no class of its own and pads with its second-to-last token."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary, merges = _byte_level(texts, ["[UNK]", "[CLS]", "[SEP]"])
    vocabulary |= {"[PAD]": len(vocabulary), "[MASK]": len(vocabulary) + 1}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    ends = [(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:0 [SEP]:0", special_tokens=ends
    )
    special = {f"{name}_token": f"[{name.upper()}]" for name in ("unk", "cls", "sep", "pad", "mask")}
    names = ["input_ids", "attention_mask"]
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_input_names=names, **special)


@dataclass(frozen=True)
class Family:
    """A family: its model_type, how its tokenizer is trained on texts, and the special keys of its configs."""

    kind: str
    tokenizer: Callable
    values: dict = field(default_factory=dict)
    positions_before_the_first: int = 0  # rows of the table of positions that no token uses


# Values as in config.json on the hub, but with fewer buckets and a narrower window, since texts are short here.
DEBERTA_V3 = {
    "relative_attention": True,
    "position_buckets": 8,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "pos_att_type": "p2c|c2p",
    "max_relative_positions": -1,
    "position_biased_input": False,
    "type_vocab_size": 0,
    "layer_norm_eps": 1e-7,
}
DEBERTA_V2 = DEBERTA_V3 | {"conv_kernel_size": 3, "conv_act": "gelu", "attention_head_size": 16}
ALBERT = {
    "embedding_size": 16,
    "classifier_dropout_prob": 0.0,
    "num_hidden_groups": 1,
    "inner_group_num": 1,
    "num_memory_blocks": 0,
    "net_structure_type": 0,
    "gap_size": 0,
    "down_scale_factor": 1,
}
MODERNBERT = {
    "global_attn_every_n_layers": 2,
    "local_attention": 12,
    "global_rope_theta": 160000.0,
    "local_rope_theta": 10000.0,
    "classifier_pooling": "mean",
    "position_embedding_type": "absolute",
}
WRITTEN_BY_TRANSFORMERS_5 = ("layer_types", "rope_parameters")
FAMILIES = {
    "bert": Family("bert", bert_tokenizer),
    "roberta": Family(
        "roberta",
        roberta_tokenizer,
        {"type_vocab_size": 1, "bos_token_id": 0, "eos_token_id": 2},
        positions_before_the_first=2,
    ),
    "distilbert": Family("distilbert", bert_tokenizer),
    "albert": Family("albert", albert_tokenizer, ALBERT),
    "electra": Family("electra", bert_tokenizer, {"embedding_size": 16}),
    "deberta-v2": Family("deberta-v2", deberta_tokenizer, DEBERTA_V2),
    "deberta-v3": Family("deberta-v2", deberta_tokenizer, DEBERTA_V3),
    "modernbert": Family("modernbert", modernbert_tokenizer, MODERNBERT),
}


def write_family(folder: Path, name: str, texts: list[str], positions: int = POSITIONS, **options) -> Path:
    """Save a classifier of a family with random weights, and a tokenizer trained on these texts.

    `positions` is how many tokens a text may have; `options` are those of builders.write_classifier.
    """
    family = FAMILIES[name]
    folder.mkdir(parents=True)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # staging forks
    tokenizer = family.tokenizer(texts)
    tokenizer.save_pretrained(folder)
    sizes = {
        "vocab_size": len(tokenizer),
        "max_position_embeddings": positions + family.positions_before_the_first,
        "pad_token_id": tokenizer.pad_token_id,
    }
    if family.kind == "modernbert":
        sizes |= {f"{token}_token_id": tokenizer.cls_token_id for token in ("bos", "cls")}
        sizes |= {f"{token}_token_id": tokenizer.sep_token_id for token in ("eos", "sep")}
    builders.write_classifier(folder, family.kind, **(family.values | sizes | options))
    config = json.loads((folder / "config.json").read_text(encoding="utf-8")) | family.values
    as_on_the_hub = {key: value for key, value in config.items() if key not in WRITTEN_BY_TRANSFORMERS_5}
    (folder / "config.json").write_text(json.dumps(as_on_the_hub), encoding="utf-8")
    return folder


def write_sentencepiece(path: Path, vocabulary: list[tuple[str, float]], unknown: str) -> None:
    """Write a Unigram vocabulary as sentencepiece does. Tokens in any brackets are control tokens."""
    from sentencepiece.sentencepiece_model_pb2 import ModelProto, TrainerSpec

    model = ModelProto()
    for token, score in vocabulary:
        kinds = ModelProto.SentencePiece
        is_control = token[0] in "[<" and len(token) > 1
        kind = kinds.UNKNOWN if token == unknown else kinds.CONTROL if is_control else kinds.NORMAL
        model.pieces.add(piece=token, score=score, type=kind)
    model.trainer_spec.model_type = TrainerSpec.UNIGRAM
    model.trainer_spec.unk_id = [token for token, _ in vocabulary].index(unknown)
    path.write_bytes(model.SerializeToString())
