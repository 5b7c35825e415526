"""`snakemake stage`: what needs a network, done in one call, by one that may then be carried to where there is none."""

import json
import re
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy
import pytest
import safetensors.numpy
import yaml
from builders import WORDS, rows, task
from clones import Clone, clone_into
from fake_hub import FakeHub, Fault
from fake_hub_servers import serving
from fetching import parquet_of

from gluegrid.common.files import read_json
from gluegrid.experiment.loading import load_experiment
from gluegrid.operations.staged import staged_table

# Of this run alone, so that not even the copy of this file has it.
TOKEN = f"hf_{secrets.token_hex(16)}"
TASKS = ("cola", "sst2", "mrpc", "qqp", "qnli", "rte")
COLUMNS = {
    "cola": ["sentence"],
    "sst2": ["sentence"],
    "mrpc": ["sentence1", "sentence2"],
    "qqp": ["question1", "question2"],
    "qnli": ["question", "sentence"],
    "rte": ["sentence1", "sentence2"],
}
SPLITS = ("train", "validation", "test")
# As the documents have it, where --resources takes the place of the profile's.
CALL = ("--profile", "profiles/local", "--configfile", "mine.yaml", "--cores", "8", "--resources", "gpu=8")
STAGE = (*CALL, "--", "stage")


@dataclass(frozen=True)
class Staged:
    """A clone in which `snakemake stage` has run, what it said, and the hub as it was then."""

    clone: Clone
    output: str
    hub: FakeHub
    commits: dict[str, str]
    planned: dict[str, int]


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Staged]:
    root = tmp_path_factory.mktemp("stage") / "clone"
    with serving() as hub:
        commits = fill(hub)
        # The first waits for a second, and all are so slow that more would be under way at once, if they were let; and
        # with something for the log.
        hub.awaited_transfers = 2
        hub.faults.append(Fault("listing", times=1, status=429, headers={"Retry-After": "1"}))
        hub.faults.append(Fault("content", bytes_per_second=8000))
        clone = clone_with_experiment(root, hub)
        planned = clone.planned(*STAGE)
        done = clone.snakemake(*STAGE)
        assert done.returncode == 0, done.stdout
        yield Staged(clone, done.stdout, hub, commits, planned)


def fill(hub: FakeHub) -> dict[str, str]:
    """Give a hub a model and a data set that only the holder of the token may read; return their commits."""
    hub.tokens = {TOKEN}
    data = {f"{name}/{split}-00000-of-00001.parquet": split_of(name) for name in TASKS for split in SPLITS}
    readers = {"readers": frozenset({TOKEN}), "is_gated": True}
    return {
        "models": hub.commit("models/org/tiny", model_files(), **readers),
        "tasks": hub.commit("datasets/org/glue", data, **readers),
    }


def clone_with_experiment(root: Path, hub: FakeHub) -> Clone:
    """Return a clone whose mine.yaml takes a model and six tasks from the hub, called by one who has a token."""
    home = str(root.with_name("home"))
    variables = {"HF_ENDPOINT": hub.endpoint, "HF_TOKEN": TOKEN, "HF_HOME": home, "NO_PROXY": "127.0.0.1"}
    clone = clone_into(root, variables)
    config = {
        "experiment": "offline",
        "models": {"tiny": {"source": "org/tiny", "revision": "main"}},
        "task_defaults": {"source": "org/glue", "revision": "main"},
        "tasks": dict.fromkeys(TASKS),
        "device": "cpu",
        "max_seq_length": 16,
    }
    (root / "mine.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    return clone


def split_of(name: str) -> bytes:
    return parquet_of(rows(24, task(text_columns=COLUMNS[name])))


def model_files() -> dict[str, bytes]:
    """Return the files of a BERT of one layer x 8, all zeros."""
    vocabulary = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS)
    config = {
        "model_type": "bert",
        "vocab_size": len(vocabulary),
        "max_position_embeddings": 64,
        "type_vocab_size": 2,
        "hidden_size": 8,
        "intermediate_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
    }
    layer = "bert.encoder.layer.0"
    norms = ("bert.embeddings.LayerNorm", f"{layer}.attention.output.LayerNorm", f"{layer}.output.LayerNorm")
    squares = [f"{layer}.attention.self.{name}" for name in ("query", "key", "value")]
    squares += [f"{layer}.{name}.dense" for name in ("attention.output", "intermediate", "output")]
    squares += ["bert.pooler.dense"]
    shapes = {
        "bert.embeddings.word_embeddings.weight": (len(vocabulary), 8),
        "bert.embeddings.position_embeddings.weight": (64, 8),
        "bert.embeddings.token_type_embeddings.weight": (2, 8),
        **{f"{name}.weight": (8,) for name in norms},
        **{f"{name}.weight": (8, 8) for name in squares},
        **{f"{name}.bias": (8,) for name in (*norms, *squares)},
    }
    weights = {name: numpy.zeros(shape, numpy.float32) for name, shape in shapes.items()}
    return {
        "config.json": json.dumps(config).encode(),
        "model.safetensors": safetensors.numpy.save(weights),
        "pytorch_model.bin": b"pickle",
        "tokenizer_config.json": b'{"tokenizer_class": "BertTokenizer", "model_max_length": 64}',
        "vocab.txt": "\n".join(vocabulary).encode(),
    }


@pytest.mark.long
def test_staging_plans_to_fetch_and_to_tokenise_and_no_more(staged):
    assert staged.planned == {"fetch_model": 1, "fetch_task": 6, "tokenize_task": 6, "stage": 1}


