"""All that changes Snakemake from outside, each with its reason; what changes its SLURM plugin is in slurm_patches.py.

Written for Snakemake 9.19.0 to 9.27.1. A function is replaced by one that gets the original first and has, after it,
the original's parameters: where these are others, Snakemake is another than the one that was read, the original stays,
and `patch` says so. tests/test_versions.py fails then. Snakemake's modules import one another: what is not imported at
the top can only be imported when Snakemake itself is.
"""

import datetime
import functools
import gc
import inspect
import os
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from types import FunctionType, MethodType

from snakemake.executors.local import Executor as LocalExecutor
from snakemake.persistence import FileBackupMixin, PersistenceBase
from snakemake.spawn_jobs import SpawnedJobArgsFactory
from snakemake_interface_executor_plugins.executors.real import RealExecutor
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor

from gluegrid.execution.cell_state import has_published, is_being_trained
from gluegrid.workflow.interruption import tell_jobs_and_cancel

TRAIN = "train"


def patch(without: str, *replacements: tuple[object, str, Callable]) -> None:
    """Replace attributes, each given as (owner, name, replacement), or none where one has not its replacement's shape.

    `without` says what a user then has to live with.
    """
    misfits = [f"{_name(owner)}.{name}" for owner, name, new in replacements if not _fits(owner, name, new)]
    if misfits:
        other = f"{' and '.join(misfits)}: not as in the versions that gluegrid was tried with"
        print(f"warning: {other} (pyproject.toml): {without}", file=sys.stderr)
        return
    for owner, name, new in replacements:
        original = getattr(owner, name)
        if isinstance(original, property):
            setattr(owner, name, property(original.fget, _around(original.fset, new)))
        else:
            setattr(owner, name, _around(original, new))


def _fits(owner: object, name: str, new: Callable) -> bool:
    """Tell whether there is a function of the parameters of its replacement; `**` stands for any others."""
    original = getattr(owner, name, None)
    original = original.fset if isinstance(original, property) else original
    if not callable(original):
        return False
    _, *expected = inspect.signature(new).parameters.values()
    present = inspect.signature(original).parameters
    named = [parameter.name for parameter in expected if parameter.kind != parameter.VAR_KEYWORD]
    return set(named) <= set(present) if len(named) < len(expected) else named == [*present]


def _around(original: Callable, new: Callable) -> Callable:
    @functools.wraps(original)
    def replaced(*arguments, **options):
        return new(original, *arguments, **options)

    return replaced


def _name(owner: object) -> str:
    return getattr(owner, "__name__", type(owner).__name__)


def begin_with_the_longest() -> None:
    """Let the jobs that Snakemake has chosen begin in the order of their priorities, by which it only chooses them.

    Not needed any more when JobScheduler.run sorts them itself (snakemake issue 615 asks for a defined order).
    """
    from snakemake.scheduling.job_scheduler import JobScheduler

    def run(original, self, jobs, executor=None):
        original(self, sorted(jobs, key=lambda job: job.priority, reverse=True), executor)

    patch("cells begin in any order, not the longest first", (JobScheduler, "run", run))


def rerun_by_content(rules: Iterable[str], files: Iterable[str], had_result: Callable[..., bool]) -> None:
    """Let rules run, and what makes files, where something needs it, though it is there: it is outdated.

    And let no cell be trained because Snakemake remembers other inputs of it, where it `had_result` by its wildcards.

    Times do not tell: that of a result may lie in the future, where a clock was wrong. Nor do paths: where tokens lie
    is no part of a run, and earlier releases had them elsewhere. Snakemake has no way to say so inside a workflow: it
    takes what is named by --forcerun for a target too, and has its rerun triggers for all rules or for none.
    """
    from snakemake.dag import DAG

    async def init(original, self, progress=False):
        self.forcerules.update(map(self.workflow.get_rule, rules))
        self.forcefiles.update(files)
        await original(self, progress)

    def input_changed(original, self, job, file=None):
        is_kept = job.rule.name == TRAIN and had_result(*job.wildcards)
        return False if is_kept else original(self, job, file)

    patch("cells of another run.json may keep their old result", (DAG, "init", init))
    patch("cells whose tokens lie elsewhere are trained again", (PersistenceBase, "_input_changed", input_changed))


def before_execution(workflow, prepare: Callable[[str], None]) -> None:
    """Call `prepare` with the name of the executor when it is known: after the plan, and before anything runs.

    `onstart` comes too late: resources count from the beginning of `execute`.
    """

    def execute(original, *, executor_plugin, **settings):
        prepare(executor_plugin.name)
        return original(executor_plugin=executor_plugin, **settings)

    patch("nothing limits how many cells run at once on this machine", (workflow, "execute", execute))


def let_jobs_run(snakefile: Path) -> None:
    """Let the jobs of this head run another Snakefile, a copy, and read no config: the user edits both meanwhile.

    Snakemake would read the file of --configfile in each job, before any code of ours that could do without.
    """
    patch("jobs run the code as it is when they start", (RealExecutor, "get_snakefile", lambda _, self: str(snakefile)))
    patch(
        "an edit of the experiment file may end queued jobs",
        (SpawnedJobArgsFactory, "get_configfiles_arg", lambda _, self: ""),
    )


