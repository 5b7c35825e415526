"""Make the demo's inputs, nine small tasks and two tiny models, in demo/generated/."""

import hashlib
import json
import string
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from synthetic_tasks import OTHER_WORDS, SLOTS, TASKS, WORDS, Example, Task, make_examples

HERE = Path(__file__).resolve().parent
GENERATED = HERE / "generated"
STAMP = "sources.sha256"
SOURCES = ("generate.py", "synthetic_tasks.py")

SPECIAL_TOKENS = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
LONGEST_TEXT = 64
MODELS = {
    "bert-demo-small": {
        "hidden_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 256,
    },
    "bert-demo-tiny": {
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 128,
    },
}

# The models' starting weights; see `initialise`.
POSITION_SCALE = 0.3
SEGMENT_SCALE = 0.58
ATTENTION_SCALE = 1.4
SYNONYM_LIKENESS = 0.7


def main() -> None:
    """Make the inputs, unless these sources have already made them."""
    stamp = hash_of_sources()
    if stamp_of(GENERATED) == stamp:
        return
    with TemporaryDirectory(prefix=".generated-", dir=HERE) as scratch:
        fresh = Path(scratch, "fresh")
        write_inputs(fresh)
        (fresh / STAMP).write_text(stamp, encoding="utf-8")
        if GENERATED.exists():
            GENERATED.rename(Path(scratch, "stale"))
        fresh.rename(GENERATED)


def hash_of_sources() -> str:
    """Return the hash of everything that determines the inputs, except the libraries."""
    content = b"".join((HERE / source).read_bytes() for source in SOURCES)
    return hashlib.sha256(content).hexdigest()


def stamp_of(folder: Path) -> str | None:
    """Return the hash of the sources that made the folder; None if there is no such folder."""
    stamp = folder / STAMP
    return stamp.read_text(encoding="utf-8") if stamp.is_file() else None


def write_inputs(folder: Path) -> None:
    """Write all tasks and models below the folder."""
    tasks = {name: make_examples(name) for name in TASKS}
    for name, splits in tasks.items():
        for split, examples in splits.items():
            write_split(folder / "glue" / name, TASKS[name], split, examples)
    vocabulary = make_vocabulary(tasks)
    for name in MODELS:
        write_tokenizer(folder / "models" / name, vocabulary)
        write_model(folder / "models" / name, MODELS[name], vocabulary)


# The tasks


def write_split(folder: Path, task: Task, split: str, examples: list[Example]) -> None:
    """Write one split in the format of GLUE on the hub."""
    import pyarrow
    from pyarrow import parquet

    hidden = split.startswith("test") and not task.test_labels_shown
    texts = zip(*(texts for texts, _ in examples), strict=True)
    labels = [-1 if hidden else label for _, label in examples]
    columns = [*map(list, texts), labels, list(range(len(examples)))]
    folder.mkdir(parents=True, exist_ok=True)
    table = pyarrow.table(columns, schema=make_schema(task))
    parquet.write_table(table, folder / f"{split}-00000-of-00001.parquet")


def make_schema(task: Task):
    """Return the columns and their types, for pyarrow and, as metadata, for `datasets`."""
    import pyarrow

    label_type = pyarrow.int64() if task.labels else pyarrow.float32()
    fields = [(column, pyarrow.string()) for column in task.columns]
    fields += [("label", label_type), ("idx", pyarrow.int32())]
    features = {column: {"dtype": "string", "_type": "Value"} for column in task.columns}
    features["label"] = {"dtype": "float32", "_type": "Value"}
    if task.labels:
        features["label"] = {"names": list(task.labels), "_type": "ClassLabel"}
    features["idx"] = {"dtype": "int32", "_type": "Value"}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    return pyarrow.schema(fields, metadata=metadata)


# The tokenizer


def make_vocabulary(tasks: dict[str, dict[str, list[Example]]]) -> dict[str, int]:
    """Return the tokens' ids: special tokens, single characters, and all words of the tasks."""
    characters = string.ascii_lowercase + string.digits
    pieces = [*characters, *(f"##{character}" for character in characters), *string.punctuation]
    examples = [example for splits in tasks.values() for rows in splits.values() for example in rows]
    words = sorted({word for texts, _ in examples for text in texts for word in text.split()})
    tokens = dict.fromkeys([*SPECIAL_TOKENS.values(), *pieces, *words])
    return {token: number for number, token in enumerate(tokens)}


