"""Which versions of Snakemake and of its SLURM plugin are allowed: those that every change from outside still fits.

Run with the newest versions by `make test`, and with the oldest ones by `make test-oldest`.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
import write_lock

from gluegrid.workflow import slurm_patches

LIBRARY = Path(write_lock.__file__).parent / "gluegrid"
PATCHING = {"snakemake_patches.py", "slurm_patches.py"}
# Applies every change; each says so where what it replaces has not its shape.
APPLY_ALL = """
import snakemake.cli
import snakemake_executor_plugin_slurm as plugin
from pathlib import Path
from snakemake.workflow import Workflow
from gluegrid.workflow import slurm_patches, snakemake_patches

snakemake_patches.keep_files_of_jobs()
snakemake_patches.begin_with_the_longest()
snakemake_patches.rerun_by_content([], [], bool)
snakemake_patches.before_execution(Workflow, print)
snakemake_patches.where_nothing_is_to_be_done(Workflow, print)
snakemake_patches.let_jobs_run(Path("Snakefile"))
snakemake_patches.leave_experiment_file_unread()
snakemake_patches.tell_jobs_of_interruption()
snakemake_patches.run_in_packs(list)
slurm_patches.patch_slurm_plugin()
plugin.Executor.cancel_jobs.__wrapped__
"""


def test_every_change_finds_the_shape_that_it_was_written_for():
    command = [sys.executable, "-c", APPLY_ALL]
    done = subprocess.run(command, cwd=LIBRARY.parent, capture_output=True, text=True, check=True)
    assert (done.stderr, done.stdout) == ("", "")


def test_two_modules_alone_change_what_is_not_ours():
    """Others assign to attributes of `self` alone: what they import, and what Snakemake gives them, stays as it is."""
    found = {path.name for path in LIBRARY.glob("workflow/*.py") if any(_foreign_targets(path))}
    assert found <= PATCHING
    assert "setattr(" not in "".join(path.read_text() for path in LIBRARY.rglob("*.py") if path.name not in PATCHING)


def _foreign_targets(path: Path) -> Iterator[ast.Attribute]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        is_assigned = isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store | ast.Del)
        if is_assigned and not (isinstance(node.value, ast.Name) and node.value.id == "self"):
            yield node


def test_what_is_allowed_is_what_is_tested(project):
    """Each library has an oldest version, not newer than the lock's; no second list says another."""
    lock = dict(line.split("==") for line in (project / "requirements.lock").read_text().splitlines() if "==" in line)
    floors = dict(requirement.split("==") for requirement in write_lock.oldest())
    assert len(floors) > 20
    for name, floor in floors.items():
        assert parts(floor) <= parts(lock[name]), name
    assert f'min_version("{floors["snakemake"]}")' in (project / "Snakefile").read_text()
    assert floors["snakemake-executor-plugin-slurm"] == slurm_patches.OLDEST


def test_a_plugin_that_is_older_is_refused_in_one_line(monkeypatch):
    slurm_patches.check_version()
    monkeypatch.setattr(metadata, "version", lambda name: "2.7.1")
    with pytest.raises(SystemExit, match=r"snakemake-executor-plugin-slurm 2\.7\.1 is older than 2\.8\.0; install"):
        slurm_patches.check_version()


def parts(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)]
