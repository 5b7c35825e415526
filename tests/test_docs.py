"""What the documents name must be there."""

import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import write_docs
import yaml

import gluegrid
from gluegrid.experiment.config import config_schema
from gluegrid.experiment.loading import load_experiment
from gluegrid.experiment.options import OPTIONS

PROJECT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([*PROJECT.glob("*.md"), *PROJECT.glob("docs/*.md"), *PROJECT.glob("[!.]*/README.md")])
DOCUMENTS += [PROJECT / "tests/cluster/README.md"]


def build(configuration: Path, folder: Path) -> subprocess.CompletedProcess:
    options = ["--strict", "--config-file", configuration, "--site-dir", folder]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", *options], env=environment, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = build(PROJECT / "mkdocs.yml", folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_the_site_is_built_without_broken_links_and_fetches_nothing(site):
    pages = {path.stem for path in site.glob("*.html")} - {"404"}
    assert pages == {path.stem for path in (PROJECT / "docs").glob("*.md")}
    fetched = r"<(?:script|link|img|iframe)\b[^>]*(?:src|href)=\"?(?:https?:)?//[^>]*>"
    assert not [found for page in site.rglob("*.html") for found in re.findall(fetched, page.read_text("utf-8"))]


@pytest.mark.parametrize(
    ("page", "problem"),
    [
        ("[missing](missing.md)", "missing.md"),
        ("[outside](../mkdocs.yml)", "../mkdocs.yml"),
        ("# Title\n\n[no such heading](#heading)", "#heading"),
        ("[absolute](/index.md)", "/index.md"),
    ],
)
def test_a_broken_link_fails_the_build(tmp_path, page, problem):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text(page, encoding="utf-8")
    configuration = tmp_path / "mkdocs.yml"
    configuration.write_text(f"INHERIT: {PROJECT / 'mkdocs.yml'}\nnav: [index.md]\n", encoding="utf-8")
    done = build(configuration, tmp_path / "site")
    assert done.returncode == 1
    assert re.search(rf"WARNING.*'{re.escape(problem)}'", done.stderr)


def test_the_site_is_searched_without_a_network(chromium, site):
    """Opened as files, where a browser allows no workers."""
    chromium.show(site / "index.html", 1280)
    results = chromium.value("""new Promise(resolve => {
      const found = () => [...document.querySelectorAll(".md-search-result__link")].map(link => link.href);
      setInterval(() => found().length && resolve(found()), 100);
      setTimeout(() => resolve([]), 600000);
      document.querySelector("#__search").click();
      const query = document.querySelector(".md-search__input");
      query.focus();
      query.value = "preemption";
      query.dispatchEvent(new Event("keyup", { bubbles: true }));
    })""")
    pages = {Path(address.partition("?")[0]).stem for address in results}
    texts = {path.stem: path.read_text(encoding="utf-8").lower() for path in (PROJECT / "docs").glob("*.md")}
    assert pages
    assert pages <= {name for name, text in texts.items() if "preempt" in text}
    assert not [request for request in chromium.requests if not request.startswith(("file:", "data:"))]


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


def test_the_experiment_of_the_tutorial_is_one(tmp_path, monkeypatch):
    (text,) = re.findall(r"```yaml\n(experiment: .*?)```", (PROJECT / "docs/tutorial.md").read_text("utf-8"), re.DOTALL)
    assert text.count("./demo/generated/models/bert-demo-small") == 1  # only `make demo` makes it
    experiment_file = tmp_path / "mine.yaml"
    experiment_file.write_text(text.replace("./demo/generated/models", "organisation"), encoding="utf-8")
    monkeypatch.chdir(PROJECT)
    experiment = load_experiment(experiment_file)
    assert (experiment.name, len(experiment.cells), experiment.warnings) == ("my-reviews", 1, [])


@pytest.mark.parametrize(
    ("heading", "schema"),
    [
        ("Top level", config_schema()),
        ("Models", config_schema()["properties"]["models"]["additionalProperties"]),
        ("Tasks", config_schema()["properties"]["tasks"]["additionalProperties"]),
    ],
)
def test_every_key_of_the_schema_is_documented(heading, schema):
    """The training values, which may stand at every level, have a table of their own."""
    page = (PROJECT / "docs/config.md").read_text(encoding="utf-8")
    section = page.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    documented = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    assert sorted(documented) == sorted(set(schema["properties"]) - set(OPTIONS))


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
