"""The controller: a call of snakemake as a SLURM job of its own, submitted by `make submit` (workflow/submit.py).

Every start of the job, the first and those after a requeue, carries out the plan that was frozen when it was submitted.
The cells are jobs of their own, and outlast it: whatever ends it leaves them in the queue, where its next start finds
them. Only `make cancel` ends them with it.
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

FOLDER, LOG = "controller", "logs/controller.log"  # of an experiment
COMMENT = "gluegrid controller"
ENVIRONMENT = "GLUEGRID_ENVIRONMENT"  # what the whole environment was where it was submitted
MOST_STARTS = 3  # of snakemake in one start of the job, where something kills it
SECONDS_TO_SUBMIT = 20  # that jobs may take which are just being submitted, before the controller leaves
SECONDS_BETWEEN_TRIES = 5
ELSEWHERE = "call snakemake on the login node instead (docs/cluster.md, The controller)"


@dataclass(frozen=True)
class Controller:
    """A controller as its files name it: its job, its plan's file, its log, and what it has noted of its end."""

    job: SubmittedJob
    plan: str
    log: Path
    end: dict

    @property
    def may_be_in_queue(self) -> bool:
        """Whether SLURM is to be asked for it."""
        return "exit_code" not in self.end


def controller_of(experiment: Path) -> Controller | None:
    """Return the last controller that was submitted for the experiment in this folder; None where there was none."""
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
    """Forget how a controller has ended, since one begins."""
    (experiment / FOLDER / "end.json").unlink(missing_ok=True)


def cancel_cells(experiment: Path) -> list[str]:
    """Cancel every job that is in the queue for a cell of the experiment in this folder; return their numbers.

    Raises TransientError where SLURM does not answer.
    """
    jobs = in_queue(jobs_of_experiment(experiment))
    if jobs:
        cancel(jobs)
    return jobs


def environment_to_take_along() -> dict[str, str]:
    """Return the variable that tells a controller's job the environment of the process that submits it.

    A job has one of its own, in which a site puts TMPDIR, whose folder ends with the job, threads, and cards. The cells
    are other jobs, and would inherit it.
    """
    text = json.dumps(dict(os.environ)).encode()
    return {ENVIRONMENT: base64.b64encode(zlib.compress(text)).decode()}


def _take_over_environment() -> None:
    """Put the environment of the process that has submitted this job in the place of the job's."""
    if ENVIRONMENT in os.environ:
        environment = json.loads(zlib.decompress(base64.b64decode(os.environ[ENVIRONMENT])))
        os.environ.clear()
        os.environ.update(environment)


def run(plan: Path, snakemake: list[str], options: list[str]) -> int:
    """Let snakemake, called by this command line, carry out a plan in this job; return the job's exit code.

    `options` are those with which sbatch took the job.
    """
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
    process = _Snakemake(snakemake)
    code = _run_until_it_ends_by_itself(process)
    if process.told is signal.SIGTERM:
        return 128 + signal.SIGTERM  # to be requeued by SLURM, or cancelled; what is to be said of it, SLURM knows
    if process.told is signal.SIGUSR1:
        process.wait_for_submissions()
        _requeue(experiment, job)
    reason = _end_cells(experiment) if process.told is signal.SIGINT else ""
    _note_end(experiment, job, code, reason or (f"snakemake was killed {MOST_STARTS} times" if code > 128 else ""))
    return code


def why_nothing_is_submitted(options: list[str]) -> str | None:
    """Return, in one line, why this node submits no job as the login node has submitted this one; None where it may."""
    if not shutil.which("sbatch"):
        return f"this node has no program sbatch; {ELSEWHERE}"
    command = ["sbatch", "--test-only", *options, "--wrap=true"]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    said = complaint(done) if done.returncode else ""
    # What SLURM refuses for a while, it is asked for with patience when cells are submitted.
    return f"this node may not submit jobs ({said}); {ELSEWHERE}" if HOPELESS.search(said) else None


class _Snakemake:
    """The process of snakemake in this job, and by which signal this job was told to end, if it was.

    SIGUSR1 comes from SLURM before the time limit, SIGTERM when the job ends for any reason; SIGINT from `make cancel`.
    """

    def __init__(self, command: list[str]):
        self.told: signal.Signals | None = None
        self._command = command
        self._process: subprocess.Popen | None = None
        for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._leave)

    def run(self) -> int:
        """Start it, and return its exit code; negative, the signal that has killed it."""
        self._process = subprocess.Popen(self._command, process_group=0)
        if self.told is not None:
            self._process.send_signal(self._passed_on())
        return self._process.wait()

    def wait_for_submissions(self) -> None:
        """Wait until the jobs are noted, or taken back, that it was just submitting when it was killed."""
        deadline = time.monotonic() + SECONDS_TO_SUBMIT
        with suppress(ProcessLookupError):
            while time.monotonic() < deadline:
                os.killpg(self._process.pid, 0)
                time.sleep(0.2)

    def _leave(self, number: int, frame: object) -> None:
        if self.told is signal.SIGINT and number != signal.SIGTERM:
            return  # it is ending, with its cells
        self.told = signal.Signals(number)
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(self._passed_on())

    def _passed_on(self) -> signal.Signals:
        """Return what ends it: with its cells' jobs, or so that these run on."""
        return signal.SIGINT if self.told is signal.SIGINT else signal.SIGKILL


def _run_until_it_ends_by_itself(process: _Snakemake) -> int:
    """Run snakemake, again where something kills it, such as the kernel for want of memory; return an exit code."""
    code = 0
    for start in range(MOST_STARTS):
        code = process.run()
        if code >= 0 or process.told is not None:
            break
        again = "; it is started again" if start + 1 < MOST_STARTS else ""
        _tell(f"snakemake was killed by {signal.Signals(-code).name}{again}")
    return code if code >= 0 else 128 - code


def _requeue(experiment: Path, job: str) -> None:
    """Let SLURM put this job back into its queue, and wait for the end."""
    # Ends the process from here on.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _tell("its time is nearly over: the job goes back into SLURM's queue, and the cells' jobs run on")
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
    """Cancel what snakemake has left in the queue that was just beginning; return why the controller has ended."""
    try:
        cancel_cells(experiment)
    except TransientError as error:
        return f"cancelled by make cancel, but for jobs of its cells, since SLURM does not answer: {error}"
    return "cancelled by make cancel"


def _note_end(experiment: Path, job: str, code: int, reason: str) -> None:
    _tell(f"ends with exit code {code}" + (f": {reason}" if reason else ""))
    _note(experiment, job, {"exit_code": code, "reason": reason})


def _note(experiment: Path, job: str, end: dict) -> None:
    write_json(experiment / FOLDER / "end.json", {"slurm_job_id": job, "ended": now(), **end})


def _tell(line: str) -> None:
    print(f"[{now()}] controller: {line}", file=sys.stderr, flush=True)
