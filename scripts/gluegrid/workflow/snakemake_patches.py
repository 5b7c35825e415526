"""Change Snakemake from outside, each change with its reason; slurm_patches.py changes its SLURM plugin.

Written for Snakemake 9.19.0 to 9.27.1. A replacement receives the original function first, and then the original's
parameters. If these differ, Snakemake is not one of the versions that were read: then the original stays, `patch`
prints a warning, and tests/test_versions.py fails. Snakemake's modules import one another, so what is not imported at
the top can be imported only together with Snakemake itself.
"""

import datetime
import functools
import inspect
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from snakemake.executors.local import Executor as LocalExecutor
from snakemake.executors.local import SpawnedJobError, SubmittedJobInfo
from snakemake.persistence import FileBackupMixin, PersistenceBase
from snakemake.shell import shell
from snakemake.spawn_jobs import SpawnedJobArgsFactory
from snakemake_interface_executor_plugins.executors.real import RealExecutor
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor

from gluegrid.execution.cell_state import make_room
from gluegrid.workflow.interruption import tell_jobs_and_cancel

TRAIN = "train"


def patch(without: str, *replacements: tuple[object, str, Callable]) -> None:
    """Replace attributes, each given as (owner, name, replacement), or none if one does not fit its replacement.

    `without` says what users must then live with.
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
    """Tell whether a function exists and has its replacement's parameters; `**` stands for any others."""
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
    """Start the jobs that Snakemake has chosen by priority in the order of their priorities, too.

    No longer needed once JobScheduler.run sorts them itself (snakemake issue 615 asks for a defined order).
    """
    from snakemake.scheduling.job_scheduler import JobScheduler

    def run(original, self, jobs, executor=None):
        original(self, sorted(jobs, key=lambda job: job.priority, reverse=True), executor)

    patch("cells begin in any order, not the longest first", (JobScheduler, "run", run))


def leave_experiment_file_unread() -> None:
    """Keep Snakemake from reading the file of --configfile: gluegrid reads it, and names lines in its errors.

    Snakemake reads it before the Snakefile, and ends with an error that names no line, or with a traceback. Nobody
    needs what it would find there. profiles/default calls this function, because nothing else of a project runs as
    early.
    """
    from snakemake.settings import types

    patch("of a broken experiment file Snakemake names no line", (types, "load_configfile", lambda _, configpath: {}))


