"""What a node's report means for cells: its card and torch, the shared disk, clocks, Python, scratch and network."""

import platform
from collections.abc import Iterator
from pathlib import Path

from gluegrid.common.files import size_in_words
from gluegrid.site.cards import advice_for, driver_runs, oldest_driver, torch_build, written
from gluegrid.site.findings import Finding, fault, note, ok
from gluegrid.site.reporting_job import Answer

# In a job, what SLURM kills it by is a time on its own clock; Snakemake compares times of files that both have written.
SECONDS_OF_DIFFERENCE = 2
SECONDS_OF_A_WRONG_CLOCK = 60
SECONDS_UNTIL_SEEN = 45  # the profile's latency-wait is 60
LITTLE_SHARED_MEMORY = 512e6  # bytes; several processes of one cell exchange gradients through it
LITTLE_SCRATCH = 10e9


def findings(answer: Answer, wants_card: bool) -> Iterator[Finding]:
    """Yield what a node has said; `wants_card`: its job has asked for a GPU."""
    report = answer.report
    if not report.get("has_python"):
        yield fault(
            f"{report['node']} does not have this clone's .venv/bin/python, by the same path",
            "put the clone, and the Python that .venv was made with, on a disk that nodes see; then make install",
        )
        return
    yield from python_findings(report)
    yield from disk_findings(answer)
    yield from clock_findings(answer)
    yield from card_findings(report, wants_card)
    yield from other_findings(report)


def python_findings(report: dict) -> Iterator[Finding]:
    """Yield whether the node's Python is this one."""
    here, there = platform.python_version(), report["python"]
    if here == there:
        yield ok(f"Python {there}, by the same path as here")
    else:
        yield fault(
            f".venv/bin/python is {there} there, and {here} here", "make .venv with a Python on a disk that nodes see"
        )


def disk_findings(answer: Answer) -> Iterator[Finding]:
    """Yield whether files are seen on both sides, and how soon."""
    unseen = [Path(path).parent for path, is_seen in answer.report["seen"].items() if not is_seen]
    for folder in unseen:
        yield fault(f"{folder} is another folder on the node, or none", "put or link it to a disk that nodes see")
    if unseen:
        return
    if answer.seconds > SECONDS_UNTIL_SEEN:
        yield note(
            f"what a node writes is seen here after {answer.seconds:.0f} s", "a larger latency-wait in the profile"
        )
    else:
        yield ok(f"one shared disk: what the node wrote was seen here after {answer.seconds:.0f} s")


def clock_findings(answer: Answer) -> Iterator[Finding]:
    """Yield how the clocks of the node, the shared disk and this machine agree."""
    here, there = answer.behind, answer.report["clock"]
    clocks = {"this machine's clock and the shared disk's": here, "the node's and the shared disk's": there}
    clocks["the node's and this machine's"] = there - here
    worst = max(clocks, key=lambda name: abs(clocks[name]))
    difference = abs(clocks[worst])
    if difference > SECONDS_OF_A_WRONG_CLOCK:
        yield fault(
            f"{worst} differ by {difference:.0f} s",
            "ask the site to set the clocks: jobs would miss their ends",
        )
    elif difference > SECONDS_OF_DIFFERENCE:
        yield note(f"{worst} differ by {difference:.0f} s", "ask the site to set the clocks")
    else:
        yield ok("the clocks of the node, the shared disk and this machine agree")


def card_findings(report: dict, wants_card: bool) -> Iterator[Finding]:
    """Yield whether the node's card, its driver and torch fit together."""
    listed, torch = report["cards"], report["torch"]
    if not wants_card:
        if torch["error"]:
            yield fault(f"torch cannot be imported there: {torch['error']}", "rm -r .venv, then make install")
        return
    if listed["error"]:
        # A card of another maker has a program of its own.
        is_used = torch.get("is_available")
        yield ok(f"torch {torch['version']} computes on {torch['name']}") if is_used else _without_cards(report)
        return
    card = listed["cards"][0]
    memory = int(card["memory_mb"]) * 2**20 if card["memory_mb"].isdecimal() else None
    told = f"{card['name']}" + (f", {size_in_words(memory)}" if memory else "")
    yield ok(f"{told}, driver {card['driver']}")
    yield _torch_on(card, torch)
    yield from _count(report)


