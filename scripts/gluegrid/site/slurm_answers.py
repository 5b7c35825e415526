"""Parse the answers of SLURM's programs, from 20.11 on, into plain values. Samples are in tests/data/slurm.

The commands ask for machine-readable output wherever there is one. Sites may add lines, such as a banner, so only
lines of the expected shape count.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from gluegrid.execution.slurm_nodes import cards_in, takes_jobs

# The commands; functions below parse their answers.
VERSION = ("sinfo", "--version")
CONFIGURATION = ("scontrol", "show", "config")
PARTITIONS = ("scontrol", "--oneliner", "show", "partition")
NODE_COLUMNS = "%R|%a|%T|%D|%c|%m|%G|%f"  # partition, whether it is up, state, how many, CPUs, memory, GRES, features
NODES = ("sinfo", "--noheader", "--exact", f"--format={NODE_COLUMNS}")
OF_SACCTMGR = ("sacctmgr", "--noheader", "--parsable2", "show")
USER_COLUMNS = "format=User,DefaultAccount"
ASSOCIATION_COLUMNS = "format=Cluster,User,Account,Partition,QOS,DefaultQOS,MaxSubmit"
QOS = (*OF_SACCTMGR, "qos", "format=Name,MaxSubmitPU,MaxWall")

NO_LIMIT = {"UNLIMITED", "INFINITE", "MAXTIME", "NONE", "N/A", "", "(NULL)", "-1"}
DURATION = re.compile(r"(?:(?P<days>\d+)-)?(?P<clock>\d+(?::\d+){0,2})")  # [days-][hours:[minutes:]][seconds]
SIZES = {"": 1, "K": 1 / 1024, "M": 1, "G": 1024, "T": 1024**2}  # of memory in MB
TYPE_OF_NO_ACCOUNTING = {"", "(null)", "none", "accounting_storage/none"}


@dataclass(frozen=True)
class Nodes:
    """Identical nodes of a partition. `cards` is the number of GPUs in each, by kind; '' is a kind without a name."""

    partition: str
    is_usable: bool
    count: int
    cpus: int
    memory_mb: int
    cards: dict[str, int]


@dataclass(frozen=True)
class Partition:
    """A partition, as scontrol shows it. `max_minutes` is None for no limit; a list is None if all are allowed."""

    name: str
    is_default: bool = False
    is_up: bool = True
    is_for_root: bool = False
    max_minutes: int | None = None
    groups: list[str] | None = None
    accounts: list[str] | None = None
    not_accounts: list[str] = field(default_factory=list)
    qos: list[str] | None = None
    not_qos: list[str] = field(default_factory=list)
    is_preempted: bool = False
    nodes: list[Nodes] = field(default_factory=list)

    @property
    def cards(self) -> dict[str, int]:
        """The number of GPUs in its usable nodes, by kind."""
        return cards_of(nodes for nodes in self.nodes if nodes.is_usable)

    @property
    def kinds(self) -> list[str]:
        """The names of its kinds of GPU, whether usable now or not."""
        return [*dict.fromkeys(kind for nodes in self.nodes for kind in nodes.cards if kind)]

    @property
    def is_usable(self) -> bool:
        """Whether any of its nodes takes jobs, now or later."""
        return any(nodes.is_usable for nodes in self.nodes)

    @property
    def has_cards(self) -> bool:
        """Whether any of its nodes has GPUs, whether usable now or not."""
        return any(nodes.cards for nodes in self.nodes)


@dataclass(frozen=True)
class Association:
    """What a user may do with an account, perhaps in one partition only."""

    account: str
    partition: str
    qos: list[str]
    default_qos: str
    max_submit: int | None


@dataclass(frozen=True)
class LimitsOfQos:
    """What a QOS allows a user."""

    name: str
    max_submit: int | None
    max_minutes: int | None


def cards_of(some: Iterable[Nodes]) -> dict[str, int]:
    """Return the total number of GPUs in some nodes, by kind."""
    found: dict[str, int] = {}
    for nodes in some:
        for kind, count in nodes.cards.items():
            found[kind] = found.get(kind, 0) + count * nodes.count
    return found


def version_in(answer: str) -> str | None:
    """Return SLURM's version, from `slurm 23.11.4` or Debian's `slurm-wlm 22.05.8`."""
    found = re.search(r"^slurm\S* (\d\d\.\d\d\S*)", answer, re.MULTILINE)
    return found[1] if found else None


def configuration_in(answer: str) -> dict[str, str]:
    """Return the output of `scontrol show config` as a mapping."""
    return dict(re.findall(r"^(\w+) *= *(.*?) *$", answer, re.MULTILINE))


def seconds_in(text: str) -> int | None:
    """Return the seconds of a setting such as `300 sec`."""
    found = re.match(r"(\d+)(?: sec)?$", text)
    return int(found[1]) if found else None


def has_accounting(configuration: dict[str, str]) -> bool:
    """Tell whether this SLURM has accounting; since 23.11, `(null)` means that it has none."""
    return configuration.get("AccountingStorageType", "") not in TYPE_OF_NO_ACCOUNTING


def minutes_in(text: str) -> int | None:
    """Return the minutes of a duration such as 1-00:00:00, 01:00:00 or 30:00; None for no limit or other text."""
    found = None if text.strip().upper() in NO_LIMIT else DURATION.fullmatch(text.strip())
    if found is None:
        return None
    parts = [int(part) for part in found["clock"].split(":")]
    # After days come hours. Otherwise a single number is minutes, and the last of several is seconds.
    if found["days"]:
        hours, minutes, _ = (*parts, 0, 0)[:3]
    else:
        hours, minutes = (0, parts[0]) if len(parts) < 3 else parts[:2]
    return (int(found["days"] or 0) * 24 + hours) * 60 + minutes


def partitions_in(answer: str, nodes: list[Nodes]) -> list[Partition]:
    """Return the partitions that scontrol shows, one per line, with their nodes."""
    lines = [line for line in answer.splitlines() if line.startswith("PartitionName=")]
    return [_partition(line, nodes) for line in lines]


def _partition(line: str, nodes: list[Nodes]) -> Partition:
    # A name may contain spaces; it ends where the next key=value begins.
    name = re.split(r" (?=\w+=)", line)[0].removeprefix("PartitionName=")
    values = dict(re.findall(r"(?:^| )(\w+)=(\S*)", line.removeprefix(f"PartitionName={name}")))
    return Partition(
        name=name,
        is_default=values.get("Default") == "YES",
        is_up=values.get("State", "UP") == "UP",
        is_for_root=values.get("RootOnly") == "YES",
        max_minutes=minutes_in(values.get("MaxTime", "")),
        groups=_names(values.get("AllowGroups", "ALL")),
        accounts=_names(values.get("AllowAccounts", "ALL")),
        not_accounts=_names(values.get("DenyAccounts", "")) or [],
        qos=_names(values.get("AllowQos", "ALL")),
        not_qos=_names(values.get("DenyQos", "")) or [],
        # Under GANG jobs take turns, which is no preemption.
        is_preempted=bool(re.search("REQUEUE|CANCEL|SUSPEND", values.get("PreemptMode", ""))),
        nodes=[some for some in nodes if some.partition == name],
    )


def _names(text: str) -> list[str] | None:
    return None if text in ("ALL", "(null)") else [name for name in text.split(",") if name]


def nodes_in(answer: str) -> list[Nodes]:
    """Return the nodes in sinfo's lines of NODE_COLUMNS."""
    rows = [line.strip().split("|") for line in answer.splitlines()]
    return [_nodes(*row) for row in rows if len(row) == NODE_COLUMNS.count("|") + 1 and row[3].isdecimal()]


