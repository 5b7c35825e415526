"""`make verify` of sweeps: the chosen points, the optimism, and what is only evaluated or predicted."""

import contextlib
import csv
import shutil
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import verifiable

from gluegrid.common.files import read_json, write_json
from gluegrid.results.outcomes import read_outcomes
from gluegrid.verification.findings import Hashes
from gluegrid.verification.verify import frozen_experiment, verify_experiment
from gluegrid.workflow.last_words import WIDTH, last_words

FOLDER = Path("results/swept")
CONFIG = {
    "experiment": "swept",
    "models": {"tiny": {"source": "./model"}},
    "task_defaults": {"source": "./data", "revision": "1"},
    "tasks": {
        "mrpc": {"learning_rate": [2e-5, 3e-5], "weight_decay": [0, 0.1], "selection": "holdout"},
        "mnli": {"learning_rate": [2e-5, 3e-5, 5e-5], "num_train_epochs": 1.5, "max_eval_samples": 20},
        "rte": {"init_from": "mnli", "seeds": [1]},
        "ax": {},
        "sst2": {"do_train": False},
    },
    "per_device_train_batch_size": 8,
    "per_device_eval_batch_size": 8,
    "seeds": [1, 2],
    "device": "cpu",
}
FAILED = "tiny/mrpc/learning_rate-3e-05/seed-1"
CONSTANT = ["tiny/mrpc/base/seed-1"]


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("original")
    with contextlib.chdir(folder):
        verifiable.write_experiment(CONFIG, FAILED, "", CONSTANT)
    return folder


