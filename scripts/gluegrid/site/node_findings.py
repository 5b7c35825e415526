"""What a node's report means for cells: GPU and torch, the shared disk, clocks, Python, scratch and network."""

import platform
from collections.abc import Iterator
from pathlib import Path

from gluegrid.common.files import size_in_words
from gluegrid.site.cards import advice_for, driver_runs, oldest_driver, torch_build, written
from gluegrid.site.findings import Finding, fault, note, ok
from gluegrid.site.reporting_job import Answer

# A job computes when SLURM will end it from its own clock; Snakemake compares modification times from both machines.
SECONDS_OF_DIFFERENCE = 2
SECONDS_OF_A_WRONG_CLOCK = 60
SECONDS_UNTIL_SEEN = 45  # the profile's latency-wait is 60
LITTLE_SHARED_MEMORY = 512e6  # bytes; several processes of one cell exchange gradients through it
LITTLE_SCRATCH = 10e9


def findings(answer: Answer, wants_card: bool) -> Iterator[Finding]:
    """Check what a node has reported; `wants_card` says whether its job asked for a GPU."""
    report = answer.report
    if not report.get("has_python"):
        yield fault(
            f"{report['node']} does not have .venv/bin/python of this clone under the same path",
            "put the clone, and the Python that .venv was made with, on a disk that nodes see; then run make install",
        )
        return
    yield from python_findings(report)
    yield from disk_findings(answer)
    yield from clock_findings(answer)
    yield from card_findings(report, wants_card)
    yield from other_findings(report)


def python_findings(report: dict) -> Iterator[Finding]:
    """Check that the node runs the same Python."""
    here, there = platform.python_version(), report["python"]
    if here == there:
        yield ok(f"Python {there}, under the same path as here")
    else:
        yield fault(
            f".venv/bin/python is {there} on the node but {here} here",
            "make .venv with a Python on a disk that nodes see",
        )


def disk_findings(answer: Answer) -> Iterator[Finding]:
    """Check that the node and this machine see each other's files, and how soon."""
    unseen = [Path(path).parent for path, is_seen in answer.report["seen"].items() if not is_seen]
    for folder in unseen:
        yield fault(
            f"the node does not see this machine's {folder}", "move it to a disk that nodes see, or link it to one"
        )
    if unseen:
        return
    if answer.seconds > SECONDS_UNTIL_SEEN:
        yield note(
            f"the node's files are seen here only after {answer.seconds:.0f} s", "raise latency-wait in the profile"
        )
    else:
        yield ok(f"shared disk: the node's files were seen here after {answer.seconds:.0f} s")


def clock_findings(answer: Answer) -> Iterator[Finding]:
    """Check that the clocks of the node, the shared disk and this machine agree."""
    here, there = answer.behind, answer.report["clock"]
    clocks = {
        "the clocks of this machine and the shared disk": here,
        "the clocks of the node and the shared disk": there,
    }
    clocks["the clocks of the node and this machine"] = there - here
    worst = max(clocks, key=lambda name: abs(clocks[name]))
    difference = abs(clocks[worst])
    if difference > SECONDS_OF_A_WRONG_CLOCK:
        yield fault(
            f"{worst} differ by {difference:.0f} s",
            "ask the site to set the clocks: jobs may fail to save before their time limit",
        )
    elif difference > SECONDS_OF_DIFFERENCE:
        yield note(f"{worst} differ by {difference:.0f} s", "ask the site to set the clocks")
    else:
        yield ok("the clocks of the node, the shared disk and this machine agree")


