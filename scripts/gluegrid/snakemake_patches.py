"""What Snakemake (9.27) does to the files of its jobs, mended from outside: it deletes some that are of use to others.

Every output of ours is written whole or not at all, in one step, and two calls of snakemake may make the same.
"""

import datetime
import os
import sys
from contextlib import suppress
from pathlib import Path

from snakemake.persistence import FileBackupMixin

from gluegrid.execution.cell_state import has_published, is_being_trained

TRAIN = "train"


def keep_files_of_jobs() -> None:
    """Apply every change below, from here on."""
    keep_what_others_train()
    keep_outputs_of_failed_jobs()
    keep_outputs_that_seem_old()
    keep_backups_apart()


def keep_what_others_train() -> None:
    """Let a cell's training not delete what another call's is writing, or has published since this call has planned it.

    A log is emptied instead of deleted: two trainings that begin at once then write into the same file, each behind
    what is there, and not one of them into a file without a name.
    """
    from snakemake.jobs import Job  # there already where there is a workflow

    remove = Job.remove_existing_output

    async def remove_existing_output(job) -> None:
        if job.rule.name != TRAIN:
            await remove(job)
            return
        is_published = has_published(*(Path(path) for path in (*_inputs_of_cell(job), *job.output)))
        if not is_published:
            for output in job.output:
                Path(output).unlink(missing_ok=True)
        if not is_published and not is_being_trained(Path(job.input.run)):
            for log in filter(os.path.exists, job.log):
                os.truncate(log, 0)

    Job.remove_existing_output = remove_existing_output


def _inputs_of_cell(job) -> tuple[str, str, str, str]:
    return job.input.run, job.input.model, job.input.task, job.input.tokens


def keep_outputs_of_failed_jobs() -> None:
    """Let a job that fails delete no output which it would have taken the place of: what is there is whole.

    It may be another call's, which has succeeded where this one has not.
    """
    from snakemake.jobs import Job  # there already where there is a workflow

    cleanup = Job.cleanup

    async def cleanup_outputs(job, skip_outputs) -> None:
        whole = {output for output in job.output if job.rule.name == TRAIN or output.flags.get("update")}
        await cleanup(job, {*skip_outputs, *whole})

    Job.cleanup = cleanup_outputs


def keep_outputs_that_seem_old() -> None:
    """Let a job that has just ended keep its outputs, though an input's time is later: a clock is wrong.

    Snakemake would delete them, and every call train the cell to its end again. Whether a result is of the run that is
    wanted is told by its record, and not by times.
    """
    from snakemake.dag import DAG  # there already where there is a workflow

    told: set[DAG] = set()

    async def check_output_mtime(dag: DAG, job, expanded_output) -> None:
        ahead = _input_ahead_of(job.input, expanded_output)
        if ahead and dag not in told and dag.workflow.is_main_process:
            told.add(dag)
            moment = datetime.datetime.fromtimestamp(Path(ahead).stat().st_mtime).isoformat(" ", "seconds")
            print(
                f"warning: {ahead}: its time ({moment}) is later than that of what has just been made from it;"
                " the clock of this machine or of the file server is wrong (nothing is lost by it)",
                file=sys.stderr,
            )

    DAG.check_output_mtime = check_output_mtime


def _input_ahead_of(inputs, outputs) -> str | None:
    """Return an input that is newer than one of the outputs; None where there is none."""
    written, made = (
        [(path.stat().st_mtime, str(path)) for path in map(Path, files) if path.exists()] for files in (inputs, outputs)
    )
    return max(written)[1] if written and made and max(written)[0] > min(made)[0] else None


def keep_backups_apart() -> None:
    """Let a file that Snakemake restores, when the job that updates it has failed, have its old time.

    With a new one it would seem to be made from what it is older than, and the job would not run again. What another
    call has written meanwhile stays; and that call's backup, which has the same name, may come and go.
    """
    backup, restore, cleanup = (
        getattr(FileBackupMixin, name) for name in ("backup_output", "restore_output", "cleanup_backup")
    )

    def backup_output(self, path: Path) -> None:
        backup(self, path)
        with suppress(FileNotFoundError):
            _copy_times(path, self._get_backup_path(path))

    def restore_output(self, path: Path) -> bool:
        kept = self._get_backup_path(path)
        times = kept.stat() if kept.exists() else None
        if times is not None and path.exists() and path.stat().st_mtime_ns != times.st_mtime_ns:
            cleanup_backup(self, path)
            return True
        restored = restore(self, path)
        if times is not None:
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        return restored

    def cleanup_backup(self, path: Path) -> None:
        with suppress(FileNotFoundError):
            cleanup(self, path)

    FileBackupMixin.backup_output, FileBackupMixin.restore_output = backup_output, restore_output
    FileBackupMixin.cleanup_backup = cleanup_backup


def _copy_times(source: Path, target: Path) -> None:
    times = source.stat()
    os.utime(target, ns=(times.st_atime_ns, times.st_mtime_ns))
