"""Count the floating-point operations of a run's training and predictions.

Kaplan et al., "Scaling Laws for Neural Language Models" (2020), section 2.1: about 2 operations per parameter and token
forwards, and twice as many backwards. Attention between tokens is ignored, since it is small at GLUE's lengths. Time is
operations divided by a device's measured speed (measured_speeds.py), which thus includes all inefficiencies.
"""

import glob
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from gluegrid.common import paths
from gluegrid.common.errors import DataError
from gluegrid.common.files import read_json
from gluegrid.experiment.cell import Cell
from gluegrid.experiment.experiment import Experiment
from gluegrid.experiment.run import examples_per_update
from gluegrid.experiment.staged_tokens import staged_tokens
from gluegrid.experiment.task_files import splits_of

STAGED, FOLDER, NAME, UNKNOWN = "staged", "its folder", "its name", "nothing"
LENGTH_BYTES, LARGEST_HEADER = 8, 10_000_000  # of safetensors' format; see weights.py
LARGEST_CONFIG = 10_000_000  # bytes
MOST_PARAMETERS = 10**13
LARGEST_HIDDEN_SIZE = 100_000
MOST_DIMENSIONS = 16
LONGEST_KIND = 100  # characters
WIDTHS = ("hidden_size", "dim", "d_model", "n_embd")  # the keys that a config may use
BYTES_OF_A_WEIGHT = 4
ROWS_OF_AN_UNKNOWN_TASK = 100_000
# For splits of unknown size, relative to the training split.
SHARE_OF_PREDICTED_ROWS = 0.2


@dataclass(frozen=True)
class ModelSize:
    """The size of an encoder.

    `passed` is the number of parameters that each token passes: without embeddings, and with shared layers (ALBERT)
    counted as often as they are used. `known_from` says how sure this is; `kind` is its model_type or its source.
    """

    parameters: int
    passed: int
    hidden_size: int
    known_from: str
    kind: str = ""

    @property
    def layers(self) -> float:
        """The number of layers if each has the usual 12 parameters per squared hidden unit."""
        return self.passed / (12 * self.hidden_size**2)


@dataclass(frozen=True)
class SplitSize:
    """The rows of a split, their tokens at one max_seq_length, and the longest row's tokens (None if not known)."""

    rows: int
    tokens: int
    longest: int | None = None

    def rows_of(self, most: int | None) -> int:
        """Return the number of its first `most` rows; None stands for all."""
        return self.rows if most is None else min(most, self.rows)

    def tokens_of(self, most: int | None) -> float:
        """Estimate the tokens of the first `most` rows; None stands for all."""
        return self.tokens_of_a_row * self.rows_of(most)

    @property
    def tokens_of_a_row(self) -> float:
        """The mean tokens of its rows."""
        return self.tokens / max(self.rows, 1)

    def truncated(self, max_seq_length: int) -> "SplitSize":
        """Estimate the size at another length."""
        return SplitSize(self.rows, round(self.rows * min(self.tokens_of_a_row, max_seq_length)))


@dataclass(frozen=True)
class RowsSeen:
    """A split before it is tokenized: its rows, and how many of those that were read have so many tokens."""

    rows: int
    lengths: Mapping[int, int]

    def size(self, max_seq_length: int) -> SplitSize:
        """Return its size with rows truncated to this length."""
        tokens = sum(min(length, max_seq_length) * count for length, count in self.lengths.items())
        return SplitSize(self.rows, round(self.rows * tokens / max(sum(self.lengths.values()), 1)))


@dataclass(frozen=True)
class TaskSize:
    """The sizes of a task's splits.

    `is_counted`: the tokens exist and were counted. `is_guessed`: not even the number of rows is known.
    """

    train: SplitSize
    validation: tuple[SplitSize, ...]
    test: tuple[SplitSize, ...]
    is_counted: bool
    is_guessed: bool = False

    @property
    def predicted_rows(self) -> int:
        """The rows of all splits that a trained model predicts."""
        return sum(split.rows for split in (*self.validation, *self.test))

    @property
    def tokens(self) -> int:
        """The tokens of all splits."""
        return sum(split.tokens for split in (self.train, *self.validation, *self.test))


