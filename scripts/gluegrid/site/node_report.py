"""A machine's report on itself, as JSON. Standard library only: `make doctor` sends this file to a node as it is.

The node calls it as `python - QUESTION`, where QUESTION is JSON: the `folder` for the report, the `markers` that the
login node has left (path to content), the `endpoint` of the hub, and the `sbatch` arguments of a job to ask about.
"""

import base64
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from contextlib import suppress
from pathlib import Path

REPORT = "report.json"
SECONDS_FOR_NETWORK = 10
SECONDS_FOR_TORCH = 300  # the first import from a cold shared disk may take minutes
SECONDS_FOR_PROGRAMS = 60
CARDS = "name,memory.total,driver_version"
SCRATCH_VARIABLES = ("SLURM_TMPDIR", "TMPDIR")
SCRATCH_FOLDERS = ("/tmp", "/local", "/localscratch", "/local_scratch", "/lscratch", "/scratch/local", "/raid")
# Network file systems, by their names in /proc/mounts.
SHARED = re.compile(r"nfs|lustre|gpfs|beegfs|cifs|smb|ceph|panfs|wekafs|pvfs|orangefs|afs|9p|glusterfs|daos|vast")
TORCH = """
import json, torch
cuda = torch.cuda
found = {"version": torch.__version__, "cuda": torch.version.cuda, "hip": torch.version.hip}
found |= {"is_available": cuda.is_available(), "count": cuda.device_count(), "built_for": cuda.get_arch_list()}
if found["is_available"]:
    found["capability"] = list(cuda.get_device_capability(0))
    found["name"] = cuda.get_device_name(0)
    (torch.ones(8, device="cuda") * 2).sum().item()
print(json.dumps(found))
"""


def main() -> None:
    """Write the report atomically."""
    question = json.loads(sys.argv[1])
    folder = Path(question["folder"])
    part = folder / f"{REPORT}.part"
    part.write_text(json.dumps(report(question, folder)), encoding="utf-8")
    part.replace(folder / REPORT)


def report(question: dict, folder: Path) -> dict:
    """Return this node's report on itself."""
    return {
        "node": os.environ.get("SLURMD_NODENAME") or socket.gethostname(),
        "has_python": True,
        "python": sys.version.split()[0],
        "seen": {path: read_or_none(path) == text for path, text in question["markers"].items()},
        "clock": clock_behind(folder),
        "given": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "cards": cards(),
        "torch": torch_as_used(),
        "network": reach(question["endpoint"]),
        "scratch": scratch(),
        "shm": free_bytes("/dev/shm"),
        "sbatch": complaint_of_sbatch(question["sbatch"]),
    }


def read_or_none(path: str) -> str | None:
    """Return a file's text; None if it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError:
        return None


def clock_behind(folder: Path) -> float:
    """Return by how many seconds this machine's clock lags behind that of a folder's file system."""
    before = time.time()
    with tempfile.NamedTemporaryFile(dir=folder, prefix="clock-") as stream:
        stream.write(b"now")
        stream.flush()
        os.fsync(stream.fileno())
        changed = os.fstat(stream.fileno()).st_mtime
    # A time in between is that of the write itself; some file systems keep whole seconds.
    return changed - before if changed < before else max(0.0, changed - time.time())


def cards() -> dict:
    """Return the GPUs that nvidia-smi lists; `error` says why there are none."""
    command = ["nvidia-smi", f"--query-gpu={CARDS}", "--format=csv,noheader,nounits"]
    code, said, complaint = _called(command, SECONDS_FOR_PROGRAMS)
    if code != 0:
        error = complaint if code is None else last_line(said + complaint) or f"exit code {code}"
        return {"error": f"nvidia-smi: {error}", "cards": []}
    rows = [[field.strip() for field in line.rsplit(",", 2)] for line in said.splitlines()]
    found = [{"name": row[0], "memory_mb": row[1], "driver": row[2]} for row in rows if len(row) == 3]
    return {"error": None if found else "nvidia-smi lists no GPU", "cards": found}


def torch_as_used() -> dict:
    """Return what torch, in a process of its own, reports on its build and the GPUs; `error` says why it fails."""
    code, said, complaint = _called([sys.executable, "-E", "-P", "-c", TORCH], SECONDS_FOR_TORCH)
    with suppress(ValueError):
        return {"error": None, **json.loads(last_line(said))}
    return {"error": last_line(complaint) or f"exit code {code}"}


def _called(command: list[str], seconds: int) -> tuple[int | None, str, str]:
    """Return a program's exit code, output and errors; None and why, if it does not start or takes longer."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=seconds
        )
    except subprocess.TimeoutExpired:
        return None, "", f"no answer for {seconds} s"
    except OSError as error:
        return None, "", str(error.strerror)
    return done.returncode, done.stdout, done.stderr


