"""Packs of cells as Snakemake knows them: groups of `train` jobs that one process works on, one after another.

Snakemake itself would run another Snakemake in a group's job, and request the resources of all its cells at once.
"""

import os
import shlex
from collections import defaultdict
from collections.abc import Container
from functools import partial
from pathlib import Path

from snakemake.iocontainers import ResourceList
from snakemake.jobs import GroupJob, Job

from gluegrid.execution.invocation import path_of_current_invocation
from gluegrid.execution.packs import SCRIPT, Pack, PackedCell, folder_of_packs, write_pack
from gluegrid.execution.slurm_nodes import places_in_cluster
from gluegrid.experiment.cell import Cell
from gluegrid.experiment.experiment import Experiment
from gluegrid.operations.estimates import Estimates, limit_of_attempt
from gluegrid.operations.packs import is_small, limit_of_pack, packs_of, seconds_in_pack, shares
from gluegrid.workflow.snakemake_patches import TRAIN

# Resources that may differ among the cells of a pack, and those that repeat them in other units.
LIMITS = ("mem_mb", "mem_mib", "disk_mb", "disk_mib", "runtime")
IN_OTHER_UNITS = ("mem", "disk")
CLUSTERS = ("cluster", "clusters", "slurm_cluster")  # as the SLURM plugin reads them
MEMORY_OF_STARTER_IN_MB = 500  # the process that loads the libraries, which its children share


class PackJob(GroupJob):
    """A pack of cells: jobs of `train`, the longest first; `place` numbers it among all packs, as in 1_of_8."""

    def __init__(self, place: str, jobs: list[Job], small: "SmallCells"):
        name = f"pack_{place}_{jobs[0].wildcards.model}_{len(jobs)}_cells"
        super().__init__(name, frozenset(jobs), jobs[0].dag.workflow.global_resources)
        self._toposorted = [jobs]
        self._place = place
        self._small = small

    @property
    def name(self) -> str:
        """The name in SLURM's comment and in the paths of logs."""
        return self.groupid

    @property
    def rule(self):
        """The rule of all its jobs, which the SLURM plugin names if a submission fails."""
        return self._toposorted[0][0].rule

    @property
    def priority(self) -> float:
        """The priority of one cell that takes as long."""
        return sum(self.dag.priority(job) for job in self.jobs)

    @property
    def resources(self) -> ResourceList:
        """What its largest cell requests, with time for all cells that are left."""
        if self._resources is None:
            left = self._left() or self._toposorted[0]
            asked = dict(left[0].resources.items())
            for name in LIMITS:
                if isinstance(asked.get(name), int):
                    asked[name] = max(job.resources[name] for job in left)
            asked["runtime"] = self._small.minutes_of(left, asked.get("runtime"), self.attempt)
            if asked.get("mem_mb"):
                asked["mem_mb"] += MEMORY_OF_STARTER_IN_MB
            self._resources = asked
        return ResourceList(fromdict=self._resources)

    def command(self) -> str:
        """Write the pack's file, and return the command that trains the cells that are left."""
        invocation = Path(path_of_current_invocation())
        name = f"{invocation.stem}/{self.name}"
        # A path through this folder: that of its target on another disk may have characters that a shell interprets.
        scripts = invocation.parent / Path(os.environ["GLUEGRID_SCRIPTS"]).parent.name / "scripts"
        file = folder_of_packs(invocation) / f"{self.name}-attempt-{self.attempt}.json"
        log = self._small.experiment.paths.log("packs", name)
        Path(log).parent.mkdir(parents=True, exist_ok=True)
        write_pack(file, Pack(name, log, [as_packed(job) for job in self._left()]))
        return shlex.join(["bash", str(scripts / SCRIPT), str(file), log, str(self.threads)])

    def without(self, some: Container[Job]) -> "PackJob | None":
        """Return a pack of the other cells; None if there are none."""
        others = [job for job in self._toposorted[0] if job not in some]
        return PackJob(self._place, others, self._small) if others else None

    def done(self) -> list[Job]:
        """Return the jobs of the cells that are done."""
        left = {*self._left()}
        return [job for job in self._toposorted[0] if job not in left]

    def log_error(self, msg: str | None = None, aux_logs: list | None = None, **kwargs) -> None:
        """Show the errors of the cells that have failed, but not the logs of those that are done."""
        failed = frozenset(self._left()) or self.jobs
        GroupJob(self.groupid, failed, self.global_resources).log_error(msg, aux_logs, **kwargs)

    async def postprocess(self, error: bool = False, **kwargs) -> None:
        """Let Snakemake record the end of each job; in a pack that failed, a finished cell is no failure."""
        if not error:
            await super().postprocess(error=False, **kwargs)
            return
        left = {*self._left()}
        for job in self._toposorted[0]:
            # Snakemake would create a missing log, as if the cell had begun.
            await job.postprocess(error=job in left, handle_log=False, check_output_mtime=False)

    def _left(self) -> list[Job]:
        """Return the jobs of the cells that this call has not trained yet."""
        return [job for job in self._toposorted[0] if not as_packed(job).is_done()]


