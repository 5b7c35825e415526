"""The references that come with gluegrid are those of their sources, and a user's own are checked line by line."""

import json
import math
import re
import statistics
from pathlib import Path

import pytest
import yaml

from gluegrid.common.errors import ConfigError
from gluegrid.experiment.cell import run_text
from gluegrid.experiment.config import load_registry
from gluegrid.experiment.experiment import Experiment
from gluegrid.experiment.loading import load_experiment
from gluegrid.experiment.references import (
    FOLDER,
    Reference,
    by_model_and_task,
    document,
    load,
    references_of,
    rows_of,
    seed_spreads,
    shipped,
)
from gluegrid.experiment.task import Task, definition
from gluegrid.verification.file_shapes import head_shape, read_shaped

BERT = "google-bert/bert-base-uncased"
TASKS = {"CoLA": "cola", "SST-2": "sst2", "SST": "sst2", "MRPC": "mrpc", "STS-B": "stsb", "STS": "stsb", "QQP": "qqp"}
TASKS |= {"MNLI": "mnli", "MNLI-m": "mnli", "mm": "mnli", "QNLI": "qnli", "RTE": "rte", "WNLI": "wnli", "AX": "ax"}
METRICS = {"cola": ["matthews_correlation"], "ax": ["matthews_correlation"], "stsb": ["pearson", "spearmanr"]}
# What stands above the tables of field.md says which of two numbers is which.
F1_FIRST = {"mrpc": ["f1", "accuracy"], "mnli": ["accuracy", "accuracy_mm"], "qqp": ["accuracy", "f1"]}

ROW = {"model": BERT, "task": "rte", "metric": "accuracy", "value": 65.0, "decimals": 2, "split": "validation"}
ROW |= {"statistic": "single run", "source": {"text": "a notebook"}, "training": {"num_train_epochs": 3}}


def all_shipped() -> list[Reference]:
    return [each for content in shipped() for each in rows_of(content)]


def scores_of_label(label: str) -> dict[tuple[str, str, str], float]:
    """Return the values of one file by model, task and metric."""
    return {(each.model, each.task, each.metric): each.value for each in all_shipped() if each.label == label}


def numbers(task: str, text: str, several: dict[str, list[str]] = F1_FIRST) -> dict[str, float]:
    """Return the metrics of a task, such as `88.85/84.07`, in the order in which a table has them."""
    values = [float(part) for part in re.findall(r"-?\d+\.\d+|\d+", text)]
    names = METRICS.get(task, several.get(task, ["accuracy"]) if len(values) > 1 else ["accuracy"])
    return dict(zip(names, values, strict=False))


def section(shared: Path, number: str) -> str:
    """Return a section of field.md."""
    text = (shared / "reference" / "field.md").read_text(encoding="utf-8")
    return re.search(rf"^##+ {re.escape(number)} .*?(?=^##|\Z)", text, re.MULTILINE | re.DOTALL)[0]


def table_rows(text: str) -> list[list[str]]:
    rows = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def write(folder: Path, content: object, name: str = "mine.yaml") -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content), encoding="utf-8")
    return path


def experiment_with(folder: Path, monkeypatch: pytest.MonkeyPatch, **values) -> Experiment:
    """Load an experiment of BERT on RTE in `folder`."""
    monkeypatch.chdir(folder)
    config = {"experiment": "small", "models": {"bert": {"source": BERT, "revision": "1"}}, "tasks": ["rte"]}
    write(folder, config | values, "config.yaml")
    return load_experiment(Path("config.yaml"))


def test_every_file_is_named_otherwise_and_says_where_its_numbers_stand():
    labels = [content["label"] for content in shipped()]
    assert len(labels) == len(set(labels)) == len(list(FOLDER.glob("*.yaml"))) - 1
    assert all(each.source["text"] for each in all_shipped())


def test_every_reference_is_of_a_metric_that_the_task_has():
    registry = load_registry()
    for each in all_shipped():
        entry = {"train": "train", "validation": {"validation": ""}, "test": ["test"], "label_column": "label"}
        entry |= registry[each.task]
        task = Task(name=each.task, **definition(entry))
        metrics = [f"eval_{metric}" for metric in task.metrics] if each.split == "test" else task.metric_keys()
        assert f"eval_{each.metric}" in [*metrics, "eval_accuracy_mm"]
        assert re.fullmatch(r"[\w-]+/[\w.-]+", each.model)