def _nodes(partition: str, is_up: str, state: str, count: str, cpus: str, memory: str, gres: str, _: str) -> Nodes:
    is_usable = is_up == "up" and takes_jobs(state)
    return Nodes(partition, is_usable, int(count), int(_megabytes(cpus)), _megabytes(memory), cards_in(gres))


def _megabytes(text: str) -> int:
    """Return megabytes from a number that may have a unit, and a `+` if some nodes have more."""
    found = re.match(r"(\d+(?:\.\d+)?)([KMGT]?)", text)
    return int(float(found[1]) * SIZES[found[2]]) if found else 0


def default_account_in(answer: str, user: str) -> str | None:
    """Return a user's default account, from sacctmgr's lines of USER_COLUMNS."""
    rows = [line.split("|") for line in answer.splitlines()]
    return next((row[1] for row in rows if len(row) == 2 and row[0] == user and row[1]), None)


def associations_in(answer: str, user: str, cluster: str) -> list[Association]:
    """Return a user's associations on a cluster, from sacctmgr's lines of ASSOCIATION_COLUMNS."""
    rows = [line.split("|") for line in answer.splitlines()]
    return [
        Association(row[2], row[3], [name for name in row[4].split(",") if name], row[5], _number(row[6]))
        for row in rows
        # The database stores the names of clusters in lower case.
        if len(row) == 7 and row[1] == user and (not cluster or row[0].lower() == cluster.lower())
    ]


def qos_in(answer: str) -> dict[str, LimitsOfQos]:
    """Return the limits of each QOS, from sacctmgr's lines of QOS."""
    rows = [line.split("|") for line in answer.splitlines()]
    return {row[0]: LimitsOfQos(row[0], _number(row[1]), minutes_in(row[2])) for row in rows if len(row) == 3}


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() else None
