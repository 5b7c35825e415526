"""The controller as a SLURM job: a call of snakemake that `make submit` submits (workflow/submit.py).

Every start of the job, the first and those after a requeue, carries out the plan that was frozen at submission. The
cells are separate jobs and outlast it: if it ends for any reason, they stay in the queue, and its next start finds
them. Only `make cancel` cancels them, too.
"""

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gluegrid.common.errors import TransientError
from gluegrid.common.files import json_if_there, write_json
from gluegrid.common.provenance import now
from gluegrid.execution.invocation import SUBMITTED
from gluegrid.execution.sbatch import HOPELESS
from gluegrid.execution.slurm_queue import SubmittedJob, answer_of, cancel, complaint, in_queue
from gluegrid.execution.submissions import jobs_of_experiment

FOLDER, LOG = "controller", "logs/controller.log"  # in an experiment's folder
COMMENT = "gluegrid controller"
ENVIRONMENT = "GLUEGRID_ENVIRONMENT"  # the whole environment of the process that submitted the job
MOST_STARTS = 3  # of snakemake in one start of the job, if something kills it
SECONDS_TO_SUBMIT = 20  # for submissions that are under way when the controller leaves
SECONDS_BETWEEN_TRIES = 5
ELSEWHERE = "call snakemake on the login node instead (see The controller in docs/cluster.md)"


@dataclass(frozen=True)
class Controller:
    """A controller as its files describe it: its job, the file of its plan, its log, and the note about its end."""

    job: SubmittedJob
    plan: str
    log: Path
    end: dict

    @property
    def may_be_in_queue(self) -> bool:
        """Whether it may still be in SLURM's queue."""
        return "exit_code" not in self.end


def controller_of(experiment: Path) -> Controller | None:
    """Return the last controller that was submitted for the experiment in this folder; None if there was none."""
    noted = json_if_there(experiment / FOLDER / "job.json")
    if not {"slurm_job_id", "name", "plan"} <= noted.keys():
        return None
    job = SubmittedJob(noted["slurm_job_id"], COMMENT, noted["name"])
    return Controller(job, noted["plan"], experiment / LOG, json_if_there(experiment / FOLDER / "end.json"))


def note_submission(experiment: Path, number: str, name: str, plan: Path) -> None:
    """Note the job of a controller."""
    job = {"slurm_job_id": number, "name": name, "plan": str(plan), "submitted": now()}
    write_json(experiment / FOLDER / "job.json", job)


def forget_end(experiment: Path) -> None:
    """Delete the note about the end of an earlier controller, since a new one starts."""
    (experiment / FOLDER / "end.json").unlink(missing_ok=True)


def cancel_cells(experiment: Path) -> list[str]:
    """Cancel all queued jobs for cells of the experiment in this folder; return their numbers.

    Raises TransientError if SLURM does not answer.
    """
    jobs = in_queue(jobs_of_experiment(experiment))
    if jobs:
        cancel(jobs)
    return jobs


def environment_to_take_along() -> dict[str, str]:
    """Return the variable that passes the submitting process's environment to the controller's job.

    The job has its own environment, in which sites set TMPDIR (deleted with the job), threads and GPUs. The cells' jobs
    must not inherit these.
    """
    text = json.dumps(dict(os.environ)).encode()
    return {ENVIRONMENT: base64.b64encode(zlib.compress(text)).decode()}


def _take_over_environment() -> None:
    """Replace the job's environment by that of the process that submitted it."""
    if ENVIRONMENT in os.environ:
        environment = json.loads(zlib.decompress(base64.b64decode(os.environ[ENVIRONMENT])))
        os.environ.clear()
        os.environ.update(environment)


