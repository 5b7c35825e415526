"""benchmarks/training.py measures what it says: all arms do the same steps, and table and JSON are one."""

import json
import subprocess
import sys

import builders
import pytest

from gluegrid.experiment.config import TASK_DEFAULTS, load_registry
from gluegrid.experiment.task import Task, definition

pytestmark = pytest.mark.long

TASKS = ("cola", "stsb")
ARMS = ["a", "b", "c", "d"]
ROWS, TRAINED, SCORED = 80, 64, 20
OPTIONS = {
    "random-model": ["tiny"],
    "tasks": TASKS,
    "process-tasks": ["cola"],
    "examples": [TRAINED],
    "eval-examples": [SCORED],
    "repeats": [1],
    "threads": [1],
    "step-sizes": ["tiny"],
    "parts": ["training", "evaluation", "tokenising", "process", "steps"],
}


@pytest.fixture(scope="module")
def measured(tmp_path_factory, pytestconfig):
    """What the command prints, by heading, and its JSON."""
    folder = tmp_path_factory.mktemp("benchmark")
    for name in (*TASKS, "mnli"):
        task = Task(name=name, **definition(TASK_DEFAULTS | load_registry()[name]))
        for split in (task.train, *task.validation):
            builders.write_split(folder / "data" / name, split, builders.rows(ROWS, task))
    builders.write_tokenizer(folder / "tokenizer", max_length=512)
    options = [word for name, values in OPTIONS.items() for word in (f"--{name}", *map(str, values))]
    folders = ["--data", folder / "data", "--model", folder / "tokenizer", "--json", folder / "out.json"]
    script = pytestconfig.rootpath / "benchmarks" / "training.py"
    done = subprocess.run([sys.executable, script, *options, *folders], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "s left" in done.stderr
    return tables_of(done.stdout), json.loads((folder / "out.json").read_text())


def tables_of(text):
    """Return the tables of a Markdown text, as rows of cells, by their headings."""
    tables = {}
    for block in text.strip().split("### ")[1:]:
        heading, _, table = block.partition("\n\n")
        tables[heading] = [line.strip("| ").split(" | ") for line in table.strip().splitlines()]
    return tables


def entries_of_part(content, part):
    return [entry for entry in content["measurements"] if entry["part"] == part]


def test_all_arms_train_the_same_steps_on_the_same_examples(measured):
    trained = entries_of_part(measured[1], "training")
    assert [(entry["task"], entry["arm"]) for entry in trained] == [(task, arm) for task in TASKS for arm in ARMS]
    assert {(entry["steps"], entry["examples"]) for entry in trained} == {(2, TRAINED)}
    for task in TASKS:
        assert len({entry["tokens"] for entry in trained if entry["task"] == task}) == 1
    assert {entry["examples"] for entry in entries_of_part(measured[1], "evaluation")} == {SCORED}
    assert all(0 < entry["seconds"] <= entry["seconds_of_the_call"] for entry in trained)


def test_both_processes_train_and_score_the_same_examples(measured):
    theirs, ours = entries_of_part(measured[1], "process")
    assert theirs["examples"] == ours["examples"] == TRAINED
    assert "run_glue_process.py" in theirs["command"]
    assert "train.py" in ours["command"]
    assert theirs["seconds"].keys() == ours["seconds"].keys()
    for entry in (theirs, ours):
        assert 0 < entry["seconds"]["training"] < entry["seconds"]["whole process"]


def test_the_table_is_the_json(measured):
    printed, content = measured
    assert len(printed) == len(content["tables"]) == len(OPTIONS["parts"])
    for table, rows in zip(printed.values(), content["tables"].values(), strict=True):
        columns, _, *cells = table
        assert columns == list(rows[0])
        shown = [[f"{value:.2f}" if isinstance(value, float) else value for value in row.values()] for row in rows]
        assert cells == shown


def test_ratios_are_those_of_the_measurements(measured):
    content = measured[1]
    rates = {(e["task"], e["arm"]): e["examples"] / e["seconds"] for e in entries_of_part(content, "training")}
    *of_tasks, mean = content["tables"]["training"]
    for row in of_tasks:
        for arm in "abc":
            assert row[f"d/{arm}"] == pytest.approx(rates[row["task"], "d"] / rates[row["task"], arm])
    assert mean["d/a"] == pytest.approx((of_tasks[0]["d/a"] * of_tasks[1]["d/a"]) ** 0.5)


def test_the_floors_count_real_tokens(measured):
    (entry,) = entries_of_part(measured[1], "steps")
    tokens = round(entry["tokens_per_step"])
    of_attention = {(tokens, 128, 128): 16, (128, 128, tokens): 8}  # query, key, value, output
    of_the_rest = {(tokens, 512, 128): 4, (tokens, 128, 512): 4, (512, 128, tokens): 2, (128, 512, tokens): 2}
    expected = {"x".join(map(str, shape)): count for shape, count in (of_attention | of_the_rest).items()}
    assert entry["products_per_step"] == expected
    assert entry["floor_seconds_at_real_shapes"] > 0
    layer = 12 * 128**2 + 13 * 128  # weights and biases of a layer of the tiny BERT
    attention = entry["flops_per_step"] - 6 * 2 * layer * entry["tokens_per_step"]
    # Rows of 2 to 15 tokens: at least as if all had the mean length, and at most as if all were the longest.
    mean = entry["tokens_per_step"] / 32
    assert 12 * 2 * 128 * 32 * mean**2 <= attention <= 12 * 2 * 128 * entry["tokens_per_step"] * 20
