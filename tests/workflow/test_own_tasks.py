"""Tasks that an experiment file defines with files of one's own: what they are, where they lie, and a whole run."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet
import pytest
import yaml
from clones import Clone, clone_into
from fake_hub import FakeHub
from fake_hub_servers import serving
from fetching import Fetched, Fetcher, parquet_of

from gluegrid.common.errors import ConfigError
from gluegrid.common.files import read_json, sha256
from gluegrid.experiment.cell import run_text
from gluegrid.experiment.config_errors import Problems
from gluegrid.experiment.experiment import Experiment
from gluegrid.experiment.loading import load_experiment
from gluegrid.operations.local_data import look_at_local_data

CSV = 'review,mood\na fine film,good\n"long, and dull",bad\n'
ENTRY = {
    "source": "./data",
    "files": {"train": "train.csv", "validation": "dev.csv"},
    "text_columns": ["review"],
    "label_column": "mood",
    "labels": ["bad", "good"],
    "metrics": ["accuracy"],
}
ONE_FILE = {key: value for key, value in ENTRY.items() if key != "files"} | {
    "source": "./data/train.csv",
    "cut_from_train": {"validation": 0.5},
}


@pytest.fixture(autouse=True)
def in_a_folder_with_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("data/more").mkdir(parents=True)
    for name in ("train.csv", "dev.csv", "more/test.csv"):
        Path("data", name).write_text(CSV)


def load(entry: dict, **changes: object) -> Experiment:
    """Load an experiment of one task with these values; a key that is None is left out."""
    task = {key: value for key, value in (entry | changes).items() if value is not None}
    config = {"experiment": "own", "models": {"bert": {"source": "org/bert"}}, "tasks": {"reviews": task}}
    Path("c.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    return load_experiment(Path("c.yaml"))


def run_of(experiment: Experiment) -> str:
    return run_text(next(iter(experiment.cells.values())))


def test_files_are_part_of_what_a_run_is():
    assert json.loads(run_of(load(ENTRY)))["task"] == ENTRY | {
        "name": "reviews",
        "revision": load(ENTRY).tasks["reviews"]["revision"],
        "files": {"train": ["train.csv"], "validation": ["dev.csv"]},
        "train": "train",
        "validation": {"validation": ""},
        "test": [],
    }


def test_a_file_and_a_list_of_it_are_the_same_run():
    assert run_of(load(ENTRY)) == run_of(load(ENTRY, files={"train": ["train.csv"], "validation": ["dev.csv"]}))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"files": ENTRY["files"] | {"test": "more/test.csv"}}, ["test"]),
        ({"cut_from_train": {"test": 0.5}}, ["test"]),
        ({"files": ENTRY["files"] | {"hard": "more/test.csv"}, "test": ["hard"]}, ["hard"]),
    ],
)
def test_without_a_test_split_there_is_none(changes, expected):
    assert load(ENTRY, **changes).tasks["reviews"]["test"] == expected


CHANGES = {
    "files": {"files": {"train": "dev.csv", "validation": "train.csv"}},
    "cut": {"cut_from_train": {"test": 0.5}},
    "share": {"cut_from_train": {"test": 0.4}},
    "label column": {"label_column": "review", "text_columns": ["mood"]},
    "labels": {"labels": ["good", "bad"]},
    "regression": {"labels": None, "metrics": ["pearson"]},
    "hidden labels": {"validation": {"validation": "", "b": "_b"}, "files": ENTRY["files"] | {"b": "more/test.csv"}},
}


def test_what_decides_the_files_decides_where_they_lie():
    keys = [load(ENTRY, **changes).task_key("reviews") for changes in ({}, *CHANGES.values())]
    assert len(set(keys)) == len(keys)
    assert all(re.fullmatch(r"data-[0-9a-f]{8}@[0-9a-f]{12}-[0-9a-f]{8}", key) for key in keys)


def test_which_splits_are_scored_decides_which_files_are_made():
    for split in ("train", "a", "b"):
        Path(f"data/{split}-00000-of-00001.parquet").write_bytes(b"")
    entry = ENTRY | {"files": None, "cut_from_train": {"test": 0.1}, "revision": "v1"}
    keys = {load(entry, validation={split: ""}).task_key("reviews") for split in ("a", "b")}
    assert len(keys) == 2


def test_names_of_tables_and_metrics_do_not_decide_where_the_files_lie():
    others = {"metrics": ["accuracy", "f1"], "display_name": "R", "validation": {"validation": "_dev"}, "train_rows": 3}
    assert load(ENTRY, **others).task_key("reviews") == load(ENTRY).task_key("reviews")


@pytest.mark.parametrize(("entry", "file"), [(ENTRY, "data/dev.csv"), (ONE_FILE, "data/train.csv")])
def test_an_edited_file_is_another_task_and_another_run(entry, file):
    before = load(entry)
    Path("data/notes.csv").write_text("never read")
    assert run_of(load(entry)) == run_of(before)
    Path(file).write_text(CSV.replace("fine", "poor"))
    assert run_of(load(entry)) != run_of(before)
    assert load(entry).task_key("reviews") != before.task_key("reviews")


def test_a_cut_needs_no_names_where_files_are_named_as_on_the_hub():
    Path("data/train-00000-of-00001.parquet").write_bytes(b"")
    entry = ENTRY | {"files": None, "cut_from_train": {"validation": 0.1}}
    before = load(entry)
    assert before.tasks["reviews"]["test"] == []
    Path("data/train-00000-of-00001.parquet").write_bytes(b"edited")
    assert run_of(load(entry)) != run_of(before)


@pytest.mark.parametrize(
    ("validation", "test", "expected"), [({"dev": ""}, [], "dev"), ({}, ["new"], "new")], ids=["scored", "predicted"]
)
def test_a_file_of_a_task_that_is_not_trained_is_its_only_split(validation, test, expected):
    changes = {"train": None, "do_train": False, "cut_from_train": None, "validation": validation, "test": test}
    task = {key: value for key, value in (ONE_FILE | changes).items() if value is not None} | {"train": None}
    config = {"experiment": "own", "models": {"bert": {"source": "org/bert"}}, "tasks": {"reviews": task}}
    Path("c.yaml").write_text(yaml.safe_dump(config))
    assert fetched(load_experiment(Path("c.yaml")))["rows"] == {expected: 2}


def test_a_folder_of_the_source_is_that_of_its_files():
    Path("data/more/dev.csv").write_text(CSV)
    assert load(ENTRY, folder="more", files={"train": "test.csv", "validation": "dev.csv"})


def test_a_file_may_be_a_link(tmp_path):
    Path("link.csv").symlink_to(tmp_path / "data" / "train.csv")
    assert fetched(load(ONE_FILE, source="./link.csv"))["rows"] == {"train": 1, "validation": 1}


MISTAKES = {
    "no file": (
        {"files": {"train": "trian.csv", "validation": "dev.csv"}},
        "source: the folder './data' cannot be used: it contains no trian.csv;"
        " it has: dev.csv, more/test.csv, train.csv. Did you mean 'train.csv'?",
    ),
    "no file of another split for train": (
        {"files": {"train": "devs.csv", "validation": "dev.csv"}},
        "source: the folder './data' cannot be used: it contains no devs.csv; it has: dev.csv, more/test.csv,"
        " train.csv.$",
    ),
    "no file for a pattern": ({"files": {"train": "x*.csv", "validation": "dev.csv"}}, "source: the folder './data'"),
    "no folder": ({"source": "./dta"}, "source: the folder './dta' cannot be used: it does not exist"),
    "no such source": (
        {"source": "./data/x.csv", "files": None, "cut_from_train": {"validation": 0.5}},
        "source: the file './data/x.csv' cannot be used: it does",
    ),
    "a file twice": (
        {"files": {"train": "*.csv", "validation": "dev.csv"}},
        "source: the folder './data' cannot be used: dev.csv is named 2 times; name it once, for one split",
    ),
    "another suffix": (
        {"files": {"train": "train.txt", "validation": "dev.csv"}},
        "files.train: 'train.txt' is not allowed",
    ),
    "a path from elsewhere": (
        {"files": {"train": "/etc/train.csv", "validation": "dev.csv"}},
        "files.train: '/etc/train.csv' is not allowed",
    ),
    "a path out of the source": (
        {"files": {"train": "a/../../train.csv", "validation": "dev.csv"}},
        "files.train: 'a/../../train.csv' is not allowed",
    ),
    "nothing below files": ({"files": {}}, "files: {} is not allowed"),
    "no place for a split": (
        {"files": {"train": "train.csv"}},
        "validation: the split 'validation' has no source; give its file under files, or its share under",
    ),
    "no split for a file": (
        {"files": ENTRY["files"] | {"dev": "more/test.csv"}},
        "files.dev: 'dev' is not listed under train, validation or test; add it to one of them, such as validation:"
        " {dev: ''}",
    ),
    "a cut of what is there": (
        {"cut_from_train": {"validation": 0.1}},
        "cut_from_train.validation: already has files under files; remove it from one of them",
    ),
    "a cut for nobody": (
        {"cut_from_train": {"hard": 0.1}},
        "cut_from_train.hard: 'hard' is not listed under validation or test; add it there",
    ),
    "a cut of train for train": (
        {"cut_from_train": {"train": 0.1}},
        "cut_from_train.train: 'train' is not listed under valid",
    ),
    "too much": (
        {"files": {"train": "train.csv"}, "cut_from_train": {"validation": 0.6, "test": 0.4}},
        "cut_from_train: the shares add up to 1, which leaves nothing to train on; choose smaller ones",
    ),
    "percent": (
        {"files": {"train": "train.csv"}, "cut_from_train": {"validation": 10}},
        "cut_from_train.validation: 10 is not allowed; allowed: a number above 0, below 1; share of the training split",
    ),
    "files of a file": (
        {"source": "./data/train.csv"},
        "files: conflicts with a source that is a single file; name the file's folder as source, or leave files out",
    ),
    "a file alone": (
        {"source": "./data/train.csv", "files": None},
        "validation: the split 'validation' has no source",
    ),
    "a file without its mark": (
        {"source": "data/train.csv", "files": None},
        "source: 'data/train.csv' reads as an id on the hub, but exists here;"
        " write ./data/train.csv for the local path, or",
    ),
    "a deeper file without its mark": (
        {"source": "data/more/test.csv", "files": None},
        "source: 'data/more/test.csv' is a local path; write ./data/more/test.csv",
    ),
    "a folder without its mark": (
        {"source": "data/more", "files": {"train": "test.csv", "validation": "test.csv"}},
        "source: 'data/more' reads as an id on the hub, but exists here; write ./data/more for the local path, or add",
    ),
    "a workbook": (
        {"source": "./odd/it.xlsx", "files": None},
        "source: the folder './odd/it.xlsx' cannot be used: it is a file in an unsupported format; supported formats:"
        " .csv, .tsv, .json, .jsonl (also compressed: .gz, .bz2, .xz, .zst, .lz4, .zip), .parquet, .arrow; convert it"
        " in Python: pandas.read_excel('it.xlsx').to_parquet('data.parquet')",
    ),
    "an archive": (
        {"source": "./odd/it.tar.gz", "files": None},
        "source: the folder './odd/it.tar.gz' cannot be used: it is a file in an unsupported format; it is an"
        " archive: unpack it, and name the folder",
    ),
    "nothing that is read": (
        {"source": "./odd", "files": None},
        "source: the folder './odd' cannot be used: it contains no <split>-00000-of-00001.parquet; it has: it.tar.gz,"
        " it.xlsx, train.txt; it is an archive: unpack it, and name the folder",
    ),
    "no name that says train": (
        {"source": "./data/more", "files": None},
        "source: the folder './data/more' cannot be used: it contains no <split>-00000-of-00001.parquet; list files"
        " with other names, such as files: {train: <a file>, validation: <a file>}; it has: test.csv.$",
    ),
    "an encoding with a typo": (
        {"encoding": "latin-l"},
        "encoding: 'latin-l' is not a text encoding that Python knows. Did you mean 'latin-1'?",
    ),
    "an encoding of bytes": (
        {"encoding": "base64"},
        "encoding: 'base64' is not a text encoding that Python knows; use a name such as latin-1 or gb18030$",
    ),
    "another quoting": (
        {"quoting": "all"},
        "quoting: 'all' is not allowed; allowed: one of none; none if quotes in",
    ),
    "columns without the text's": (
        {"columns": ["id", "revew", "mood"]},
        "text_columns: 'review' is not one of `columns`. Did you mean 'revew'?",
    ),
    "columns of json": (
        {"columns": ["review", "mood"], "files": {"train": "a.json", "validation": "b.jsonl.xz"}},
        "columns: applies only to .csv, .tsv files, of which the task has none; leave it out",
    ),
    "an encoding of parquet": (
        {"encoding": "latin-1", "files": {"train": "a.parquet", "validation": "b.parquet"}},
        "encoding: applies only to .csv, .tsv, .json, .jsonl files, of which the task has none; leave it out",
    ),
    "the label as text": ({"text_columns": ["mood"]}, "text_columns: 'mood' is also the label_column; name another"),
    "names left out": (
        {"files": None},
        "source: the folder './data' cannot be used: it contains no <split>-00000-of-00001.parquet;"
        " list files with other names, such as files: {train: train.csv, validation: dev.csv, test:"
        " more/test.csv}; it has: dev.csv, more/test.csv, train.csv.$",
    ),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_are_told_before_anything_runs(case):
    changes, expected = MISTAKES[case]
    Path("odd").mkdir()
    for name in ("it.xlsx", "it.tar.gz", "train.txt"):
        Path("odd", name).touch()
    with pytest.raises(ConfigError) as caught:
        load(ENTRY, **changes)
    (problem,) = (re.sub(r"^c\.yaml:\d+: tasks\.reviews\.", "", problem) for problem in caught.value.problems)
    assert f"{problem}$"[: len(expected)] == expected


def test_a_source_with_a_revision_is_of_the_hub_whatever_is_called_so_here():
    assert load(ENTRY, source="data/more", revision="v1").tasks["reviews"]["source"] == "data/more"


def test_a_model_without_its_mark_is_told_before_anything_runs():
    Path("org/bert").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"models\.bert\.source: 'org/bert' reads as an id on the hub, but exists"):
        load(ENTRY)


READING = {"encoding": "latin-1", "quoting": "none", "columns": ["review", "mood"], "uneven_rows": "skip"}


@pytest.mark.parametrize("key", READING)
def test_how_files_are_read_is_part_of_a_run_and_decides_where_they_and_their_tokens_lie(key):
    plain, other = load(ENTRY), load(ENTRY, **{key: READING[key]})
    assert key not in json.loads(run_of(plain))["task"]
    assert json.loads(run_of(other))["task"][key] == READING[key]
    assert other.task_key("reviews") != plain.task_key("reviews")
    assert other.examples_key("reviews") != plain.examples_key("reviews")


@pytest.mark.parametrize("name", ["deep/er/still/train.csv", "**/still/*.csv"])
def test_files_may_lie_in_folders_of_any_depth(name):
    Path("data/deep/er/still").mkdir(parents=True)
    Path("data/deep/er/still/train.csv").write_text(CSV)
    experiment = load(ENTRY, files={"train": name, "validation": "dev.csv"})
    manifest = fetched(experiment)
    assert manifest["rows"] == {"train": 2, "validation": 2}
    assert sorted(manifest["source_files"]) == ["deep/er/still/train.csv", "dev.csv"]
    folder = Path("resources", experiment.task_key("reviews"))
    assert sorted(path.name for path in folder.iterdir() if path.is_file()) == ["manifest.json", *manifest["files"]]


def test_an_incomplete_set_of_parts_is_told_before_anything_runs_and_stops_no_other_task():
    Path("data/train-00000-of-00002.parquet").write_bytes(b"")
    experiment = load(ENTRY, files={"train": "train-*.parquet", "validation": "dev.csv"})
    problems = Problems(Path("c.yaml"), {})
    look_at_local_data(experiment, problems)
    (warning,) = problems.warnings
    assert "train-00001-of-00002.parquet: is missing; split 'train' has 1 of its 2 files; only the cells of" in warning
    assert "is missing; split 'train' has 1 of its 2 files" in start_fetching(experiment, unreachable_hub()).error


def test_what_the_documentation_shows_is_an_experiment(project):
    tasks = re.search(r"```yaml\n(.*?)```", (project / "docs/data.md").read_text(encoding="utf-8"), re.DOTALL).group(1)
    Path("data/reviews.csv").write_text(CSV)
    Path("data/pairs").mkdir()
    for name in ("train.csv", "dev.jsonl", "test-a.json", "test-b.json"):
        Path("data/pairs", name).write_text("")
    Path("c.yaml").write_text("experiment: shown\nmodels: {bert: {source: org/bert}}\n" + tasks)
    shown = load_experiment(Path("c.yaml")).tasks
    assert {name: task["test"] for name, task in shown.items()} == {
        "reviews": ["test"],
        "similarity": ["test"],
        "imdb": [],
    }


# Fetching


@pytest.fixture
def hub():
    with serving() as hub:
        yield hub


def start_fetching(experiment: Experiment, hub: FakeHub) -> Fetched:
    """Call fetch_task.py as the rule does."""
    Path("head.json").write_text(json.dumps({"config": experiment.config}))
    entry, key = experiment.tasks["reviews"], experiment.task_key("reviews")
    fetcher = Fetcher(hub, Path())
    options = (f"--folder={entry.get('folder', '')}", "--head", "head.json")
    process = fetcher.start("fetch_task.py", entry["source"], entry["revision"], key, {}, *options)
    return fetcher.finish(process, key)


def fetched(experiment: Experiment, hub: FakeHub | None = None) -> dict:
    """Fetch the task; return its manifest."""
    return start_fetching(experiment, hub or unreachable_hub()).content


def unreachable_hub() -> FakeHub:
    hub = FakeHub()
    hub.ports["hub"] = 9
    return hub


def test_the_manifest_has_the_hashes_of_both_the_users_files_and_those_made_of_them():
    experiment = load(ENTRY)
    manifest = fetched(experiment)
    files = [f"{split}-00000-of-00001.parquet" for split in ("train", "validation")]
    assert {name: found["sha256"] for name, found in manifest["source_files"].items()} == {
        name: sha256(Path("data", name)) for name in ("dev.csv", "train.csv")
    }
    folder = Path("resources") / experiment.task_key("reviews")
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", *files]
    assert {name: found["sha256"] for name, found in manifest["files"].items()} == {
        name: sha256(folder / name) for name in files
    }
    assert manifest["rows"] == {"train": 2, "validation": 2}


def test_a_row_that_does_not_fit_ends_the_fetch_with_one_line():
    Path("data/dev.csv").write_text(CSV.replace(",bad", ",badd"))
    hub = FakeHub()
    hub.ports["hub"] = 9
    assert start_fetching(load(ENTRY), hub).error == (
        "gluegrid: data/dev.csv: column 'mood' has 'badd' in row 1 (line 3);"
        " allowed: 0 to 1 (bad, good). Did you mean 'bad'?"
    )


OF_THE_HUB = {
    "data/train-00000-of-00002.parquet": parquet_of({"review": ["a", "b"], "mood": [0, 1]}),
    "data/train-00001-of-00002.parquet": parquet_of({"review": ["c"], "mood": [1]}),
    "csv/dev set.csv": CSV.encode(),
    "README.md": b"looked at, and not kept",
}
HUB_ENTRY = ENTRY | {
    "source": "org/reviews",
    "files": {"train": "data/train-*.parquet", "validation": ["csv/dev set.csv"]},
}


def test_a_data_set_of_the_hub_may_have_files_of_any_name(hub):
    commit = hub.commit("datasets/org/reviews", OF_THE_HUB)
    experiment = load(HUB_ENTRY)
    manifest = fetched(experiment, hub)
    assert manifest["resolved_revision"] == commit
    assert manifest["rows"] == {"train": 3, "validation": 2}
    assert sorted(set(hub.files_sent())) == sorted(OF_THE_HUB)
    assert sorted(manifest["source_files"]) == sorted(set(OF_THE_HUB) - {"README.md"})
    folder = Path("resources", experiment.task_key("reviews"))
    assert sorted(path.name for path in folder.iterdir()) == sorted(["manifest.json", *manifest["files"]])
    train = pyarrow.parquet.read_table(folder / "train-00000-of-00001.parquet")
    assert train["review"].to_pylist() == ["a", "b", "c"]
    assert train["mood"].to_pylist() == [0, 1, 1]


CARD = b"""---
dataset_info:
  features:
  - name: mood
    dtype: {class_label: {names: {'0': good, '1': bad}}}
