"""What is behind `make`: each target that calls scripts/commands.py has a command of its name, with help."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import commands
import pytest

PROJECT = Path(__file__).resolve().parents[1]
MAKEFILE = (PROJECT / "Makefile").read_text()
TARGETS = re.findall(r"^([a-z-]+):.*\n\t@\S+python scripts/commands.py (\S+)", MAKEFILE, re.M)
HELP = dict(re.findall(r"^([a-z-]+):.*## (.*)", MAKEFILE, re.M))


def test_a_target_calls_the_command_of_its_name_and_each_command_has_a_target():
    assert all(target == command for target, command in TARGETS)
    assert {command for _, command in TARGETS} == {*commands.commands.choices}


@pytest.mark.parametrize("name", [[], *([command] for _, command in TARGETS)], ids=lambda name: " ".join(name) or "all")
def test_help_says_what_a_command_does_and_loads_no_package_for_it(name):
    command = [sys.executable, "-X", "importtime", PROJECT / "scripts/commands.py", *name, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    description = commands.commands.choices[name[0]].description if name else commands.__doc__
    assert " ".join(description.split()) in " ".join(done.stdout.split())
    packages = set(re.findall(r"\| +gluegrid\.(\w+)$", done.stderr, re.M))
    assert packages == {"common"}


def test_help_lists_every_target_in_a_group_within_80_columns():
    done = subprocess.run(["make", "-s"], cwd=PROJECT, env=own_environment(), capture_output=True, text=True)
    lines = done.stdout.splitlines()
    groups = [line for line in lines if line and not line.startswith(" ")]
    assert groups == ["Start", "Run", "Look", "Results", "Keep house", "Develop", "Maintain"]
    assert lines[0] == groups[0]
    assert {line.split()[1] for line in lines if line.startswith("  make ")} == {*HELP}
    assert [line for line in lines if len(line) > 80] == []


def test_tasks_and_models_list_what_an_experiment_can_name(tmp_path):
    command = [sys.executable, PROJECT / "scripts/commands.py"]
    tasks = subprocess.run([*command, "tasks"], cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    assert "qqp   accuracy, f1          question1, question2  not_duplicate, duplicate" in tasks.splitlines()
    assert "stsb  pearson, spearmanr    sentence1, sentence2  a number" in tasks.splitlines()
    given = ("models", f"--configfile={PROJECT / 'config.yaml'}")
    models = subprocess.run([*command, *given], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    row = next(line.split() for line in models.splitlines() if line.startswith("bert-base-uncased "))
    assert (row[1], row[-1]) == ("86b5e0934494", "google-bert/bert-base-uncased")
    assert max(map(len, tasks.splitlines())) <= 80


def test_installation_tells_how_far_it_is_and_nothing_of_paths_and_registries(tmp_path):
    """With a pip that says what pip says, since another would need a network."""
    (tmp_path / "requirements.lock").write_text("a==1\nb==2\n", encoding="utf-8")
    python = tmp_path / "python"
    said = "".join(f"Collecting p{n}==1 (from -r x (line {n}))\n  Downloading https://x/p{n}.whl\n" for n in range(40))
    (tmp_path / "said").write_text(f"Looking in indexes: https://x\n{said}Installing collected packages: p0\n")
    script = (
        f'case "$*" in *pip*) cat {tmp_path}/said;; "-m venv"*) mkdir -p .venv/bin; cp "$0" .venv/bin/python;; esac'
    )
    python.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    python.chmod(0o755)
    command = ["make", f"--file={PROJECT / 'Makefile'}", f"PYTHON={python}", "install"]
    done = subprocess.run(command, cwd=tmp_path, env=own_environment(), capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "Installing 2 packages into .venv (a few minutes, once) ...",
        "  20 packages",
        "  40 packages",
        "  unpacking ...",
        "Installed. Next: make demo",
    ]


def own_environment() -> dict[str, str]:
    """Return an environment in which no make runs the tests."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}


