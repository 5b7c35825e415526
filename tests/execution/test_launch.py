"""What scripts/launch.sh starts, in real launches of small scripts, and how these end. SLURM's answers are played."""

import itertools
import json
import os
import signal
import subprocess
from pathlib import Path

import builders
import pytest
from callers import MPIRUN, NOTEBOOK, STEP, TORCHRUN, python_variables
from slurm_configuration import is_free
from waiting import HANG, wait_until

from gluegrid.execution.job_logs import last_line

# Adds up 1 of each process, and notes who it is.
ADDING = """
import json, os, sys
from pathlib import Path
import torch
from accelerate import PartialState
state = PartialState(cpu=True)
total = torch.ones(())
if state.num_processes > 1:
    torch.distributed.all_reduce(total)
    torch.distributed.destroy_process_group()
noted = {"rank": state.process_index, "world": state.num_processes, "sum": total.item(), "arguments": sys.argv[2:]}
noted["port"], noted["launcher"] = os.environ.get("MASTER_PORT"), os.getppid()
noted["precision"] = os.environ["ACCELERATE_MIXED_PRECISION"]
noted["variables"] = sorted(os.environ)
Path(sys.argv[1], f"{state.process_index}.json").write_text(json.dumps(noted))
"""

# Follows its launcher as scripts/train.py does, and goes on until it is asked to leave; rank 1 fails if it is told to.
LASTING = f"""
import os, sys, time
from pathlib import Path
sys.path.insert(0, {str(builders.SCRIPTS)!r})
from gluegrid.common.cli import run_script
from gluegrid.common.errors import DataError
from gluegrid.execution.worker_failures import helped, helping
from gluegrid.execution.preemption import Preemption, follow_launcher

def main():
    rank = os.environ["RANK"]
    failure = Path(sys.argv[1], "failure")
    with helped(failure) if rank == "0" else helping(failure, rank):
        last(rank)

def last(rank):
    leaving = Preemption()
    with leaving.held_back():
        leaving.listen()
        follow_launcher()
        Path(sys.argv[1], rank + ".pid").write_text(str(os.getpid()))
        while leaving.reason() is None:
            all_are_there = len(list(Path(sys.argv[1]).glob("*.pid"))) == 3
            if rank == "1" and "fail" in sys.argv[2:] and all_are_there:
                raise DataError("a file is broken")
            time.sleep(0.05)
        time.sleep(0.5)  # as saving takes
        Path(sys.argv[1], rank + ".left").write_text(str(leaving.reason()))

run_script(main)
"""


class Launch:
    """A launch of a script in a folder of its own, where the script's processes note what they see."""

    def __init__(self, folder: Path, script: str, nodes: int, processes: int, *arguments: str, **environment: str):
        self.folder = folder
        folder.mkdir()
        (folder / "script.py").write_text(script, encoding="utf-8")
        command = f"trap '' TERM INT USR1; exec bash {builders.LAUNCH} {nodes} {processes} script.py \"$@\""
        with self.log.open("wb") as stream:
            self.process = subprocess.Popen(
                ["bash", "-c", command, "bash", str(folder), *arguments],
                cwd=folder,
                env=os.environ | {"PATH": builders.PATH, "TMPDIR": str(folder)} | environment,
                stdout=stream,
                stderr=subprocess.STDOUT,
            )

    @property
    def log(self) -> Path:
        """What the launch and its processes said."""
        return self.folder / "log"

    def ends_with(self, code: int) -> None:
        """Wait for the end; the launcher leaves no folder of its own behind, in TMPDIR neither."""
        assert self.process.wait(timeout=HANG) == code, self.log.read_text()
        assert not [*self.folder.glob("torchelastic_*")]

    def noted(self) -> list[dict]:
        """Return what each process noted, in the order of their ranks."""
        return [json.loads(path.read_text()) for path in sorted(self.folder.glob("*.json"))]

    def pids(self, count: int) -> list[int]:
        """Wait until so many lasting processes are at work; return who they are."""
        assert wait_until(lambda: len(self._noted_pids()) == count), self.log.read_text()
        return self._noted_pids()

    def _noted_pids(self) -> list[int]:
        texts = [path.read_text() for path in sorted(self.folder.glob("*.pid"))]
        return [int(text) for text in texts if text]  # one that is empty is just being written

    def reasons(self) -> list[str]:
        """Return why each lasting process left."""
        return [path.read_text() for path in sorted(self.folder.glob("*.left"))]


def are_gone(pids: list[int]) -> bool:
    """Tell whether none of these processes runs."""
    return not any(Path(f"/proc/{pid}").exists() for pid in pids)


@pytest.fixture
def theirs(tmp_path) -> dict[str, str]:
    """What all callers at once set."""
    return TORCHRUN | MPIRUN | STEP | NOTEBOOK | python_variables(tmp_path / "of_the_caller")