---
"""


def test_named_files_of_the_hub_are_read_by_the_names_of_its_card(hub):
    hub.commit("datasets/org/reviews", OF_THE_HUB | {"README.md": CARD})
    experiment = load(HUB_ENTRY)
    fetched(experiment, hub)
    folder = Path("resources", experiment.task_key("reviews"))
    moods = {
        split: pyarrow.parquet.read_table(folder / f"{split}-00000-of-00001.parquet")["mood"].to_pylist()
        for split in ("train", "validation")
    }
    assert moods == {"train": [1, 0, 0], "validation": [1, 0]}


@pytest.mark.parametrize("place", ["hub", "folder", "file"])
def test_a_card_is_looked_at_wherever_the_data_lie(hub, place):
    parquet = parquet_of({"review": ["a", "b"], "mood": [0, 1]})
    files = {f"{split}-00000-of-00001.parquet": parquet for split in ("train", "validation")}
    hub.commit("datasets/org/reviews", files | {"README.md": CARD})
    for name, content in (files | {"README.md": CARD}).items():
        Path("data", name).write_bytes(content)
    if place == "file":
        experiment = load(ONE_FILE | {"source": "./data/train-00000-of-00001.parquet"})
        folder = Path("resources", experiment.task_key("reviews"))
        assert "label_names" not in fetched(experiment, hub)
        rows = [row for path in folder.glob("*.parquet") for row in pyarrow.parquet.read_table(path).to_pylist()]
        assert {row["review"]: row["mood"] for row in rows} == {"a": 1, "b": 0}
    else:
        experiment = load(ENTRY, files=None, source={"hub": "org/reviews", "folder": "./data"}[place])
        manifest = fetched(experiment, hub)
        assert manifest["files"].keys() == files.keys()
        assert manifest["label_names"] == {name: {"mood": ["good", "bad"]} for name in files}


def test_a_file_that_the_hub_does_not_have_is_one_line(hub):
    hub.commit("datasets/org/reviews", OF_THE_HUB)
    changes = {"files": {"train": "data/train.parquet", "validation": "csv/*.csv"}}
    error = start_fetching(load(HUB_ENTRY, **changes), hub).error
    assert error.startswith(
        "gluegrid: org/reviews: it contains no data/train.parquet; it has: csv/dev set.csv, data/train-0"
    )


# A whole run of what is in examples/


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone in which the example has run. To be looked at in order."""
    clone = clone_into(tmp_path_factory.mktemp("example") / "clone")
    generate = [sys.executable, str(clone.root / "demo" / "generate.py")]
    subprocess.run(generate, check=True, capture_output=True, env=clone.full_environment())
    done = clone.snakemake(*OF_EXAMPLE)
    assert done.returncode == 0, done.stdout
    return clone