@pytest.fixture
def finished(original, tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "copy"
    shutil.copytree(original, folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def verify(finished):
    """A function that compares the three files, or one, with the runs, and returns what does not fit."""
    return verifiable.reader_of_tables(FOLDER)


def test_an_untouched_sweep_fits(finished):
    findings = verify_experiment(FOLDER, Hashes())
    assert findings.problems == []
    assert findings.without_result == [FAILED]
    assert findings.table_numbers > 800


def test_a_changed_digit_of_any_table_is_found(verify):
    assert verifiable.count_of_digits_found(FOLDER / "results.md", verify) > 250


@pytest.mark.parametrize("column", ["idx", "label"])
def test_rows_that_were_held_out_must_be_those_of_the_training_split(finished, column):
    path = FOLDER / "runs/tiny/mrpc/base/seed-2/predictions_holdout.parquet"
    table = pyarrow.parquet.ParquetFile(path).read()
    values = table.column(column).to_pylist()
    place = table.column_names.index(column)
    pyarrow.parquet.write_table(table.set_column(place, column, [[1 - values[0], *values[1:]]]), path)
    problem = f"{path}: {column} is {1 - values[0]} in row 0, in the data {values[0]}"
    assert problem in verify_experiment(FOLDER, Hashes()).problems


# Each with what is found instead of it.
CHANGED_LINES = {
    "another point that is chosen": (
        r"(### tiny, MRPC\n(?:.*\n){4}.*)\|          \|((?:.*\n)*?.*)\| chosen   \|",
        r"\1| chosen   |\2|          |",
        "tiny, MRPC, 2e-05, 0.1, Chosen: is 'chosen', its runs give nothing",
    ),
    "a point that is gone": (r"\| 5e-05 +\| .*\n", "", "the table under 'tiny, MNLI' has 2 rows, not 3"),
    "a sweep that is gone": (r"### tiny, MNLI\n(?:.*\n)*?(?=### )", "", "has no section 'tiny, MNLI'"),
    "the values of the chosen point": (
        r"- MNLI: learning\\?_rate 3e-05",
        "- MNLI: learning_rate 5e-05",
        "tiny: lacks the line '- MNLI: learning_rate 3e-05'",
    ),
    "how many points": (
        r"best of 3 of 4 points",
        "best of 4 points",
        "tiny: lacks the line '- MRPC: best of 3 of 4 points'",
    ),
    "how many points below": (
        r"\nBest of 3 of 4 points.*\n",
        "",
        "tiny, MRPC, compared: it says none, the runs give 3 of 4",
    ),
    "the variant that another task decides": (
        r"variant learning\\?_rate-3e-05, chosen on mnli",
        "variant base, chosen on mnli",
        "tiny: lacks the line '- AX: variant learning_rate-3e-05, chosen on mnli'",
    ),
    "what it starts from": (r"- RTE, AX: from mnli", "- AX: from mnli", "tiny: lacks the line '- RTE, AX: from mnli'"),
    "that it was not trained": (
        r"- .*: not trained here\n",
        "- RTE: not trained here\n",
        "tiny: has the line '- RTE: n",
    ),
    "a number for a prediction": (r"predicted", "99.00", "tiny, AX, Result: is '99.00*', its runs give predicted*"),
    "the task of one seed": (
        r"known: RTE\.",
        "known: AX.",
        "tiny: lacks the line '- 1 seed, so the spread is not known: RTE.'",
    ),
    "no line on one seed": (r"- 1 seed, so .*\n", "", "tiny: lacks the line '- 1 seed, so"),
    "what the marks of a point mean": (
        r"Numbers with .*; results.csv.*\n",
        "",
        "tiny, MRPC, data: it says none, the runs give Numbers with * are not ",
    ),
    "the degenerate run of a point": (
        r"2 of 2, 1 degenerate; ",
        "2 of 2; ",
        "tiny, MRPC, 2e-05, 0, Seeds: is '2 of 2; without it 89.00', its runs give 2 of 2, 1 degenerate; ",
    ),
    "the failed run of a point": (
        r"1 of 2, 1 failed",
        "1 of 2",
        "tiny, MRPC, 3e-05, 0, Seeds: is '1 of 2', its runs give 1 of 2, 1 failed",
    ),
    "a column": (r"\| weight\\?_decay ", "| warmup_ratio ", "tiny, MRPC, columns: learning_rate, warmup_ratio, "),
    "the optimism": (r"### Optimism\n(?:.*\n)*?(?=## )", "", "has no section 'Optimism'"),
    "another task's optimism": (
        r"\| MRPC   \| 76.92 ",
        "| MNLI   | 76.92 ",
        "Optimism, tiny, MRPC: says 'MNLI' where 'MRPC'",
    ),
    "the note on beginnings": (
        r"(Begun with the weights.*: )tiny/rte/base/seed-1, ",
        r"\1",
        "cells that begin with another's weights: it says ",
    ),
    "the note on what is not trained": (r"- Not trained here.*\n", "", "cells that are not trained: it says none"),
}


@pytest.mark.parametrize(("pattern", "other", "problem"), CHANGED_LINES.values(), ids=CHANGED_LINES)
def test_a_change_of_results_md_is_said(verify, pattern, other, problem):
    verifiable.change_once(FOLDER / "results.md", pattern, other)
    assert [line for line in verify("results.md") if line.startswith(f"{FOLDER / 'results.md'}: {problem}")]


def test_a_changed_value_or_choice_of_results_csv_is_found(verify):
    path = FOLDER / "results.csv"
    with path.open(encoding="utf-8", newline="") as stream:
        header, *rows = csv.reader(stream)
    for row in rows:
        is_chosen = row[header.index("chosen")] == "yes"
        for name, other in {
            "learning_rate": "4e-05",
            "weight_decay": "0.2",
            "chosen": "no" if is_chosen else "yes",
        }.items():
            place = header.index(name)
            value, row[place] = row[place], other
            with path.open("w", encoding="utf-8", newline="") as stream:
                csv.writer(stream, lineterminator="\n").writerows([header, *rows])
            row[place] = value
            (problem,) = verify("results.csv")
            assert f": {header[place]} is '{other}', its run has " in problem


def leaves(value: object, *path) -> list[tuple]:
    """Return the paths of all values of a JSON value that hold no others."""
    if not isinstance(value, dict | list) or not value:
        return [path]
    keys = value if isinstance(value, dict) else range(len(value))
    return [leaf for key in keys for leaf in leaves(value[key], *path, key)]


def changed(value: object) -> object:
    """Return another value: of a number the nearest that a sum in another order would not give."""
    if isinstance(value, float):
        return value + 1e-8
    return not value if isinstance(value, bool) else value + 1 if isinstance(value, int) else "other"


@pytest.mark.parametrize("part", ["summaries", "optimism"])
def test_any_value_over_seeds_of_results_json_that_was_changed_is_found(verify, part):
    path = FOLDER / "results.json"
    content = read_json(path)
    places = leaves(content[part])
    assert len(places) > (250 if part == "summaries" else 6)
    for place in places:
        *parents, last = place
        holder = content[part]
        for key in parents:
            holder = holder[key]
        holder[last], before = changed(holder[last]), holder[last]
        write_json(path, content)
        holder[last] = before
        where = f"{path}: {part}.{'.'.join(map(str, place))}"
        assert [problem for problem in verify("results.json") if problem.startswith(where)], where


@pytest.mark.parametrize("part", ["summaries", "optimism"])
def test_an_entry_too_many_in_results_json_is_said(verify, part):
    path = FOLDER / "results.json"
    content = read_json(path)
    content[part].append(content[part][0])
    write_json(path, content)
    number = len(content[part])
    assert verify("results.json") == [f"{path}: {part} has {number} entries, it should have {number - 1}"]


def test_a_score_that_nothing_gives_is_said(verify):
    path = FOLDER / "results.json"
    content = read_json(path)
    content["summaries"][0]["all"]["eval_recall"] = 0.5
    write_json(path, content)
    assert verify("results.json") == [f"{path}: summaries.0.all.eval_recall does not follow from the runs"]


def test_what_cannot_be_read_leaves_the_choice_open(finished):
    """Without its results it is not clear whether another point is the best: no more is said than what is damaged."""
    path = FOLDER / "runs/tiny/mrpc/weight_decay-0.1/seed-1/all_results.json"
    path.write_text("{", encoding="utf-8")
    found = verify_experiment(FOLDER, Hashes()).problems
    assert found[0].startswith(f"{path}: ")
    assert not [line for line in found[1:] if "chosen" in line.lower() or "optimism" in line]


def test_the_terminals_tables_of_a_sweep_fit_its_width(finished):
    experiment = frozen_experiment(FOLDER)
    text = last_words(experiment, read_outcomes(experiment)).partition("Tables:")[0]
    assert "- MNLI: best of 3 points\n" in text
    assert max(map(len, text.splitlines())) <= WIDTH