# Sizes by words in the names of published encoders (BERT, RoBERTa, ELECTRA, the miniatures of google/bert_uncased_*).
SIZES_BY_WORD = {
    "xxlarge": ModelSize(1_500_000_000, 1_300_000_000, 1536, NAME),
    "xlarge": ModelSize(750_000_000, 700_000_000, 1024, NAME),
    "large": ModelSize(335_000_000, 303_000_000, 1024, NAME),
    "base": ModelSize(110_000_000, 86_000_000, 768, NAME),
    "xsmall": ModelSize(70_000_000, 22_000_000, 384, NAME),
    "small": ModelSize(29_000_000, 13_000_000, 512, NAME),
    "minilm": ModelSize(22_700_000, 10_600_000, 384, NAME),
    "mini": ModelSize(11_000_000, 3_200_000, 256, NAME),
    "tiny": ModelSize(4_400_000, 400_000, 128, NAME),
}
UNKNOWN_SIZE = ModelSize(335_000_000, 303_000_000, 1024, UNKNOWN)


def model_size(experiment: Experiment, model: str) -> ModelSize:
    """Return the size of a model: as staged, else from its folder, else from its name, else that of a large one."""
    manifest = Path(experiment.model_manifest(model))
    source = experiment.models[model]["source"]
    try:
        if manifest.exists():
            return _staged_size(manifest)
        if paths.is_local(source):
            return _size_of_folder(Path(source).expanduser())
    except Exception:  # files may contain anything; staging reports what is wrong with them
        pass
    words = re.split(r"[^a-z]+", source.lower())
    size = next((size for word, size in SIZES_BY_WORD.items() if word in words), UNKNOWN_SIZE)
    return replace(size, kind=source.lower())


def task_size(experiment: Experiment, cell: Cell) -> TaskSize:
    """Return the size of a cell's task: from its tokens, else from its data or from tokens of another tokenizer, else
    from the experiment file.
    """
    entry, max_seq_length = experiment.tasks[cell.task], cell.values["max_seq_length"]
    sizes = _counted(staged_tokens(experiment, cell))
    if sizes.keys() >= set(splits_of(entry)):
        return _task_size(entry, sizes, is_counted=True)
    sizes = {name: seen.size(max_seq_length) for name, seen in experiment.data_seen.get(cell.task, {}).items()}
    staged_rows = _staged_rows(Path(experiment.task_manifest(cell.task)))
    return _expected_size(entry, max_seq_length, staged_rows, sizes or _by_other_tokens(experiment, cell))


def _staged_size(manifest: Path) -> ModelSize:
    content = read_json(manifest)
    return _size(content["parameters"], content["embeddings"], read_json(manifest.parent / "config.json"), STAGED)


def _size_of_folder(folder: Path) -> ModelSize:
    config = json.loads(_read(folder / "config.json", LARGEST_CONFIG))
    return _size(sum(map(_numbers_in, folder.glob("*.safetensors"))), config["vocab_size"], config, FOLDER)


def _numbers_in(safetensors: Path) -> int:
    """Return how many numbers a file of weights holds, from its header, without importing the heavy library."""
    length = int.from_bytes(_read(safetensors, LENGTH_BYTES), "little")
    text = _read(safetensors, min(length, LARGEST_HEADER), LENGTH_BYTES)
    if len(text) < length:
        raise ValueError(f"{safetensors}: its header is incomplete or too large")
    header = json.loads(text)
    shapes = [tensor["shape"] for name, tensor in header.items() if name != "__metadata__"]
    return sum(math.prod(_whole_numbers(shape[:MOST_DIMENSIONS])) for shape in shapes)


