"""`snakemake report`: from what there is, without any training, and again when that is another."""

import contextlib
import io
import json
import re
import zipfile
from pathlib import Path

import crafted_experiments
import pytest
from clones import Clone, clone_into, job_counts
from docutils.core import publish_doctree

from gluegrid.workflow.rule_inputs import digest_of_results

CALL = ("--configfile", "config.yaml", "--cores", "1")
PROJECT = Path(__file__).resolve().parents[2]
FLAG = re.compile(r"report\(\s+(\S+),\s+caption=\"\.\./(captions/\w+\.rst)\",\s+category=.*?\},\s+\),", re.DOTALL)


@pytest.fixture
def clone(tmp_path) -> Clone:
    """A clone with an experiment of two models on one task: one cell done, one failed, two not run."""
    clone = clone_into(tmp_path / "clone")
    with contextlib.chdir(clone.root):
        experiment = crafted_experiments.load(clone.root, tasks={"rte": None}, seeds=[1, 2])
        done, failed, *_ = experiment.cells.values()
        crafted_experiments.write_cell(experiment, done)
        crafted_experiments.write_failure(experiment, failed, "out of memory")
    return clone


@pytest.mark.long
def test_the_report_is_made_from_what_there_is_and_again_when_that_changes(clone):
    flagged = {path: path.read_text(encoding="utf-8") for path in clone.root.glob("rules/*.smk")}
    for path, text in flagged.items():
        path.write_text(FLAG.sub(r"\1,", text), encoding="utf-8")
    done = clone.snakemake(*CALL, "report")
    assert done.returncode == 0, done.stdout
    page = clone.root / "results/bert-glue/report.html"
    first = page.read_bytes()
    assert b"out of memory" in first
    for path, text in flagged.items():
        path.write_text(text, encoding="utf-8")
    # A release whose outputs have no flags has made it: flags alone make nothing again.
    assert (clone.root / "results/bert-glue/table.tex").read_text().startswith("% Scores of bert-glue")
    assert clone.planned(*CALL, "report") == {}
    results = next(clone.root.glob("results/bert-glue/runs/*/rte/base/seed-1/all_results.json"))
    results.write_text(json.dumps(json.loads(results.read_text()) | {"eval_accuracy": 0.125}))
    assert clone.snakemake(*CALL, "report").returncode == 0
    assert b"12.50" in page.read_bytes()
    assert not list(clone.root.glob("resources/*"))
    shown = clone.snakemake(*CALL, "--report", "snakemake.zip", "--", "report")
    assert shown.returncode == 0, shown.stdout
    with zipfile.ZipFile(clone.root / "snakemake.zip") as archive:
        results = {Path(name).name: archive.read(name) for name in archive.namelist() if "/data/" in name}
        around = archive.read("snakemake/report.html").decode()
    assert results == {path.name: path.read_bytes() for path in (page, page.with_name("table.tex"))}
    assert "gluegrid fine-tunes every model" in around and "marks of significance" in around


def test_every_output_for_snakemakes_report_has_a_caption():
    rules = {path.name: path.read_text(encoding="utf-8") for path in PROJECT.glob("rules/*.smk")}
    captions = [caption for text in rules.values() for _, caption in FLAG.findall(text)]
    assert len(captions) == sum(text.count("= report(") + text.count("=report(") for text in rules.values())
    assert {*captions, "captions/workflow.rst"} == {f"captions/{path.name}" for path in PROJECT.glob("captions/*")}
    assert all(docutils_problems((PROJECT / caption).read_text(encoding="utf-8")) == "" for caption in captions)


def docutils_problems(text: str) -> str:
    """Return what docutils, which Snakemake renders captions with, says of reStructuredText."""
    said = io.StringIO()
    publish_doctree(text, settings_overrides={"warning_stream": said})
    return said.getvalue()


@pytest.mark.long
def test_a_report_trains_nothing_though_results_are_outdated(clone):
    clone.replace("config.yaml", "seeds:", "learning_rate: 1.0e-4\nseeds:")
    done = clone.snakemake(*CALL, "--verbose", "report")
    assert done.returncode == 0, done.stdout
    assert job_counts(done.stdout) == {"report": 1}
    page = (clone.root / "results/bert-glue/report.html").read_text(encoding="utf-8")
    assert "made from another run.json" in page


@pytest.mark.long
def test_with_all_or_compare_the_report_comes_after_what_they_make(clone):
    shown = clone.snakemake(*CALL, "--dry-run", "all", "report").stdout
    (reason,) = re.findall(r"Writing the report .*\nReason: (.*)", shown)
    assert len(re.findall(r"[\w/-]+/all_results.json", reason)) == 4
    done = clone.snakemake(*CALL, "--verbose", "compare", "report")
    # One model has results: there is nothing to compare, and the report waits for it in vain.
    assert done.returncode != 0
    assert job_counts(done.stdout) == {"compare": 1, "report": 1}
    assert not (clone.root / "results/bert-glue/report.html").exists()
    last = done.stdout.splitlines()[-1]
    assert last == "Not written: report. From the results there are: make reports EXPERIMENT=bert-glue"
    assert "Comparisons: " not in done.stdout


@pytest.mark.long
def test_a_terminal_without_a_names_letters_shows_the_rest_and_logs_have_them(clone):
    with contextlib.chdir(clone.root):
        crafted_experiments.load(clone.root, tasks={"rte": {"display_name": "蕴含"}}, seeds=[1, 2])
    ascii_only = Clone(clone.root, clone.environment | {"PYTHONIOENCODING": "ascii"})
    assert ascii_only.snakemake(*CALL, "report").returncode == 0
    again = ascii_only.snakemake(*CALL, "report")
    assert again.returncode == 0, again.stdout
    assert "\n??    " in again.stdout
    assert "蕴含" in (clone.root / "results/bert-glue/report.html").read_text(encoding="utf-8")


@pytest.mark.long
def test_the_report_does_not_wait_for_comparisons_of_a_single_model(clone):
    with contextlib.chdir(clone.root):
        models = {"bert-base-uncased": crafted_experiments.MODELS["bert-base-uncased"]}
        crafted_experiments.load(clone.root, models=models, tasks={"rte": None}, seeds=[1, 2])
    done = clone.snakemake(*CALL, "compare", "report")
    assert done.returncode != 0
    assert "a comparison needs two models with results" in done.stdout
    assert done.stdout.splitlines()[-1] == "Report: results/bert-glue/report.html"
    assert (clone.root / "results/bert-glue/report.html").exists()


@pytest.mark.parametrize("change", ["results", "failure", "comparisons", "name"])
def test_whatever_the_report_shows_changes_what_it_is_made_from(tmp_path, monkeypatch, change):
    monkeypatch.chdir(tmp_path)
    tasks = {"rte": {"display_name": "RTE"}}
    experiment = crafted_experiments.load(tmp_path, tasks=tasks, seeds=[1])
    done, failed = experiment.cells.values()
    crafted_experiments.write_cell(experiment, done)
    before = digest_of_results(experiment)
    assert digest_of_results(crafted_experiments.load(tmp_path, tasks=tasks, seeds=[1])) == before
    if change == "results":
        crafted_experiments.write_cell(experiment, done, gain=0.01)
    elif change == "failure":
        crafted_experiments.write_failure(experiment, failed, "out of memory")
    elif change == "comparisons":
        (tmp_path / experiment.paths.comparisons_json).write_text("{}")
    else:
        experiment = crafted_experiments.load(tmp_path, tasks={"rte": {"display_name": "another"}}, seeds=[1])
    assert digest_of_results(experiment) != before
