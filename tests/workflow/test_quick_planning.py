"""What makes Snakemake plan quickly finds the same rules and parameters as Snakemake itself."""

import functools
import gc
import sys
import types
from dataclasses import dataclass
from pathlib import Path

import pytest
from snakemake import common, io, jobs, output_index, rules
from snakemake.io import IOFile

from gluegrid.workflow import snakemake_patches

FILES = [
    *("runs/a/rte/base/seed-1/run.json", "runs/a/rte/base/seed-10/run.json", "runs/a/rte/base/seed-1/all_results.json"),
    *("runs/a/all_results.json", "runs/run.json", "results.md", "results.mdx", "logs/a.log", "other", "runs/", "", "r"),
]
PATTERNS = {
    "train": ["runs/{model}/{task}/base/seed-{seed}/all_results.json", "logs/{model}.log"],
    "write": ["runs/a/rte/base/seed-1/run.json", "runs/b/rte/base/seed-1/run.json"],
    "any_run": ["runs/{any}/run.json"],
    "results": ["results.md"],
    "everything": ["{any}"],
}


@dataclass(frozen=True)
class Rule:
    """As much of a rule of Snakemake's as its index looks at."""

    name: str

    def products(self) -> list:
        return [IOFile(pattern) for pattern in PATTERNS[self.name]]

    def is_producer(self, file: str) -> bool:
        return any(product.match(file) for product in self.products())


@pytest.mark.parametrize("file", FILES)
def test_a_file_has_the_producers_that_snakemake_finds(file):
    rules = [Rule(name) for name in PATTERNS]
    ours, theirs = (index(rules) for index in (snakemake_patches.OutputsByName, output_index.OutputIndex))
    assert ours.match_producers(file) == theirs.match_producers(file)
    assert ours.match(file) >= ours.match_producers(file)
    assert ours.match_producers(IOFile(file or "x")) == theirs.match_producers(file or "x")


class Thing:
    def method(self, wildcards, attempt):
        """Be a method that a rule asks for a value."""


@pytest.fixture
def replaced(monkeypatch):
    """Snakemake's modules, put back when the test has ended."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "snakemake" and isinstance(module, types.ModuleType):
            for attribute in ("get_function_params", "OutputIndex", "is_flagged"):
                if hasattr(module, attribute):
                    monkeypatch.setattr(module, attribute, getattr(module, attribute))


def test_functions_have_the_parameters_that_they_have(replaced):
    original = common.get_function_params
    snakemake_patches.remember_parameters_of_functions()
    assert common.get_function_params is not original

    def of_threads(wildcards, threads):
        """Be a function that a rule asks for a value."""

    asked = [
        *(of_threads, of_threads, Thing().method, Thing().method, Thing.method, lambda **rest: rest),
        *(functools.partial(of_threads, threads=1), functools.partial(of_threads, 1), Thing, len),
    ]
    for function in asked:
        assert list(common.get_function_params(function)) == list(original(function)), function
    assert rules.get_function_params is common.get_function_params


def test_flags_are_those_that_snakemake_reads(replaced):
    original = io.is_flagged
    values = [
        *("plain", IOFile("plain"), io.temp("a"), io.ancient("a"), IOFile(io.temp("a")), IOFile(io.ancient("a"))),
        *(io.flag("a", "temp", False), len, None, Path("a")),
    ]
    expected = [[original(value, flag) for flag in ("temp", "ancient", "pipe")] for value in values]
    snakemake_patches.read_flags_quickly()
    assert io.is_flagged is not original
    assert [[io.is_flagged(value, flag) for flag in ("temp", "ancient", "pipe")] for value in values] == expected
    assert [True, False, False] in expected
    assert rules.is_flagged is io.is_flagged


def test_a_command_is_formatted_once_for_each_time_that_its_job_is_shown(monkeypatch):
    formatted = []

    class Job:
        """As much of a job as is shown."""

        @property
        def shellcmd(self) -> str:
            formatted.append(self)
            return f"command {len(formatted)}"

        def log_info(self, indent: bool = False) -> list[str]:
            shown.extend([self.shellcmd, self.shellcmd, other.shellcmd])

    monkeypatch.setattr(jobs, "Job", Job)
    shown, job, other = [], Job(), Job()
    snakemake_patches.format_commands_once()
    job.log_info(indent=True)
    assert shown == ["command 1", "command 1", "command 2"]
    assert job.shellcmd == "command 3"


def test_a_snakemake_of_another_shape_is_left_alone(replaced, monkeypatch):
    def get_function_params(func, more):
        """Be what a later release may have."""

    monkeypatch.setattr(common, "get_function_params", get_function_params)
    snakemake_patches.remember_parameters_of_functions()
    assert common.get_function_params is get_function_params
    monkeypatch.setattr(output_index, "OutputIndex", Thing)
    snakemake_patches.look_up_outputs_by_name()
    assert output_index.OutputIndex is Thing


def test_the_garbage_collector_rests_while_planning_only():
    snakemake_patches.rest_garbage_collector()
    assert not gc.isenabled()
    snakemake_patches.wake_garbage_collector()
    assert gc.isenabled()
    gc.unfreeze()