def test_the_document_is_its_two_tables(shared):
    text = (shared / "reference" / "000_8ec95a7f250419ea.txt").read_text(encoding="utf-8")
    tables = re.split(r"^\*(bert-[\w-]+)\*$", text[text.index("## Result") :], flags=re.MULTILINE)[1:]
    expected = {}
    for model, table in zip(tables[::2], tables[1::2], strict=True):
        for task, _, result, seconds, epochs in table_rows(table)[2:]:
            of_task = numbers(TASKS[task], result, F1_FIRST | {"mrpc": ["accuracy", "f1"]})
            of_task |= {"train_runtime": float(seconds), "epoch": int(epochs)}
            expected.setdefault(f"google-bert/{model}", {})[TASKS[task]] = of_task
    assert by_model_and_task(document()) == expected
    assert sum(map(len, expected.values())) == 18


def test_the_document_is_of_one_run_each_with_its_values():
    for each in rows_of(document()):
        assert (each.split, each.statistic, each.n, each.spread) == ("validation", "single run", 1, None)
        stated = {"learning_rate": 2e-5, "train_batch_size": 32, "max_seq_length": 128}
        assert stated.items() <= each.training.items()


def test_hugging_faces_readme_is_the_table_of_fp32(shared):
    expected = {}
    for task, metric, result, *_ in table_rows(section(shared, "1.4"))[2:]:
        for name, value in numbers(TASKS[task], result).items():
            expected["google-bert/bert-base-cased", TASKS[task], name] = value
        assert metric.startswith("F1") == (task == "MRPC")
    assert scores_of_label("Hugging Face's README") == expected
    epochs = {each.task: each.training["num_train_epochs"] for each in all_shipped() if each.model.endswith("-cased")}
    assert {task for task, count in epochs.items() if count == 5} == {"mrpc", "wnli"}


def test_what_states_its_precision_is_of_fp32():
    stated = {(each.label, each.precision) for each in all_shipped() if each.precision}
    assert stated == {("the document", "fp32"), ("Hugging Face's README", "fp32")}


def test_hugging_faces_readme_of_2019_is_of_medians_of_five(shared):
    expected = {}
    for part in section(shared, "6.2").splitlines()[1].split("·"):
        task, result = part.strip().split(" ", 1)
        for name, value in numbers(TASKS[task], result.removeprefix("F1/acc ")).items():
            expected[BERT, TASKS[task], name] = value
    assert scores_of_label("Hugging Face's README of 2019") == expected
    medians = [each for each in all_shipped() if each.label == "Hugging Face's README of 2019"]
    assert {(each.statistic, each.n) for each in medians} == {("median", 5)}


def test_the_miniatures_are_of_the_test_split(shared):
    header, _, *rows = table_rows(section(shared, "6.3"))
    expected = {}
    for name, _, *results in rows:
        layers, hidden = re.search(r"(\d+)/(\d+)", name).groups()
        model = f"google/bert_uncased_L-{layers}_H-{hidden}_A-{int(hidden) // 64}"
        for task, result in zip(header[2:], results, strict=True):
            of_task = numbers(TASKS[task], result, F1_FIRST | {"qqp": ["f1", "accuracy"]})
            of_task = {"accuracy_mm": of_task["accuracy"]} if task == "mm" else of_task
            expected |= {(model, TASKS[task], metric): value for metric, value in of_task.items()}
    assert scores_of_label("the miniatures' README") == expected
    assert {each.split for each in all_shipped() if "bert_uncased_L" in each.model} == {"test"}
    assert {each.split for each in all_shipped() if "bert_uncased_L" not in each.model} == {"validation"}


def test_electra_is_its_readme(shared):
    header, _, *rows = table_rows(section(shared, "6.5"))
    expected = {}
    for size, *results in rows[:3]:
        for task, result in zip(header[1:], results, strict=True):
            metric = {"cola": "matthews_correlation", "stsb": "spearmanr"}.get(TASKS[task], "accuracy")
            expected[f"google/electra-{size.lower()}-discriminator", TASKS[task], metric] = float(result)
    assert scores_of_label("ELECTRA's README") == expected


