"""Copies of the project to run Snakemake in, as a user does in a clone."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import yaml

PROJECT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Clone:
    """A copy of the project's files. `environment` is added to every command's."""

    root: Path
    environment: dict[str, str] = field(default_factory=dict)

    def snakemake(self, *arguments: str, timeout: int = 3600) -> subprocess.CompletedProcess:
        """Run snakemake in the clone; standard error is mixed into standard output."""
        return subprocess.run(
            self.command(*arguments),
            cwd=self.root,
            env=self.full_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
        )

    def command(self, *arguments: str) -> list[str]:
        """Return the command line of a call of snakemake."""
        return [sys.executable, "-m", "snakemake", *arguments]

    def full_environment(self) -> dict[str, str]:
        """Return the environment of a user who has not activated anything and has no HOME to share."""
        # If make runs the tests, a make called by a test would otherwise behave as its child.
        ours = ("SNAKEMAKE_", "GLUEGRID_", "MAKE", "MFLAGS")
        kept = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
        return kept | self.environment

    def planned(self, *arguments: str) -> dict[str, int]:
        """Return how many jobs of each rule a dry run plans."""
        done = self.snakemake("--dry-run", *arguments)
        assert done.returncode == 0, done.stdout
        return job_counts(done.stdout)

    def replace(self, name: str, old: str, new: str) -> None:
        """Edit a file; the text to replace must be there."""
        path = self.root / name
        text = path.read_text(encoding="utf-8")
        assert old in text, f"{name} does not contain {old!r}"
        path.write_text(text.replace(old, new, 1), encoding="utf-8")

    def with_copies(self, name: str, shared: Path) -> str:
        """Write an experiment of the hub's MiniLM and GLUE beside the clone, with the shared folder's copies of both.

        Return its path, as seen from the clone, which stays as it was committed.
        """
        text = (self.root / name).read_text(encoding="utf-8")
        assert "source: sentence-transformers/all-MiniLM-L6-v2" in text
        text = text.replace("sentence-transformers/all-MiniLM-L6-v2", f"{shared}/models/minilm-l6-h384")
        path = self.root.parent / Path(name).name
        path.write_text(f"{text}\ntask_defaults: {{source: {shared}/glue}}\n", encoding="utf-8")
        return f"../{path.name}"

    def write_experiment(self, experiment: str, tasks: dict) -> None:
        """Write mine.yaml, an experiment of one of the demo's models on these tasks with these values."""
        config = {
            "experiment": experiment,
            "models": {"bert-demo-small": {"source": "./demo/generated/models/bert-demo-small"}},
            "task_defaults": {"source": "./demo/generated/glue"},
            "tasks": tasks,
        }
        values = {"per_device_train_batch_size": 16, "max_seq_length": 32, "device": "cpu", "threads": 1}
        (self.root / "mine.yaml").write_text(yaml.safe_dump(config | values), encoding="utf-8")


def job_counts(output: str) -> dict[str, int]:
    """Read Snakemake's table of planned jobs; empty when there is nothing to be done."""
    table = re.search(r"^Job stats:\n(.*?)^total ", output, re.MULTILINE | re.DOTALL)
    if table is None:
        assert "Nothing to be done" in output, output
        return {}
    rows = re.findall(r"^(\w+) +(\d+)$", table.group(1), re.MULTILINE)
    return {rule: int(count) for rule, count in rows if rule != "all"}


def clone_into(root: Path, environment: dict[str, str] | None = None) -> Clone:
    """Copy the project's own files (those git knows or would add) into a new folder."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        source, target = PROJECT / name, root / name
        if source.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)
    return Clone(root, environment or {})


def copy_of(clone: Clone, root: Path) -> Clone:
    """Copy a clone with everything that was run in it, including file times."""
    shutil.copytree(clone.root, root, symlinks=True)
    return Clone(root, dict(clone.environment))
