"""How to ask this site for a job with a GPU: partition, account, QOS, and the options that its sbatch accepts."""

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

from gluegrid.common.errors import GluegridError, TransientError
from gluegrid.execution.slurm_queue import complaint
from gluegrid.site.slurm_answers import Partition
from gluegrid.site.slurm_site import SECONDS, Site

MEMORY_MB = 4000  # of the reporting job, and of jobs that do not say how much they need
LONG_ENOUGH_MINUTES = 4 * 60  # for one attempt at most cells
KIND = re.compile(r"[A-Za-z0-9_.]+")  # the names of GPU kinds that the plugin accepts
# sbatch's refusals that will pass: the nodes are busy, or none of them is in service at the moment.
BUSY = re.compile("requested nodes are busy", re.IGNORECASE)
BUSY_OR_OUT = re.compile("requested nodes are busy|node configuration is not available", re.IGNORECASE)
MOST_TRIED = 4  # partitions, each with up to four forms of request


@dataclass(frozen=True)
class Request:
    """What a job asks for. `gpus` is sbatch's option for one GPU, or ''; `names_memory` says whether to pass --mem."""

    partition: str
    account: str | None
    qos: str | None
    gpus: str
    names_memory: bool = True

    @property
    def by_gres(self) -> bool:
        """Whether GPUs are requested with --gres."""
        return self.gpus.startswith("--gres")

    def arguments(self, minutes: int) -> list[str]:
        """Return sbatch's arguments for a small job."""
        asked = [f"--partition={self.partition}", f"--time={minutes}", "--nodes=1", "--ntasks=1", "--cpus-per-task=1"]
        asked += [f"--account={self.account}"] if self.account else []
        asked += [f"--qos={self.qos}"] if self.qos else []
        asked += [self.gpus] if self.gpus else []
        return asked + ([f"--mem={MEMORY_MB}"] if self.names_memory else [])


class NoRequestError(GluegridError):
    """sbatch accepts no form of the request; `refusals` says why, by partition."""

    def __init__(self, refusals: dict[str, str]):
        super().__init__("\n".join(f"{partition}: {reason}" for partition, reason in refusals.items()))
        self.refusals = refusals


def usable_partitions(site: Site) -> list[Partition]:
    """Return the partitions that the user may use, best first; only those with GPUs if there are any."""
    usable = [partition for partition in site.partitions if not site.why_not(partition)]
    return sorted([partition for partition in usable if partition.has_cards] or usable, key=_rank)


def _rank(partition: Partition) -> tuple:
    """Return a sort key: GPUs available, not preemptible, long time limit, default partition, number of GPUs."""
    is_short = partition.max_minutes is not None and partition.max_minutes < LONG_ENOUGH_MINUTES
    cards = sum(partition.cards.values())
    return (not cards, partition.is_preempted, is_short, not partition.is_default, -cards, partition.name)


def accepted_request(site: Site, minutes: int) -> Request:
    """Return the first request that `sbatch --test-only` accepts.

    Raise NoRequestError if it accepts none, TransientError if it does not answer.
    """
    refusals: dict[str, str] = {}
    for partition in usable_partitions(site)[:MOST_TRIED]:
        for request in _forms(site, partition):
            refusal = _refusal(request.arguments(minutes))
            only_for_now = BUSY if partition.is_usable else BUSY_OR_OUT
            if refusal is None or only_for_now.search(refusal):
                return request
            refusals.setdefault(partition.name, refusal)
    raise NoRequestError(refusals)


def _forms(site: Site, partition: Partition) -> Iterator[Request]:
    account, qos = site.account_for(partition), site.qos_for(partition)
    kind = f"{only_kind(partition)}:" if only_kind(partition) else ""
    ways = [f"--gpus={kind}1", f"--gres=gpu:{kind}1"] if partition.has_cards else [""]
    # Only select/cons_tres knows --gpus.
    if "cons_tres" not in site.configuration.get("SelectType", "cons_tres"):
        ways.reverse()
    for names_memory in (True, False):
        for gpus in ways:
            yield Request(partition.name, account, qos, gpus, names_memory)


def only_kind(partition: Partition) -> str | None:
    """Return the only kind of GPU in a partition, if jobs can ask for it by name; else None."""
    kinds = {kind for nodes in partition.nodes for kind in nodes.cards}
    return next(iter(kinds)) if len(kinds) == 1 and all(map(KIND.fullmatch, kinds)) else None


def _refusal(arguments: list[str]) -> str | None:
    """Return why sbatch refuses such a job; None if it would accept it. Raise TransientError if it does not answer."""
    command = ["sbatch", "--test-only", *arguments, "--wrap=true"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=SECONDS)
    except subprocess.TimeoutExpired:
        raise TransientError(f"sbatch: no answer for {SECONDS} s") from None
    except OSError as error:
        return f"sbatch: {error.strerror}"
    return complaint(done) if done.returncode else None