def _read(path: Path, most: int, start: int = 0) -> bytes:
    """Return at most so many bytes. Raise ValueError for anything but a file, since opening a named pipe would hang."""
    if not path.is_file():
        raise ValueError(f"{path} is not a file")
    with path.open("rb") as stream:
        stream.seek(start)
        return stream.read(most)


def _size(parameters: int, embeddings: int, config: dict, known_from: str) -> ModelSize:
    hidden_size = next((config[key] for key in WIDTHS if key in config), 768)
    width = config.get("embedding_size", hidden_size)
    layers, groups = config.get("num_hidden_layers", 1), config.get("num_hidden_groups") or 1
    _whole_numbers([parameters, embeddings, hidden_size, width, layers, groups])
    if not 0 < hidden_size <= LARGEST_HIDDEN_SIZE:
        raise ValueError(f"the hidden size is {hidden_size}")
    of_layers = max(parameters - embeddings * width, 1)
    passed = round(of_layers * layers / groups) if "num_hidden_groups" in config else of_layers
    _whole_numbers([passed])
    return ModelSize(
        parameters,
        passed,
        hidden_size,
        known_from,
        str(config.get("model_type"))[:LONGEST_KIND],
    )


def _whole_numbers(numbers: list) -> list[int]:
    """Return the numbers if they may be sizes. Raise ValueError if not: a guess is better than nonsense in a file."""
    if not all(type(number) is int and 0 <= number <= MOST_PARAMETERS for number in numbers):
        raise ValueError("these cannot be the sizes of a model")
    return numbers


def _counted(manifest: Path) -> dict[str, SplitSize]:
    """Return the sizes of the splits in a manifest of tokens; none if it is missing or broken."""
    try:
        splits = read_json(manifest)["splits"] if manifest.exists() else {}
        return {name: SplitSize(split["rows"], split["tokens"], split.get("longest")) for name, split in splits.items()}
    except (DataError, OSError, KeyError, TypeError, AttributeError):
        return {}


def _by_other_tokens(experiment: Experiment, cell: Cell) -> dict[str, SplitSize]:
    """Return the sizes of a cell's splits from tokens of other tokenizers or lengths."""
    names = {"tokenizer_key": "*", "examples_key": glob.escape(experiment.examples_key(cell.task))}
    manifests = Path().glob(paths.TOKENS_MANIFEST.format(**names, max_seq_length="*"))
    longest = max(map(_counted, sorted(manifests)), key=lambda sizes: sum(s.tokens for s in sizes.values()), default={})
    return {name: size.truncated(cell.values["max_seq_length"]) for name, size in longest.items()}


def _staged_rows(manifest: Path) -> dict[str, int]:
    try:
        return dict(read_json(manifest)["rows"]) if manifest.exists() else {}
    except (DataError, OSError, KeyError, TypeError, ValueError):
        return {}


def _expected_size(
    entry: dict, max_seq_length: int, staged_rows: Mapping[str, int], known: Mapping[str, SplitSize]
) -> TaskSize:
    """Estimate the size of a task whose rows may be staged, and of which some splits' sizes may be known."""
    rows = {split: of["rows"] for split, of in entry.get("official", {}).items()}
    rows |= {entry["train"]: entry["train_rows"]} if "train_rows" in entry else {}
    rows |= staged_rows
    train_rows = rows.get(entry["train"], ROWS_OF_AN_UNKNOWN_TASK)
    expected = {name: round(train_rows * SHARE_OF_PREDICTED_ROWS) for name in splits_of(entry)}
    expected |= {entry["train"]: train_rows} | rows
    tokens = min(entry.get("tokens_per_example", max_seq_length), max_seq_length)
    sizes = {name: SplitSize(count, round(count * tokens)) for name, count in expected.items()} | dict(known)
    return _task_size(entry, sizes, is_counted=False, is_guessed=not (known or entry["train"] in rows))


