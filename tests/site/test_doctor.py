"""`make doctor` as a person meets it: without a SLURM, with a broken one, and with one that refuses jobs.

SLURM's programs, nvidia-smi and the hub are stubs here; on a real SLURM: tests/cluster/test_doctor.py.
"""

import os
import shutil
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
import yaml
from fake_slurm import FakeSlurm, slurm_in_a_folder, squeue_line
from waiting import HANG

from gluegrid.common.errors import TransientError
from gluegrid.site import job_request, node_report, reporting_job, slurm_site, this_machine
from gluegrid.site.findings import WIDTH, Report, fault, note, ok
from gluegrid.site.job_request import Request
from gluegrid.site.proposed_profile import Choice, write_proposal
from gluegrid.site.reporting_job import NodeError, node_answer
from gluegrid.site.slurm_findings import unanswered_finding
from gluegrid.site.slurm_site import Site, ask_site

PROJECT = Path(__file__).resolve().parents[2]
SAMPLES = PROJECT / "tests/data/slurm"
NOWHERE = "http://127.0.0.1:9"  # the port of `discard`: nobody listens
REQUEST = Request("gpu", None, None, "--gpus=1")
# A stub of sbatch, which starts the job at once, here, as on a node that shares the disk.
SBATCH = """#!/bin/sh
# A stub that stands in for SLURM's sbatch.
case " $* " in *" --test-only "*) exit 0;; esac
for script; do case $script in --output=*) log=${script#--output=};; esac; done
SLURMD_NODENAME=node7 CUDA_VISIBLE_DEVICES=0 setsid bash "$script" > "$log" 2>&1 < /dev/null &
echo 'Welcome | to the cluster'
echo 4711
"""
NVIDIA_SMI = """#!/bin/sh
# A stub that stands in for NVIDIA's nvidia-smi.
echo 'NVIDIA A100-SXM4-80GB, 81920, 550.54.15'
"""


def doctor(folder: Path, *arguments: str, path: Path | None = None, **environment: str) -> subprocess.CompletedProcess:
    """Call the command of `make doctor` in a folder; `path` is all of PATH but for what Python and the shell need."""
    command = [sys.executable, str(PROJECT / "scripts/commands.py"), "doctor", *arguments]
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "SLURM", "CUDA_VISIBLE"))}
    folders = [str(path or folder / "programs"), "/bin", "/usr/bin"] if path else [str(tools(folder))]
    own = {"HF_ENDPOINT": NOWHERE, "PATH": os.pathsep.join(folders), **environment}
    done = subprocess.run(command, cwd=folder, env=plain | own, capture_output=True)
    done.stdout, done.stderr = (stream.decode("utf-8", "replace") for stream in (done.stdout, done.stderr))
    assert "Traceback" not in done.stdout + done.stderr
    assert max(map(len, done.stdout.splitlines()), default=0) <= WIDTH
    return done


def tools(folder: Path) -> Path:
    """Return a folder of programs without any of SLURM's."""
    (folder / "programs").mkdir(exist_ok=True)
    for name in ("which", "git", "bash", "sh"):
        if not (folder / "programs" / name).exists():
            (folder / "programs" / name).symlink_to(shutil.which(name))
    return folder / "programs"


def words(text: str) -> str:
    """Return a text without its line breaks."""
    return " ".join(text.split())


@pytest.fixture
def slurm(tmp_path, monkeypatch) -> FakeSlurm:
    """Stubs of SLURM's programs that answer as release 22.05 does on the test cluster, in an empty folder."""
    slurm = slurm_in_a_folder(tmp_path, monkeypatch)
    texts = {path.stem: path.read_text(encoding="utf-8") for path in (SAMPLES / "22.05").iterdir()}
    slurm.answers("scontrol", (0, texts["config"], ""), (0, texts["partitions"], ""))
    slurm.answers("sinfo", (0, texts["version"], ""), (0, texts["nodes"], ""))
    slurm.answers("sacctmgr", *((0, texts[name], "") for name in ("user", "associations", "qos")))
    return slurm


def put_program(folder: Path, name: str, text: str) -> None:
    """Put a program into a folder."""
    (folder / name).unlink(missing_ok=True)
    (folder / name).write_text(text, encoding="utf-8")
    (folder / name).chmod(0o755)


def test_without_a_slurm_this_machine_is_looked_at(tmp_path):
    done = doctor(tmp_path)
    assert done.returncode == 0, done.stdout
    said = words(done.stdout)
    assert "no SLURM in PATH, so cells run on this machine" in said
    assert "no GPU: nvidia-smi: No such file or directory -> set `device: cpu` in the experiment file" in said
    assert f"the hub does not answer at {NOWHERE}: [Errno 111] Connection refused" in said
    assert "docs/offline.md" in said
    assert done.stdout.splitlines()[-1].endswith("Next: snakemake --profile profiles/local -n")
    assert not (tmp_path / "profiles").exists()


