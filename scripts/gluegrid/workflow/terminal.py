"""Show a call of snakemake: a logger plugin for Snakemake, and the default of profiles/default/config.yaml.

It replaces Snakemake's prose about jobs with what progress.py makes of the same events. Everything else appears as
Snakemake shows it: warnings, errors, and all output of a call that runs no jobs (`--lint`, `--unlock`). If you ask for
more or less (`--dry-run`, `--verbose`, `--quiet`, `--printshellcmds`, `--debug-dag`), Snakemake's own handler takes its
place. The log file below .snakemake/log always has all of it.
"""

import argparse
import atexit
import logging
import os
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from snakemake.logging import ColorizingTextHandler, DefaultFormatter
from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent
from snakemake_interface_logger_plugins.registry import LoggerPluginRegistry

from gluegrid.common.errors import GluegridError
from gluegrid.experiment.yaml_loader import load
from gluegrid.operations.site_profile import profile_file
from gluegrid.workflow.live_block import LiveBlock, is_terminal

NAME = "gluegrid"
KEY = "logger"
REPLACED = (LogEvent.JOB_ERROR, LogEvent.GROUP_ERROR)  # errors that are reported in one line
OF_JOBS = "RuleException"  # Snakemake's error for a shell command that fails; a missing output has another
SECONDS_TO_TELL = 2  # a job's own error follows its exception at once
_in_use: "LogHandler | None" = None


def loggers() -> list[str]:
    """Return the loggers for profiles/default: this one, unless another profile has a `logger:` of its own.

    Snakemake looks for plugins before it reads profiles, so this one is registered by hand.
    """
    if any(map(_names_a_logger, _profiles())):
        return []
    LoggerPluginRegistry().register_plugin(f"snakemake_logger_plugin_{NAME}", sys.modules[__name__])
    return [NAME]


def _profiles() -> list[str]:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--profile", nargs="+", default=os.environ.get("SNAKEMAKE_PROFILE", "").split())
    return parser.parse_known_args()[0].profile


def _names_a_logger(profile: str) -> bool:
    file = profile_file(profile)
    try:
        content = load(file)[0] if file else None
    except GluegridError:  # Snakemake reports what is wrong with it
        return False
    return isinstance(content, dict) and KEY in content


class Shown(Protocol):
    """What reports the jobs of a call."""

    def job_started(self, job_id: int) -> None:
        """Note that a job begins, or is submitted."""

    def job_finished(self, job_id: int) -> None:
        """Report that a job is done."""

    def job_failed(self, job_id: int, message: str) -> None:
        """Report that a job has failed; `message` is what its executor says."""

    def end(self, outcomes: Sequence) -> None:
        """Report the cells that were not reported yet, and stop drawing."""

    def close(self) -> None:
        """Stop drawing."""


