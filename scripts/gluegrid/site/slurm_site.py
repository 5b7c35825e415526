"""A SLURM site, as its programs describe it, and what a user may use there."""

import grp
import os
import pwd
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace

from gluegrid.common.errors import TransientError
from gluegrid.execution.slurm_queue import answer_of
from gluegrid.site import slurm_answers
from gluegrid.site.slurm_answers import Association, LimitsOfQos, Partition

PROGRAMS = ("sbatch", "squeue", "scancel", "sinfo", "scontrol")  # needed to submit and watch jobs
DEFAULT_QOS = "normal"  # SLURM's own default
SECONDS = 30  # for each answer; the first one tells whether slurmctld is down


@dataclass(frozen=True)
class Site:
    """SLURM's answers. `complaint_of_accounting` is why its accounting does not answer; '' if it does."""

    version: str
    configuration: dict[str, str]
    partitions: list[Partition]
    user: str
    groups: frozenset[str] = frozenset()
    is_root: bool = False
    default_account: str | None = None
    associations: list[Association] = field(default_factory=list)
    qos: dict[str, LimitsOfQos] = field(default_factory=dict)
    complaint_of_accounting: str = ""

    @property
    def cluster(self) -> str:
        """The cluster's name."""
        return self.configuration.get("ClusterName", "")

    @property
    def has_accounting(self) -> bool:
        """Whether SLURM has accounting here."""
        return slurm_answers.has_accounting(self.configuration)

    @property
    def enforces_accounts(self) -> bool:
        """Whether every job needs an account that its user may use."""
        enforced = self.configuration.get("AccountingStorageEnforce", "none")
        return re.search("associations|limits|qos|safe|all", enforced) is not None

    @property
    def accounts(self) -> list[str]:
        """The user's accounts, the default one first."""
        names = [self.default_account or "", *(association.account for association in self.associations)]
        return [name for name in dict.fromkeys(names) if name]

    @property
    def names_of_qos(self) -> list[str]:
        """The QOS that the user may use, the default ones first."""
        defaults = [association.default_qos for association in self.associations]
        return [name for name in dict.fromkeys([*defaults, *self._named_qos()]) if name]

    def _named_qos(self) -> Iterator[str]:
        return (name for association in self.associations for name in association.qos)

    def account_for(self, partition: Partition) -> str | None:
        """Return the first of the user's accounts that a partition accepts; None if there is none."""
        usable = {one.account for one in self.associations if one.partition in ("", partition.name)}
        usable -= {*partition.not_accounts}
        return next((name for name in self.accounts if name in usable and name in (partition.accounts or [name])), None)

    def qos_for(self, partition: Partition) -> str | None:
        """Return the QOS to name for a partition; None if the user's default QOS will do."""
        allowed = [name for name in self.names_of_qos if name not in partition.not_qos]
        if partition.qos is not None:
            allowed = [name for name in allowed if name in partition.qos]
        is_limited = partition.qos is not None or bool(partition.not_qos)
        return next(iter(allowed), None) if is_limited else None

    def max_submit(self, account: str | None, qos: str | None) -> int | None:
        """Return how many jobs the user may have in the queue with an account and a QOS; None if no limit is known."""
        limits = [one.max_submit for one in self.associations if account in (None, one.account)]
        limits += [limits_of.max_submit for limits_of in self._used_qos(account, qos)]
        return min((limit for limit in limits if limit is not None), default=None)

    def max_minutes(self, partition: Partition, account: str | None, qos: str | None) -> int | None:
        """Return the time limit of jobs in a partition with an account and a QOS; None for no limit."""
        limits = [partition.max_minutes, *(limits_of.max_minutes for limits_of in self._used_qos(account, qos))]
        return min((limit for limit in limits if limit is not None), default=None)

    def _used_qos(self, account: str | None, qos: str | None) -> list[LimitsOfQos]:
        """Return the QOS that a job gets: the named one, or else its account's default."""
        defaults = (one.default_qos or DEFAULT_QOS for one in self.associations if account in (None, one.account))
        return [self.qos[name] for name in ([qos] if qos else dict.fromkeys(defaults)) if name in self.qos]

    def why_not(self, partition: Partition) -> str:
        """Return why the user may not use a partition; '' if nothing is known against it."""
        if not partition.is_up:
            return "it is closed"
        if self.is_root:
            return ""
        if partition.is_for_root:
            return "RootOnly"
        if partition.groups is not None and self.groups.isdisjoint(partition.groups):
            return f"AllowGroups={','.join(partition.groups)}"
        if self.accounts and self.account_for(partition) is None:
            return f"it accepts none of your accounts: {','.join(self.accounts)}"
        if partition.qos is not None and self.names_of_qos and self.qos_for(partition) is None:
            return f"AllowQos={','.join(partition.qos)}"
        return ""


def missing_programs() -> list[str]:
    """Return which of the SLURM programs that gluegrid needs are not in PATH."""
    return [name for name in PROGRAMS if shutil.which(name) is None]


def ask_site() -> Site:
    """Ask SLURM about the site. Raise TransientError if slurmctld does not answer."""
    # First ask what only slurmctld knows: if it is down, there is no need to wait for the other answers.
    configuration = slurm_answers.configuration_in(_answer(slurm_answers.CONFIGURATION))
    if "ClusterName" not in configuration:
        raise TransientError("scontrol show config: the answer has no ClusterName")
    version = slurm_answers.version_in(_answer(slurm_answers.VERSION)) or configuration.get("SLURM_VERSION", "unknown")
    nodes = slurm_answers.nodes_in(_answer(slurm_answers.NODES))
    partitions = slurm_answers.partitions_in(_answer(slurm_answers.PARTITIONS), nodes)
    site = Site(version, configuration, partitions, name_of_user(), groups_of_user(), os.getuid() == 0)
    return _with_accounting(site) if site.has_accounting else site


def _with_accounting(site: Site) -> Site:
    of_user = (f"user={site.user}", slurm_answers.ASSOCIATION_COLUMNS)
    try:
        account = slurm_answers.default_account_in(
            _answer((*slurm_answers.OF_SACCTMGR, "user", site.user, slurm_answers.USER_COLUMNS)), site.user
        )
        associations = slurm_answers.associations_in(
            _answer((*slurm_answers.OF_SACCTMGR, "associations", *of_user)), site.user, site.cluster
        )
        qos = slurm_answers.qos_in(_answer(slurm_answers.QOS))
        _answer(("sacct", "--allocations", "--noheader", "--parsable2", "--format=JobID", "--starttime=now-1hour"))
    except TransientError as error:
        return replace(site, complaint_of_accounting=str(error))
    return replace(site, default_account=account, associations=associations, qos=qos)


def _answer(command: tuple[str, ...]) -> str:
    return answer_of(*command, seconds=SECONDS)


def name_of_user() -> str:
    """Return the name by which SLURM knows this user, or the user ID if it has no name here."""
    with suppress(KeyError):
        return pwd.getpwuid(os.getuid()).pw_name
    return str(os.getuid())


def groups_of_user() -> frozenset[str]:
    """Return the names of this user's groups; groups without a name here are left out."""
    names = set()
    for number in {os.getgid(), *os.getgroups()}:
        with suppress(KeyError):
            names.add(grp.getgrgid(number).gr_name)
    return frozenset(names)
