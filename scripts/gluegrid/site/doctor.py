"""`make doctor`: check this machine, SLURM and one compute node, and propose a profile, before you spend GPU-hours."""

import os
from collections.abc import Iterator
from pathlib import Path

from gluegrid.common.errors import TransientError
from gluegrid.common.files import size_in_words
from gluegrid.execution.environment import leave_caller, leave_job_of_caller
from gluegrid.site import node_findings, node_report, slurm_findings, this_machine
from gluegrid.site.findings import Finding, Report, fault, note, ok
from gluegrid.site.job_request import NoRequestError, Request, accepted_request
from gluegrid.site.proposed_profile import choices_for, write_proposal
from gluegrid.site.reporting_job import MINUTES, NodeError, node_answer
from gluegrid.site.slurm_answers import Partition
from gluegrid.site.slurm_site import PROGRAMS, Site, ask_site, missing_programs

LOCAL = "profiles/local"


def examine(folder: Path) -> bool:
    """Print the findings and propose a profile in a folder; return whether there is no fault."""
    # Query SLURM and submit the job as a call of snakemake does, even when doctor itself runs inside a job.
    leave_caller()
    leave_job_of_caller("slurm")
    report = Report()
    report.begin("This machine")
    report.tell(this_machine.findings())
    report.tell(this_machine.hub_findings())
    report.begin("SLURM")
    profile = _examine_slurm(report, folder)
    ready = f"snakemake --profile {profile} -n" if profile else "fix the faults, then run make doctor again"
    print(f"\n{report.summary()[:1].upper()}{report.summary()[1:]}. Next: {ready}", flush=True)
    return not report.has_faults


def _examine_slurm(report: Report, folder: Path) -> str | None:
    """Return the profile to use; None if there is none yet."""
    missing = missing_programs()
    if len(missing) == len(PROGRAMS):
        report.tell([ok("no SLURM in PATH, so cells run on this machine (on a cluster, load its SLURM module first)")])
        report.begin("Training on this machine")
        report.tell(local_findings())
        return LOCAL
    if missing:
        report.tell([slurm_findings.missing_finding(missing)])
        return None
    try:
        site = ask_site()
    except TransientError as error:
        report.tell([slurm_findings.unanswered_finding(str(error))])
        return None
    report.tell(slurm_findings.site_findings(site))
    try:
        request = accepted_request(site, MINUTES)
    except NoRequestError as error:
        report.tell(slurm_findings.refused_findings(error))
        return None
    except TransientError as error:
        report.tell([slurm_findings.unanswered_finding(str(error))])
        return None
    partition = next(one for one in site.partitions if one.name == request.partition)
    report.begin("Profile")
    proposed: list[Path] = []
    report.tell(_propose(site, partition, request, folder, proposed))
    report.begin(f"A node of partition {request.partition} (a small job of some minutes; Ctrl-C cancels it)")
    report.tell(_look_at_node(request) if partition.is_usable else [slurm_findings.without_node(request.partition)])
    return str(proposed[0].parent) if proposed else None


def _propose(
    site: Site, partition: Partition, request: Request, folder: Path, proposed: list[Path]
) -> Iterator[Finding]:
    """Write the profile and append its path to `proposed`."""
    choices = choices_for(site, partition, request)
    try:
        path, is_new = write_proposal(folder, site, choices)
    except OSError as error:
        yield fault(f"{folder}: {error.strerror}", "name a folder that you can write to: make doctor PROFILE=...")
        return
    proposed.append(path)
    elsewhere = f"; {folder} holds another profile, which was left as it is" if path.parent != folder else ""
    said = ", ".join(f"{one.key} {one.value}" for one in choices if one.value is not None)
    yield ok(f"{path} {'was written' if is_new else 'is up to date'}: {said}{elsewhere}")


def _look_at_node(request: Request) -> Iterator[Finding]:
    folders = [path for path in map(Path, this_machine.FOLDERS) if path.is_dir()]
    try:
        answer = node_answer(request, folders, this_machine.endpoint())
    except NodeError as error:
        yield (note if error.is_late else fault)(str(error), error.advice)
        return
    yield ok(f"job {answer.job} ran on {answer.report['node']}")
    yield from node_findings.findings(answer, wants_card=bool(request.gpus))


def local_findings() -> Iterator[Finding]:
    """Yield what this machine offers for training without SLURM."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    yield ok(f"{len(os.sched_getaffinity(0))} cores, {size_in_words(memory)} of memory; use --profile {LOCAL}")
    cards = node_report.cards()
    if cards["error"]:
        yield note(
            f"no GPU: {cards['error']}", "set `device: cpu` in the experiment file, as in experiments/minilm-glue.yaml"
        )
        return
    names = ", ".join(card["name"] for card in cards["cards"])
    yield ok(f"nvidia-smi lists {names}; each cell leases its own GPU")
    report = {"cards": cards, "torch": node_report.torch_as_used(), "given": "all"}
    yield from node_findings.card_findings(report, wants_card=True)
    yield from node_findings.shared_memory_findings(node_report.free_bytes("/dev/shm"))
