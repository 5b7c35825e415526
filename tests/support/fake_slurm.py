"""Stand-ins for SLURM's programs, for tests of how their answers are handled."""

import json
import os
import stat
import sys
from pathlib import Path

import pytest

from gluegrid.execution import invocation

PROGRAM = """#!{python}
import json, pathlib, sys
folder = pathlib.Path({folder!r})
name = pathlib.Path(sys.argv[0]).name
with (folder / "calls.jsonl").open("a") as stream:
    stream.write(json.dumps([name, *sys.argv[1:]]) + "\\n")
answers = folder / (name + ".json")
code, said, complaint = 0, "", ""
if answers.exists():
    first, *rest = json.loads(answers.read_text())
    code, said, complaint = first
    answers.write_text(json.dumps(rest or [first]))
sys.stdout.buffer.write(said.encode(errors="surrogateescape"))
sys.stderr.buffer.write(complaint.encode(errors="surrogateescape"))
sys.exit(code)
"""


NAME = "0a1b2c3d-0e4f-4567-89ab-0123456789cd"  # of a job submitted by the plugin


def squeue_line(number: str, state: str, name: str = NAME, comment: str = "(null)", **fields: object) -> str:
    """Return squeue's line for a job, by default of this process's user."""
    some = {"starts": "N/A", "left": "5:00", "user": os.getuid(), "reason": "None"} | fields
    return f"{number}|{state}|{some['starts']}|{some['left']}|{some['user']}|{name}|{some['reason']}|{comment}\n"


class FakeSlurm:
    """SLURM's programs, which note their calls and answer what they were told, the last for ever.

    Bytes that are no UTF-8 are given as surrogates: "\\udcfc" is Latin-1's u with dots.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir()
        for name in ("sbatch", "squeue", "scancel", "sacct", "scontrol", "sinfo", "sacctmgr", "sshare"):
            program = folder / name
            program.write_text(PROGRAM.format(python=sys.executable, folder=str(folder)), encoding="utf-8")
            program.chmod(program.stat().st_mode | stat.S_IXUSR)

    def put_on_path(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Put these programs first on PATH."""
        monkeypatch.setenv("PATH", str(self.folder), prepend=os.pathsep)
        monkeypatch.setenv("GLUEGRID_SBATCH", str(self.folder / "sbatch"))

    def answers(self, program: str, *answers: tuple[int, str, str]) -> None:
        """Let a program answer with these exit codes, outputs and errors, one after the other."""
        (self.folder / f"{program}.json").write_text(json.dumps(answers), encoding="utf-8")

    def calls(self, program: str) -> list[list[str]]:
        """Return the arguments of each call of a program."""
        path = self.folder / "calls.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return [arguments for name, *arguments in map(json.loads, lines) if name == program]


def slurm_in_a_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    """Go into a folder with these programs on PATH and no call of snakemake yet."""
    monkeypatch.chdir(folder)
    # Set first, so that what a call of snakemake sets is undone after the test.
    monkeypatch.setenv(invocation.VARIABLE, "none yet")
    monkeypatch.delenv(invocation.VARIABLE)
    slurm = FakeSlurm(folder / "slurm")
    slurm.put_on_path(monkeypatch)
    return slurm
