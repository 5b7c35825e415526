"""Snakemake's backups of outputs that a job updates: restored after a failure, they are to be as old as they were."""

import os
from pathlib import Path

from snakemake.persistence import FileBackupMixin


def keep_times_of_backups() -> None:
    """Let a file that Snakemake (9.27) restores have its old time.

    With a new one it would seem to be made from what it is older than, and the job that failed would not run again.
    """
    backup, restore = FileBackupMixin.backup_output, FileBackupMixin.restore_output

    def backup_output(self, path: Path) -> None:
        backup(self, path)
        _copy_times(path, self._get_backup_path(path))

    def restore_output(self, path: Path) -> bool:
        kept = self._get_backup_path(path)
        times = kept.stat() if kept.exists() else None
        restored = restore(self, path)
        if times is not None:
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        return restored

    FileBackupMixin.backup_output, FileBackupMixin.restore_output = backup_output, restore_output


def _copy_times(source: Path, target: Path) -> None:
    times = source.stat()
    os.utime(target, ns=(times.st_atime_ns, times.st_mtime_ns))