class SmallCells:
    """The cells that are worth packing, and how long they take."""

    def __init__(self, experiment: Experiment, estimates: Estimates, pack_minutes: float):
        self.experiment = experiment
        self._estimates = estimates
        self.pack_minutes = pack_minutes

    def packs(self, dag) -> list[PackJob]:
        """Return the packs of the jobs to run; the jobs of a pack request the same, except for limits."""
        alike: dict[str, list[Job]] = defaultdict(list)
        for job in sorted(filter(partial(self._is_packable, dag), dag.needrun_jobs()), key=lambda job: job.output[0]):
            alike[_what_all_ask_for(job)].append(job)
        # Jobs for the same GPUs share them; jobs for other GPUs must leave none of those idle, either.
        of_cards: dict[str, list[list[Job]]] = defaultdict(list)
        for jobs in alike.values():
            of_cards[_which_cards(jobs[0])].append(jobs)
        chosen = []
        for kinds in of_cards.values():
            places = min(places_for(dag.workflow, asked_for(jobs[0])) for jobs in kinds)
            for jobs, given in zip(kinds, shares(places, kinds, self.seconds_of), strict=True):
                packs = packs_of(jobs, self.seconds_of, 60 * self.pack_minutes, given)
                chosen += [pack for pack in packs if len(pack) > 1]
        return [PackJob(f"{number}_of_{len(chosen)}", jobs, self) for number, jobs in enumerate(chosen, start=1)]

    def seconds_of(self, job: Job) -> float:
        """Return the seconds that a job's cell takes in a pack."""
        cell = self._cell(job)
        return seconds_in_pack(self._estimates.of(cell), cell.values["device"])

    def minutes_of(self, jobs: list[Job], asked: int | None, attempt: int) -> int | None:
        """Return the time limit of a pack; `asked` is the longest limit of its cells, which a site may have set."""
        estimates = [self._estimates.of(self._cell(job)) for job in jobs]
        usual = [limit_of_attempt(estimate, attempt) for estimate in estimates]
        is_usual = [job.resources.get("runtime") for job in jobs] == usual
        return limit_of_pack(estimates, attempt) if is_usual else asked

    def _is_packable(self, dag, job: Job) -> bool:
        """Tell whether a job's cell is small, starts from no other cell's model, and no other starts from its own."""
        if job.rule.name != TRAIN:
            return False
        cell = self._cell(job)
        around = [*dag.dependencies[job], *dag.depending[job]]
        is_on_its_own = not any(other.rule.name == TRAIN and dag.needrun(other) for other in around)
        return is_on_its_own and is_small(self._estimates.of(cell), cell.values)

    def _cell(self, job: Job) -> Cell:
        names = job.wildcards
        return self.experiment.cell(names.model, names.task, names.variant, names.seed)


def places_for(workflow, asked: ResourceList) -> int:
    """Return how many jobs that request this can run at once, at least one.

    The limits of the call decide, and those of the cluster if it reports them.
    """
    gpus, threads = asked.get("gpu") or 0, asked["_cores"]
    limits = []
    if gpus and "gpu" in workflow.global_resources:
        limits.append(workflow.global_resources["gpu"].value // gpus)
    if workflow.local_exec:
        limits.append(workflow.resource_settings.cores // threads)
    else:
        limits.append(workflow.resource_settings.nodes)
        clusters = next((value for name in CLUSTERS if (value := asked.get(name))), "")
        kind, partitions = (str(asked.get(name) or "") for name in ("gpu_model", "slurm_partition"))
        if places := places_in_cluster(threads, gpus, kind, partitions, str(clusters)):
            limits.append(places)
    return max(min(limits), 1)


def as_packed(job: Job) -> PackedCell:
    """Return the files of a `train` job."""
    inputs = {name: str(job.input[name]) for name in ("run", "model", "task", "tokens")}
    outputs = {name: str(job.output[name]) for name in ("results", "record")}
    return PackedCell(**inputs, **outputs, log=str(job.log[0]), benchmark=str(job.benchmark))


def asked_for(job: Job) -> ResourceList:
    """Return what a job requests except for limits, which depend on files and are unknown while Snakemake plans."""
    return job.rule.expand_resources(job.wildcards_dict, job.input, job.attempt, skip_evaluation={"tmpdir", *LIMITS})


def _which_cards(job: Job) -> str:
    """Return the part of a job's resources that decides on which GPUs it can run."""
    asked = asked_for(job)
    return str([asked.get(name) for name in ("gpu_model", "gres", "constraint", "slurm_partition", *CLUSTERS)])


def _what_all_ask_for(job: Job) -> str:
    kept = {name: value for name, value in asked_for(job).items() if name not in ("tmpdir", *LIMITS, *IN_OTHER_UNITS)}
    return str((job.wildcards.model, sorted((name, str(value)) for name, value in kept.items())))
