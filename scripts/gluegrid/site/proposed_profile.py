"""A profile for this site: the shipped one with the site's lines filled in and the reason beside each."""

import builtins
import json
import keyword
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gluegrid.common.escaping import one_line
from gluegrid.common.files import write_text
from gluegrid.common.formatting import duration
from gluegrid.common.provenance import PROJECT
from gluegrid.site.job_request import LONG_ENOUGH_MINUTES, Request, only_kind
from gluegrid.site.slurm_answers import Partition
from gluegrid.site.slurm_site import Site

SHIPPED = PROJECT / "profiles/slurm/config.yaml"
FILE = "config.yaml"
FOR_ALL, FOR_TRAIN, AT_TOP = "default-resources", "train", ""
RULER = re.compile(r"^# -{20,}$")
MOST_JOBS = 100  # as the shipped profile says
PLAIN = re.compile(r"[A-Za-z_][\w-]*")
# The names that Snakemake defines for expressions in a profile.
SEEN = {"wildcards", "attempt", "input", "threads", "resources", "rules", "config"}


@dataclass(frozen=True)
class Choice:
    """A line of the profile: its section, its key, its value (None: commented out) and the reason."""

    where: str
    key: str
    value: str | int | None
    reason: str


def choices_for(site: Site, partition: Partition, request: Request) -> list[Choice]:
    """Return what to write into the site's lines, and why."""
    return [
        _account(site, request),
        Choice(FOR_ALL, "slurm_partition", partition.name, _why_partition(site, partition, request)),
        _kind(partition),
        *_others(site, partition, request),
    ]


def _account(site: Site, request: Request) -> Choice:
    if request.account is None:
        why = (
            "SLURM has no accounting here"
            if not site.has_accounting
            else "you have no account in SLURM's accounting, so its default is used"
        )
    elif request.account == site.default_account:
        why = "your default account" + (f"; others: {', '.join(site.accounts[1:])}" if site.accounts[1:] else "")
    else:
        why = "the first of your accounts that this partition accepts"
    return Choice(FOR_ALL, "slurm_account", request.account, why)


def _why_partition(site: Site, partition: Partition, request: Request) -> str:
    default = "the default partition" if partition.is_default else "not the default partition"
    cards = ", ".join(f"{count} {kind or 'GPUs'}" for kind, count in partition.cards.items()) or "no GPU"
    others = [
        other.name for other in site.partitions if other.has_cards and other != partition and not site.why_not(other)
    ]
    longest = site.max_minutes(partition, request.account, request.qos)
    limit = (
        ""
        if longest is None
        else f"; at most {duration(longest * 60)} (for longer jobs see `runtime` in docs/cluster.md)"
    )
    return f"{default}; {cards}{limit}" + (f"; also with GPUs: {', '.join(others)}" if others else "")


def _kind(partition: Partition) -> Choice:
    if kind := only_kind(partition):
        return Choice(FOR_ALL, "gpu_model", kind, "the only kind in this partition; estimates are for it")
    kinds = partition.kinds
    if not kinds:
        return Choice(FOR_ALL, "gpu_model", None, "SLURM does not name the kinds of its GPUs here")
    return Choice(FOR_ALL, "gpu_model", None, f"kinds here: {', '.join(kinds)}; without one, SLURM picks any")


def _others(site: Site, partition: Partition, request: Request) -> Iterator[Choice]:
    longest = site.max_minutes(partition, request.account, request.qos)
    if request.qos:
        yield Choice(FOR_ALL, "qos", request.qos, "this partition does not accept every QOS")
    if longest is not None and longest < 60:
        yield Choice(FOR_ALL, "runtime", longest, "the partition's time limit")
    if not request.gpus:
        yield Choice(FOR_TRAIN, "gpu", 0, "no GPUs here: for experiments with `device: cpu`")
    if request.by_gres:
        yield Choice(FOR_TRAIN, "gres", "gpu", "sbatch accepts --gres here, but not --gpus")
    if not request.names_memory:
        yield Choice(FOR_TRAIN, "mem_mb", 0, "sbatch refuses --mem here: memory comes with the CPUs (cpus_per_task)")
    # Only where estimates may exceed the limit: elsewhere a cell that asks for all the time would wait the longest.
    if longest is not None and longest < LONG_ENOUGH_MINUTES:
        yield Choice(
            FOR_TRAIN, "runtime", longest, "minutes, the time limit here; a longer cell resumes in its next attempt"
        )
    limit = site.max_submit(request.account, request.qos)
    if limit is not None and limit <= MOST_JOBS:
        yield Choice(
            AT_TOP, "jobs", max(1, limit - 1), f"you may have {limit} jobs in the queue, one of them the controller"
        )


