"""A real SLURM with accounting, 4 nodes and 8 simulated GPUs on this machine, for the tests.

By hand: `python tests/cluster/cluster.py up`, `down` or `status`. From a test: `start(folder)`.
"""

import argparse
import contextlib
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from slurm_configuration import NODES, write_files

DEFAULT_ROOT = Path(__file__).resolve().parents[2] / ".slurm-cluster"
QOS = "gpu-week"  # in addition to SLURM's own, `normal`
DAEMONS = ("munged", "mariadbd", "slurmdbd", "slurmctld", *NODES)
PROGRAMS = (*DAEMONS[:4], "slurmd", "mariadb-install-db", "mariadb-admin", "munge", "setsid")
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
APPEAR_SECONDS = 300
START_SECONDS = 300
STOP_SECONDS = 60
# These change nothing, so they are asked once more when a busy machine has answered too late.
QUESTIONS = ("squeue", "sacct", "sinfo", "sdiag")
ANSWERS_LATE = re.compile("timed out|Unable to contact")
DATABASE_OPTIONS = (
    *("--no-defaults", "--user=root", "--skip-networking", "--performance-schema=OFF"),
    *("--innodb-log-file-size=8M", "--innodb-flush-log-at-trx-commit=0"),
)


class ClusterError(Exception):
    """The cluster cannot do what was asked; the message is for the reader."""


def main() -> None:
    """Run the command on the command line."""
    parser = argparse.ArgumentParser(description="A real SLURM on this machine, for the tests.")
    parser.add_argument("command", choices=("up", "down", "status"))
    parser.add_argument("--root", type=Path, default=DEFAULT_ROOT, help="the cluster's own folder")
    arguments = parser.parse_args()
    # SIGTERM's default would leave a half-started cluster behind, SIGINT's a traceback.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit("cluster.py: interrupted"))
    try:
        {"up": up, "down": down, "status": status}[arguments.command](Cluster(arguments.root))
    except (ClusterError, OSError) as error:
        sys.exit(f"cluster.py: {error}")


def up(cluster: "Cluster") -> None:
    """Start the cluster and say how to use it."""
    already = " already" if cluster.is_up() else ""
    start(cluster.root)
    print(f"SLURM is{already} up: 4 nodes with 2 GPUs each; partitions gpu, gpu-short, low, high. To use it:")
    print(f"  export SLURM_CONF={cluster.environment['SLURM_CONF']}")
    print("  snakemake --profile slurm")


def down(cluster: "Cluster") -> None:
    """Stop the cluster and remove everything it left."""
    cluster.stop()
    print("SLURM is down.")


def status(cluster: "Cluster") -> None:
    """Print the state of the nodes; exit 1 if the cluster is not up."""
    if not cluster.is_up():
        sys.exit("SLURM is not up.")
    print(cluster.run("sinfo"))


def start(root: Path) -> "Cluster":
    """Return a running cluster in this folder, which it owns until `stop`."""
    cluster = Cluster(root)
    if cluster.is_up():
        return cluster
    check_machine()
    cluster.stop()
    try:
        cluster.start()
    except BaseException:
        cluster.stop()
        raise
    return cluster


def start_beside(first: "Cluster", root: Path) -> "Cluster":
    """Return another running cluster of the same site, with its own controller and nodes but the same accounting."""
    cluster = Neighbour(root, first)
    try:
        cluster.start()
    except BaseException:
        cluster.stop()
        raise
    return cluster


def check_machine() -> None:
    """Raise ClusterError if a cluster cannot start here."""
    if os.geteuid() != 0:
        raise ClusterError("only root can start a cluster")
    missing = [name for name in PROGRAMS if not shutil.which(name, path=SYSTEM_PATH)]
    if missing:
        raise ClusterError(f"{', '.join(missing)} not found; run tests/cluster/install.sh")