def test_some_of_slurms_programs_are_a_fault(tmp_path):
    put_program(tools(tmp_path), "sbatch", "#!/bin/sh\n# A stub.\n")
    put_program(tools(tmp_path), "sinfo", "#!/bin/sh\n# A stub.\n")
    done = doctor(tmp_path)
    assert done.returncode == 1
    assert "FAULT squeue, scancel, scontrol: not in PATH" in words(done.stdout)
    assert done.stdout.splitlines()[-1].endswith("Next: fix the faults, then run make doctor again")


AWAY = "slurm_load_ctl_conf error: Unable to contact slurm controller (connect failure)\n"
NO_CONFIGURATION = (
    "scontrol: error: resolve_ctls_from_dns_srv: res_nsearch error: Unknown host\n"
    "scontrol: fatal: Could not establish a configuration source\n"
)
NO_MUNGE = (
    "scontrol: error: If munged is up, restart with --num-threads=10\n"
    'scontrol: error: Munge encode failed: Failed to access "/run/munge/munge.socket.2": No such file or directory\n'
)


@pytest.mark.parametrize(
    ("complaint", "advice"),
    [
        (AWAY, "slurmctld is down: try again when `scontrol ping` says UP"),
        (NO_CONFIGURATION, "load the site's SLURM module, or set SLURM_CONF"),
        ("scontrol: error: ClusterName needs to be specified\n", "load the site's SLURM module, or set SLURM_CONF"),
        (NO_MUNGE, "munge does not run on this machine"),
        ("\udcfc?\x1b[31m\n", "check that `scontrol ping` and `sinfo` work in this terminal"),
        ("", "check that `scontrol ping` and `sinfo` work in this terminal"),
    ],
)
def test_a_slurm_that_does_not_answer_is_a_fault_with_what_to_do(complaint, advice, tmp_path, slurm):
    slurm.answers("scontrol", (1, "", complaint))
    done = doctor(tmp_path, path=slurm.folder)
    assert done.returncode == 1
    assert "FAULT SLURM does not answer: " in words(done.stdout)
    assert advice in words(done.stdout)
    assert "\x1b" not in done.stdout
    assert not slurm.calls("sinfo")
    assert not (tmp_path / "profiles").exists()


def test_a_program_that_hangs_is_not_waited_for(slurm, monkeypatch):
    put_program(slurm.folder, "scontrol", "#!/bin/sh\n# A stub that never answers.\nexec sleep 600\n")
    monkeypatch.setattr(slurm_site, "SECONDS", 0.5)
    with pytest.raises(TransientError, match="scontrol: no answer for") as hung:
        ask_site()
    assert "munge or slurmctld may be down" in unanswered_finding(str(hung.value)).advice


def test_an_sbatch_that_hangs_is_asked_once(slurm, monkeypatch):
    put_program(slurm.folder, "sbatch", "#!/bin/sh\n# A stub that never answers.\nexec sleep 600\n")
    site, asked, run = ask_site(), [], subprocess.run
    monkeypatch.setattr(job_request, "SECONDS", 0.5)
    monkeypatch.setattr(subprocess, "run", lambda command, **options: asked.append(command) or run(command, **options))
    with pytest.raises(TransientError, match="sbatch: no answer for"):
        job_request.accepted_request(site, 10)
    assert [command[0] for command in asked] == ["sbatch"]


def test_what_is_no_answer_at_all_is_a_fault(tmp_path, slurm):
    slurm.answers("scontrol", (0, "<html>who are you?</html>\n", ""))
    done = doctor(tmp_path, path=slurm.folder)
    assert (done.returncode, "the answer has no ClusterName" in words(done.stdout)) == (1, True)


def test_an_sbatch_that_refuses_all_is_a_fault_for_each_partition(tmp_path, slurm):
    slurm.answers("sbatch", (1, "", "sbatch: error: Your account is over its budget\nallocation failure: no\n"))
    done = doctor(tmp_path, path=slurm.folder)
    assert done.returncode == 1
    for name in ("gpu", "high", "gpu-short", "low"):
        assert f"FAULT sbatch refuses jobs in partition {name}: sbatch: error: Your account is over" in words(
            done.stdout
        )
    assert all("--test-only" in call for call in slurm.calls("sbatch"))
    assert not (tmp_path / "profiles").exists()