OF_EXAMPLE = ("--profile", "profiles/local", "--configfile", "examples/own_task/config.yaml")
CELL = "results/own-task/runs/bert-demo-small/reviews/base/seed-42"


@pytest.mark.long
def test_the_example_learns_from_its_csv(example):
    results = read_json(example.root / CELL / "all_results.json")
    assert (results["train_samples"], results["eval_samples"]) == (42, 12)
    assert results["eval_accuracy"] >= 0.75


@pytest.mark.long
def test_predictions_of_a_cut_split_are_numbered_by_the_rows_of_the_file(example):
    lines = (example.root / "examples/own_task/reviews.csv").read_text().splitlines()[1:]
    for split, rows in (("validation", 12), ("test", 6)):
        predictions = pyarrow.parquet.read_table(example.root / CELL / f"predictions_{split}.parquet").to_pydict()
        assert len(predictions["idx"]) == rows
        names = ["positive" if label else "negative" for label in predictions["label"]]
        assert [lines[idx].rpartition(",")[2] for idx in predictions["idx"]] == names


@pytest.mark.long
def test_verification_finds_that_everything_fits(example):
    verify = [sys.executable, "scripts/commands.py", "verify", "own-task"]
    done = subprocess.run(verify, cwd=example.root, capture_output=True, text=True, env=example.full_environment())
    assert done.stdout.splitlines()[-1] == "verified: everything fits"


@pytest.mark.long
def test_nothing_runs_again_until_the_file_is_edited(example):
    assert example.planned(*OF_EXAMPLE) == {}
    example.replace("examples/own_task/reviews.csv", "rather awful", "quite awful")
    planned = example.planned(*OF_EXAMPLE)
    assert {"fetch_task", "tokenize_task", "train", "results"} <= planned.keys()
    assert "fetch_model" not in planned