class LogHandler(LogHandlerBase):
    """The handler of one call. Snakemake calls `emit` in a thread of its own."""

    def __post_init__(self) -> None:
        settings = self.common_settings
        asked_for = (settings.verbose, settings.debug_dag, settings.printshellcmds, settings.quiet, settings.dryrun)
        self.is_in_use = not any(asked_for)
        self.block = LiveBlock(sys.stderr) if is_terminal(sys.stderr) else None
        self._shown: Shown | None = None
        self._is_plain = False
        self._keeps_prose = True
        self._waiting: list[logging.LogRecord] = []
        self._error_of_job: logging.LogRecord | None = None
        self._timer: threading.Thread | None = None
        formatter = DefaultFormatter(settings.quiet, settings.show_failed_logs)
        self._plain = ColorizingTextHandler(settings.nocolor, _Printed(), formatter)
        global _in_use
        _in_use = self if self.is_in_use else None
        atexit.register(self.close)  # Snakemake 9.19 closes no plugin

    def show(self, shown: Shown) -> None:
        """Let `shown` report the jobs from now on."""
        self.forget()
        self._shown = shown

    def end(self, outcomes: Sequence) -> None:
        """Let what reports jobs report the rest of the cells, and stop drawing."""
        if self._shown:
            self._shown.end(outcomes)

    def forget(self) -> None:
        """Drop the waiting records, which are prose about the plan, and those that follow in Snakemake's queue."""
        with self.lock:
            self._waiting.clear()
            self._keeps_prose = False

    def emit(self, record: logging.LogRecord) -> None:
        """Show a record, or leave it to the log file."""
        event = getattr(record, "event", None)
        if not self.is_in_use or event == LogEvent.SHELLCMD:
            return
        if self._is_plain or (record.levelno >= logging.WARNING and not (self._shown and event in REPLACED)):
            self._tell_plainly(record)
        elif self._shown:
            self._tell_of_jobs(record, event)
        elif event == LogEvent.JOB_INFO:  # jobs run and nothing reports them: the call has --no-hooks
            self._is_plain = True
            for waiting in (*self._waiting, record):
                self._plain.handle(waiting)
            self._waiting.clear()
        elif self._keeps_prose:
            self._waiting.append(record)
            if event == LogEvent.WORKFLOW_STARTED and self.block:
                self.block.open()
                self.block.draw(["Planning ..."])

    def _tell_plainly(self, record: logging.LogRecord) -> None:
        """Show a warning or error as Snakemake does; hold that of a failing job, since the job may report it next."""
        event = getattr(record, "event", None)
        if event == LogEvent.ERROR and self._shown and record.exception == OF_JOBS:
            self._tell_of_waiting_error()
            self._error_of_job = record
            self._timer = threading.Thread(target=self._tell_of_late_error, args=[record], daemon=True)
            self._timer.start()
            return
        if record.levelno >= logging.ERROR and not self._is_plain:
            self._waiting.clear()
        self._tell_of_waiting_error()
        self._plain.handle(record)

    def _tell_of_jobs(self, record: logging.LogRecord, event: LogEvent | None) -> None:
        waits = self._error_of_job
        if event in REPLACED and waits is not None and waits.thread == record.thread:
            self._error_of_job = None  # the job's line reports it, and its log has it
        self._tell_of_waiting_error()
        if event == LogEvent.JOB_INFO:
            self._shown.job_started(record.jobid)
        elif event == LogEvent.JOB_FINISHED:
            self._shown.job_finished(record.job_id)
        elif event == LogEvent.JOB_ERROR:
            self._shown.job_failed(record.jobid, record.rule_msg or "")

    def _tell_of_waiting_error(self) -> None:
        if self._error_of_job is not None:
            self._plain.handle(self._error_of_job)
            self._error_of_job = None

    def _tell_of_late_error(self, record: logging.LogRecord) -> None:
        """Show an error that belongs to no job."""
        time.sleep(SECONDS_TO_TELL)
        with self.lock:
            if self._error_of_job is record:
                self._tell_of_waiting_error()

    def close(self) -> None:
        """Show what is still waiting: for a call that runs no jobs, everything."""
        if self._shown:
            self._shown.close()
        if self.block:
            self.block.close()
        self._tell_of_waiting_error()
        for record in self._waiting:
            self._plain.handle(record)
        self._waiting.clear()
        super().close()

    @property
    def writes_to_stream(self) -> bool:
        """Whether Snakemake's own handler is not needed."""
        return self.is_in_use

    writes_to_file = has_filter = has_formatter = needs_rulegraph = property(lambda self: False)


class _Printed:
    """Standard error as it is at the time of writing, perhaps with a block at its end."""

    def __getattr__(self, name: str) -> object:
        return getattr(sys.stderr, name)


def handler_in_use() -> LogHandler | None:
    """Return the handler of this call; None if Snakemake's own is used."""
    return _in_use


def refusal(message: str) -> SystemExit:
    """Return what ends this call while it is planned, with the message alone, without prose about the plan."""
    if _in_use:
        _in_use.forget()
    return SystemExit(message)  # for anything else, Snakemake would show a traceback of the workflow


def log_files(workflow) -> Sequence[str]:
    """Return the paths of Snakemake's log files for this call, relative to the working folder if they are below it."""
    paths = [Path(path) for path in workflow.logger_manager.get_logfile()]
    here = Path.cwd()
    return [str(path.relative_to(here) if path.is_relative_to(here) else path) for path in paths]
