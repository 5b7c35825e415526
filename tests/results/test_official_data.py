import builders
import pyarrow.parquet
import pytest

from gluegrid.common.files import sha256
from gluegrid.experiment.config import TASK_DEFAULTS, load_registry
from gluegrid.experiment.sources import split_of
from gluegrid.results.official_data import difference, other_files

REGISTRY = load_registry()
OFFICIAL = {
    "train": {"rows": 8551, "sha256": "a" * 64},
    "validation": {"rows": 1043, "sha256": "b" * 64},
    "test": {"rows": 1063, "sha256": "c" * 64},
}
TASK = builders.task(test=["test"])
SAMPLES = {"train_samples": 8551, "eval_samples": 1043}
FILES = {f"cola/{split}-00000-of-00001.parquet": values["sha256"] for split, values in OFFICIAL.items()}
PAIRED = builders.task(
    validation={"validation_matched": "", "validation_mismatched": "_mm"}, test=["test_matched", "test_mismatched"]
)


def files_with(**hashes):
    """Return the official files with the given splits' hashes in place of theirs."""
    return FILES | {f"cola/{split}-00000-of-00001.parquet": digest * 64 for split, digest in hashes.items()}


def test_official_data_need_no_word():
    assert difference(OFFICIAL, TASK, SAMPLES, FILES) == ""
    assert other_files(OFFICIAL, TASK, FILES) == []


def test_a_task_without_official_data_needs_no_word():
    assert difference({}, TASK, {"train_samples": 7, "eval_samples": 7}, files_with(train="d")) == ""
    assert other_files({}, TASK, files_with(train="d")) == []


@pytest.mark.parametrize(
    ("samples", "files", "expected"),
    [
        ({"train_samples": 400}, FILES, "train 400 of 8,551"),
        ({"eval_samples": 100}, FILES, "validation 100 of 1,043"),
        ({"train_samples": 400, "eval_samples": 100}, FILES, "train 400 of 8,551, validation 100 of 1,043"),
        ({"train_samples": 9000}, FILES, "train 9,000 instead of 8,551"),
        ({"train_samples": 400}, files_with(train="d"), "train 400 of 8,551"),
        ({}, files_with(train="d"), "other data: train"),
        ({}, files_with(train="d", validation="d"), "other data: train, validation"),
        ({"train_samples": 400}, files_with(validation="d"), "train 400 of 8,551, other data: validation"),
        ({}, files_with(test="d"), ""),
        ({}, {}, "other data: train, validation"),
    ],
)
def test_what_differs_is_said_split_by_split(samples, files, expected):
    assert difference(OFFICIAL, TASK, SAMPLES | samples, files) == expected


def test_the_official_rows_in_two_files_are_other_files():
    halves = {f"cola/train-0000{part}-of-00002.parquet": "a" * 64 for part in (0, 1)}
    files = {name: digest for name, digest in FILES.items() if split_of(name) != "train"} | halves
    assert difference(OFFICIAL, TASK, SAMPLES, files) == "other data: train"


def test_files_that_differ_are_listed_with_test_splits():
    assert other_files(OFFICIAL, TASK, files_with(train="d", test="d")) == ["train", "test"]
    more = builders.task(test=["test", "hard"])
    assert other_files(OFFICIAL, more, FILES) == ["hard"]


def test_both_validation_splits_of_mnli_are_counted():
    official = REGISTRY["mnli"]["official"]
    files = {f"mnli/{split}-00000-of-00001.parquet": values["sha256"] for split, values in official.items()}
    samples = {"train_samples": 41294, "eval_samples": 9815, "eval_samples_mm": 32}
    expected = "train 41,294 of 392,702, validation_mismatched 32 of 9,832"
    assert difference(official, PAIRED, samples, files) == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"train": "validation", "validation": {"validation2": ""}}, "trained on validation, scored on validation2"),
        ({"train": "mine"}, "trained on mine"),
        ({"validation": {"test": ""}, "test": []}, "scored on test"),
        ({"validation": {"validation": "", "hard": "_hard"}}, "scored on hard"),
    ],
)
def test_a_split_in_anothers_place_is_named(changes, expected):
    samples = SAMPLES | {"eval_samples_hard": 1}
    assert difference(OFFICIAL, builders.task(**changes), samples, FILES) == expected


def test_a_task_of_ones_own_may_have_official_data_under_its_own_names():
    official = {"training": {"rows": 8, "sha256": "a" * 64}, "dev": {"rows": 4, "sha256": "b" * 64}}
    own = builders.task(train="training", validation={"dev": ""})
    files = {"training-00000-of-00001.parquet": "a" * 64, "dev-00000-of-00001.parquet": "b" * 64}
    assert difference(official, own, {"train_samples": 8, "eval_samples": 4}, files) == ""
    assert difference(official, own, {"train_samples": 8, "eval_samples": 3}, files) == "dev 3 of 4"


@pytest.mark.parametrize("task", REGISTRY)
def test_the_registry_knows_the_official_data_of_each_split(task):
    entry = TASK_DEFAULTS | REGISTRY[task]
    splits = {*filter(None, [entry["train"]]), *entry["validation"], *entry["test"]}
    assert set(entry["official"]) == splits


def test_the_registrys_hashes_are_those_of_the_official_files(shared):
    lines = (shared / "glue" / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    # The four that are too large to lie there stand in the folder's README.
    lines += (shared / "glue" / "README.md").read_text(encoding="utf-8").splitlines()
    listed = {words[1]: words[0] for words in map(str.split, lines) if len(words) == 2 and len(words[0]) == 64}
    ours = {
        f"{task}/{split}-00000-of-00001.parquet": values["sha256"]
        for task, entry in REGISTRY.items()
        for split, values in entry["official"].items()
    }
    assert ours == listed


def test_the_registrys_rows_are_those_of_the_official_files(shared):
    ours, theirs = {}, {}
    for task, entry in REGISTRY.items():
        for split, values in entry["official"].items():
            path = shared / "glue" / task / f"{split}-00000-of-00001.parquet"
            if path.exists() and sha256(path) == values["sha256"]:
                ours[task, split] = values["rows"]
                theirs[task, split] = pyarrow.parquet.read_metadata(path).num_rows
    assert ours == theirs
    assert len(ours) == 26


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        ("mnli", "train 41,294 of 392,702"),
        ("qnli", "train 11,803 of 104,743"),
        ("qqp", "train 51,044 of 363,846"),
        ("rte", ""),
    ],
)
def test_the_subsets_of_the_shared_folder_are_told_from_the_official_data(shared, task, expected):
    entry = TASK_DEFAULTS | REGISTRY[task]
    paths = sorted((shared / "glue" / task).glob("*.parquet"))
    files = {f"{task}/{path.name}": sha256(path) for path in paths}
    rows = {split_of(path.name): pyarrow.parquet.read_metadata(path).num_rows for path in paths}
    of_task = builders.task(validation=entry["validation"])
    suffixes = entry["validation"].items()
    samples = {f"eval_samples{suffix}": rows[split] for split, suffix in suffixes} | {"train_samples": rows["train"]}
    assert difference(entry["official"], of_task, samples, files) == expected
    assert other_files(entry["official"], of_task, files) == (["train"] if expected else [])
