"""The small job through which a node reports: submit it, wait for it with a time limit, and cancel it after that."""

import json
import os
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from gluegrid.common.errors import GluegridError, TransientError
from gluegrid.common.formatting import clock, duration
from gluegrid.execution.sbatch import ANSWER
from gluegrid.execution.slurm_queue import Job, answer_of, cancel_jobs, jobs_in_queue
from gluegrid.site import node_report
from gluegrid.site.job_request import Request
from gluegrid.site.slurm_site import SECONDS

NAME = "gluegrid-doctor"
MINUTES = 10  # the job's time limit; a first import of torch from a cold disk takes the longest
SECONDS_IN_QUEUE = 300
SECONDS_FOR_FILES = 90  # until a node's files are seen here; the profile's latency-wait is 60
SECONDS_BETWEEN_LOOKS = 1
SECONDS_BETWEEN_QUESTIONS = 10  # to squeue
MARKER, LOG = "of_the_login_node", "job.log"
SCRIPT = """#!/bin/bash
python={python}
folder={folder}
if [ ! -x "$python" ]; then
    printf '{{"node": "%s", "has_python": false}}' "$(hostname)" > "$folder/{report}.part"
    mv "$folder/{report}.part" "$folder/{report}"
    exit 0
fi
exec "$python" -E -P - {question} <<'END_OF_THE_REPORT'
{source}
END_OF_THE_REPORT
"""


class NodeError(GluegridError):
    """No node has reported; the message says what happened, and `advice` what to do.

    `is_late`: the job only waited too long in the queue, which is no fault of the site.
    """

    def __init__(self, what: str, advice: str, is_late: bool = False):
        super().__init__(what)
        self.advice = advice
        self.is_late = is_late


@dataclass(frozen=True)
class Answer:
    """A node's report. This machine's clock lags `behind` seconds behind the shared disk's; the report was seen here
    after `seconds`.
    """

    job: str
    report: dict
    behind: float
    seconds: float


def node_answer(request: Request, folders: list[Path], endpoint: str) -> Answer:
    """Submit the job, wait for it, and return the node's report. Raise NodeError if none arrives."""
    with _shared_folder() as shared, _markers(folders) as markers:
        behind = node_report.clock_behind(shared)
        job = _submitted(request, shared, markers, endpoint)
        try:
            _wait(job, shared)
            report, seconds = _read(job, shared, behind)
        except BaseException:
            with suppress(TransientError):
                cancel_jobs(job)
            raise
    return Answer(job, report, behind, seconds)


@contextmanager
def _shared_folder() -> Iterator[Path]:
    """Make a folder that nodes should see, and delete it afterwards."""
    Path(".snakemake").mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="doctor-", dir=".snakemake")).resolve()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _markers(folders: list[Path]) -> Iterator[dict[str, str]]:
    """Leave a file in each folder, so that the node can tell whether it sees the same folder; yield their contents."""
    left: dict[str, str] = {}
    try:
        for folder in folders:
            descriptor, name = tempfile.mkstemp(prefix=f".{MARKER}-", dir=folder)
            left[str(Path(name).resolve())] = name
            os.write(descriptor, name.encode())
            os.close(descriptor)
        yield left
    finally:
        for path in left:
            Path(path).unlink(missing_ok=True)


def _submitted(request: Request, shared: Path, markers: dict[str, str], endpoint: str) -> str:
    """Submit the job and return its number."""
    question = {"folder": str(shared), "markers": markers, "endpoint": endpoint, "sbatch": request.arguments(MINUTES)}
    script = shared / "job.sh"
    values = {
        "python": shlex.quote(sys.executable),
        "folder": shlex.quote(str(shared)),
        "report": node_report.REPORT,
        "question": shlex.quote(json.dumps(question)),
        "source": Path(node_report.__file__).read_text(encoding="utf-8"),
    }
    script.write_text(SCRIPT.format(**values), encoding="utf-8")
    asked = ["--parsable", f"--job-name={NAME}", f"--output={shared / LOG}", "--no-requeue", "--export=ALL"]
    try:
        said = answer_of("sbatch", *asked, *request.arguments(MINUTES), str(script), seconds=SECONDS)
    except TransientError as error:
        raise NodeError(
            f"sbatch refuses the job: {error}", "correct the profile, or ask the site about this message"
        ) from None
    numbers = [match["number"] for line in said.splitlines() if (match := ANSWER.fullmatch(line.strip()))]
    if not numbers:
        raise NodeError(
            "sbatch printed no job number, which gluegrid needs",
            f"look with squeue --me --name={NAME}, and cancel the job with scancel",
        )
    return numbers[-1].partition(";")[0]


