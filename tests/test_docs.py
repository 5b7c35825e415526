"""What the documents name must be there."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import write_docs

from gluegrid.experiment.config import config_schema
from gluegrid.experiment.loading import load_experiment
from gluegrid.experiment.options import OPTIONS

PROJECT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([*PROJECT.glob("*.md"), *PROJECT.glob("docs/*.md"), *PROJECT.glob("*/README.md")])
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
      setTimeout(() => resolve([]), 60000);
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


def test_the_experiment_in_the_readme_is_one(tmp_path, monkeypatch):
    (text,) = re.findall(
        r"```yaml\n(experiment: .*?)```", (PROJECT / "README.md").read_text(encoding="utf-8"), re.DOTALL
    )
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


def test_both_readmes_name_the_same_commands():
    commands = r"^(make \w+|snakemake[^#\n]*?) *(?:#|$)"
    english, chinese = (
        set(re.findall(commands, (PROJECT / name).read_text(encoding="utf-8"), re.MULTILINE))
        for name in ("README.md", "README.zh.md")
    )
    assert chinese <= english
    assert {"make demo", "make test"} <= chinese


def test_the_drawn_rules_are_those_of_the_workflow():
    drawn = set(re.findall(r">(\w+)</text>", (PROJECT / "docs/rulegraph.svg").read_text(encoding="utf-8")))
    rules = {"write_runs"}  # one for each part of the cells, by name_of_rule
    for path in [PROJECT / "Snakefile", *(PROJECT / "rules").glob("*.smk")]:
        rules |= set(re.findall(r"^rule (\w+):", path.read_text(encoding="utf-8"), re.MULTILINE))
    assert drawn == rules


def test_the_picture_of_the_house_is_that_of_its_code():
    drawn = runpy.run_path(str(PROJECT / "docs/draw_architecture.py"))["drawn"]()
    assert (PROJECT / "docs/architecture.svg").read_text(encoding="utf-8") == drawn, "call `make architecture`"