def reach(endpoint: str) -> dict:
    """Return whether the hub's address answers, and with JSON as a hub does."""
    try:
        request = _question(endpoint)
        with urllib.request.urlopen(request, timeout=SECONDS_FOR_NETWORK, context=_certificates()) as answer:
            return {"error": None, "status": answer.status, "is_json": _is_json(answer.headers)}
    except urllib.error.HTTPError as error:
        return {"error": None, "status": error.code, "is_json": _is_json(error.headers)}
    except Exception as error:  # from the socket, TLS, a proxy or a malformed address
        reason = getattr(error, "reason", None) or error
        return {"error": " ".join(str(reason).split()) or type(reason).__name__, "status": None, "is_json": False}


def _question(endpoint: str) -> urllib.request.Request:
    """Return the request for an address, which may contain a user name and a password."""
    parts = urllib.parse.urlsplit(f"{endpoint.rstrip('/')}/api/models?limit=1")
    login, _, host = parts.netloc.rpartition("@")
    headers = {"User-Agent": "gluegrid"}
    if login:
        encoded = base64.b64encode(urllib.parse.unquote(login).encode()).decode()
        headers["Authorization"] = f"Basic {encoded}"
    return urllib.request.Request(urllib.parse.urlunsplit(parts._replace(netloc=host)), headers=headers)


def _certificates():
    """Return the certificate authorities that the hub's own client trusts, if certifi is installed."""
    import ssl

    context = ssl.create_default_context()
    with suppress(ImportError, OSError):
        import certifi

        context.load_verify_locations(certifi.where())
    return context


def _is_json(headers) -> bool:
    return "json" in headers.get("Content-Type", "")


def scratch() -> list[dict]:
    """Return the folders in which a running job may keep files, each file system once."""
    named = [(os.environ[variable], f"${variable}") for variable in SCRATCH_VARIABLES if os.environ.get(variable)]
    found, devices = [], set()
    for path, name in [*named, *((folder, folder) for folder in SCRATCH_FOLDERS)]:
        with suppress(OSError):
            device = Path(path).stat().st_dev
            if device not in devices and os.access(path, os.W_OK | os.X_OK):
                devices.add(device)
                kind = kind_of_file_system(path)
                is_local = not SHARED.search(kind)
                found.append({"path": path, "name": name, "free": free_bytes(path), "kind": kind, "is_local": is_local})
    return found


def free_bytes(path: str) -> int | None:
    """Return how much this user can still write below a path; None if it does not exist."""
    try:
        status = os.statvfs(path)
    except OSError:
        return None
    return status.f_bavail * status.f_frsize


def kind_of_file_system(path: str) -> str:
    """Return the type of the file system that holds a path, from /proc/mounts; 'unknown' if it is not listed."""
    real, kinds = Path(path).resolve(), {"/": "unknown"}
    with suppress(OSError), Path("/proc/mounts").open(encoding="utf-8", errors="replace") as mounts:
        for fields in map(str.split, mounts):
            kinds[fields[1].replace("\\040", " ")] = fields[2]
    return next(kinds[str(place)] for place in (real, *real.parents) if str(place) in kinds)


def complaint_of_sbatch(arguments: list[str]) -> str | None:
    """Return why sbatch would refuse a job from here; None if it would accept it. Submits nothing."""
    if shutil.which("sbatch") is None:
        return "sbatch: command not found"
    try:
        done = subprocess.run(
            ["sbatch", "--test-only", *arguments, "--wrap=true"],
            env={name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "SBATCH_"))}
            | {name: os.environ[name] for name in ("SLURM_CONF", "SLURM_JWT") if name in os.environ},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=SECONDS_FOR_PROGRAMS,
        )
    except subprocess.TimeoutExpired:
        return f"sbatch: no answer for {SECONDS_FOR_PROGRAMS} s"
    except OSError as error:
        return f"sbatch: {error.strerror}"
    return None if done.returncode == 0 else last_line(done.stderr) or f"sbatch ended with exit code {done.returncode}"


def last_line(text: str) -> str:
    """Return the last non-empty line of a text."""
    return next((" ".join(line.split()) for line in reversed(text.splitlines()) if line.strip()), "")


if __name__ == "__main__":
    main()