def test_one_process_is_started_as_ever_whatever_a_caller_has_set(tmp_path, theirs):
    ours = {"OPENBLAS_CORETYPE": "Haswell", "NCCL_DEBUG": "WARN", "LD_LIBRARY_PATH": "/lib", "LC_TIME": "C"}
    launch = Launch(tmp_path / "one", ADDING, 1, 1, "an argument", "", **theirs, **ours)
    launch.ends_with(0)
    (noted,) = launch.noted()
    assert not {*noted["variables"]} & (theirs.keys() - {"ACCELERATE_MIXED_PRECISION", "PYTHONIOENCODING"})
    assert {*noted["variables"]} >= {*ours, "PATH", "TMPDIR"}
    assert (noted["rank"], noted["world"], noted["sum"]) == (0, 1, 1)
    assert (noted["arguments"], noted["precision"], noted["port"]) == (["an argument", ""], "no", None)


def test_two_launches_of_two_processes_on_one_host_do_not_meet(tmp_path, theirs):
    launches = [Launch(tmp_path / name, ADDING, 1, 2, "an argument", **theirs) for name in ("a", "b")]
    for launch in launches:
        launch.ends_with(0)
        assert [(noted["rank"], noted["world"], noted["sum"]) for noted in launch.noted()] == [(0, 2, 2), (1, 2, 2)]
        assert {noted["launcher"] for noted in launch.noted()} == {launch.process.pid}
        assert {noted["precision"] for noted in launch.noted()} == {"no"}
        assert launch.noted()[1]["arguments"] == ["an argument"]
    assert len({noted["port"] for launch in launches for noted in launch.noted()}) == 2


@pytest.fixture
def two_nodes(tmp_path) -> dict[str, str]:
    """The environment of a step on two nodes, with programs that stand in for SLURM's; both nodes are this host."""
    for name, answer in {"scontrol": "echo node1; echo node2", "sinfo": "echo 127.0.0.1"}.items():
        (tmp_path / name).write_text(f'#!/bin/sh\necho {name} "$@" >> {tmp_path}/asked\n{answer}\n')
        (tmp_path / name).chmod(0o755)
    job = next(number for number in itertools.count(os.getpid()) if is_free(20000 + number % 12000))
    step = {"SLURM_JOB_ID": str(job), "SLURM_STEP_NUM_NODES": "2", "SLURM_STEP_NODELIST": "node[1-2]"}
    return {**step, "PATH": f"{tmp_path}:{builders.PATH}"}


def test_launches_on_two_nodes_meet(tmp_path, two_nodes):
    launches = [Launch(tmp_path / node, ADDING, 2, 2, **two_nodes, SLURM_NODEID=node) for node in ("0", "1")]
    for launch in launches:
        launch.ends_with(0)
    noted = [noted for launch in launches for noted in launch.noted()]
    assert [(each["rank"], each["world"], each["sum"]) for each in noted] == [(0, 2, 2), (1, 2, 2)]
    assert {each["port"] for each in noted} == {str(20000 + int(two_nodes["SLURM_JOB_ID"]) % 12000)}
    asked = sorted(set((tmp_path / "asked").read_text().splitlines()))
    assert asked == ["scontrol show hostnames node[1-2]", "sinfo --noheader --nodes=node1 --format=%o"]


def test_on_several_nodes_srun_starts_one_launch_on_each(tmp_path):
    (tmp_path / "srun").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (tmp_path / "srun").chmod(0o755)
    launch = Launch(tmp_path / "job", ADDING, 3, 6, "x", SLURM_JOB_ID="7", PATH=f"{tmp_path}:{os.environ['PATH']}")
    launch.ends_with(0)
    *options, bash, script, nodes, processes = launch.log.read_text().splitlines()[:-3]
    assert options[:3] == ["--nodes=3", "--ntasks=3", "--ntasks-per-node=1"]
    assert (bash, Path(script), nodes, processes) == ("bash", builders.LAUNCH, "3", "6")


def test_several_nodes_without_slurm_are_refused_in_one_line(tmp_path, monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    launch = Launch(tmp_path / "job", ADDING, 2, 2)
    launch.ends_with(1)
    assert launch.log.read_text().startswith("gluegrid: nodes: 2 needs SLURM; ")
    assert launch.log.read_text().count("\n") == 1


def test_a_failed_process_ends_the_others_and_is_the_reason(tmp_path):
    launch = Launch(tmp_path / "job", LASTING, 1, 3, "fail")
    launch.ends_with(1)
    assert last_line(launch.log) == "a file is broken (in process 1 of the cell)"
    assert are_gone(launch.pids(3))
    assert [reason.startswith("stopped by SIGTERM") for reason in launch.reasons()] == [True, True]


def test_a_killed_launcher_leaves_no_process(tmp_path):
    launch = Launch(tmp_path / "job", LASTING, 1, 2)
    pids = launch.pids(2)
    launch.process.kill()
    assert wait_until(lambda: are_gone(pids))
    assert len(launch.reasons()) == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGUSR1])
def test_a_signal_reaches_all_processes_and_they_may_take_their_time(tmp_path, number, theirs):
    launch = Launch(tmp_path / "job", LASTING, 1, 2, **theirs)
    pids = launch.pids(2)
    launch.process.send_signal(number)
    launch.ends_with(1)
    assert are_gone(pids)
    words = {signal.SIGINT: "interrupted", signal.SIGUSR1: "stopped by SIGUSR1"}
    assert [reason.startswith(words[number]) for reason in launch.reasons()] == [True, True]