class Cluster:
    """One cluster, with all its files in `root` and in a private folder with a short path for sockets."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root).resolve()
        # Unique to this cluster: SLURM sets it in every job, so it tells which cluster a process belongs to.
        self.name = "gluegrid_" + hashlib.sha256(str(self.root).encode()).hexdigest()[:8]
        # Not below root: the path of a socket is limited to about 100 characters.
        self.private = Path("/tmp") / self.name
        self.environment = {"SLURM_CONF": str(self.root / "slurm.conf")}

    def start(self) -> None:
        """Write the files and start every daemon."""
        write_files(self.root, self.private, self.name)
        self._make_database()
        for daemon in ("munged", "mariadbd", "slurmdbd"):
            self.launch(daemon)
        self._start_controller()

    def _start_controller(self) -> None:
        self._make_account()
        for daemon in ("slurmctld", *NODES):
            self.launch(daemon)
        if not wait_until(self._is_idle, START_SECONDS):
            raise ClusterError(f"nodes not idle. {self._end_of_log('slurmctld')}")

    def stop(self) -> None:
        """Cancel the jobs, end every process of the cluster and remove its folders."""
        if not self._owns_root():
            raise ClusterError(f"{self.root} is not a cluster's folder; name another with --root")
        self._cancel_jobs()
        # Take them while the job steps live: a job's child with an emptied environment is found only through them.
        processes = self._processes()
        for group in (("slurmctld", *NODES), ("slurmdbd",), ("mariadbd", "munged")):
            self._end(signal.SIGTERM, *group)
        for process in processes | self._processes():
            send(signal.SIGKILL, process)
        if not wait_until(lambda: not self._processes(), STOP_SECONDS):
            raise ClusterError(f"these processes do not die: {sorted(self._processes())}")
        for folder in (self.private, self.root):
            if folder.exists():
                shutil.rmtree(folder)

    def is_up(self) -> bool:
        """Return whether every daemon runs and the controller answers."""
        return all(self._pids(daemon) for daemon in DAEMONS) and self._answers("slurmctld")

    def run(self, *command: str) -> str:
        """Return the output of a SLURM command. Raise ClusterError if it fails."""
        result = self._call(*command)
        if command[0] in QUESTIONS and ANSWERS_LATE.search(result.stderr):
            wait_until(lambda: self._answers("slurmctld"), START_SECONDS)
            result = self._call(*command)
        if result.returncode != 0:
            raise ClusterError(f"{' '.join(command)}: {(result.stderr or result.stdout).strip()}")
        return result.stdout.strip()

    def accounting(self, *fields: str) -> list[list[str]]:
        """Return these fields of each job of the last day; by default, sacct lists those since midnight."""
        options = ("--allocations", "--starttime=now-1day", "--noheader", "--parsable2")
        lines = self.run("sacct", *options, f"--format={','.join(fields)}").splitlines()
        return [line.split("|") for line in lines]

    def kill(self, daemon: str) -> None:
        """Kill one of DAEMONS as a crash would; jobs keep running."""
        self._end(signal.SIGKILL, daemon)

    def launch(self, daemon: str) -> None:
        """Start one of DAEMONS, also after `kill`, and wait until it answers."""
        with self._log(daemon).open("ab") as log:
            # setsid makes it a child of init: it leaves no zombie here, and Ctrl-C does not reach it.
            subprocess.run(
                ["setsid", "--fork", *self._command(daemon)],
                env=self._daemon_environment(daemon),
                cwd=self.root,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                check=True,
            )
        wait_until(lambda: bool(self._pids(daemon)), APPEAR_SECONDS)
        wait_until(lambda: self._answers(daemon) or not self._pids(daemon), START_SECONDS)
        if complaint := self._complaint(daemon):
            raise ClusterError(f"{daemon} did not start: {complaint}. {self._end_of_log(daemon)}")

    def _command(self, daemon: str) -> list[str]:
        munge = {
            "key-file": self.private / "munge.key",
            "socket": self.private / "munge.socket",
            "seed-file": self.private / "munge.seed",
            "pid-file": self.private / "munge.pid",
            "log-file": self.private / "munge.log",
            "origin": "127.0.0.1",
        }
        commands = {
            "munged": ["munged", "--foreground", *(f"--{key}={munge[key]}" for key in munge)],
            "mariadbd": ["mariadbd", *DATABASE_OPTIONS, *self._database_paths()],
            "slurmdbd": ["slurmdbd", "-D"],
            "slurmctld": ["slurmctld", "-D"],
        }
        return commands.get(daemon) or ["slurmd", "-D", "-N", daemon]

    def _daemon_environment(self, daemon: str) -> dict[str, str]:
        return {
            "PATH": SYSTEM_PATH,
            "SLURM_CLUSTER_NAME": self.name,
            "GLUEGRID_DAEMON": daemon,
            # slurmdbd has no setting for the database's socket; its client library reads this.
            "MYSQL_UNIX_PORT": f"{self.private}/database",
            **self.environment,
        }

    def _answers(self, daemon: str) -> bool:
        return not self._complaint(daemon)

    def _complaint(self, daemon: str) -> str:
        """Return why a daemon cannot be used yet, or an empty text if it answers."""
        database = f"--socket={self.private}/database"
        probes = {
            "munged": ("munge", f"--socket={self.private}/munge.socket", "--no-input"),
            "mariadbd": ("mariadb-admin", "--no-defaults", database, "ping"),
            "slurmdbd": ("sacctmgr", "show", "cluster"),
            "slurmctld": ("scontrol", "ping"),
        }
        if not self._pids(daemon):
            return "it does not run"
        if daemon in NODES:
            return ""
        result = self._call(*probes[daemon])
        return (result.stderr or result.stdout).strip() if result.returncode else ""

    def _make_database(self) -> None:
        login = ("--auth-root-authentication-method=socket", "--auth-root-socket-user=root")
        quick = ("--skip-test-db", "--skip-name-resolve")
        paths = self._database_paths()
        self.run("mariadb-install-db", *DATABASE_OPTIONS, *paths, *login, *quick)

    def _database_paths(self) -> list[str]:
        # Each cluster has its own tmpdir: a server that starts deletes the temporary tables of others in it.
        places = {
            "datadir": self.root / "database",
            "socket": self.private / "database",
            "tmpdir": self.root / "tables",
        }
        return [f"--{key}={place}" for key, place in places.items()]

    def _make_account(self) -> None:
        add = ("sacctmgr", "--immediate", "add")
        self.run(*add, "cluster", self.name)
        self.run(*add, "account", "gluegrid", f"Cluster={self.name}")
        if QOS not in self.run("sacctmgr", "--noheader", "show", "qos", "format=name%20"):
            self.run(*add, "qos", QOS)
        self.run(*add, "user", "root", "DefaultAccount=gluegrid", f"QOS=normal,{QOS}", f"Cluster={self.name}")

    def _is_idle(self) -> bool:
        states = self._call("sinfo", "--noheader", "--Node", "--partition=gpu", "--format=%T")
        return states.stdout.split() == ["idle"] * len(NODES)

    def _cancel_jobs(self) -> None:
        if self._answers("slurmctld"):
            self._call("scancel", "--user=root")
            wait_until(lambda: not self._call("squeue", "--noheader").stdout, STOP_SECONDS)

    def _end(self, number: signal.Signals, *daemons: str) -> None:
        for daemon in daemons:
            for process in self._pids(daemon):
                send(number, process)
        wait_until(lambda: not any(self._pids(daemon) for daemon in daemons), STOP_SECONDS)

    def _owns_root(self) -> bool:
        """Return whether `root` may be removed: it is absent or empty, or has our own configuration."""
        if not self.root.exists() or not any(self.root.iterdir()):
            return True
        configuration = self.root / "slurm.conf"
        return configuration.exists() and f"ClusterName={self.name}\n" in configuration.read_text()

    def _pids(self, daemon: str) -> list[int]:
        program = "slurmd" if daemon in NODES else daemon
        marks = {f"GLUEGRID_DAEMON={daemon}", f"SLURM_CLUSTER_NAME={self.name}"}
        pids = processes_and_parents()
        return [pid for pid in pids if name_of(pid) == program and marks <= environment_of(pid)]

    def _processes(self) -> set[int]:
        """Return the daemons, the job steps, what jobs started, and all their descendants."""
        children = defaultdict(list)
        for pid, parent in processes_and_parents().items():
            children[parent].append(pid)
        every = [pid for pids in children.values() for pid in pids]
        waiting = [pid for pid in every if self._is_ours(pid)]
        found: set[int] = set()
        while waiting:
            pid = waiting.pop()
            if pid not in found:
                found.add(pid)
                waiting += children[pid]
        return found

    def _is_ours(self, pid: int) -> bool:
        if f"SLURM_CLUSTER_NAME={self.name}" in environment_of(pid):
            return True
        # slurmstepd overwrites its environment with its title, but keeps slurmd's working folder.
        return name_of(pid) == "slurmstepd" and folder_of(pid) == self.root

    def _log(self, daemon: str) -> Path:
        return self.root / "logs" / f"{daemon}.log"

    def _end_of_log(self, daemon: str) -> str:
        lines = self._log(daemon).read_text(errors="replace").splitlines()
        return "\n  ".join(["Its log ends:", *lines[-8:]])

    def _call(self, *command: str) -> subprocess.CompletedProcess[str]:
        path = f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}"
        # The name also marks commands that are still running when `up` is killed.
        marked = {**self.environment, "PATH": path, "SLURM_CLUSTER_NAME": self.name}
        environment = {**os.environ, **marked}
        try:
            return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=START_SECONDS)
        except (OSError, subprocess.TimeoutExpired) as error:
            return subprocess.CompletedProcess(command, 1, "", str(error))


class Neighbour(Cluster):
    """Another cluster that shares the accounting of a first one: SLURM's programs reach both with `--clusters`.

    Stop it before the first.
    """

    def __init__(self, root: Path, first: Cluster) -> None:
        super().__init__(root)
        self.first = first

    def start(self) -> None:
        """Write the files and start its own daemons."""
        write_files(self.root, self.private, self.name, self.first.root)
        self._start_controller()


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait until a condition is true; return whether it was in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def processes_and_parents() -> dict[int, int]:
    """Return every process with its parent, except zombies."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            # The name, in parentheses, may contain anything.
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if state != "Z":
            parents[int(folder.name)] = int(parent)
    return parents


def environment_of(pid: int) -> set[str]:
    """Return the environment that a process started with."""
    try:
        return set(os.fsdecode(Path(f"/proc/{pid}/environ").read_bytes()).split("\0"))
    except OSError:
        return set()


def name_of(pid: int) -> str:
    """Return the name of a process's program."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def folder_of(pid: int) -> Path:
    """Return a process's working folder."""
    try:
        return Path(str(Path(f"/proc/{pid}/cwd").readlink()).removesuffix(" (deleted)"))
    except OSError:
        return Path()


def send(number: signal.Signals, pid: int) -> None:
    """Signal a process that may have ended."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


if __name__ == "__main__":
    main()