@pytest.mark.long
def test_staging_leaves_models_data_and_tokens_and_no_cell(staged):
    resources = staged.clone.root / "resources"
    for kind, commit in staged.commits.items():
        for manifest in resources.glob(f"{kind}/*/manifest.json"):
            assert read_json(manifest)["resolved_revision"] == commit
    counts = {kind: len(list((resources / kind).rglob("manifest.json"))) for kind in ("models", "tasks", "tokens")}
    assert counts == {"models": 1, "tasks": 6, "tokens": 6}
    assert not list(resources.rglob("*.bin"))
    results = staged.clone.root / "results" / "offline"
    assert {path.name for path in results.iterdir()} == {"benchmarks", "heads", "logs"}
    assert {path.name for path in (results / "logs").iterdir()} == {"fetch_model", "fetch_task", "tokenize_task"}


@pytest.mark.long
def test_the_terminal_ends_with_what_is_staged(staged):
    lines = staged.output.strip().splitlines()
    assert lines[-1] == "Everything is staged; cells need no network."
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    models = [row for row in table if row[0] == "model"]
    assert [row[1:4] for row in models] == [["tiny", "org/tiny", staged.commits["models"][:12]]]
    data = [row for row in table if row[0] == "data"]
    assert [row[1:4] + row[5:] for row in data] == [
        [name, "org/glue", staged.commits["tasks"][:12], "72"] for name in TASKS
    ]
    assert [row[1] for row in table if row[0] == "tokens"] == [f"{name}-16" for name in sorted(TASKS)]


def test_models_of_one_source_share_a_row_of_tokens(tmp_path):
    models = "{a: {source: org/tiny}, b: {source: org/tiny, learning_rate: 1e-5}, c: {source: org/other}}"
    (tmp_path / "mine.yaml").write_text(f"experiment: shared\nmodels: {models}\ntasks: [rte]\n")
    lines = staged_table(load_experiment(tmp_path / "mine.yaml")).splitlines()
    assert len([line for line in lines if line.startswith("| model ")]) == 3
    assert len([line for line in lines if line.startswith("| tokens ")]) == 2


@pytest.mark.long
def test_no_more_than_two_files_are_fetched_at_once(staged):
    assert staged.hub.most_transfers_at_once == 2
    assert len(staged.hub.files_sent()) == len(TASKS) * len(SPLITS) + 4


@pytest.mark.long
def test_the_token_goes_to_the_hub_alone_and_stays_nowhere(staged):
    requests = staged.hub.requests
    assert {request.token for request in requests if request.server == "hub"} == {TOKEN}
    assert {request.headers.get("authorization") for request in requests if request.server == "cdn"} == {None}
    assert all(TOKEN not in request.address for request in requests)
    assert TOKEN not in staged.output
    files = [path for path in staged.clone.root.rglob("*") if path.is_file()]
    assert any(path.name.endswith(".snakemake.log") for path in files)
    assert not [path for path in files if TOKEN.encode() in path.read_bytes()]
    assert not [path for path in staged.clone.root.rglob("*") if TOKEN in path.name]


@pytest.mark.long
def test_the_logs_say_what_was_fetched_and_waited_for(staged):
    logs = "".join(path.read_text() for path in (staged.clone.root / "results/offline/logs").glob("fetch_*/*.log"))
    assert logs.count("the hub asks to wait (429); next try in 1 s") == 1
    assert "fetching rte/train-00000-of-00001.parquet, " in logs
    assert re.search(r"^\d\d:\d\d:\d\d staged 1 model, 6 datasets, 6 tokenized tasks, ", staged.output, re.M)


@pytest.mark.long
def test_resources_that_are_carried_elsewhere_need_no_hub(staged, tmp_path):
    elsewhere = clone_into(tmp_path / "elsewhere", {"HF_ENDPOINT": "http://hub.invalid"})
    shutil.copy(staged.clone.root / "mine.yaml", elsewhere.root)
    subprocess.run(["cp", "-a", str(staged.clone.root / "resources"), str(elsewhere.root)], check=True)
    everything = elsewhere.planned(*CALL)
    assert everything == {"write_runs_1": 1, "train": 6, "results": 1}
    assert elsewhere.planned(*STAGE) == {}


@pytest.mark.long
def test_what_cannot_be_staged_is_named_with_its_log_and_the_rest_is_staged(tmp_path):
    with serving() as hub:
        fill(hub)
        clone = clone_with_experiment(tmp_path / "clone", hub)
        clone.replace("mine.yaml", "org/tiny", "org/nothing")
        done = clone.snakemake(*STAGE)
    assert done.returncode == 1
    why = "model 'org/nothing' at revision 'main': the hub has no such repository"
    assert f"FAILED fetching model tiny: {why}" in done.stdout
    log = "results/offline/logs/fetch_model/org--nothing@main.log"
    *_, failed, waiting, last = done.stdout.strip().splitlines()
    assert failed.startswith(
        "FAILED model tiny: model 'org/nothing' at revision 'main': the hub has no such repository"
    )
    assert failed.endswith(f"; log: {log}")
    names = ", ".join(f"tokens {name}-16" for name in sorted(TASKS))
    assert waiting == f"Not attempted: {names}"
    assert last == "7 of 13 are missing."
    assert TOKEN not in done.stdout
    assert "no such repository" in (clone.root / log).read_text(encoding="utf-8")
    assert len(list((clone.root / "resources" / "tasks").rglob("manifest.json"))) == 6
