"""Which versions of Snakemake and of its SLURM plugin are allowed: those that every change from outside still fits.

Run with the newest versions by `make test`, and with the oldest ones by `make test-oldest`.
"""

import re
import subprocess
import sys
from importlib import metadata

import pytest
import write_lock

from gluegrid.workflow import slurm_patches

# Prints what is left as it is of what we replace in Snakemake.
REPLACED = """
import snakemake.cli
import snakemake_executor_plugin_slurm as plugin
from snakemake import common, dag, io, jobs, output_index
from snakemake.executors.local import Executor as Local
from snakemake.persistence import FileBackupMixin
from snakemake.scheduling.job_scheduler import JobScheduler
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor
from gluegrid.workflow.interruption import end_when_asked
from gluegrid.workflow.snakemake_patches import plan_quickly
from gluegrid.workflow.slurm_patches import mend_slurm_plugin
from gluegrid.workflow.snakemake_patches import keep_files_of_jobs
from gluegrid.workflow.hooks import begin_with_the_longest

CHANGED = {
    common: ["get_function_params"], output_index: ["OutputIndex"], io: ["is_flagged"],
    jobs.Job: ["log_info", "shellcmd", "remove_existing_output", "cleanup"], dag.DAG: ["check_output_mtime"],
    FileBackupMixin: ["backup_output", "restore_output", "cleanup_backup"], JobScheduler: ["run"],
    Local: ["cancel"], RemoteExecutor: ["cancel", "next_seconds_between_status_checks"],
    plugin: ["query_job_status", "validate_account", "get_account", "get_default_partition", "set_gres_string",
             "pending_jobs_for_rule", "apply_mem_fudge"],
    plugin.Executor: ["check_active_jobs", "cancel_jobs", "shutdown", "run_array_jobs"],
}
before = {(owner, name): getattr(owner, name) for owner, names in CHANGED.items() for name in names}
for change in (plan_quickly, mend_slurm_plugin, keep_files_of_jobs, begin_with_the_longest, end_when_asked):
    change()
print(*(name for (owner, name), found in before.items() if getattr(owner, name) is found))
"""


def test_every_change_finds_the_shape_that_it_was_written_for(project):
    command = [sys.executable, "-c", REPLACED]
    done = subprocess.run(command, cwd=project / "scripts", capture_output=True, text=True, check=True)
    assert done.stdout == "\n"


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
