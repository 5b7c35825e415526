"""Names that would hide a library's, and pins that must agree."""

import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml

PROJECT = Path(__file__).resolve().parents[1]
# The folder of a started script is the first in which Python looks for modules.
STARTED_FROM = ("scripts", "tests/support", "tests/cluster", "benchmarks")
MODULES = sorted(path for folder in STARTED_FROM for path in (PROJECT / folder).glob("*.py"))
DIRECTIVES = ("output", "log", "benchmark", "conda", "message", "shell")
CHECKS = {"parity"}
TAKEN = sys.stdlib_module_names | metadata.packages_distributions().keys()
LOCK = PROJECT / "requirements.lock"
ENVIRONMENT = PROJECT / "envs" / "gluegrid.yaml"


def lines_of(path: Path) -> list[str]:
    return [line for line in path.read_text().splitlines() if not line.startswith("#")]


def conda_pins() -> list[str]:
    dependencies = yaml.safe_load(ENVIRONMENT.read_text())["dependencies"]
    return next(entry["pip"] for entry in dependencies if isinstance(entry, dict))


def normal(requirement: str) -> str:
    """Return the normalised name in a requirement."""
    return re.sub(r"[-_.]+", "-", re.match(r"[A-Za-z0-9._-]+", requirement)[0]).lower()


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PROJECT)))
def test_no_module_hides_one_of_python_or_of_a_package(path):
    assert path.stem not in TAKEN


def test_the_lock_and_the_conda_environment_hold_the_same_pins():
    assert lines_of(LOCK) == conda_pins()


def test_every_line_of_the_lock_is_one_exact_version():
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9][A-Za-z0-9.]*", line) for line in lines_of(LOCK))


def test_torch_is_pinned_without_a_build():
    assert [line for line in lines_of(LOCK) if line.startswith("torch==")] == ["torch==2.13.0"]


@pytest.mark.parametrize("path", [LOCK, ENVIRONMENT], ids=lambda path: path.name)
def test_the_pins_hold_no_addresses_and_no_hashes(path):
    assert not re.search(r"://|--hash|sha256:| @ ", path.read_text())


def test_every_direct_dependency_is_in_the_lock():
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    wanted = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
    assert {normal(requirement) for requirement in wanted} <= {normal(line) for line in lines_of(LOCK)}


def test_every_rule_is_complete(project):
    for path in sorted((project / "rules").glob("*.smk")):
        for text in re.split(r"^rule ", path.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
            name = text.partition(":")[0]
            assert re.match(r'\w+:\n    """[^"]+"""\n', text), f"{name} has no docstring"
            # What only checks runs each time, which a rule with an output, or a benchmark, would not.
            directives = set(DIRECTIVES) - ({"output", "benchmark"} if name in CHECKS else set())
            missing = [word for word in directives if not re.search(rf"^    {word}:", text, re.MULTILINE)]
            assert not missing, f"{name} lacks {missing}"
            assert (project / "scripts" / f"{name}.py").exists()
