"""What SLURM's answers mean for a call of snakemake: controller, accounting, limits, partitions."""

import re
from collections.abc import Iterator

from gluegrid.common.formatting import counted, duration
from gluegrid.site.findings import Finding, fault, note, ok
from gluegrid.site.job_request import NoRequestError
from gluegrid.site.slurm_answers import Partition, cards_of, seconds_in
from gluegrid.site.slurm_site import Site

SECONDS_BETWEEN_LOOKS = 30  # as the profile says: a job that ended has to be listed for longer
FEW_JOBS = 5
# What to do, by SLURM's own words; they are read for this advice only.
ADVICE = [
    ("munge", "munge does not run on this machine, or has another key: tell the site"),
    (
        "configuration source|configuration file|config file|ClusterName needs|slurm\\.conf|DNS SRV",
        "SLURM's configuration is not found here: load the site's module, or set SLURM_CONF",
    ),
    (
        "no answer for",
        "it hangs, as it does without munge or a controller: try again later, then tell the site",
    ),
    (
        "contact slurm controller|connect|timed out|communication",
        "the controller is away: try again when `scontrol ping` says UP; jobs that run go on",
    ),
]
OTHER_ADVICE = "see whether `scontrol ping` and `sinfo` work in this terminal; if not, tell the site"


def missing_finding(missing: list[str]) -> Finding:
    """Say that some, but not all, of SLURM's programs are there."""
    return fault(
        f"{', '.join(missing)}: in no folder of PATH, though others of SLURM's programs are",
        "load the site's module for SLURM, or add their folder to PATH",
    )


def unanswered_finding(complaint: str) -> Finding:
    """Say that SLURM does not answer, and what that means."""
    advice = next((text for words, text in ADVICE if re.search(words, complaint, re.IGNORECASE)), OTHER_ADVICE)
    return fault(f"SLURM does not answer: {complaint}", advice)


def site_findings(site: Site) -> Iterator[Finding]:
    """Yield what SLURM has said of itself and of its user."""
    yield ok(f"SLURM {site.version}, cluster {site.cluster}: its controller answers")
    yield from _accounting(site)
    yield from _limits(site)
    yield from _partitions(site)


def _accounting(site: Site) -> Iterator[Finding]:
    kept = seconds_in(site.configuration.get("MinJobAge", ""))
    is_forgotten_soon = kept is not None and 0 < kept < SECONDS_BETWEEN_LOOKS  # 0: never
    works = site.has_accounting and not site.complaint_of_accounting
    if site.complaint_of_accounting:
        yield note(
            f"the accounting does not answer: {site.complaint_of_accounting}", "cells run without it; tell the site"
        )
    elif not works:
        yield ok("no accounting here: squeue alone says how jobs end, which the profile takes")
    else:
        yield ok(f"the accounting answers; ended jobs are listed for {kept} s (MinJobAge)")
    if is_forgotten_soon and not works:
        yield fault(
            f"SLURM forgets ended jobs after {kept} s (MinJobAge), and no accounting knows them",
            f"ask the site for MinJobAge of {2 * SECONDS_BETWEEN_LOOKS} at least; until then, in the profile,"
            f" seconds-between-status-checks: {max(1, kept // 2)}",
        )
    if site.configuration.get("MaxArraySize") in ("0", "1"):
        yield note("array jobs are switched off (MaxArraySize)", "leave slurm-array-jobs out of the profile")


def _limits(site: Site) -> Iterator[Finding]:
    if not site.has_accounting or site.complaint_of_accounting:
        return
    if not site.associations:
        told = f"{site.user} has no account in SLURM's accounting"
        if site.enforces_accounts:
            yield fault(told, "ask the site for one: sbatch refuses jobs without")
        else:
            yield ok(f"{told}, and needs none")
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
        yield note("no partition with GPUs is open to you", "ask the site for access; until then `device: cpu`")
    if not site.partitions:
        yield fault("SLURM shows no partition that you may use", "ask the site for access")
    elif not with_cards:
        names = ", ".join(partition.name for partition in site.partitions)
        yield note(
            f"no partition with GPUs, only: {names}",
            "train with `device: cpu`; or ask the site for GresTypes=gpu, if its nodes do have GPUs",
        )


def _partition(site: Site, partition: Partition) -> Finding:
    told = f"partition {partition.name}{' (default)' if partition.is_default else ''}: {_nodes_of(partition)}"
    if reason := site.why_not(partition):
        return ok(f"{told}; not for you: {reason}")
    if not partition.cards:
        return note(f"{told}; no node is in use now", "sinfo -R says why; take another partition meanwhile")
    return ok(told + ("; its jobs may be taken back for others'" if partition.is_preempted else ""))


def _nodes_of(partition: Partition) -> str:
    """Return the nodes, cards and limits of a partition in words; of its usable nodes, where there are any."""
    told = [nodes for nodes in partition.nodes if nodes.is_usable] or partition.nodes
    cards = ", ".join(f"{count} {kind or 'GPUs'}" for kind, count in cards_of(told).items())
    nodes = counted(sum(nodes.count for nodes in told), "node")
    # In SLURM's megabytes, of which sites say 1,000 are a GB.
    memory = f"{min(nodes.memory_mb for nodes in told) / 1000:,.0f} GB"
    limit = partition.max_minutes
    how_long = "no time limit" if limit is None else f"at most {duration(limit * 60)}"
    return f"{cards} on {nodes} of {memory}, {how_long}"


def without_node(partition: str) -> Finding:
    """Say that no node of the best partition is in use, so that none was asked."""
    return note(
        f"no node of partition {partition} is in use now: none was asked",
        "sinfo -R says why; the profile stands, and make doctor tries it again when one is back",
    )


def refused_findings(error: NoRequestError) -> Iterator[Finding]:
    """Yield why sbatch takes no job in any partition."""
    for partition, reason in error.refusals.items():
        yield fault(
            f"sbatch takes no job in partition {partition}: {reason}",
            "what it says, in the profile or with the site (docs/cluster.md, When it does not work)",
        )
    if not error.refusals:
        yield fault("there is no partition that you may use", "ask the site for access to one")
