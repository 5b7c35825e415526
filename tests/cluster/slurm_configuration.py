"""The folders and configuration files of the test cluster."""

import os
import random
import re
import socket
import stat
from pathlib import Path

# Each node with the kind of its two GPUs, which is also a feature of the node.
KINDS = {"gpu1": "v100", "gpu2": "v100", "gpu3": "a100", "gpu4": "a100"}
NODES = (*KINDS,)

# cred_expire: a requeued job waits this many seconds (120 by default) before it starts again.
# AccountingStoragePass: the accounting takes its munge socket from here, not from AuthInfo.
# SchedulerParameters: backfill is not made quicker, since a job that it starts is not saved as running,
# and a controller killed then would start the job again.
# PreemptMode=OFF: high preempts low, and leaves the jobs of the default partition alone.
# KillWait: a training that is asked to leave needs seconds to note why, on a busy machine more than a few.
# config_overrides: nodes claim more resources than the machine has, so that 8 jobs run side by side anywhere.
SLURM_CONF = """\
ClusterName={name}
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={slurmctld_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={munge},cred_expire=10
StateSaveLocation={root}/state
SlurmdSpoolDir={private}/%n
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/%n.pid
MailProg=/bin/true
MpiDefault=none
ProctrackType=proctrack/linuxproc
SwitchType=switch/none
TaskPlugin=task/none
ReturnToService=1

AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={slurmdbd_port}
AccountingStoragePass={munge}
AccountingStorageTRES=gres/gpu
AccountingStorageEnforce=limits,qos
AccountingStoreFlags=job_comment
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill

SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=1000
SchedulerParameters=batch_sched_delay=0,sched_interval=2
PriorityType=priority/basic
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
KillWait=20
MinJobAge=600
OverTimeLimit=0

GresTypes=gpu
SlurmdParameters=config_overrides
NodeName=DEFAULT CPUs=16 RealMemory=64000
{node_lines}
PartitionName=gpu Nodes=ALL Default=YES PriorityTier=1 PreemptMode=OFF
PartitionName=low Nodes=ALL PriorityTier=1
PartitionName=high Nodes=ALL PriorityTier=2 PreemptMode=OFF
PartitionName=gpu-short Nodes=gpu1,gpu2 PriorityTier=1 PreemptMode=OFF MaxTime=60
"""

NODE = "NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} Gres=gpu:{kind}:2 Feature={kind}"

# StorageHost=localhost means the socket that MYSQL_UNIX_PORT names: the database has no port.
SLURMDBD_CONF = """\
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={slurmdbd_port}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={private}/munge.socket
PidFile={root}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=slurm
"""

GRES_CONF = "NodeName={node} Name=gpu Type={kind} File={root}/devices/{node}-[0-1]\n"


def write_files(root: Path, private: Path, name: str, first: Path | None = None) -> None:
    """Fill the cluster's two folders: create `private`; `root` may exist if it is empty.

    `first` is the root of the cluster whose accounting and key it shares, if these are not its own.
    """
    root.mkdir(exist_ok=True)
    write_configuration(root, private, name, first)
    make_munge_folder(private)
    for folder in ("logs", "state", "devices", "tables"):
        (root / folder).mkdir()
    for node in NODES:
        (private / node).mkdir()
        make_devices(root / "devices", node)


def write_configuration(root: Path, private: Path, name: str, first: Path | None = None) -> None:
    """Write SLURM's configuration files, with ports that are free now."""
    slurmctld_port, slurmdbd_port, *node_ports = free_ports(2 + len(NODES))
    ports = zip(NODES, node_ports, strict=True)
    host = socket.gethostname().split(".")[0]
    values = {
        "name": name,
        "root": root,
        "private": private,
        "host": host,
        "slurmctld_port": slurmctld_port,
        "slurmdbd_port": setting_of(first, "AccountingStoragePort") if first else slurmdbd_port,
        "munge": setting_of(first, "AccountingStoragePass") if first else private / "munge.socket",
        "node_lines": "\n".join(NODE.format(node=node, port=port, host=host, kind=KINDS[node]) for node, port in ports),
    }
    gres = "".join(GRES_CONF.format(node=node, kind=kind, root=root) for node, kind in KINDS.items())
    (root / "slurm.conf").write_text(SLURM_CONF.format(**values))
    (root / "gres.conf").write_text(gres)
    (root / "slurmdbd.conf").touch(mode=0o600)
    (root / "slurmdbd.conf").write_text(SLURMDBD_CONF.format(**values))


def setting_of(root: Path, key: str) -> str:
    """Return the value of a key in a cluster's slurm.conf."""
    return re.search(rf"^{key}=(.*)$", (root / "slurm.conf").read_text(), re.MULTILINE)[1]


def free_ports(count: int) -> list[int]:
    """Return free ports below those that the system assigns to outgoing connections and those of launch.sh.

    Tests side by side choose from different ones.
    """
    first = 10000 + 1000 * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    candidates = random.sample(range(first, first + 1000), 500)
    return [port for port in candidates if is_free(port)][:count]


def is_free(port: int) -> bool:
    """Return whether a daemon could listen on this port."""
    with socket.socket() as probe:
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def make_munge_folder(private: Path) -> None:
    """Create the folder of the sockets, with the permissions that munged requires, and a key."""
    private.mkdir()
    private.chmod(0o711)
    (private / "munge.key").touch(mode=0o600)
    (private / "munge.key").write_bytes(os.urandom(128))


def make_devices(folder: Path, node: str) -> None:
    """Create a node's two simulated GPUs: null devices, since SLURM only requires that they are devices."""
    for number in (0, 1):
        os.mknod(folder / f"{node}-{number}", stat.S_IFCHR | 0o666, os.makedev(1, 3))
