"""What SLURM's answers mean for a call of snakemake: slurmctld, accounting, limits, partitions."""

import re
from collections.abc import Iterator

from gluegrid.common.formatting import counted, duration
from gluegrid.site.findings import Finding, fault, note, ok
from gluegrid.site.job_request import NoRequestError
from gluegrid.site.slurm_answers import Partition, cards_of, seconds_in
from gluegrid.site.slurm_site import Site

SECONDS_BETWEEN_LOOKS = 30  # the profile's seconds-between-status-checks; ended jobs must stay listed for longer
FEW_JOBS = 5
# Advice by words in SLURM's error message, which are used for nothing else.
ADVICE = [
    ("munge", "munge does not run on this machine or has another key: tell the site"),
    (
        "configuration source|configuration file|config file|ClusterName needs|slurm\\.conf|DNS SRV",
        "SLURM's configuration is not found here: load the site's SLURM module, or set SLURM_CONF",
    ),
    (
        "no answer for",
        "munge or slurmctld may be down: try again later, then tell the site",
    ),
    (
        "contact slurm controller|connect|timed out|communication",
        "slurmctld is down: try again when `scontrol ping` says UP; running jobs continue",
    ),
]
OTHER_ADVICE = "check that `scontrol ping` and `sinfo` work in this terminal; if not, tell the site"


def missing_finding(missing: list[str]) -> Finding:
    """Report that some of SLURM's programs are missing."""
    return fault(
        f"{', '.join(missing)}: not in PATH, though other SLURM programs are",
        "load the site's SLURM module, or add their folder to PATH",
    )


def unanswered_finding(complaint: str) -> Finding:
    """Report that SLURM does not answer, and what that may mean."""
    advice = next((text for words, text in ADVICE if re.search(words, complaint, re.IGNORECASE)), OTHER_ADVICE)
    return fault(f"SLURM does not answer: {complaint}", advice)


def site_findings(site: Site) -> Iterator[Finding]:
    """Check the site's SLURM and what the user may do there."""
    yield ok(f"SLURM {site.version}, cluster {site.cluster}: slurmctld answers")
    yield from _accounting(site)
    yield from _limits(site)
    yield from _partitions(site)


def _accounting(site: Site) -> Iterator[Finding]:
    kept = seconds_in(site.configuration.get("MinJobAge", ""))
    is_forgotten_soon = kept is not None and 0 < kept < SECONDS_BETWEEN_LOOKS  # 0: never
    works = site.has_accounting and not site.complaint_of_accounting
    if site.complaint_of_accounting:
        yield note(
            f"SLURM's accounting does not answer: {site.complaint_of_accounting}", "tell the site; cells run without it"
        )
    elif not works:
        yield ok("no SLURM accounting here: how jobs end is asked of squeue, as the profile sets it")
    else:
        yield ok(f"SLURM's accounting answers; ended jobs stay listed for {kept} s (MinJobAge)")
    if is_forgotten_soon and not works:
        yield fault(
            f"SLURM forgets ended jobs after {kept} s (MinJobAge), and there is no accounting to ask",
            f"ask the site for a MinJobAge of at least {2 * SECONDS_BETWEEN_LOOKS}; until then, set"
            f" seconds-between-status-checks: {max(1, kept // 2)} in the profile",
        )
    if site.configuration.get("MaxArraySize") in ("0", "1"):
        yield note("array jobs are switched off (MaxArraySize)", "leave slurm-array-jobs out of the profile")


def _limits(site: Site) -> Iterator[Finding]:
    if not site.has_accounting or site.complaint_of_accounting:
        return
    if not site.associations:
        told = f"{site.user} has no account in SLURM's accounting"
        if site.enforces_accounts:
            yield fault(told, "ask the site for one: sbatch refuses jobs without it")
        else:
            yield ok(f"{told} and needs none")
        return
    others = f" (others: {', '.join(site.accounts[1:])})" if site.accounts[1:] else ""
    yield ok(f"account {site.accounts[0]}{others}; QOS: {', '.join(site.names_of_qos) or 'the default one'}")
    limit = site.max_submit(site.accounts[0], None)
    if limit is not None and limit < FEW_JOBS:
        yield note(
            f"you may have {counted(limit, 'job')} in the queue (MaxSubmitJobs)",
            "ask the site for more",
        )
    elif limit is not None:
        yield ok(f"you may have {limit} jobs in the queue (MaxSubmitJobs)")


def _partitions(site: Site) -> Iterator[Finding]:
    with_cards = [partition for partition in site.partitions if partition.has_cards]
    for partition in with_cards:
        yield _partition(site, partition)
    if with_cards and all(site.why_not(partition) for partition in with_cards):
        yield note(
            "you may not use any partition with GPUs", "ask the site for access; until then, train with `device: cpu`"
        )
    if not site.partitions:
        yield fault("SLURM shows you no partition", "ask the site for access")
    elif not with_cards:
        names = ", ".join(partition.name for partition in site.partitions)
        yield note(
            f"no partition has GPUs; there are: {names}",
            "train with `device: cpu`; if the nodes do have GPUs, ask the site for GresTypes=gpu",
        )


def _partition(site: Site, partition: Partition) -> Finding:
    told = f"partition {partition.name}{' (default)' if partition.is_default else ''}: {_nodes_of(partition)}"
    if reason := site.why_not(partition):
        return ok(f"{told}; you may not use it ({reason})")
    if not partition.cards:
        return note(f"{told}; none of its nodes is up now", "sinfo -R says why; use another partition meanwhile")
    return ok(told + ("; its jobs can be preempted" if partition.is_preempted else ""))


def _nodes_of(partition: Partition) -> str:
    """Describe the GPUs, nodes and time limit of a partition; of its usable nodes if there are any."""
    told = [nodes for nodes in partition.nodes if nodes.is_usable] or partition.nodes
    cards = ", ".join(f"{count} {kind or 'GPUs'}" for kind, count in cards_of(told).items())
    nodes = counted(sum(nodes.count for nodes in told), "node")
    # In SLURM's megabytes, 1,000 of which sites call a GB.
    memory = f"{min(nodes.memory_mb for nodes in told) / 1000:,.0f} GB"
    limit = partition.max_minutes
    how_long = "no time limit" if limit is None else f"at most {duration(limit * 60)}"
    return f"{cards} on {nodes} of {memory}, {how_long}"


def without_node(partition: str) -> Finding:
    """Report that no node of the best partition is up, so that none was checked."""
    return note(
        f"no node of partition {partition} is up now, so none was checked",
        "sinfo -R says why; the profile can be used: run make doctor again when a node is back",
    )


def refused_findings(error: NoRequestError) -> Iterator[Finding]:
    """Report why sbatch refuses jobs in every partition."""
    for partition, reason in error.refusals.items():
        yield fault(
            f"sbatch refuses jobs in partition {partition}: {reason}",
            "correct the profile, or ask the site (docs/cluster.md, When it does not work)",
        )
    if not error.refusals:
        yield fault("you may not use any partition", "ask the site for access to one")
