"""Every metric that an experiment file may name, through everything that knows metrics by their names."""

import contextlib
from pathlib import Path

import pytest
import verifiable
import yaml

from gluegrid.analysis.comparison_report import write_comparisons
from gluegrid.analysis.comparisons import compare
from gluegrid.common.files import read_json
from gluegrid.experiment.config import SCHEMA
from gluegrid.experiment.config_checks import METRICS_OF
from gluegrid.experiment.experiment import Experiment
from gluegrid.report.write import write_report
from gluegrid.results.outcomes import outcomes
from gluegrid.results.parity import NOT_COMPARED
from gluegrid.results.parity_report import write_parity
from gluegrid.verification.findings import Hashes
from gluegrid.verification.verify import verify_experiment

METRICS = yaml.safe_load(SCHEMA.read_text(encoding="utf-8"))["$defs"]["task"]["properties"]["metrics"]["items"]["enum"]
BERT = "google-bert/bert-base-uncased"


@pytest.fixture(scope="module")
def experiment(tmp_path_factory) -> Experiment:
    """Two models on a task of each metric, of two and of three classes, as if run; with a reference for each."""
    with contextlib.chdir(tmp_path_factory.mktemp("metrics")):
        rows = [{"model": BERT, "task": name, "metric": metric} for name, metric in tasks()]
        common = {"value": 50.0, "decimals": 1, "split": "validation", "statistic": "single run", "n": 1}
        common |= {"source": {"text": "a table"}, "training": {"num_train_epochs": 3}}
        content = {"label": "theirs", "common": common, "rows": rows}
        Path("theirs.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
        config = {
            "experiment": "small",
            "models": {"tiny": {"source": "./model"}, "bert": {"source": BERT, "revision": "1", "tokenizer": "tiny"}},
            "tasks": {name: task_of(name, metric) for name, metric in tasks()},
            "references": ["theirs.yaml"],
            "per_device_train_batch_size": 8,
            "per_device_eval_batch_size": 8,
            "seeds": [1, 2],
            "device": "cpu",
        }
        yield verifiable.write_experiment(config, "", "", [])


def tasks() -> list[tuple[str, str]]:
    """Return the name and the metric of each task."""
    of_three = [(f"{metric}-of-3", metric) for metric in METRICS_OF["classification"] if metric != "f1"]
    return [*((metric, metric) for metric in METRICS), *of_three]


def task_of(name: str, metric: str) -> dict:
    labels = {} if metric in METRICS_OF["regression"] else {"labels": ["a", "b", "c"][: 3 if name != metric else 2]}
    source = {"source": f"./{name}", "revision": "1"}
    return source | {"text_columns": ["sentence"], "metrics": [metric], "test": []} | labels


def test_tables_and_verification_know_every_metric(experiment):
    assert verify_experiment(Path(experiment.paths.root), Hashes()).problems == []
    header = Path(experiment.paths.results_csv).read_text(encoding="utf-8").splitlines()[0].split(",")
    assert {f"eval_{metric}" for metric in METRICS} <= {*header}


def test_comparisons_know_every_metric_and_score_with_it_as_training_did(experiment):
    found = outcomes(experiment)
    comparisons = compare(experiment, found, 100)
    assert [comparison.tasks for comparison in comparisons.of_tasks] == [[name] for name, _ in tasks()]
    for comparison, (name, metric) in zip(comparisons.of_tasks, tasks(), strict=True):
        of_models = [
            [each.results[f"eval_{metric}"] for each in found if (each.cell.model, each.cell.task) == (model, name)]
            for model in (comparison.first, comparison.second)
        ]
        assert comparison.scores == pytest.approx([sum(seeds) / len(seeds) for seeds in of_models], abs=1e-12)
    write_comparisons(experiment, comparisons)


def test_references_may_be_of_every_metric(experiment):
    write_parity(experiment, outcomes(experiment))
    records = read_json(Path(experiment.paths.parity_json))["verdicts"]
    assert [(each["task"], each["metric"]) for each in records] == tasks()
    assert not [each for each in records if each["verdict"] == NOT_COMPARED]


def test_the_page_shows_every_metric(experiment):
    write_report(experiment, outcomes(experiment))
    page = Path(experiment.paths.report_html).read_text(encoding="utf-8")
    assert not [metric for metric in METRICS if metric not in page]
