"""What the documents name must be there."""

import re
import runpy
import shutil
from pathlib import Path

import pytest
import write_docs
import yaml

import gluegrid
from gluegrid.experiment.config import config_schema
from gluegrid.experiment.loading import load_experiment

PROJECT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([*PROJECT.glob("*.md"), *PROJECT.glob("docs/*.md"), *PROJECT.glob("*/README.md")])
DOCUMENTS += [PROJECT / "tests/cluster/README.md"]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(PROJECT)))
def test_links_lead_to_files(document):
    targets = re.findall(r"\]\(([^)#]+)\)", document.read_text(encoding="utf-8"))
    local = [target for target in targets if "://" not in target]
    missing = [target for target in local if not (document.parent / target).exists()]
    assert not missing


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(PROJECT)))
def test_make_targets_in_documents_exist(document):
    targets = set(re.findall(r"^([a-z][a-z-]*):", (PROJECT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = set(re.findall(r"(?:^|`)make ([a-z][a-z-]*)", document.read_text(encoding="utf-8"), re.MULTILINE))
    assert named <= targets


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(PROJECT)))
def test_make_takes_the_variables_in_documents(document):
    lines = re.findall(r"^([a-z-]+): (.*)", (PROJECT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    taken = {target: {"PYTHON=", *re.findall(r"[A-Z]+=", line)} for target, line in lines}
    calls = re.findall(
        r"(?:^|`)make((?: [a-z-]+| [A-Z]+=(?:\"[^\"]*\"|[^\s`]*))+)", document.read_text("utf-8"), re.MULTILINE
    )
    refused = [
        (call, variable)
        for call in calls
        for variable in re.findall(r"[A-Z]+=", call)
        if not any(variable in taken.get(word, ()) for word in call.split())
    ]
    assert not refused


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(PROJECT)))
def test_links_lead_to_headings(document):
    links = re.findall(r"\]\(([^)#:\s]*)#([^)\s]+)\)", document.read_text(encoding="utf-8"))
    pages = [(document.parent / page if page else document, heading) for page, heading in links]
    assert [(page.name, heading) for page, heading in pages if page.exists() and heading not in headings(page)] == []


def headings(page: Path) -> set[str]:
    """Return the anchors of a page's headings."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.+)", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("document", ["README.md", "config/README.md"])
def test_the_experiment_in_a_readme_is_one(document, tmp_path, monkeypatch):
    (text,) = re.findall(r"```yaml\n(experiment: .*?)```", (PROJECT / document).read_text(encoding="utf-8"), re.DOTALL)
    shutil.copy(PROJECT / "examples/own_task/reviews.csv", tmp_path)
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(text, encoding="utf-8")
    experiment = load_experiment(Path("mine.yaml"))
    assert (experiment.name, len(experiment.cells), experiment.warnings) == ("my-first-grid", 6, [])


def test_every_key_of_the_schema_is_documented():
    properties = config_schema()["properties"]
    keys = set(properties)
    keys |= set(properties["models"]["additionalProperties"]["properties"])
    keys |= set(properties["tasks"]["additionalProperties"]["properties"])
    text = (PROJECT / "docs/config.md").read_text(encoding="utf-8")
    assert not [key for key in sorted(keys) if f"`{key}`" not in text]


def test_the_table_of_options_is_that_of_their_declarations():
    page = write_docs.PAGE.read_text(encoding="utf-8")
    assert write_docs.with_table(page) == page, "call make docs"


def test_the_readmes_tell_the_same_in_two_languages():
    english, chinese = ((PROJECT / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh.md"))
    for pattern in (
        r"^((?:make|snakemake|source) [^#\n]*?) *(?:#|$)",  # commands
        r"^```yaml\n(.*?)^```",
        r"`((?:make|snakemake) [^`\n]+)`",
        r"^(##?) ",
        r"\]\(([^)]+)\)",
    ):
        told, also = (re.findall(pattern, text, re.MULTILINE | re.DOTALL) for text in (english, chinese))
        assert len(told) > 2
        swapped = {"README.zh.md": "README.md"}
        assert sorted(swapped.get(item, item) for item in told) == sorted(also)


def test_the_readme_is_found_by_the_workflow_catalog_and_read_in_one_sitting():
    text = (PROJECT / "README.md").read_text(encoding="utf-8")
    assert "a Snakemake workflow" in text.split("\n\n")[2]
    assert len(text.splitlines()) <= 150
    catalog = yaml.safe_load((PROJECT / ".snakemake-workflow-catalog.yml").read_text(encoding="utf-8"))
    assert catalog["usage"]["software-stack-deployment"]["conda"]
    assert catalog["usage"]["report"]


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((PROJECT / "CITATION.cff").read_text(encoding="utf-8"))
    assert (citation["version"], citation["license"]) == (gluegrid.__version__, "Apache-2.0")


def test_github_runs_the_parts_of_continuous_integration():
    parts = set(re.findall(r"^(?:make|bash) [\w./-]+", (PROJECT / ".ci/run").read_text(encoding="utf-8"), re.MULTILINE))
    jobs = yaml.safe_load((PROJECT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))["jobs"]
    steps = {step["run"] for job in jobs.values() for step in job["steps"] if "run" in step}
    assert parts <= steps


def test_the_drawn_rules_are_those_of_the_workflow():
    drawn = set(re.findall(r">(\w+)</text>", (PROJECT / "docs/rulegraph.svg").read_text(encoding="utf-8")))
    rules = {"write_runs"}  # one for each part of the cells, by name_of_rule
    for path in [PROJECT / "Snakefile", *(PROJECT / "rules").glob("*.smk")]:
        rules |= set(re.findall(r"^rule (\w+):", path.read_text(encoding="utf-8"), re.MULTILINE))
    assert drawn == rules


def test_the_picture_of_the_house_is_that_of_its_code():
    drawn = runpy.run_path(str(PROJECT / "docs/draw_architecture.py"))["drawn"]()
    assert (PROJECT / "docs/architecture.svg").read_text(encoding="utf-8") == drawn, "call `make architecture`"