def write_tokenizer(folder: Path, vocabulary: dict[str, int]) -> None:
    """Write the files of a lower-casing WordPiece tokenizer."""
    from tokenizers import BertWordPieceTokenizer

    folder.mkdir(parents=True)
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in vocabulary))
    BertWordPieceTokenizer(vocabulary, lowercase=True).save(str(folder / "tokenizer.json"))
    settings = {
        **SPECIAL_TOKENS,
        "do_lower_case": True,
        "model_max_length": LONGEST_TEXT,
        "tokenizer_class": "BertTokenizer",
    }
    write_json(folder / "tokenizer_config.json", settings)
    write_json(folder / "special_tokens_map.json", SPECIAL_TOKENS)


def write_json(path: Path, value: dict) -> None:
    """Write a JSON object, indented."""
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


# The models


def write_model(folder: Path, sizes: dict[str, int], vocabulary: dict[str, int]) -> None:
    """Write an encoder, without a head, and its config."""
    from transformers import BertConfig, BertModel
    from transformers.utils import logging

    logging.disable_progress_bar()  # for two small files
    # Without dropout, since a few hundred rows have to be enough.
    config = BertConfig(
        vocab_size=len(vocabulary),
        max_position_embeddings=LONGEST_TEXT,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        **sizes,
    )
    model = BertModel(config)
    initialise(model, vocabulary)
    model.save_pretrained(folder)
    # safetensors writes files that only the owner can read.
    (folder / "model.safetensors").chmod(0o644)


def initialise(model, vocabulary: dict[str, int]) -> None:
    """Set the weights: random, but with a little of what pretraining would give.

    Synonyms have similar embeddings, and the first layer's attention compares the two texts: a token attends to similar
    tokens of the other text, and to itself if there are none.
    """
    import torch

    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                draw(parameter, parameter.shape[1] ** -0.5, generator)
        draw(model.embeddings.word_embeddings.weight, 1.0, generator)
        draw(model.embeddings.position_embeddings.weight, POSITION_SCALE, generator)
        liken_synonyms(model.embeddings.word_embeddings.weight, vocabulary)
        compare_texts(model, generator)


def draw(weight, deviation: float, generator) -> None:
    """Draw a weight uniformly around 0: unlike normal random numbers, these are the same on any CPU."""
    weight.uniform_(generator=generator).sub_(0.5).mul_(deviation * 12**0.5)


def liken_synonyms(embeddings, vocabulary: dict[str, int]) -> None:
    """Move each word towards the first word of its group."""
    all_groups = [getattr(words, slot) for words in (WORDS, OTHER_WORDS) for slot in SLOTS]
    for first, *others in (group for groups in all_groups for group in groups):
        for word in others:
            own, shared = embeddings[vocabulary[word]], embeddings[vocabulary[first]]
            own.copy_((1 - SYNONYM_LIKENESS) * own + SYNONYM_LIKENESS * shared)


def compare_texts(model, generator) -> None:
    """Let the first layer's attention look for similar tokens of the other text.

    The texts' segment embeddings are opposite, and the query's segment is inverted.
    """
    import torch

    size = model.config.hidden_size
    identity = torch.eye(size)
    segment = torch.randint(0, 2, (size,), generator=generator) * 2.0 - 1.0
    segments = torch.stack([segment, -segment])
    model.embeddings.token_type_embeddings.weight.copy_(SEGMENT_SCALE * segments)
    attention = model.encoder.layer[0].attention
    turned = identity - 2 / size * torch.outer(segment, segment)
    attention.self.query.weight.copy_(ATTENTION_SCALE * turned)
    attention.self.key.weight.copy_(ATTENTION_SCALE * identity)
    attention.self.value.weight.copy_(identity)
    attention.output.dense.weight.copy_(identity)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:  # leaves nothing behind
        sys.exit("interrupted")