def rerun_by_content(rules: Iterable[str], files: Iterable[str], had_result: Callable[..., bool]) -> None:
    """Run `rules`, and what makes `files`, if something needs their outputs: what exists is outdated.

    Also, do not train a cell that `had_result` (by its wildcards) because Snakemake remembers other inputs of it.

    Times do not tell: a result may be of the future, if a clock was wrong. Nor do paths: where tokens lie is no part of
    a run, and earlier releases had them elsewhere. Snakemake cannot be told so inside a workflow: it takes what
    --forcerun names for a target, too, and has its rerun triggers for all rules or for none.
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
    """Call `prepare` with the name of the executor once it is known: after the plan, and before anything runs.

    `onstart` comes too late: resources count from the beginning of `execute`.
    """

    def execute(original, *, executor_plugin, **settings):
        prepare(executor_plugin.name)
        return original(executor_plugin=executor_plugin, **settings)

    patch("nothing limits how many cells run at once on this machine", (workflow, "execute", execute))


def where_nothing_is_to_be_done(workflow, tell: Callable[[], None]) -> None:
    """Call `tell` after an execution that had nothing to do: Snakemake has a handler for every other end."""

    def execute(original, *, executor_plugin, **settings):
        original(executor_plugin=executor_plugin, **settings)
        if not (workflow.dryrun or len(workflow.dag)):
            tell()

    patch("a call with nothing to do prints no tables", (workflow, "execute", execute))


def let_jobs_run(snakefile: Path) -> None:
    """Make the jobs of this call run a copy of the Snakefile and read no config, since users may edit both meanwhile.

    In each job, Snakemake would read the file of --configfile before any code of ours could prevent it.
    """
    patch("jobs run the code as it is when they start", (RealExecutor, "get_snakefile", lambda _, self: str(snakefile)))
    patch(
        "an edit of the experiment file may end queued jobs",
        (SpawnedJobArgsFactory, "get_configfiles_arg", lambda _, self: ""),
    )


def tell_jobs_of_interruption() -> None:
    """Make a cancelled executor tell its jobs on this machine to exit.

    Snakemake only waits for them, or kills them (snakemake issue 448 asks for a signal that they can act on).
    """
    for executor in (LocalExecutor, RemoteExecutor):
        patch("cells on this machine may not save their work on Ctrl-C", (executor, "cancel", tell_jobs_and_cancel))


def run_in_packs(packs: Callable[[object], list]) -> None:
    """Run jobs in the packs that `packs` makes of a plan: groups, each with a command of its own.

    In Snakemake, a rule can name the group of its jobs, but not the group's command: it would start itself in the
    group's job.
    """
    from snakemake.dag import DAG

    packed = set()

    def update_groups(original, self):
        for job in packed:
            job.group = None
        original(self)
        made = {job: pack for pack in packs(self) for job in pack}
        for job, pack in made.items():
            job.group = pack.groupid
        self._group |= made
        packed.clear()
        packed.update(made)

    patch(
        "small cells are trained in jobs of their own",
        (DAG, "update_groups", update_groups),
        (RealExecutor, "format_job_exec", lambda original, self, job: _command_of(job) or original(self, job)),
        (LocalExecutor, "run_job", run_job),
    )
    from snakemake.scheduling.job_scheduler import JobScheduler

    patch("a cell that fails, or its data, keeps others from running", (JobScheduler, "_handle_error", handle_error))


def handle_error(original, self, job, postprocess_job=True) -> None:
    """Make a job that has failed for good stop only the jobs that need its outputs.

    To Snakemake, a group is ready when all its jobs are, which then never happens, and failed when one of them is.
    """
    original(self, job, postprocess_job)
    if job not in self.failed:
        return
    dag = self.workflow.dag
    for done in job.done() if hasattr(job, "command") else ():
        dag._running.add(done)  # as Snakemake expects of a job that has just finished
        self.workflow.async_run(dag.finish(done))
    hopeless = _all_depending(dag, job if job.is_group() else [job])
    for pack in {dag._group[each] for each in hopeless if hasattr(dag._group.get(each), "command")}:
        rest = pack.without(hopeless)
        for each in pack:
            each.group = None
            del dag._group[each]
        for each in rest or ():
            each.group = rest.groupid
            dag._group[each] = rest
        dag.update_ready(rest or ())


def _all_depending(dag, jobs: Iterable) -> set:
    """Return all jobs that depend on these jobs, directly or indirectly."""
    found, to_look_at = set(), [*jobs]
    while to_look_at:
        further = {*dag.depending[to_look_at.pop()]} - found
        found |= further
        to_look_at += further
    return found


def _command_of(job) -> str | None:
    """Write the file of a pack and return its command; return None for any other job."""
    return job.command() if hasattr(job, "command") else None


def run_job(original, self, job) -> None:
    """Make the executor of this machine run a pack as one process, which Ctrl-C finds like other jobs."""
    if not hasattr(job, "command"):
        original(self, job)
        return

    def run() -> None:
        process = subprocess.Popen(job.command(), shell=True, cwd=self.workflow.workdir_init)
        shell._processes[job.jobid] = process
        try:
            if process.wait() != 0:
                raise SpawnedJobError
        finally:
            del shell._processes[job.jobid]

    info = SubmittedJobInfo(job=job)
    self.pool.submit(run).add_done_callback(functools.partial(self._callback, info))
    self.report_job_submission(info)


def keep_files_of_jobs() -> None:
    """Keep jobs from deleting what another call has made or is making, and wrong clocks from costing results."""
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
    """Keep a training from deleting what another call's is writing, or has published since this call was planned.

    Snakemake's lock makes it expect only one call at a time.
    """
    if self.rule.name != TRAIN:
        await original(self)
        return
    inputs = (self.input.run, self.input.model, self.input.task, self.input.tokens)
    make_room(*map(Path, (*inputs, *self.output)), logs=map(Path, self.log))


async def cleanup(original, self, skip_outputs) -> None:
    """Keep a failed job from deleting an output that it would have replaced: what is there is complete.

    It may be that of another call, which has succeeded where this one has not.
    """
    whole = {output for output in self.output if self.rule.name == TRAIN or output.flags.get("update")}
    await original(self, {*skip_outputs, *whole})


def warn_of_clock_once() -> Callable:
    """Return a check that lets a job that just ended keep its outputs even if an input is newer: a clock is wrong.

    Snakemake would delete them, and every call would train the cell to its end again (snakemake issue 3261 asks for a
    warning instead). The record, not the times, tells whether a result is of the wanted run.
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
    """Return an input that is newer than one of the outputs; None if there is none."""
    written, made = (
        [(path.stat().st_mtime, str(path)) for path in map(Path, files) if path.exists()] for files in (inputs, outputs)
    )
    return max(written)[1] if written and made and max(written)[0] > min(made)[0] else None


def backup_output(original, self, path: Path) -> None:
    """Keep the old time of a file that Snakemake restores after the job that updates it has failed.

    With a new time, it would seem to be made from inputs that it is older than, and the job would not run again. What
    another call has written meanwhile stays; and that call's backup, which has the same name, may come and go. No
    longer needed once Snakemake copies with shutil.copy2.
    """
    original(self, path)
    with suppress(FileNotFoundError):
        _copy_times(path, self._get_backup_path(path))


def restore_output(original, self, path: Path) -> bool:
    """Restore a file with its old time, unless another call has written it: see `backup_output`.

    A file that did not exist before has no backup, of which Snakemake would warn.
    """
    kept = self._get_backup_path(path)
    if not kept.exists():
        return False
    times = kept.stat()
    if path.exists() and path.stat().st_mtime_ns != times.st_mtime_ns:
        self.cleanup_backup(path)
        return True
    restored = original(self, path)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    return restored


def cleanup_backup(original, self, path: Path) -> None:
    """Delete a backup that another call may just have deleted: see `backup_output`."""
    with suppress(FileNotFoundError):
        original(self, path)


def _copy_times(source: Path, target: Path) -> None:
    times = source.stat()
    os.utime(target, ns=(times.st_atime_ns, times.st_mtime_ns))
