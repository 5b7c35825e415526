"""What the rules know of their jobs, asked as Snakemake asks; whole plans are in test_workflow.py."""

import inspect
import re
from types import SimpleNamespace

import builders
import pytest
from snakemake.cli import parse_set_resources
from snakemake.io import is_flagged
from snakemake.iocontainers import Wildcards
from snakemake.resources import Resources
from snakemake.settings.types import ResourceSettings

from gluegrid.common import paths
from gluegrid.operations.devices import find_device
from gluegrid.operations.estimates import Estimates
from gluegrid.workflow import rule_inputs
from gluegrid.workflow.experiment_file import estimates_of_workflow

SCORES = {"eval_accuracy": 0.5, "eval_f1": 0.5}
ASKING = {"wildcards", "attempt"}  # what Snakemake gives, by these names


@pytest.mark.parametrize(
    ("of_train", "of_all", "kind"),
    [
        (["train:gpu_model='h100' if wildcards.model == 'tiny' else 't4'"], ["gpu_model=v100"], "h100"),
        (["train:runtime=60"], ["gpu_model=v100", "mem_mb=4000"], "v100"),
        ([], ["mem_mb=4000"], ""),
        ([], None, ""),
    ],
)
def test_limits_are_for_the_kind_of_gpu_that_the_profile_asks_for(tmp_path, monkeypatch, of_train, of_all, kind):
    """As Snakemake has read the profile."""
    monkeypatch.chdir(tmp_path)
    experiment = builders.experiment(tmp_path, device="cuda")
    settings = ResourceSettings(
        overwrite_resources=parse_set_resources(of_train),
        default_resources=of_all and Resources.parse(of_all, allow_expressions=True),
    )
    workflow = SimpleNamespace(is_main_process=True, resource_settings=settings)
    cell = next(iter(experiment.cells.values()))
    estimates = estimates_of_workflow(experiment, workflow)
    assert estimates.of(cell) == Estimates(experiment, [], kind).of(cell)
    assert estimates.card_of(cell) == find_device(kind)


class Asked:
    """All that rules ask of an experiment, in a call of snakemake with these targets, or in one of its jobs."""

    def __init__(self, experiment, *targets: str, is_head: bool = True):
        workflow = SimpleNamespace(is_main_process=is_head, dag_settings=SimpleNamespace(targets=set(targets)))
        estimates = Estimates(experiment, [])
        parts = rule_inputs.inputs_of_rules(experiment, estimates, workflow)
        self.models, self.tasks, self.tokens, self.cells, self.tables = parts
        self.seconds_of = estimates.seconds_of


@pytest.fixture
def experiment(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    models = {"tiny": {"source": "./model"}, "other": {"source": "org/other", "tokenizer": "tiny"}}
    return builders.experiment(tmp_path, models=models, seeds=[1, 2])


def wildcards_of(cell) -> Wildcards:
    return Wildcards(fromdict=cell.wildcards)


def test_rules_find_methods_of_parameters_that_snakemake_gives(experiment, project):
    asked = Asked(experiment, is_head=False)
    text = "".join(path.read_text() for path in project.glob("rules/*.smk"))
    used = set(re.findall(r"[=\s(](models|tasks|tokens|cells|tables)\.(\w+)(?=[,)\n])", text))
    assert len(used) > 20
    for part, name in used:
        method = getattr(getattr(asked, part), name)
        assert set(inspect.signature(method).parameters) <= ASKING, name


def test_a_cell_with_its_result_does_not_mind_the_times_of_its_inputs(experiment):
    done, missing, *_ = experiment.cells.values()
    builders.write_result(experiment, done, SCORES)
    cells = Asked(experiment).cells
    inputs = {cell.seed: cells.inputs(wildcards_of(cell)) for cell in (done, missing)}
    assert [*inputs[1]] == [*inputs[2]] == ["run", "model", "task", "tokens"]
    assert [is_flagged(path, "ancient") for path in inputs[1].values()] == [True] * 4
    assert not any(is_flagged(path, "ancient") for path in inputs[2].values())


def test_what_was_there_when_it_was_asked_is_not_looked_up_again(experiment):
    cell, *_ = experiment.cells.values()
    cells = Asked(experiment).cells
    assert not cells.had_result(*wildcards_of(cell))
    builders.write_result(experiment, cell, SCORES)
    assert not cells.had_result(*wildcards_of(cell))
    assert cells.results() == cells.results(None)


def test_what_all_cells_ask_for_alike_is_a_value_and_else_a_method(experiment):
    cells = Asked(experiment).cells
    assert (cells.nodes, cells.gpus, cells.starter, cells.tasks) == (1, 1, None, None)
    differing = experiment.config | {"cells": {"tiny": {"pair": {"threads": 3}}}}
    cells = Asked(type(experiment)(differing)).cells
    threads = {cells.threads(wildcards_of(cell)) for cell in type(experiment)(differing).cells.values()}
    assert threads >= {3} and len(threads) == 2


def test_cells_may_differ_in_gpus_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    models = {"tiny": {"source": "./model"}, "large": {"source": "./model", "gpus": 2}}
    experiment = builders.experiment(tmp_path, models=models)
    cells = Asked(experiment).cells
    assert cells.nodes == 1
    assert {cell.model: cells.gpus(wildcards_of(cell)) for cell in experiment.kinds} == {"tiny": 1, "large": 2}


def test_a_later_attempt_gets_more(experiment):
    cell, *_ = experiment.cells.values()
    cells, wildcards = Asked(experiment).cells, wildcards_of(cell)
    assert cells.memory_in_mb(wildcards, 3) == 3 * cells.memory_in_mb(wildcards, 1)
    assert cells.minutes(wildcards, 2) > cells.minutes(wildcards, 1)


def test_a_tokenizer_is_as_urgent_as_the_longest_cell_of_all_models_that_use_it(experiment):
    asked = Asked(experiment)
    key = experiment.model_key("tiny")
    longest = max(map(asked.seconds_of, experiment.kinds))
    assert asked.models.urgency(Wildcards(fromdict={"model_key": key})) == longest
    assert asked.models.urgency(Wildcards(fromdict={"model_key": "of no cell"})) == 0


def test_tokens_are_made_of_the_task_with_these_examples(experiment):
    cell, *_ = experiment.cells.values()
    tokens = Asked(experiment).tokens
    wildcards = Wildcards(fromdict=experiment.wildcards_of_tokens(cell))
    assert tokens.task(wildcards) == experiment.task_manifest(cell.task)
    assert tokens.tokenizer(wildcards) == paths.MODEL_MANIFEST.format(model_key=experiment.tokenizer_key(cell.model))
    assert '"no"' in tokens.definition(wildcards)


def test_a_job_writes_no_run_and_makes_no_cells(experiment, monkeypatch):
    assert len(Asked(experiment).cells.runs_to_write) == 1
    monkeypatch.setattr(type(experiment), "cells", property(lambda of: pytest.fail("made all cells")))
    assert Asked(experiment, is_head=False).cells.runs_to_write == []
    assert rule_inputs.wildcard_patterns(experiment, is_head=False)["variant"] == "[^/]+"


@pytest.mark.parametrize(
    ("targets", "results", "comparisons"), [((), 0, 0), (("all",), 8, 0), (("all", "compare"), 8, 1)]
)
def test_the_report_waits_for_what_is_asked_for_too(experiment, targets, results, comparisons):
    tables = Asked(experiment, *targets).tables
    assert len(tables.before_report(None)) == results + comparisons
    assert len(tables.predictions(None)) == results