def test_a_terminal_that_knows_ascii_only_gets_all_that_a_site_says_in_latin_1(tmp_path, slurm):
    texts = {path.stem: path.read_bytes().decode("utf-8", "surrogateescape") for path in (SAMPLES / "24.05").iterdir()}
    slurm.answers("scontrol", (0, texts["config"], ""), (0, texts["partitions"], ""))
    slurm.answers("sinfo", (0, texts["version"], ""), (0, texts["nodes"], ""))
    slurm.answers("sbatch", (1, "", "sbatch: error: Gr\udcfc\udcdfe\nallocation failure: no\n"))
    done = doctor(tmp_path, path=slurm.folder, LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert done.returncode == 1
    assert "partition gpu_a100: sbatch: error: Gr??e" in words(done.stdout)


def test_a_node_reports_and_a_profile_is_proposed(tmp_path, slurm):
    put_program(slurm.folder, "sbatch", SBATCH)
    put_program(slurm.folder, "nvidia-smi", NVIDIA_SMI)
    slurm.answers("squeue", (0, squeue_line("4711", "RUNNING"), ""))
    (tmp_path / "results").mkdir()
    done = doctor(tmp_path, "--profile", "profiles/mine", path=slurm.folder)
    said = words(done.stdout)
    assert "ok job 4711 ran on node7" in said
    assert "ok shared disk: the node's files were seen here" in said
    assert "ok the clocks of the node, the shared disk and this machine agree" in said
    assert "ok NVIDIA A100-SXM4-80GB, 85.9 GB, driver 550.54.15" in said
    assert "ok the node cannot reach the hub" in said
    assert "ok jobs may submit jobs" in said
    proposed = yaml.safe_load((tmp_path / "profiles/mine/config.yaml").read_text(encoding="utf-8"))
    assert "slurm_partition=gpu" in proposed["default-resources"]
    assert done.stdout.splitlines()[-1].endswith("Next: snakemake --profile profiles/mine -n")
    assert [*(tmp_path / ".snakemake").iterdir(), *(tmp_path / "results").iterdir()] == []


def submitted(slurm: FakeSlurm, *answers: tuple[int, str, str]) -> None:
    """Let sbatch answer, and squeue say that the job waits."""
    slurm.answers("sbatch", *answers)
    slurm.answers("squeue", (0, squeue_line("4711", "PENDING", reason="Priority", starts="2026-12-01T10:00:00"), ""))


def test_a_job_that_does_not_start_is_cancelled_and_that_is_no_fault(tmp_path, slurm, monkeypatch):
    submitted(slurm, (0, "4711\n", ""))
    monkeypatch.setattr(reporting_job, "SECONDS_IN_QUEUE", 0)
    monkeypatch.setattr(reporting_job, "SECONDS_BETWEEN_LOOKS", 0)
    Path("results").mkdir()
    with pytest.raises(NodeError, match=r"waited .* \(Priority; SLURM expects it to start at") as late:
        node_answer(REQUEST, [Path("results")], NOWHERE)
    assert late.value.is_late
    assert slurm.calls("scancel") == [["4711"]]
    assert [*Path(".snakemake").iterdir(), *Path("results").iterdir()] == []


def test_ctrl_c_while_the_job_waits_cancels_it(slurm, monkeypatch):
    submitted(slurm, (0, "4711\n", ""))

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(reporting_job, "jobs_in_queue", interrupt)
    with pytest.raises(KeyboardInterrupt):
        node_answer(REQUEST, [], NOWHERE)
    assert slurm.calls("scancel") == [["4711"]]


@pytest.mark.parametrize(
    ("program", "said", "advice"),
    [
        ("echo 4711", "its files are not seen in", "not shared with the nodes"),
        (
            "echo 'bash: no such shell' > \"$log\"; echo 4711",
            "failed on its node: bash: no such shell",
            "cells would fail in the same way",
        ),
        ("echo Welcome", "sbatch printed no job number", "squeue --me --name=gluegrid-doctor"),
        (
            "echo 'sbatch: error: Invalid qos' >&2; exit 1",
            "sbatch refuses the job: sbatch: error: Invalid qos",
            "profile",
        ),
    ],
)
def test_a_node_that_does_not_report_is_a_fault_that_says_what_was_seen(program, said, advice, slurm, monkeypatch):
    head = "#!/bin/sh\n# A stub.\nfor one; do case $one in --output=*) log=${one#--output=};; esac; done\n"
    put_program(slurm.folder, "sbatch", f"{head}{program}\n")
    monkeypatch.setattr(reporting_job, "SECONDS_FOR_FILES", 0)
    with pytest.raises(NodeError) as none:
        node_answer(REQUEST, [], NOWHERE)
    assert said in str(none.value)
    assert advice in none.value.advice
    assert not none.value.is_late


def test_a_node_without_this_python_says_so(slurm, monkeypatch):
    put_program(slurm.folder, "sbatch", SBATCH)
    monkeypatch.setattr(sys, "executable", "/nowhere/.venv/bin/python")
    assert node_answer(REQUEST, [], NOWHERE).report["has_python"] is False


def test_a_proposal_overwrites_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    site = Site("22.05.8", {"ClusterName": "one"}, [], "alice")
    folder = Path("profiles/proposed")
    first, second = (
        [Choice("default-resources", "slurm_partition", name, "the only one")] for name in ("gpu", "other")
    )
    assert write_proposal(folder, site, first) == (folder / "config.yaml", True)
    assert write_proposal(folder, site, first) == (folder / "config.yaml", False)
    kept = (folder / "config.yaml").read_text(encoding="utf-8")
    assert write_proposal(folder, site, second) == (Path("profiles/proposed-2/config.yaml"), True)
    assert write_proposal(folder, site, second) == (Path("profiles/proposed-2/config.yaml"), False)
    assert (folder / "config.yaml").read_text(encoding="utf-8") == kept


def test_a_profile_that_cannot_be_written_is_a_fault(tmp_path, slurm):
    submitted(slurm, (0, "", ""), (1, "", "sbatch: error: Invalid qos\n"))
    (tmp_path / "file").touch()
    done = doctor(tmp_path, "--profile", "file/mine", path=slurm.folder)
    assert (done.returncode, "FAULT file/mine: " in words(done.stdout)) == (1, True)


@pytest.mark.parametrize("folder", ["", ".", ".."])
def test_a_profile_needs_a_folder_of_its_own(folder, tmp_path):
    done = doctor(tmp_path, f"--profile={folder}")
    assert (done.returncode, done.stderr.splitlines()) == (
        1,
        ["gluegrid: PROFILE: name a folder for the profile, such as profiles/mine"],
    )


def test_a_check_that_fails_in_an_unknown_way_is_a_note_and_the_others_count(capsys):
    def checks():
        yield ok("first")
        raise LookupError("what is this")

    report = Report()
    report.tell(checks())
    report.tell([fault("second " * 30, "mend it"), note("third", "think")])
    told = capsys.readouterr().out
    assert "a check failed: LookupError what is this" in words(told)
    assert report.has_faults
    assert report.summary() == "1 fault, 2 notes"
    assert max(map(len, told.splitlines())) <= WIDTH


class Answering(BaseHTTPRequestHandler):
    """A stub of a hub, or of what stands in its place."""

    def do_GET(self):
        """Answer as the server was told to."""
        status, kind = self.server.answer
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.end_headers()

    def log_message(self, *_):
        """Say nothing."""


@pytest.mark.parametrize(
    ("answer", "mark", "said"),
    [
        ((200, "application/json; charset=utf-8"), "ok", "the hub answers at"),
        ((404, "application/json"), "ok", "the hub answers at"),
        ((200, "text/html"), "note", "not as the hub does (status 200)"),
        ((503, "application/json"), "note", "not as the hub does (status 503)"),
    ],
)
def test_what_answers_at_the_hubs_address_is_told_from_a_hub(answer, mark, said, monkeypatch):
    server = HTTPServer(("127.0.0.1", 0), Answering)
    server.answer = answer
    Thread(target=server.serve_forever, daemon=True).start()
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", f"http://user:secret@127.0.0.1:{server.server_port}/")
    monkeypatch.setattr(node_report, "SECONDS_FOR_NETWORK", HANG)
    try:
        (finding,) = this_machine.hub_findings()
    finally:
        server.shutdown()
    assert (finding.mark, said in finding.what) == (mark, True)
    assert "secret" not in "".join(finding.lines())


def test_a_hub_that_is_switched_off_is_not_asked(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (finding,) = this_machine.hub_findings()
    assert (finding.mark, "HF_HUB_OFFLINE" in finding.what) == ("note", True)


def test_packages_are_compared_with_the_lock(tmp_path, monkeypatch):
    lock = tmp_path / "requirements.lock"
    lock.write_text("# a comment\ntorch==0.0.1\npytest==0.0.2\nnot-installed-anywhere==1.0\n", encoding="utf-8")
    monkeypatch.setattr(this_machine, "LOCK", lock)
    missing, others = this_machine.python_findings()
    assert (missing.mark, others.mark) == ("FAULT", "note")
    assert "1 package of requirements.lock not installed: not-installed-anywhere" in missing.what
    assert "instead of 0.0.1" in others.what
    assert "instead of 0.0.2" in others.what


def test_a_full_disk_and_one_that_is_not_writable_are_faults(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    space = os.statvfs(tmp_path)
    full = os.statvfs_result([*space[:4], 100, *space[5:]])
    few, no_files = (os.statvfs_result([*space[:4], 10**9, 10**6, left, left, *space[8:]]) for left in (9000, 50))
    for status, mark in ((full, "FAULT"), (few, "note"), (no_files, "FAULT")):
        monkeypatch.setattr(os, "statvfs", lambda _, status=status: status)
        assert next(this_machine.disk_findings()).mark == mark
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert next(this_machine.disk_findings()).mark == "FAULT"