def tell_jobs_of_interruption() -> None:
    """Let an executor that is cancelled tell its jobs on this machine, for which Snakemake only waits.

    Or it kills them (snakemake issue 448 asks for a signal that they can act on).
    """
    for executor in (LocalExecutor, RemoteExecutor):
        patch("cells on this machine may not save their work on Ctrl-C", (executor, "cancel", tell_jobs_and_cancel))


def keep_files_of_jobs() -> None:
    """Let no job delete what another call of snakemake has made, or is making, and no clock cost a result."""
    from snakemake.dag import DAG
    from snakemake.jobs import Job

    patch("two calls at once may delete each other's results", (Job, "remove_existing_output", remove_existing_output))
    patch("a job that fails deletes what another call has made", (Job, "cleanup", cleanup))
    patch("a wrong clock may cost results", (DAG, "check_output_mtime", warn_of_clock_once()))
    patch(
        "a manifest that a failed job restores seems new",
        (FileBackupMixin, "backup_output", backup_output),
        (FileBackupMixin, "restore_output", restore_output),
        (FileBackupMixin, "cleanup_backup", cleanup_backup),
    )


async def remove_existing_output(original, self) -> None:
    """Let a cell's training not delete what another call's is writing, or has published since this call has planned it.

    A log is emptied instead of deleted: two trainings that begin at once then write into the same file, each behind
    what is there, and not one of them into a file without a name. Snakemake knows one call at a time, by its lock.
    """
    if self.rule.name != TRAIN:
        await original(self)
        return
    inputs = (self.input.run, self.input.model, self.input.task, self.input.tokens)
    is_published = has_published(*map(Path, (*inputs, *self.output)))
    if not is_published:
        for output in self.output:
            Path(output).unlink(missing_ok=True)
    if not is_published and not is_being_trained(Path(self.input.run)):
        for log in filter(os.path.exists, self.log):
            os.truncate(log, 0)


async def cleanup(original, self, skip_outputs) -> None:
    """Let a job that fails delete no output which it would have taken the place of: what is there is whole.

    It may be another call's, which has succeeded where this one has not.
    """
    whole = {output for output in self.output if self.rule.name == TRAIN or output.flags.get("update")}
    await original(self, {*skip_outputs, *whole})


def warn_of_clock_once() -> Callable:
    """Return what lets a job that has just ended keep its outputs, though an input's time is later: a clock is wrong.

    Snakemake would delete them, and every call train the cell to its end again (snakemake issue 3261 asks for a warning
    instead). Whether a result is of the run that is wanted is told by its record, and not by times.
    """
    told = set()

    async def check_output_mtime(original, self, job, expanded_output) -> None:
        ahead = _input_ahead_of(job.input, expanded_output)
        if ahead and self not in told and self.workflow.is_main_process:
            told.add(self)
            moment = datetime.datetime.fromtimestamp(Path(ahead).stat().st_mtime).isoformat(" ", "seconds")
            print(
                f"warning: {ahead}: its time ({moment}) is later than that of what has just been made from it;"
                " the clock of this machine or of the file server is wrong (nothing is lost by it)",
                file=sys.stderr,
            )

    return check_output_mtime


def _input_ahead_of(inputs: Iterable[str], outputs: Iterable[str]) -> str | None:
    """Return an input that is newer than one of the outputs; None where there is none."""
    written, made = (
        [(path.stat().st_mtime, str(path)) for path in map(Path, files) if path.exists()] for files in (inputs, outputs)
    )
    return max(written)[1] if written and made and max(written)[0] > min(made)[0] else None


def backup_output(original, self, path: Path) -> None:
    """Let a file that Snakemake restores, when the job that updates it has failed, have its old time.

    With a new one it would seem to be made from what it is older than, and the job would not run again. What another
    call has written meanwhile stays; and that call's backup, which has the same name, may come and go. Snakemake would
    have to copy with shutil.copy2.
    """
    original(self, path)
    with suppress(FileNotFoundError):
        _copy_times(path, self._get_backup_path(path))


def restore_output(original, self, path: Path) -> bool:
    """Restore a file with its old time, unless another call has written it: see `backup_output`."""
    kept = self._get_backup_path(path)
    times = kept.stat() if kept.exists() else None
    if times is not None and path.exists() and path.stat().st_mtime_ns != times.st_mtime_ns:
        self.cleanup_backup(path)
        return True
    restored = original(self, path)
    if times is not None:
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    return restored


def cleanup_backup(original, self, path: Path) -> None:
    """Delete a backup that another call may just have deleted: see `backup_output`."""
    with suppress(FileNotFoundError):
        original(self, path)


def _copy_times(source: Path, target: Path) -> None:
    times = source.stat()
    os.utime(target, ns=(times.st_atime_ns, times.st_mtime_ns))


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