def _without_cards(report: dict) -> Finding:
    given = report["given"]
    what = f"SLURM has given the job a GPU (CUDA_VISIBLE_DEVICES={given})" if given else "the job has no GPU"
    if given is None:
        return fault(
            f"{what}: SLURM has set no CUDA_VISIBLE_DEVICES; {report['cards']['error']}",
            "ask the site whether its GPUs are in gres.conf (docs/cluster.md, Other sites' rules, for --gres)",
        )
    return fault(f"{what}, and none is seen: {report['cards']['error']}", "tell the site: its driver is missing or ill")


def _torch_on(card: dict, torch: dict) -> Finding:
    version, cuda = torch_build() or ("", None)
    capability = tuple(torch["capability"]) if torch.get("capability") else None
    advice = advice_for(card["driver"], capability, torch.get("version") or version)
    if torch["error"] and cuda is None:
        return fault(f"torch cannot be imported there: {torch['error']}", "rm -r .venv, then make install")
    if cuda is None:
        return fault(f"torch {version} is built without CUDA: no cell trains on this card", advice)
    if driver_runs(card["driver"], cuda) is False:
        oldest = written(oldest_driver(cuda))
        return fault(f"torch {version} is for CUDA {cuda}, which needs driver {oldest}, not {card['driver']}", advice)
    if torch["error"]:
        return fault(f"torch fails there: {torch['error']}", advice)
    if not torch["is_available"]:
        return fault(f"torch {version} sees no GPU there, though nvidia-smi does", "tell the site")
    if not _has_code_for(capability, torch["built_for"]):
        return fault(f"torch {version} has no code for this card (capability {capability[0]}.{capability[1]})", advice)
    return ok(f"torch {version} (CUDA {cuda}) computes on it")


def _has_code_for(capability: tuple[int, int] | None, built_for: list[str]) -> bool:
    """Tell whether a build has code for a card: of its generation and not newer, or intermediate code to compile."""
    if capability is None or not built_for:
        return True
    for name in built_for:
        kind, _, number = name.rstrip("abcdef").partition("_")
        generation = divmod(int(number), 10) if number.isdecimal() else (0, 0)
        if kind == "sm" and generation[0] == capability[0] and generation[1] <= capability[1]:
            return True
        if kind == "compute" and generation <= capability:
            return True
    return False


def _count(report: dict) -> Iterator[Finding]:
    count = report["torch"].get("count", 0)
    if report["given"] is None and count > 1:
        yield fault(
            f"a job for one GPU sees {count}: SLURM sets no CUDA_VISIBLE_DEVICES, so that all cells meet on the first",
            "ask the site for ConstrainDevices=yes in cgroup.conf, or for File= in gres.conf",
        )


def other_findings(report: dict) -> Iterator[Finding]:
    """Yield what only some uses need: scratch, shared memory, the network, sbatch."""
    yield _scratch(report["scratch"])
    yield from shared_memory_findings(report["shm"])
    network = report["network"]
    if network["error"] or not network["is_json"]:
        yield ok("no way to the hub from the node, as usual: jobs need none; fetch here first (snakemake stage)")
    else:
        yield ok("the hub answers on the node, too; jobs do not need it")
    if report["sbatch"]:
        yield note(
            f"a job may not submit jobs: {report['sbatch']}",
            "the controller cannot be a job here: call snakemake on the login node, in tmux",
        )
    else:
        yield ok("a job may submit jobs: the controller can be one")


def _scratch(places: list[dict]) -> Finding:
    """Return where a job may keep copies of what its cells read; a tmpfs is the job's own memory."""
    local = [place for place in places if place["is_local"] and place["kind"] != "tmpfs"]
    told = ", ".join(f"{place['name']} {size_in_words(place['free'] or 0)} ({place['kind']})" for place in local)
    if roomy := [place["name"] for place in local if (place["free"] or 0) >= LITTLE_SCRATCH]:
        return ok(f"local scratch: {told}; `scratch: {roomy[0]}` in the profile would use it")
    return note(f"hardly any local scratch ({told or 'none'})", "leave `scratch` out of the profile")


def shared_memory_findings(free: int | None) -> Iterator[Finding]:
    """Yield whether several processes of one cell can exchange what they compute."""
    told = f"/dev/shm: {size_in_words(free or 0)} free"
    if free is None or free < LITTLE_SHARED_MEMORY:
        yield note(told, "cells on several GPUs may need more: ask the site, or leave `gpus` at 1")
    else:
        yield ok(told)
