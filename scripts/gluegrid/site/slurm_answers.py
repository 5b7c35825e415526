"""What SLURM's programs answer, from 20.11 on, read into plain values. Samples of them are in tests/data/slurm.

SLURM is asked for its forms for machines wherever there is one. Sites let its programs say more than they are asked
for, such as a banner: only lines of the asked shape count.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from gluegrid.execution.slurm_nodes import cards_in, takes_jobs

# What is asked, each with what reads the answer below.
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
    """Some nodes of a partition that are alike. `cards` are how many GPUs each has, by kind; '' for no kind's name."""

    partition: str
    is_usable: bool
    count: int
    cpus: int
    memory_mb: int
    cards: dict[str, int]


@dataclass(frozen=True)
class Partition:
    """A partition, as scontrol shows it. `max_minutes` is None without a limit; a list is None where all may."""

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
        """How many GPUs its usable nodes have together, by kind."""
        return cards_of(nodes for nodes in self.nodes if nodes.is_usable)

    @property
    def kinds(self) -> list[str]:
        """The names of the kinds of its GPUs, usable now or not."""
        return [*dict.fromkeys(kind for nodes in self.nodes for kind in nodes.cards if kind)]

    @property
    def is_usable(self) -> bool:
        """Whether any of its nodes is in use, for jobs now or later."""
        return any(nodes.is_usable for nodes in self.nodes)

    @property
    def has_cards(self) -> bool:
        """Whether any of its nodes has GPUs, usable now or not."""
        return any(nodes.cards for nodes in self.nodes)


@dataclass(frozen=True)
class Association:
    """What a user may do with an account, maybe in one partition only."""

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
    """Return how many GPUs some nodes have together, by kind."""
    found: dict[str, int] = {}
    for nodes in some:
        for kind, count in nodes.cards.items():
            found[kind] = found.get(kind, 0) + count * nodes.count
    return found


def version_in(answer: str) -> str | None:
    """Return SLURM's version, from `slurm 23.11.4` or, of Debian, `slurm-wlm 22.05.8`."""
    found = re.search(r"^slurm\S* (\d\d\.\d\d\S*)", answer, re.MULTILINE)
    return found[1] if found else None


def configuration_in(answer: str) -> dict[str, str]:
    """Return scontrol's `show config`, by its keys."""
    return dict(re.findall(r"^(\w+) *= *(.*?) *$", answer, re.MULTILINE))


def seconds_in(text: str) -> int | None:
    """Return what the configuration says as `300 sec`."""
    found = re.match(r"(\d+)(?: sec)?$", text)
    return int(found[1]) if found else None


def has_accounting(configuration: dict[str, str]) -> bool:
    """Tell whether this SLURM keeps an accounting; `(null)` is what none is called since 23.11."""
    return configuration.get("AccountingStorageType", "") not in TYPE_OF_NO_ACCOUNTING


def minutes_in(text: str) -> int | None:
    """Return a duration in minutes, such as 1-00:00:00, 01:00:00 or 30:00; None for no limit or no duration."""
    found = None if text.strip().upper() in NO_LIMIT else DURATION.fullmatch(text.strip())
    if found is None:
        return None
    parts = [int(part) for part in found["clock"].split(":")]
    # Behind days it begins with hours; else a single number is minutes, and the last of several is seconds.
    if found["days"]:
        hours, minutes, _ = (*parts, 0, 0)[:3]
    else:
        hours, minutes = (0, parts[0]) if len(parts) < 3 else parts[:2]
    return (int(found["days"] or 0) * 24 + hours) * 60 + minutes


def partitions_in(answer: str, nodes: list[Nodes]) -> list[Partition]:
    """Return the partitions that scontrol shows, one a line, with their nodes."""
    lines = [line for line in answer.splitlines() if line.startswith("PartitionName=")]
    return [_partition(line, nodes) for line in lines]


def _partition(line: str, nodes: list[Nodes]) -> Partition:
    # A name may have spaces, and is followed by who may use the partition.
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
        # GANG: jobs take turns. What it is not told, a partition has from the cluster.
        is_preempted=bool(re.search("REQUEUE|CANCEL|SUSPEND", values.get("PreemptMode", ""))),
        nodes=[some for some in nodes if some.partition == name],
    )


def _names(text: str) -> list[str] | None:
    return None if text in ("ALL", "(null)") else [name for name in text.split(",") if name]


def nodes_in(answer: str) -> list[Nodes]:
    """Return the nodes of sinfo's lines of NODE_COLUMNS."""
    rows = [line.strip().split("|") for line in answer.splitlines()]
    return [_nodes(*row) for row in rows if len(row) == NODE_COLUMNS.count("|") + 1 and row[3].isdecimal()]


def _nodes(partition: str, is_up: str, state: str, count: str, cpus: str, memory: str, gres: str, _: str) -> Nodes:
    is_usable = is_up == "up" and takes_jobs(state)
    return Nodes(partition, is_usable, int(count), int(_megabytes(cpus)), _megabytes(memory), cards_in(gres))


def _megabytes(text: str) -> int:
    """Return a number that may have a unit, and a `+` where some nodes have more."""
    found = re.match(r"(\d+(?:\.\d+)?)([KMGT]?)", text)
    return int(float(found[1]) * SIZES[found[2]]) if found else 0


def default_account_in(answer: str, user: str) -> str | None:
    """Return a user's default account, from sacctmgr's lines of USER_COLUMNS."""
    rows = [line.split("|") for line in answer.splitlines()]
    return next((row[1] for row in rows if len(row) == 2 and row[0] == user and row[1]), None)


def associations_in(answer: str, user: str, cluster: str) -> list[Association]:
    """Return what a user may do on a cluster, from sacctmgr's lines of ASSOCIATION_COLUMNS."""
    rows = [line.split("|") for line in answer.splitlines()]
    return [
        Association(row[2], row[3], [name for name in row[4].split(",") if name], row[5], _number(row[6]))
        for row in rows
        # The database keeps names of clusters in lower case.
        if len(row) == 7 and row[1] == user and (not cluster or row[0].lower() == cluster.lower())
    ]


def qos_in(answer: str) -> dict[str, LimitsOfQos]:
    """Return what each QOS allows, from sacctmgr's lines of QOS."""
    rows = [line.split("|") for line in answer.splitlines()]
    return {row[0]: LimitsOfQos(row[0], _number(row[1]), minutes_in(row[2])) for row in rows if len(row) == 3}


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() else None