def _task_size(entry: dict, sizes: dict[str, SplitSize], is_counted: bool, is_guessed: bool = False) -> TaskSize:
    return TaskSize(
        train=sizes.get(entry["train"], SplitSize(0, 0)),
        validation=tuple(sizes[name] for name in entry["validation"]),
        test=tuple(sizes[name] for name in entry["test"]),
        is_counted=is_counted,
        is_guessed=is_guessed,
    )


FORWARDS = 2
BACKWARDS = 4
WIDTHS_OF_ADAPTERS = 18  # inputs and outputs of a layer's six linear layers, in hidden units
BACKWARDS_OF_ADAPTERS = 2  # gradients of activations; hardly any of weights

MB_OF_SNAKEMAKE = 500
MARGIN_OF_MEMORY = 1.5


def operations_of_training(values: dict, model: ModelSize, task: TaskSize) -> float:
    """Return the operations of a run's training over all epochs and processes, with the scoring of epochs.

    `values` are all values of the run, its recipe's included.
    """
    if not values["do_train"]:
        return 0
    backwards = BACKWARDS if values["lora"] is None else BACKWARDS_OF_ADAPTERS
    passes = FORWARDS + backwards + (FORWARDS if values["gradient_checkpointing"] else 0)
    epochs = values["num_train_epochs"]
    trained = model.passed * (task.train.tokens_of(values["max_train_samples"]) * epochs) * passes
    scored_epochs = epochs if values["eval_strategy"] == "epoch" else 0
    return trained + model.passed * (_scored_tokens(values, task) * scored_epochs) * FORWARDS


def trained_parameters(values: dict, model: ModelSize) -> float:
    """Return how many parameters a run trains: all, or about as many as its adapters have where they are everywhere."""
    if values["lora"] is None:
        return model.parameters
    return WIDTHS_OF_ADAPTERS * values["lora"]["r"] * model.hidden_size * model.layers


def number_of_updates(values: dict, task: TaskSize) -> int:
    """Return the updates of a run's training, over all its epochs."""
    if not values["do_train"]:
        return 0
    per_epoch = math.ceil(task.train.rows_of(values["max_train_samples"]) / examples_per_update(values))
    return math.ceil(values["num_train_epochs"] * per_epoch)


def operations_of_predicting(values: dict, model: ModelSize, task: TaskSize) -> float:
    """Return the operations of predicting the validation and test splits once, which follows a training."""
    tokens = _scored_tokens(values, task) + sum(split.tokens for split in task.test)
    return model.passed * tokens * FORWARDS


def _scored_tokens(values: dict, task: TaskSize) -> float:
    return sum(split.tokens_of(values["max_eval_samples"]) for split in task.validation)


def memory_in_mb(values: dict, model: ModelSize) -> int:
    """Estimate the host memory in MB that a run needs on each node.

    Snakemake's own two processes per job are included. On a GPU: the libraries, and a copy of weights and optimizer
    while they are loaded or saved. On a CPU also everything trained: weights, gradients and two moments, 4 bytes each,
    and the activations (about 34 x 2 bytes per token, layer and hidden unit: Korthikanti et al., "Reducing Activation
    Recomputation" (2022), section 4).
    """
    if values["device"] == "cuda":
        of_process = 5_000 + 24 * model.parameters / 1e6
        return _rounded(MB_OF_SNAKEMAKE + of_process * values["gpus"])
    batch = values.get("global_batch_size") or values["per_device_train_batch_size"]
    layers_by_width = model.passed / (12 * model.hidden_size)
    activations = batch * values["max_seq_length"] * 68 * layers_by_width
    of_process = 2_000 + (20 * model.parameters + activations) / 1e6
    return _rounded(MB_OF_SNAKEMAKE + of_process * values["gpus"])


def memory_as_measured(values: dict, peak_bytes: int) -> int:
    """Return the host memory in MB that a run needs on each node: the highest peak measured, plus a margin."""
    return _rounded(MB_OF_SNAKEMAKE + MARGIN_OF_MEMORY * peak_bytes / 1e6 * values["gpus"])


def _rounded(megabytes: float) -> int:
    return math.ceil(megabytes / 500) * 500