def card_findings(report: dict, wants_card: bool) -> Iterator[Finding]:
    """Check that the GPU, its driver and torch fit together."""
    listed, torch = report["cards"], report["torch"]
    if not wants_card:
        if torch["error"]:
            yield fault(f"torch cannot be imported there: {torch['error']}", "rm -r .venv, then run make install")
        return
    if listed["error"]:
        # GPUs of other makers come without nvidia-smi.
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
    what = f"SLURM gave the job a GPU (CUDA_VISIBLE_DEVICES={given})" if given else "the job has no GPU"
    if given is None:
        return fault(
            f"{what}: SLURM did not set CUDA_VISIBLE_DEVICES; {report['cards']['error']}",
            "ask the site whether its GPUs are in gres.conf (docs/cluster.md, Other sites' rules, for --gres)",
        )
    return fault(f"{what}, but none is visible: {report['cards']['error']}", "ask the site to check the node's driver")


def _torch_on(card: dict, torch: dict) -> Finding:
    version, cuda = torch_build() or ("", None)
    capability = tuple(torch["capability"]) if torch.get("capability") else None
    advice = advice_for(card["driver"], capability, torch.get("version") or version)
    if torch["error"] and cuda is None:
        return fault(f"torch cannot be imported there: {torch['error']}", "rm -r .venv, then run make install")
    if cuda is None:
        return fault(f"torch {version} is built without CUDA and cannot use this GPU", advice)
    if driver_runs(card["driver"], cuda) is False:
        oldest = written(oldest_driver(cuda))
        return fault(
            f"torch {version} is for CUDA {cuda}, which needs driver {oldest} or newer; here it is {card['driver']}",
            advice,
        )
    if torch["error"]:
        return fault(f"torch fails there: {torch['error']}", advice)
    if not torch["is_available"]:
        return fault(f"torch {version} sees no GPU there, though nvidia-smi does", "ask the site to check the node")
    if not _has_code_for(capability, torch["built_for"]):
        return fault(
            f"torch {version} has no code for this GPU (compute capability {capability[0]}.{capability[1]})", advice
        )
    return ok(f"torch {version} (CUDA {cuda}) computes on it")


def _has_code_for(capability: tuple[int, int] | None, built_for: list[str]) -> bool:
    """Tell whether a build has code for a GPU: of its generation and not newer, or PTX that the driver compiles."""
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
            f"a job for one GPU sees {count}: SLURM does not set CUDA_VISIBLE_DEVICES, so all cells would use one",
            "ask the site for ConstrainDevices=yes in cgroup.conf, or for File= in gres.conf",
        )


def other_findings(report: dict) -> Iterator[Finding]:
    """Check what only some experiments need: scratch, shared memory, the network, sbatch."""
    yield _scratch(report["scratch"])
    yield from shared_memory_findings(report["shm"])
    network = report["network"]
    if network["error"] or not network["is_json"]:
        yield ok(
            "the node cannot reach the hub, as on most clusters; jobs do not need it (run snakemake stage here first)"
        )
    else:
        yield ok("the node can reach the hub, though jobs do not need it")
    if report["sbatch"]:
        yield note(
            f"a job may not submit jobs: {report['sbatch']}",
            "make submit will not work here: call snakemake on the login node, in tmux",
        )
    else:
        yield ok("jobs may submit jobs, so make submit works")


def _scratch(places: list[dict]) -> Finding:
    """Report where a job may keep copies of what its cells read. A tmpfs does not count: it takes the job's memory."""
    local = [place for place in places if place["is_local"] and place["kind"] != "tmpfs"]
    told = ", ".join(f"{place['name']} {size_in_words(place['free'] or 0)} ({place['kind']})" for place in local)
    if roomy := [place["name"] for place in local if (place["free"] or 0) >= LITTLE_SCRATCH]:
        return ok(f"local scratch: {told}; set `scratch: {roomy[0]}` in the profile to use it")
    return note(f"too little local scratch ({told or 'none'})", "leave `scratch` out of the profile")


def shared_memory_findings(free: int | None) -> Iterator[Finding]:
    """Check the shared memory through which the processes of a cell on several GPUs exchange gradients."""
    told = f"/dev/shm: {size_in_words(free or 0)} free"
    if free is None or free < LITTLE_SHARED_MEMORY:
        yield note(told, "cells on several GPUs may need more: ask the site for it, or leave `gpus` at 1")
    else:
        yield ok(told)
