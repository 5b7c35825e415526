"""What is behind `make`: each target that calls scripts/commands.py has a command of its name, with help."""

import re
import subprocess
import sys
from pathlib import Path

import commands
import pytest

PROJECT = Path(__file__).resolve().parents[1]
TARGETS = re.findall(r"^([a-z-]+):.*\n\t@\S+python scripts/commands.py (\S+)", (PROJECT / "Makefile").read_text(), re.M)


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