def test_roberta_and_deberta_are_their_readmes(shared):
    base, large = section(shared, "6.6").split("large:")
    order = re.findall(r"([A-Z][\w-]+) (\d+\.\d)", base)
    expected = {("FacebookAI/roberta-base", TASKS[task]): float(value) for task, value in order}
    sizes = zip(order, re.findall(r"\d+\.\d", large), strict=True)
    expected |= {("FacebookAI/roberta-large", TASKS[task]): float(value) for (task, _), value in sizes}
    assert {cell[:2]: value for cell, value in scores_of_label("RoBERTa's README").items()} == expected
    text = section(shared, "6.7")
    for each in (each for each in all_shipped() if each.label == "DeBERTa's README"):
        assert re.search(rf"\b{each.value:.1f}\b", text)
        assert each.spread is None or f"+/-{each.spread:.1f}" in text
    assert scores_of_label("DeBERTa's README")["microsoft/deberta-v3-base", "mnli", "accuracy_mm"] == 90.7


def test_berts_readme_is_one_run(shared):
    (value,) = scores_of_label("BERT's README").values()
    percent = re.search(r"dev (\d+\.\d+)%", section(shared, "6.3"))[1]
    assert math.floor(value * 100) / 100 == float(percent)


def test_the_spreads_are_those_of_their_sources(shared):
    text = section(shared, "6.4")
    assert float(re.search(r"MRPC 10 seeds: mean 86.00 std ([\d.]+)", text)[1]) == seed_spreads()["mrpc", "accuracy"].sd
    assert float(re.search(r"SST-2 10 seeds: 91.74 std ([\d.]+\d)", text)[1]) == seed_spreads()["sst2", "accuracy"].sd
    of_seeds = [spread for spread in seed_spreads().values() if spread.seeds]
    assert {spread.task for spread in of_seeds} == {"cola", "mrpc", "stsb"}
    for spread in of_seeds:
        assert len(spread.seeds) == spread.n
        assert statistics.stdev(spread.seeds) == pytest.approx(spread.sd, abs=0.005)


def test_every_metric_of_glue_but_one_has_a_spread():
    registry = load_registry()
    metrics = {(task, metric) for task, entry in registry.items() if task != "ax" for metric in entry["metrics"]}
    assert (metrics | {("mnli", "accuracy_mm")}) - seed_spreads().keys() == {("qqp", "f1")}


def test_a_row_is_completed_by_what_its_file_says_of_all(tmp_path):
    common = {key: ROW[key] for key in ("model", "split", "decimals", "source")}
    common |= {"statistic": "mean", "n": 5, "training": {"learning_rate": 3e-5, "num_train_epochs": 3}}
    row = {"task": "rte", "metric": "accuracy", "value": 70, "n": 3, "training": {"num_train_epochs": 4}}
    (only,) = rows_of(load(write(tmp_path, {"label": "ours", "common": common, "rows": [row]})))
    assert (only.label, only.model, only.n, only.statistic) == ("ours", BERT, 3, "mean")
    assert only.training == {"learning_rate": 3e-5, "num_train_epochs": 4}


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"valeu": 3}, "rows.0.valeu: unknown key (its value is 3). Did you mean 'value'?"),
        ({"metric": "acuracy"}, "rows.0.metric: 'acuracy' is not allowed"),
        ({"value": 650}, "rows.0.value: 650 is not allowed; allowed: a number of at least -100, at most 100"),
        ({"value": "65"}, "rows.0.value: '65' is not allowed"),
        ({"split": "dev"}, "rows.0.split: 'dev' is not allowed; allowed: one of validation, test"),
        ({"statistic": "avg"}, "one of mean, median, single run, best, not stated"),
        ({"training": {}}, "rows.0.training: {} is not allowed"),
        ({"training": {"learning_rat": 1}}, "rows.0.training.learning_rat: unknown key"),
        ({"model": "./bert"}, "the model's id on the hub (organization/name), case-sensitive"),
        ({"spread": 0}, "rows.0.spread: 0 is not allowed"),
        ({"n": 3}, "rows.0: is a single run, so n cannot be 3"),
        (
            {"spread": 0.5},
            "rows.0: has a spread, which a single run cannot have; give the number of runs as n, or leave it out",
        ),
        ({"statistic": "mean", "n": 1, "spread": 0.5}, "rows.0: has a spread, which a single run cannot have"),
        ({"source": {"url": "ftp://a"}}, "rows.0.source"),
    ],
)
def test_a_wrong_row_is_a_line_with_its_place(tmp_path, row, problem):
    path = write(tmp_path, {"label": "ours", "rows": [ROW | row]})
    with pytest.raises(ConfigError) as error:
        load(path)
    assert any(re.match(rf"{re.escape(str(path))}:\d+: ", line) and problem in line for line in error.value.problems)