def make(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    """Call make as a person does, also where make runs the tests; nothing is done."""
    command = ["make", "--dry-run", "--no-print-directory", "--old-file=.venv/installed", *arguments]
    return subprocess.run(command, cwd=PROJECT, env=own_environment() | environment, capture_output=True, text=True)


def called(*arguments: str, **environment: str) -> list[str]:
    """Return what make would call behind scripts/commands.py."""
    done = make(*arguments, **environment)
    assert done.returncode == 0, done.stderr
    return shlex.split(done.stdout.replace("\\\n", ""))[2:]


@pytest.mark.parametrize(
    ("arguments", "taken"),
    [
        (("plan", "CONFIGFILE=mine.yaml"), "CONFIG= EXPERIMENT= GPUS="),
        (("plan", "config=mine.yaml"), "CONFIG= EXPERIMENT= GPUS="),
        (("status", "NAME=demo"), "EXPERIMENT= CONFIG= WATCH="),
        (("verify", "GPUS=1"), "EXPERIMENT= CONFIG="),
        (("gpu-check", "EXPERIMENT=demo"), "ONLY= DATA="),
        (("demo", "EXPERIMENT=demo"), "no variables"),
        (("WATCH=1",), "no variables"),
        (("demo", "verify", "EXP=demo"), "EXPERIMENT= CONFIG="),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_a_target_does_not_take_is_refused_in_one_line_with_what_it_takes(arguments, taken):
    done = make(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    name = arguments[-1].partition("=")[0]
    (line,) = done.stderr.splitlines()
    assert re.search(rf"\*\*\* make [a-z -]+: does not know {name}=; it takes {taken}", line)


@pytest.mark.parametrize("target", HELP)
def test_a_target_uses_the_variables_that_its_help_names(target):
    recipe = re.search(rf"^{target}:.*\n((?:\t.*\n)*)", MAKEFILE, re.M)[1].replace(
        "$(WHICH)", "$(EXPERIMENT) $(CONFIG)"
    )
    recipe = recipe.replace("$(PARALLEL)", "$(WORKERS)")
    named = set(re.findall(r"([A-Z]+)=", HELP[target]))
    used = set(re.findall(r"\$\((?:call (?:option|flag),|if (?:\$\(filter 1,\$\()?)?([A-Z]+)\b", recipe))
    assert named == used - {"BIN", "PYTHON", "DEMO", "OLDEST", "CONCERNS_SNAKEMAKE", "CONCERNS"}
    assert make(target, *(f"{name}=1" for name in named)).returncode == 0


def test_a_file_is_called_config_and_an_experiment_experiment_by_all_targets_that_take_either():
    # submit, tasks and models take a file alone, doctor neither
    of_one = {target for target, _ in TARGETS} - {"import", "doctor", "submit", "tasks", "models"}
    for target in of_one:
        given = called(target, "CONFIG=mine.yaml", "EXPERIMENT=mine")
        assert "--configfile=mine.yaml" in given
        assert {"mine", "--experiment=mine"} & {*given}


def test_values_are_taken_as_they_are():
    value = """a b'c"d$x$(y)`z`;#.yaml"""
    assert called("plan", f"CONFIG={value}", "GPUS=2", "ALL=1") == [
        "plan",
        f"--configfile={value}",
        "--gpus=2",
        "--all",
    ]
    assert called("status", f"EXPERIMENT={value}") == ["status", value]
    assert called("import", "EXPERIMENT=all", "FILES=a.zip it's=b.zip") == ["import", "all", "a.zip", "it's=b.zip"]
    assert called("import", "EXPERIMENT=all", "FILES=READ*.md")[2:] == ["README.md", "README.zh.md"]


def test_what_stands_in_the_environment_is_not_taken_and_that_is_said():
    done = make("status", EXPERIMENT="other", WATCH="1")
    assert shlex.split(done.stdout)[2:] == ["status"]
    assert "EXPERIMENT= of the environment is not used: make status EXPERIMENT=..." in done.stderr
    assert called("status", "EXPERIMENT=mine", EXPERIMENT="other") == ["status", "mine"]


def test_a_make_that_calls_this_one_may_have_variables_of_its_own():
    assert called("status", MAKEFLAGS=" -- THEIRS=1", MAKELEVEL="1") == ["status"]


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["status", "--configfile=mine.yaml"], "results/mine is not an experiment; there are: none"),
        (["verify", "--configfile=mine.yaml"], "results: holds no experiment; run snakemake first"),
        (["export", "--configfile=mine.yaml"], "results/mine is not an experiment; there are: none"),
        (["status", "--configfile=mine.yaml", "other"], "results/other is not an experiment; there are: none"),
        (["disk", "--configfile=empty.yaml"], "empty.yaml: does not name an experiment; add the key experiment, as in"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_an_experiment_may_be_named_by_its_file(tmp_path, command, expected):
    (tmp_path / "mine.yaml").write_text("experiment: mine\nmodels: is looked at by others\n")
    (tmp_path / "empty.yaml").write_text("models: {}\n")
    command = [sys.executable, PROJECT / "scripts/commands.py", *command]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith(f"gluegrid: {expected}")
    assert done.stderr.count("\n") == 1