class _Patience:
    """Decides how long to wait for a job, from what squeue says about it."""

    def __init__(self, job: str):
        self.job = job
        self.begun = self.answered = time.monotonic()
        self.started: float | None = None

    def is_in_queue(self) -> bool:
        """Ask whether the job waits or runs. Raise NodeError when it takes too long or squeue stops answering."""
        now = time.monotonic()
        try:
            listed = jobs_in_queue([self.job], SECONDS).get(self.job)
            self.answered = now
        except TransientError as error:
            if now - self.answered > SECONDS_FOR_FILES:
                raise NodeError(f"squeue no longer answers: {error}", "run make doctor again later") from None
            return True
        if listed is None:
            return False
        if listed.waits:
            self._wait_on(listed, now)
        else:
            self._run_on(now)
        return True

    def _wait_on(self, listed: Job, now: float) -> None:
        if now - self.begun <= SECONDS_IN_QUEUE:
            return
        expected = f"; SLURM expects it to start at {clock(listed.starts)}" if listed.starts else ""
        why = f"{listed.reason or 'no reason'}{expected}"
        raise NodeError(
            f"job {self.job} waited {duration(SECONDS_IN_QUEUE)} in the queue ({why})"
            " and was cancelled, so no node was checked",
            "run make doctor again when the queue is shorter; the profile can be used, but was not tried on a node",
            is_late=True,
        )

    def _run_on(self, now: float) -> None:
        self.started = self.started or now
        if now - self.started > MINUTES * 60 + SECONDS_FOR_FILES:
            raise NodeError(f"job {self.job} runs past its time limit", "ask the site to check its node")


def _wait(job: str, shared: Path) -> None:
    """Wait until the report is there or the job is gone. Raise NodeError if neither happens."""
    patience, asked = _Patience(job), None
    while not _has_report(shared):
        now = time.monotonic()
        if asked is None or now - asked >= SECONDS_BETWEEN_QUESTIONS:
            asked = now
            if not patience.is_in_queue():
                return
        time.sleep(SECONDS_BETWEEN_LOOKS)


def _has_report(shared: Path) -> bool:
    # List the folder: a shared file system may cache that a file did not exist.
    return node_report.REPORT in {path.name for path in shared.iterdir()}


def _read(job: str, shared: Path, behind: float) -> tuple[dict, float]:
    """Return the report and how long it took to be seen here. Raise NodeError if there is none."""
    deadline = time.monotonic() + SECONDS_FOR_FILES
    while not _has_report(shared):
        if time.monotonic() > deadline:
            raise _without_report(job, shared / LOG)
        time.sleep(SECONDS_BETWEEN_LOOKS)
    seen, path = time.time() + behind, shared / node_report.REPORT
    try:
        return json.loads(path.read_text(encoding="utf-8")), max(0.0, seen - path.stat().st_mtime)
    except (OSError, ValueError) as error:
        raise NodeError(f"job {job}: its report cannot be read: {error}", "run make doctor again") from None


def _without_report(job: str, log: Path) -> NodeError:
    said = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    if last := node_report.last_line(said):
        return NodeError(f"job {job} failed on its node: {last}", "solve this first: cells would fail in the same way")
    return NodeError(
        f"job {job} has ended, but {SECONDS_FOR_FILES} s later its files are not seen in {Path.cwd()}",
        "this folder is not shared with the nodes, or the job was killed (see sacct -j"
        f" {job}): clone into a folder that nodes see, such as your scratch space",
    )
