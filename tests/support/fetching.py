"""Call the staging scripts as the rules do, with an empty home and a hub on loopback."""

import io
import os
import random
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pyarrow
import pyarrow.parquet
from fake_hub import FakeHub
from waiting import HANG

from gluegrid.common.files import read_json

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
# The client waits 10 s by default, which a test machine that stalls exceeds.
PATIENT = {"HF_HUB_DOWNLOAD_TIMEOUT": str(HANG), "HF_HUB_ETAG_TIMEOUT": str(HANG)}
OF_THE_USER = re.compile(r"HF_.*|HUGGING_.*|(https?|no|all)_proxy", re.IGNORECASE)
TRAIN = "rte/train-00000-of-00001.parquet"
MEGABYTE = 1_000_000


def clean_environment(home: Path, **variables: str) -> dict[str, str]:
    """Return the environment of a user who has set only these variables for the hub."""
    kept = {name: value for name, value in os.environ.items() if not OF_THE_USER.fullmatch(name)}
    return kept | PATIENT | {"HF_HOME": str(home)} | variables


def parquet(rows: int = 3, megabytes: float = 0, seed: int = 0) -> bytes:
    """Return a Parquet file of the requested size."""
    filling = random.Random(seed).randbytes(int(megabytes * MEGABYTE) // rows * rows)
    size = len(filling) // rows
    columns = {
        "label": [number % 2 for number in range(rows)],
        "filling": [filling[number * size : (number + 1) * size] for number in range(rows)],
    }
    return parquet_of(columns)


def parquet_of(columns: dict[str, list]) -> bytes:
    """Return a Parquet file with these columns."""
    stream = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), stream, compression="none", use_dictionary=False)
    return stream.getvalue()


@dataclass(frozen=True)
class Fetched:
    """The outcome of calling a script."""

    code: int
    log: str
    manifest: Path

    @property
    def content(self) -> dict:
        """The manifest; the script must have succeeded."""
        assert self.code == 0, self.log
        return read_json(self.manifest)

    @property
    def error(self) -> str:
        """The one line that says why the script failed; it must have left nothing that looks like a resource."""
        assert self.code == 1, self.log
        assert "Traceback" not in self.log
        assert not [path for path in self.manifest.parent.rglob("*") if path.is_file()]
        assert not list(self.manifest.parents[1].glob("*.lock"))
        last = self.log.splitlines()[-1]
        assert last.startswith("gluegrid: ")
        return last


class Fetcher:
    """Call the staging scripts in a folder with `home` and `resources`."""

    def __init__(self, hub: FakeHub, folder: Path):
        self.hub, self.home, self.resources = hub, folder / "home", folder / "resources"

    def task(self, folder: str = "rte", source: str = "org/glue", revision: str = "main", key: str = "it", **variables):
        """Run fetch_task.py to its end."""
        return self.finish(self.start_task(folder, source, revision, key, **variables), key)

    def model(self, source: str = "org/tiny", revision: str = "main", key: str = "it", **variables: str) -> Fetched:
        """Run fetch_model.py to its end."""
        return self.finish(self.start("fetch_model.py", source, revision, key, variables), key)

    def start_task(
        self, folder: str = "rte", source: str = "org/glue", revision: str = "main", key: str = "it", **variables: str
    ) -> subprocess.Popen:
        """Start fetch_task.py."""
        return self.start("fetch_task.py", source, revision, key, variables, "--folder", folder)

    def start(
        self, script: str, source: str, revision: str, key: str, variables: dict[str, str], *options: str
    ) -> subprocess.Popen:
        """Start a script with these environment variables."""
        command = [sys.executable, str(SCRIPTS / script), "--source", source, "--revision", revision, *options]
        return subprocess.Popen(
            [*command, "--manifest", str(self.manifest(key))],
            env=clean_environment(self.home, **{"HF_ENDPOINT": self.hub.endpoint} | variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def finish(self, process: subprocess.Popen, key: str = "it") -> Fetched:
        """Wait for a script."""
        log, _ = process.communicate(timeout=HANG)
        return Fetched(process.returncode, log, self.manifest(key))

    def manifest(self, key: str = "it") -> Path:
        """Return the manifest of a resource."""
        return self.resources / key / "manifest.json"

    def staged(self, name: str, key: str = "it") -> bytes:
        """Return the content of a staged file."""
        return (self.resources / key / name).read_bytes()

    def in_cache(self, code: str, **variables: str) -> None:
        """Let the real client fill the user's cache from the hub: `code` has its functions."""
        environment = clean_environment(self.home, HF_ENDPOINT=self.hub.endpoint, **variables)
        program = f"from huggingface_hub import hf_hub_download, snapshot_download\n{code}"
        subprocess.run([sys.executable, "-c", program], env=environment, check=True, capture_output=True, timeout=HANG)
