"""Every metric that an experiment file may name, through everything that knows metrics by their names."""

import contextlib
import re
import warnings
from pathlib import Path

import builders
import numpy
import pytest
import verifiable
import yaml

from gluegrid.analysis.comparison_report import write_comparisons
from gluegrid.analysis.comparisons import compare
from gluegrid.common.files import read_json
from gluegrid.experiment.experiment import Experiment
from gluegrid.experiment.metrics import METRICS, Metric
from gluegrid.experiment.task_kinds import REGRESSION
from gluegrid.report.write import write_report
from gluegrid.results.outcomes import read_outcomes
from gluegrid.results.parity import NOT_COMPARED
from gluegrid.results.parity_report import write_parity
from gluegrid.verification.findings import Hashes
from gluegrid.verification.metrics import METRICS as RECOMPUTED
from gluegrid.verification.verify import verify_experiment

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
    of_three = [(f"{metric}-of-3", metric) for metric in builders.metrics_for(["a", "b", "c"])]
    return [*((metric, metric) for metric in METRICS), *of_three]


def task_of(name: str, metric: str) -> dict:
    labels = {} if METRICS[metric].kind is REGRESSION else {"labels": ["a", "b", "c"][: 3 if name != metric else 2]}
    source = {"source": f"./{name}", "revision": "1"}
    return source | {"text_columns": ["sentence"], "metrics": [metric], "test": []} | labels


def test_tables_and_verification_know_every_metric(experiment):
    assert verify_experiment(Path(experiment.paths.root), Hashes()).problems == []
    header = Path(experiment.paths.results_csv).read_text(encoding="utf-8").splitlines()[0].split(",")
    assert {f"eval_{metric}" for metric in METRICS} <= {*header}


def test_comparisons_know_every_metric_and_score_with_it_as_training_did(experiment):
    found = read_outcomes(experiment)
    comparisons = compare(experiment, found, 100)
    assert [comparison.tasks for comparison in comparisons.of_tasks] == [[name] for name, _ in tasks()]
    for comparison, (name, metric) in zip(comparisons.of_tasks, tasks(), strict=True):
        means = [
            [each.results[f"eval_{metric}"] for each in found if (each.cell.model, each.cell.task) == (model, name)]
            for model in (comparison.first, comparison.second)
        ]
        assert comparison.scores == pytest.approx([sum(seeds) / len(seeds) for seeds in means], abs=1e-12)
    write_comparisons(experiment, comparisons)


def test_references_may_be_of_every_metric(experiment):
    write_parity(experiment, read_outcomes(experiment))
    records = read_json(Path(experiment.paths.parity_json))["verdicts"]
    assert [(each["task"], each["metric"]) for each in records] == tasks()
    assert not [each for each in records if each["verdict"] == NOT_COMPARED]


def test_the_page_shows_every_metric(experiment):
    write_report(experiment, read_outcomes(experiment))
    page = Path(experiment.paths.report_html).read_text(encoding="utf-8")
    assert not [metric for metric in METRICS if metric not in page]


# Everything else asks the first; the second is there to know nothing of it; the third says which task has which.
NAMING = {"scripts/gluegrid/experiment/metrics.py", "scripts/gluegrid/verification/metrics.py", "schemas/tasks.yaml"}


def test_no_other_file_names_a_metric(project):
    names = re.compile(rf"\b({'|'.join(METRICS)})\b")
    files = [file for pattern in ("scripts/**/*.py", "schemas/*.yaml", "rules/*.smk") for file in project.glob(pattern)]
    naming = {str(file.relative_to(project)) for file in files if names.search(file.read_text(encoding="utf-8"))}
    assert naming == NAMING


def test_verification_has_a_formula_of_its_own_for_every_metric():
    assert RECOMPUTED.keys() == METRICS.keys()
    assert not {METRICS[name].score for name in METRICS} & {*RECOMPUTED.values()}


@pytest.mark.parametrize("metric", METRICS.values(), ids=list(METRICS))
@pytest.mark.parametrize("seed", range(5))
def test_of_every_metric_more_is_better_and_perfect_predictions_have_the_most(metric, seed):
    low, high = metric.range
    random = numpy.random.default_rng(seed)
    labels = random.permutation([0, 1] * 50)
    rates = (0, 0.1, 0.3, 1)
    values = [metric.score(labels, numpy.where(random.random(100) < rate, 1 - labels, labels)) for rate in rates]
    assert values == sorted(values, reverse=True)
    assert values[0] == pytest.approx(high)
    assert values[-1] >= low - 1e-12


@pytest.mark.parametrize("metric", METRICS.values(), ids=list(METRICS))
def test_a_metric_is_defined_from_its_least_number_of_examples_on(metric: Metric):
    labels = numpy.arange(metric.least_examples)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert numpy.isfinite(metric.score(labels, labels))