def test_what_a_row_lacks_is_named_with_its_line(tmp_path):
    text = "label: ours\nrows:\n  - {model: org/bert, task: rte, metric: accuracy, value: 65}\n"
    with pytest.raises(ConfigError) as error:
        load(write(tmp_path, text))
    lacks = "rows.0: lacks decimals, split, statistic, source, here or under common"
    assert error.value.problems == [f"{tmp_path / 'mine.yaml'}:3: {lacks}"]


def test_the_same_row_twice_is_an_error_but_not_with_another_training(tmp_path):
    other = ROW | {"training": {"num_train_epochs": 5}}
    load(write(tmp_path, {"label": "ours", "rows": [ROW, other]}))
    with pytest.raises(ConfigError, match=r"rows\.2: repeats row 1 \(except for its value\); keep one"):
        load(write(tmp_path, {"label": "ours", "rows": [ROW, other, ROW | {"value": 66.0}]}))


@pytest.mark.parametrize("text", ["rows: []\nlabel: a\n", "label: a\n", "- 1\n", "label: a\nlabel: b\n", "label: [\n"])
def test_what_is_no_file_of_references_is_told(tmp_path, text):
    with pytest.raises(ConfigError, match=re.escape(str(tmp_path / "mine.yaml"))):
        load(write(tmp_path, text))


def test_a_users_references_count_beside_the_others(tmp_path, monkeypatch):
    write(tmp_path, {"label": "ours", "rows": [ROW, ROW | {"model": "org/other"}]})
    experiment = experiment_with(tmp_path, monkeypatch, references=["./mine.yaml"])
    found = references_of(experiment.config)
    assert {each.model for each in found} == {BERT}
    assert [each.label for each in found][-1] == "ours"
    assert {"the document", "BERT's README"} < {each.label for each in found}
    assert experiment.warnings == []


def test_what_a_head_has_frozen_does_not_change_with_the_file(tmp_path, monkeypatch):
    path = write(tmp_path, {"label": "ours", "rows": [ROW]})
    experiment = experiment_with(tmp_path, monkeypatch, references=["mine.yaml"])
    path.unlink()
    head = write(tmp_path, json.dumps({"config": experiment.config}), "head.json")
    frozen = Experiment(read_shaped(head, head_shape())["config"])
    assert references_of(frozen.config) == references_of(experiment.config)
    assert references_of(frozen.config)[-1].label == "ours"


def test_a_missing_file_is_a_mistake_of_the_experiment(tmp_path, monkeypatch):
    with pytest.raises(ConfigError) as error:
        experiment_with(tmp_path, monkeypatch, references=["./no.yaml"])
    (line,) = error.value.problems
    assert re.match(r"config\.yaml:\d+: references\.0: the file './no\.yaml' does not exist \(seen from ", line)


def test_a_file_that_is_of_no_use_here_is_a_warning(tmp_path, monkeypatch):
    write(tmp_path, {"label": "ours", "rows": [ROW | {"model": "google-bert/BERT-base-uncased"}]})
    experiment = experiment_with(tmp_path, monkeypatch, references=["mine.yaml"])
    (warning,) = experiment.warnings
    assert "references.0: 'mine.yaml' has no row for any model and task of this experiment" in warning


def test_a_model_may_be_compared_as_another_and_is_not_trained_again_for_it(tmp_path, monkeypatch):
    models = {"ours": {"source": "org/copy-of-bert", "revision": "1"}}
    plain = experiment_with(tmp_path, monkeypatch, models=models)
    models["ours"]["reference"] = BERT
    same = experiment_with(tmp_path, monkeypatch, models=models)
    assert references_of(plain.config) == []
    assert {each.label for each in references_of(same.config)} > {"the document"}
    assert [run_text(cell) for cell in plain.cells.values()] == [run_text(cell) for cell in same.cells.values()]
