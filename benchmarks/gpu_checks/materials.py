"""Make what the checks train: models with random weights, on rows of the user's data or on similar synthetic ones."""

import dataclasses
import json
import tempfile
from pathlib import Path

import generate
import numpy
import pyarrow
import pyarrow.parquet
from arms import Ours
from cells import BATCH_SIZE, SEED, Cell, make_cell, stage_model, write_run
from in_process import forget_earlier_settings
from sizes import random_model
from synthetic_tasks import OTHER_WORDS, SLOTS, WORDS

from gluegrid.experiment.config import TASK_DEFAULTS, load_registry

from .pretended import graphs
from .setting import Setting

VOCABULARY = 30_522  # BERT's, since the embedding costs memory and time in the optimizer
LONGEST = 512
TOKENS_PRETENDED = 8
SPREAD_OF_LENGTHS = 0.45  # standard deviation of their logarithm; 0.3 to 0.6 in GLUE's tasks


def cell_of(setting: Setting, task: str, size: str, rows: tuple[int, int], dropout: float = 0.1, **values) -> Cell:
    """Return a staged cell of a random model on at most `rows` training and validation rows of a task.

    `values` go into its run.json.
    """
    model = _staged_model(setting, size, dropout)
    folder = Path(tempfile.mkdtemp(prefix=f"{task}-{size}-", dir=setting.folder))
    source = folder / "made-up" if setting.data is None else setting.data / task
    if setting.data is None:
        entry = TASK_DEFAULTS | load_registry()[task]
        _make_up(source, entry, setting.of(entry["tokens_per_example"], TOKENS_PRETENDED), rows)
    cell = make_cell(folder, task, source, model, rows, setting.threads, setting.device)
    return with_values(setting, cell, **values) if values else cell


def with_values(setting: Setting, cell: Cell, **values) -> Cell:
    """Return the cell with a run.json of these values, in a folder of its own."""
    folder = Path(tempfile.mkdtemp(prefix="run-", dir=cell.folder))
    return dataclasses.replace(cell, run_json=write_run(folder, cell.task, setting.threads, setting.device, **values))


def ours_on(setting: Setting, cell: Cell, rows: int | None = None) -> Ours:
    """Return our training on a cell's first `rows` rows, or on all; if simulated, with stand-ins for CUDA graphs."""
    forget_earlier_settings()
    return Ours(cell, rows or cell.rows, 1, graphs() if setting.pretend else None)


def _staged_model(setting: Setting, size: str, dropout: float) -> Path:
    """Return the manifest of a random model, which an earlier check may have staged."""
    folder = setting.folder / "models" / f"{size}-{dropout}"
    manifest = folder / "manifest.json"
    if not manifest.exists():
        source = random_model(random_folder(setting, size, dropout), size, _tokenizer(setting), dropout)
        stage_model(source, folder)
    return manifest


def random_folder(setting: Setting, size: str, dropout: float = 0.1) -> Path:
    """Return the folder of a random model, before it is staged."""
    return setting.folder / "random" / f"{size}-{dropout}"


def _tokenizer(setting: Setting) -> Path:
    """Return the folder of the tokenizer: the user's, or one of the demo's words with a vocabulary of BERT's size."""
    if setting.tokenizer is not None:
        return setting.tokenizer
    folder = setting.folder / "tokenizer"
    if not folder.exists():
        tokens = [*generate.make_vocabulary({}), *_words()]
        tokens += [f"[unused{number}]" for number in range(setting.of(VOCABULARY, 0) - len(tokens))]
        generate.write_tokenizer(folder, {token: number for number, token in enumerate(tokens)})
        settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        generate.write_json(folder / "tokenizer_config.json", settings | {"model_max_length": LONGEST})
    return folder


def _words() -> list[str]:
    groups = [group for words in (WORDS, OTHER_WORDS) for slot in SLOTS for group in getattr(words, slot)]
    return sorted({word for group in groups for word in group})


def _make_up(folder: Path, entry: dict, tokens: float, rows: tuple[int, int]) -> None:
    """Write training and validation splits of random words, with `tokens` tokens per example on average."""
    generator = numpy.random.default_rng(SEED)
    splits = (entry["train"], next(iter(entry["validation"])))
    texts, labels = len(entry["text_columns"]), entry.get("labels")
    mean = (tokens - 1 - texts) / texts
    folder.mkdir()
    for split, count in zip(splits, rows, strict=True):
        count = max(count, BATCH_SIZE)
        columns = {column: _texts(generator, count, mean) for column in entry["text_columns"]}
        columns[entry["label_column"]] = (
            generator.integers(len(labels), size=count) if labels else generator.uniform(0, 5, count)
        )
        table = pyarrow.table(columns | {"idx": numpy.arange(count)})
        pyarrow.parquet.write_table(table, folder / f"{split}-00000-of-00001.parquet")


def _texts(generator: numpy.random.Generator, count: int, mean: float) -> list[str]:
    """Return `count` texts of random words, `mean` words each on average."""
    middle = numpy.log(mean) - SPREAD_OF_LENGTHS**2 / 2
    lengths = numpy.exp(generator.normal(middle, SPREAD_OF_LENGTHS, count)).astype(int) + 1
    drawn = generator.choice(numpy.array(_words()), lengths.sum())
    return [" ".join(words) for words in numpy.split(drawn, numpy.cumsum(lengths)[:-1])]
