"""Snakemake plans tens of thousands of jobs in half the time (seen in version 9.27.1, by benchmarks/scale.py).

Nothing of a plan is another: what is made quicker is looked up or computed again for each job, with the same answer.
Each change looks first whether Snakemake still has the shape that it was written for, and else leaves it alone.
"""

import datetime
import gc
import inspect
import os
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import FunctionType, MethodType

from snakemake.persistence import FileBackupMixin

from gluegrid.execution.cell_state import has_published, is_being_trained


def plan_quickly() -> None:
    """Apply every change below, from here on."""
    rest_garbage_collector()
    remember_parameters_of_functions()
    look_up_outputs_by_name()
    format_commands_once()
    read_flags_quickly()


def rest_garbage_collector() -> None:
    """Let the garbage collector not look through the growing plan, over and over; there is next to no garbage in it."""
    gc.disable()


def wake_garbage_collector() -> None:
    """Let it work again on what is made from here on, in a head that lives for days."""
    gc.freeze()
    gc.enable()


def remember_parameters_of_functions() -> None:
    """Let the parameters of a rule's functions be looked up once, not several times for each job."""
    original = getattr(sys.modules.get("snakemake.common"), "get_function_params", None)
    if not inspect.isfunction(original) or tuple(inspect.signature(original).parameters) != ("func",):
        return
    remembered: dict[tuple[type, FunctionType], Mapping] = {}

    def get_function_params(func: Callable) -> Mapping[str, inspect.Parameter]:
        plain = getattr(func, "__func__", func)
        # Others may be made for one call only.
        if type(func) not in (FunctionType, MethodType) or type(plain) is not FunctionType:
            return original(func)
        key = (type(func), plain)
        if key not in remembered:
            remembered[key] = original(func)
        return remembered[key]

    _replace_everywhere("get_function_params", original, get_function_params)


def look_up_outputs_by_name() -> None:
    """Let the rule of an output without wildcards be found by its name, not among thousands of like beginnings."""
    original = getattr(sys.modules.get("snakemake.output_index"), "OutputIndex", None)
    if original is None or not {"match", "match_producers"} <= vars(original).keys():
        return
    _replace_everywhere("OutputIndex", original, OutputsByName)


def format_commands_once() -> None:
    """Let the shell command of a job that is shown be formatted once, not three times."""
    job_class = getattr(sys.modules.get("snakemake.jobs"), "Job", None)
    show, command = (getattr(job_class, name, None) for name in ("log_info", "shellcmd"))
    if not inspect.isfunction(show) or not isinstance(command, property):
        return
    shown: dict[int, str | None] = {}  # the job that is just being shown, and its command

    def log_info(job, *arguments, **options):
        shown.clear()
        shown[id(job)] = command.fget(job)
        try:
            show(job, *arguments, **options)
        finally:
            shown.clear()

    def shellcmd(job) -> str | None:
        return shown[id(job)] if id(job) in shown else command.fget(job)

    job_class.log_info = log_info
    job_class.shellcmd = property(shellcmd, doc=command.__doc__)


def read_flags_quickly() -> None:
    """Let a file's flags (temp, ancient, ...) be read without asking, millions of times, whether it can have any."""
    io = sys.modules.get("snakemake.io")
    original = getattr(io, "is_flagged", None)
    annotated = getattr(io, "AnnotatedStringInterface", None)
    if annotated is None or not inspect.isfunction(original) or "is_flagged" not in vars(annotated):
        return
    can_have_flags: dict[type, bool] = {}

    def is_flagged(value: object, flag: str) -> bool:
        kind = type(value)
        if kind not in can_have_flags:
            # A kind with an answer of its own is asked.
            can_have_flags[kind] = issubclass(kind, annotated) and kind.is_flagged is annotated.is_flagged
        if not can_have_flags[kind]:
            return original(value, flag)
        flags = value.flags
        return flag in flags and bool(flags[flag])

    _replace_everywhere("is_flagged", original, is_flagged)


class OutputsByName:
    """Which rules may make, and which do make, a file: Snakemake's OutputIndex."""

    def __init__(self, rules: list):
        self._by_name = defaultdict(set)
        self._by_beginning = defaultdict(list)
        for rule in rules:
            for product in rule.products():
                if product.contains_wildcard():
                    end = str(product.constant_suffix())
                    self._by_beginning[str(product.constant_prefix())].append((rule, end))
                else:
                    self._by_name[str(product)].add(rule)
        self._lengths = sorted({len(beginning) for beginning in self._by_beginning})

    def match(self, targetfile: str) -> set:
        """Return the rules that may make a file, as far as their outputs' beginnings and ends tell."""
        name = str(targetfile)  # not a file of Snakemake's, which has a hash of its own
        return self._by_name.get(name, set()) | self._with_wildcards(name)

    def match_producers(self, targetfile: str) -> set:
        """Return the rules that make a file."""
        name = str(targetfile)
        producers = {rule for rule in self._with_wildcards(name) if rule.is_producer(name)}
        return self._by_name.get(name, set()) | producers

    def _with_wildcards(self, name: str) -> set:
        return {
            rule
            for length in self._lengths
            for rule, end in self._by_beginning.get(name[:length], ())
            if name.endswith(end)
        }


def _replace_everywhere(name: str, old: object, new: object) -> None:
    """Let all of Snakemake's modules, which import by name, have another object under a name."""
    for module_name, module in list(sys.modules.items()):
        if module_name.partition(".")[0] == "snakemake" and getattr(module, name, None) is old:
            setattr(module, name, new)


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