def run(plan: Path, snakemake: list[str], options: list[str]) -> int:
    """Carry out a plan in this job by calling snakemake with this command line; return the job's exit code.

    `options` are those with which sbatch accepted the job.
    """
    process = _Snakemake(snakemake)
    job, node = os.environ["SLURM_JOB_ID"], os.environ.get("SLURMD_NODENAME", "")
    restarts = os.environ.get("SLURM_RESTART_COUNT", "0")
    _take_over_environment()
    os.environ[SUBMITTED] = str(plan)
    experiment = plan.parents[1]
    forget_end(experiment)
    _tell(f"SLURM job {job} on {node}" + (f", after {restarts} requeues" if restarts != "0" else ""))
    if refused := why_nothing_is_submitted(options):
        _note_end(experiment, job, 1, refused)
        return 1
    code = _run_until_it_ends_by_itself(process)
    if process.told is signal.SIGTERM:
        return 128 + signal.SIGTERM  # SLURM requeues or cancels the job, and records why
    if process.told is signal.SIGUSR1:
        process.wait_for_submissions()
        _requeue(experiment, job)
    for number in (signal.SIGUSR1, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # Python gives up its handlers before it has exited
    reason = _end_cells(experiment) if process.told is signal.SIGINT else ""
    _note_end(experiment, job, code, reason or (f"snakemake was killed {MOST_STARTS} times" if code > 128 else ""))
    return code


def why_nothing_is_submitted(options: list[str]) -> str | None:
    """Return, in one line, why this node cannot submit jobs as the login node did; None if it can."""
    if not shutil.which("sbatch"):
        return f"this node has no sbatch program; {ELSEWHERE}"
    command = ["sbatch", "--test-only", *options, "--wrap=true"]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    said = complaint(done) if done.returncode else ""
    # A temporary refusal does not matter: cells are submitted with retries.
    return f"this node may not submit jobs ({said}); {ELSEWHERE}" if HOPELESS.search(said) else None


class _Snakemake:
    """The snakemake process in this job, and the signal that told this job to end, if any.

    SLURM sends SIGUSR1 before the time limit and SIGTERM when the job ends for any reason; `make cancel` sends SIGINT.
    """

    def __init__(self, command: list[str]):
        self.told: signal.Signals | None = None
        self._command = command
        self._process: subprocess.Popen | None = None
        for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._leave)

    def run(self) -> int:
        """Start it, and return its exit code, or the negative number of the signal that killed it."""
        self._process = subprocess.Popen(self._command, process_group=0)
        if self.told is not None:
            self._process.send_signal(self._passed_on())
        return self._process.wait()

    def wait_for_submissions(self) -> None:
        """Wait until submissions that were under way when it was killed are noted or revoked."""
        deadline = time.monotonic() + SECONDS_TO_SUBMIT
        with suppress(ProcessLookupError):
            while time.monotonic() < deadline:
                os.killpg(self._process.pid, 0)
                time.sleep(0.2)

    def _leave(self, number: int, frame: object) -> None:
        if self.told is signal.SIGINT and number != signal.SIGTERM:
            return  # it is already ending, together with its cells
        self.told = signal.Signals(number)
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(self._passed_on())

    def _passed_on(self) -> signal.Signals:
        """Return the signal that ends snakemake together with its cells' jobs, or so that these keep running."""
        return signal.SIGINT if self.told is signal.SIGINT else signal.SIGKILL


def _run_until_it_ends_by_itself(process: _Snakemake) -> int:
    """Run snakemake, and restart it if something kills it, such as the kernel out of memory; return the exit code."""
    code = 0
    for start in range(MOST_STARTS):
        code = process.run()
        if code >= 0 or process.told is not None:
            break
        again = "; starting it again" if start + 1 < MOST_STARTS else ""
        _tell(f"snakemake was killed by {signal.Signals(-code).name}{again}")
    return code if code >= 0 else 128 - code


def _requeue(experiment: Path, job: str) -> None:
    """Requeue this job, and wait for SLURM to end it."""
    # From here on, SIGTERM ends the process.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _tell("the time limit is near: requeueing this job; the cells' jobs keep running")
    while True:
        try:
            answer_of("scontrol", "requeue", job)
            break
        except TransientError as error:
            _note(experiment, job, {"reason": f"not requeued before its time limit: {error}"})
            time.sleep(SECONDS_BETWEEN_TRIES)
    while True:
        signal.pause()


def _end_cells(experiment: Path) -> str:
    """Cancel the jobs that snakemake has left in the queue; return why the controller has ended."""
    try:
        cancel_cells(experiment)
    except TransientError as error:
        return f"cancelled by make cancel, except for jobs of its cells, since SLURM does not answer: {error}"
    return "cancelled by make cancel"


def _note_end(experiment: Path, job: str, code: int, reason: str) -> None:
    _tell(f"ends with exit code {code}" + (f": {reason}" if reason else ""))
    _note(experiment, job, {"exit_code": code, "reason": reason})


def _note(experiment: Path, job: str, end: dict) -> None:
    write_json(experiment / FOLDER / "end.json", {"slurm_job_id": job, "ended": now(), **end})


def _tell(line: str) -> None:
    print(f"[{now()}] controller: {line}", file=sys.stderr, flush=True)