def profile_text(shipped: str, choices: list[Choice], folder: Path, cluster: str) -> str:
    """Return the shipped profile with the choices filled in."""
    lines = shipped.splitlines()
    lines[0] = f"# Proposed by `make doctor` for cluster {one_line(cluster)}: snakemake --profile {folder}"
    for choice in choices:
        if choice.where == FOR_ALL:
            _put_into_list(lines, choice)
        elif choice.where == AT_TOP:
            _put_at_top(lines, choice)
    if of_train := [choice for choice in choices if choice.where == FOR_TRAIN]:
        _put_for_train(lines, of_train)
    return "\n".join([*lines, ""])


def _put_into_list(lines: list[str], choice: Choice) -> None:
    pattern = re.compile(rf"^  (?:# )?- {choice.key}=(?P<value>.*)$")
    number = next((number for number, line in enumerate(lines) if pattern.match(line)), None)
    if choice.value is None:
        example = pattern.match(lines[number])["value"] if number is not None else "..."
        text = f"  # - {choice.key}={example}"
    else:
        text = f"  - {entry(choice.key, choice.value)}"
    if number is None:
        number = lines.index(f"{FOR_ALL}:") + 1
        lines.insert(number, "")
    lines[number] = with_reason(text, choice.reason)


def _put_at_top(lines: list[str], choice: Choice) -> None:
    number = next(number for number, line in enumerate(lines) if re.match(rf"{choice.key}:", line))
    lines[number] = with_reason(f"{choice.key}: {choice.value}", choice.reason)


def _put_for_train(lines: list[str], choices: list[Choice]) -> None:
    """Insert a section for train before the example of one, or else at the end of the site's lines."""
    wanted = (number for number, line in enumerate(lines) if line.startswith("# set-resources:") or RULER.match(line))
    number = next(wanted)
    section = [with_reason(f"    {choice.key}: {choice.value}", choice.reason) for choice in choices]
    lines[number:number] = ["set-resources:", "  train:", *section]


def entry(key: str, value: str | int) -> str:
    """Return an entry of a list of resources. Snakemake evaluates values, so Python's own names are quoted."""
    text = str(value)
    words = {*re.findall(r"\w+", text)}
    is_plain = PLAIN.fullmatch(text) and words.isdisjoint({*dir(builtins), *keyword.kwlist, *SEEN})
    is_plain = is_plain or isinstance(value, int)
    return f"{key}={text}" if is_plain else json.dumps(f"{key}={text!r}", ensure_ascii=False)


def with_reason(line: str, reason: str) -> str:
    """Return a line with its reason as a comment."""
    return f"{line}  # {one_line(reason)}"


def write_proposal(folder: Path, site: Site, choices: list[Choice]) -> tuple[Path, bool]:
    """Write the profile; return its file and whether it is new.

    Leave an existing file that differs as it is, and add a number to the folder's name instead.
    """
    shipped, number = SHIPPED.read_text(encoding="utf-8"), 1
    while True:
        candidate = folder if number == 1 else folder.with_name(f"{folder.name}-{number}")
        path, text = candidate / FILE, profile_text(shipped, choices, candidate, site.cluster)
        if not path.exists():
            candidate.mkdir(parents=True, exist_ok=True)
            write_text(path, text)
            return path, True
        if path.read_text(encoding="utf-8", errors="replace") == text:
            return path, False
        number += 1
