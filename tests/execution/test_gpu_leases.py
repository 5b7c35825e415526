"""GPUs that cells lease from each other on one machine. The cards are pretended: an nvidia-smi that only lists them."""

import itertools
import json
import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import builders
import pytest
import yaml
from clones import Clone, clone_into
from waiting import HANG

from gluegrid.common import paths
from gluegrid.common.errors import TransientError
from gluegrid.common.files import read_json, write_json
from gluegrid.common.provenance import this_process
from gluegrid.execution import attempts, gpu_leases
from gluegrid.execution.cell_gpus import lease_gpus_of_cell
from gluegrid.execution.cell_state import CellFiles
from gluegrid.execution.gpu_leases import lease_gpus
from gluegrid.execution.invocation import freeze
from gluegrid.execution.job_logs import last_line
from gluegrid.execution.locks import lock
from gluegrid.execution.packs import Pack, PackedCell, write_pack
from gluegrid.execution.reasons import Cause, Reason
from gluegrid.execution.visible_gpus import visible_gpus
from gluegrid.experiment.experiment import Experiment
from gluegrid.experiment.loading import load_experiment
from gluegrid.workflow.hooks import prepare_execution
from gluegrid.workflow.pack_jobs import SmallCells

CARDS = [f"GPU-{number}{number}1b2c3d-0000-1111-2222-333344445555" for number in range(3)]
PARTS = [f"MIG-{number}5b6c7d8-0000-1111-2222-333344445555" for number in range(2)]
LISTED = [f"GPU {number}: NVIDIA A100-SXM4-40GB (UUID: {uuid})" for number, uuid in enumerate(CARDS)]
LISTED_PARTS = [f"  MIG 1g.10gb     Device  {number}: (UUID: {uuid})" for number, uuid in enumerate(PARTS)]

# Stands in for scripts/train.py in real launches: notes who it is and on which cards, and goes on until it is killed.
LASTING = """
import json, os, sys, time
from pathlib import Path
noted = {"pid": os.getpid(), "launcher": os.getppid(), "cards": os.environ.get("CUDA_VISIBLE_DEVICES")}
name = "noted." + os.environ.get("LOCAL_RANK", "0")
Path("new-" + name).write_text(json.dumps(noted))
Path("new-" + name).rename(name)
time.sleep(600)
"""

# Stands in for scripts/train.py in a real run of snakemake: writes what the rule declares, and notes card and time. The
# first three wait for each other.
BRIEF = """
import os, sys, time
from pathlib import Path
named = dict(zip(sys.argv[1::2], sys.argv[2::2]))
Path("begun").mkdir(exist_ok=True)
Path("begun", str(os.getpid())).touch()
deadline = time.monotonic() + 300
while len(list(Path("begun").iterdir())) < 3:
    assert time.monotonic() < deadline, "no three cells at once"
    time.sleep(0.05)
begun = time.monotonic()
time.sleep(0.5)
Path(named["--record"]).write_text("{}")
Path(named["--results"]).write_text(f"{os.environ['CUDA_VISIBLE_DEVICES']} {begun} {time.monotonic()}")
"""


@pytest.fixture(autouse=True)
def machine(tmp_path, monkeypatch):
    """A machine of its own for each test: its cards, its folder of leases; no SLURM."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{builders.PATH}")
    monkeypatch.setattr(gpu_leases.tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    for name in ("CUDA_VISIBLE_DEVICES", "SLURM_JOB_ID", "GLUEGRID_EXECUTOR", "GLUEGRID_HEAD"):
        monkeypatch.setenv(name, "")  # so that what is set meanwhile is undone
        monkeypatch.delenv(name)
    pretend_cards(tmp_path, LISTED)
    return tmp_path


def pretend_cards(machine: Path, listed: list[str] | None) -> None:
    """Let nvidia-smi list these lines; with None, it finds no driver."""
    answer = "exit 9" if listed is None else "\n".join(["cat <<'END'", *listed, "END"])
    (machine / "bin" / "nvidia-smi").write_text(f"#!/bin/sh\n{answer}\n")
    (machine / "bin" / "nvidia-smi").chmod(0o755)


class WaitingError(Exception):
    """A lease is not to be had at once."""


def give_up() -> None:
    raise WaitingError


def take(count: int, gpus: list[str] = CARDS, cell: str = "a cell") -> list[gpu_leases.Lease]:
    return lease_gpus(gpus, count, cell, lambda holders: None, give_up)


def close(leases: list[gpu_leases.Lease]) -> None:
    for lease in leases:
        os.close(lease.descriptor)


def free_cards() -> list[str]:
    """Return the cards that could be leased now."""
    free = []
    for card in CARDS:
        with suppress(WaitingError):
            close(take(1, [card]))
            free.append(card)
    return free


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, CARDS),
        ("2,0", [CARDS[2], CARDS[0]]),
        (f" {CARDS[1]} , {CARDS[1]}, 0", [CARDS[1], CARDS[0]]),
        ("GPU-11", [CARDS[1]]),
        ("0,7,1", [CARDS[0]]),
        ("0,GPU-,1", [CARDS[0]]),
        ("1,-1,0", [CARDS[1]]),
        ("-1", []),
        ("", []),
        ("NoDevFiles", []),
    ],
)
def test_the_cards_are_those_of_nvidia_smi_within_cuda_visible_devices(monkeypatch, given, expected):
    if given is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    assert visible_gpus() == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [(None, [CARDS[0], *PARTS, CARDS[2]]), ("1", PARTS), (PARTS[1], [PARTS[1]]), ("MIG-0,2", [PARTS[0], CARDS[2]])],
)
def test_of_a_card_in_parts_each_part_is_a_card(machine, monkeypatch, given, expected):
    pretend_cards(machine, [*LISTED[:2], *LISTED_PARTS, LISTED[2]])
    if given is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    assert visible_gpus() == expected


# As nvidia-smi writes it, in the releases that there are: of a part's UUID, older ones make a path below the card's.
LISTS = {
    "of two whole cards, one of a name with parentheses": (
        """\
GPU 0: Tesla V100-SXM2-16GB (UUID: GPU-5e9c9a1b-3b0e-0e6c-6a7c-0d0b6f6a3c11)
GPU 1: NVIDIA Graphics Device (Engineering Sample) (UUID: GPU-7ac0a0f3-9d52-8d0e-1f0c-9a0d2b4bb0aa)
""",
        ["GPU-5e9c9a1b-3b0e-0e6c-6a7c-0d0b6f6a3c11", "GPU-7ac0a0f3-9d52-8d0e-1f0c-9a0d2b4bb0aa"],
    ),
    "of a card in parts beside a whole one": (
        """\
GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-48aeb6b1-bd3c-d6c2-2b36-8a5b0a1b2c3d)
  MIG 3g.20gb     Device  0: (UUID: MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f)
  MIG 1c.3g.20gb  Device  1: (UUID: MIG-cba663e8-9bed-5b25-b243-5985ef7c9beb)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-9d7a2c5e-0f1e-4b9a-8d2c-112233445566)
""",
        [
            "MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f",
            "MIG-cba663e8-9bed-5b25-b243-5985ef7c9beb",
            "GPU-9d7a2c5e-0f1e-4b9a-8d2c-112233445566",
        ],
    ),
    "of an older release": (
        """\
GPU 0: A100-SXM4-40GB (UUID: GPU-e91edf3b-b297-37c1-a2a7-7601c3238fa2)
  MIG 1g.5gb Device 0: (UUID: MIG-GPU-e91edf3b-b297-37c1-a2a7-7601c3238fa2/7/0)
  MIG 1g.5gb+me Device 1: (UUID: MIG-GPU-e91edf3b-b297-37c1-a2a7-7601c3238fa2/8/0)
""",
        ["MIG-GPU-e91edf3b-b297-37c1-a2a7-7601c3238fa2/7/0", "MIG-GPU-e91edf3b-b297-37c1-a2a7-7601c3238fa2/8/0"],
    ),
    "of no card": ("No devices found.\n", []),
}


@pytest.mark.parametrize("name", LISTS)
def test_what_nvidia_smi_lists_is_read(machine, name):
    listed, expected = LISTS[name]
    pretend_cards(machine, listed.splitlines())
    assert visible_gpus() == expected


@pytest.mark.parametrize(
    ("given", "environment", "values"),
    [
        (None, {}, {"gpus": 2}),
        ("0,1", {}, {"gpus": 2}),
        (",".join(PARTS), {"SLURM_JOB_ID": "7", "GLUEGRID_EXECUTOR": "slurm"}, {"gpus": 2}),
        (PARTS[0], {"SLURM_JOB_ID": "7", "GLUEGRID_EXECUTOR": "slurm"}, {"gpus": 2, "nodes": 2}),
    ],
)
def test_several_processes_on_parts_of_cards_are_refused_before_they_are_started(
    machine, monkeypatch, given, environment, values
):
    pretend_cards(machine, [*LISTED[:2], *LISTED_PARTS])
    for name, value in (environment | ({"CUDA_VISIBLE_DEVICES": given} if given else {})).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(TransientError, match=r"gpus: 2 needs whole GPUs, .*; set gpus: 1, or request whole GPUs"):
        lease_gpus_of_cell(["script.py", "--run", str(run_of_cell(machine, **values))])
    assert free_cards() == CARDS


@pytest.mark.parametrize(("values", "leased"), [({"gpus": 2}, [CARDS[0], CARDS[2]]), ({}, [CARDS[0]])])
def test_beside_parts_whole_cards_are_for_several_processes(machine, monkeypatch, values, leased):
    monkeypatch.setattr(subprocess, "Popen", subprocess.Popen)  # given back afterwards
    pretend_cards(machine, [*LISTED[:2], *LISTED_PARTS, LISTED[2]])
    lease_gpus_of_cell(["script.py", "--run", str(run_of_cell(machine, **values))])
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ",".join(leased)


@pytest.mark.parametrize("environment", [{}, {"SLURM_JOB_ID": "7", "GLUEGRID_EXECUTOR": "slurm"}])
def test_one_process_may_have_a_part_of_a_card(machine, monkeypatch, environment):
    monkeypatch.setattr(subprocess, "Popen", subprocess.Popen)  # given back afterwards
    pretend_cards(machine, [LISTED[0], *LISTED_PARTS])
    for name, value in (environment | {"CUDA_VISIBLE_DEVICES": PARTS[1]}).items():
        monkeypatch.setenv(name, value)
    lease_gpus_of_cell(["script.py", "--run", str(run_of_cell(machine))])
    assert os.environ["CUDA_VISIBLE_DEVICES"] == PARTS[1]


@pytest.mark.parametrize(("given", "expected"), [(None, []), ("1, 0", ["1", "0"]), ("3,-1", ["3"]), ("", [])])
def test_without_nvidia_smi_the_cards_are_what_cuda_visible_devices_says(machine, monkeypatch, given, expected):
    pretend_cards(machine, None)
    if given is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    assert visible_gpus() == expected


def test_an_nvidia_smi_that_hangs_is_not_waited_for(machine, monkeypatch):
    (machine / "bin" / "nvidia-smi").write_text("#!/bin/sh\nexec sleep 60\n")
    monkeypatch.setattr("gluegrid.execution.visible_gpus.SECONDS_FOR_NVIDIA_SMI", 0.1)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert visible_gpus() == ["1"]


def test_no_card_is_leased_twice_and_who_waits_is_told_whose_they_are():
    leases = [lease for number in range(3) for lease in take(1, cell=f"cell {number}")]
    assert [lease.gpu for lease in leases] == CARDS
    told = []
    with pytest.raises(WaitingError):
        lease_gpus(CARDS, 1, "another", told.append, give_up)
    assert f"{CARDS[1]} by process {os.getpid()}, cell 1, since " in gpu_leases.described(told[0])
    close(leases[1:2])
    assert [lease.gpu for lease in take(1)] == [CARDS[1]]


def test_several_cards_are_leased_together_or_not_at_all():
    first, second = take(1), take(1)
    with pytest.raises(WaitingError):
        take(2)
    assert free_cards() == [CARDS[2]]
    close(first)
    assert [lease.gpu for lease in take(2)] == [CARDS[0], CARDS[2]]
    close(second)
    with pytest.raises(TransientError, match=r"needs 4 GPUs, but .* has 3"):
        take(4)


def test_what_is_left_of_a_dead_launcher_is_waited_for_with_patience_and_a_living_one_without_end(monkeypatch):
    (lease,) = take(1, CARDS[:1])
    monkeypatch.setattr(gpu_leases, "PATIENCE_SECONDS", -1)
    with pytest.raises(WaitingError):
        take(1, CARDS[:1])
    dead = subprocess.Popen(["true"])
    dead.wait()
    text = json.dumps({"pid": dead.pid, "process_started": "1", "cell": "the dead one's", "since": "then"})
    os.ftruncate(lease.descriptor, 0)
    os.pwrite(lease.descriptor, text.encode(), 0)
    with pytest.raises(TransientError, match=f"dead launchers .*by process {dead.pid}, the dead one's.*by hand"):
        take(1, CARDS[:1])
    close(take(1, CARDS[:2]))


def test_the_folder_of_leases_does_not_grow_with_the_cells():
    held, ended = ([f"{gpu_leases.OF_A_CELL}{name}"] for name in ("held", "ended"))
    (lease,) = take(1, held)
    os.close(take(1, ended)[0].descriptor)
    folder = gpu_leases._folder()
    take(1)
    assert {path.name for path in folder.glob("cell-*")} == {*held}
    os.close(lease.descriptor)


def test_a_folder_of_leases_that_others_can_change_is_refused(machine):
    close(take(1))
    (folder,) = (machine / "tmp").iterdir()
    folder.chmod(0o770)
    with pytest.raises(TransientError, match="is not a folder with access for you alone"):
        take(1)
    folder.chmod(0o700)
    folder.rename(machine / "elsewhere")
    folder.symlink_to(machine / "elsewhere")
    with pytest.raises(TransientError, match="is not a folder with access for you alone"):
        take(1)


def run_of_cell(machine: Path, **values) -> Path:
    """Write the run.json of a cell for a GPU, with these values."""
    run = {"recipe": 1, "experiment": "e", "model": {"name": "m"}, "task": vars(builders.task()), "variant": "base"}
    path = machine / "results/e/runs/m/tiny/base/seed-1/run.json"
    write_json(path, run | {"seed": 1, "threads": 1} | values)
    return path


def launch(machine: Path, processes: int) -> subprocess.Popen:
    """Launch the lasting stand-in as the rule does, in its shell, for a cell on so many cards."""
    path = run_of_cell(machine, gpus=processes)
    (machine / "script.py").write_text(LASTING)
    with (machine / "log").open("wb") as log:
        return subprocess.Popen(
            ["bash", "-c", f"trap '' TERM INT USR1; exec bash {builders.LAUNCH} 1 {processes} script.py --run {path}"],
            cwd=machine,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def noted(machine: Path, count: int) -> list[dict]:
    """Wait until so many processes of a launch have noted who they are."""
    wait_until(lambda: len(list(machine.glob("noted.?"))) == count, machine)
    return [json.loads(path.read_text()) for path in sorted(machine.glob("noted.?"))]


def wait_until(condition, machine: Path) -> None:
    deadline = time.monotonic() + HANG
    while not condition():
        assert time.monotonic() < deadline, (machine / "log").read_text()
        time.sleep(0.05)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_killed_launchers_cards_are_free_when_its_last_process_has_ended(machine, processes):
    launcher = launch(machine, processes)
    trained = noted(machine, processes)
    assert {each["launcher"] for each in trained} == {launcher.pid}
    assert {each["cards"] for each in trained} == {",".join(CARDS[:processes])}
    assert free_cards() == CARDS[processes:]
    launcher.kill()
    launcher.wait()
    for each in trained:
        assert free_cards() == CARDS[processes:]
        os.kill(each["pid"], signal.SIGKILL)
    wait_until(lambda: free_cards() == CARDS, machine)


def test_a_launcher_that_waits_for_a_card_can_be_ended(machine):
    leases = take(3)
    launcher = launch(machine, 1)
    wait_until(lambda: "waiting for a GPU" in (machine / "log").read_text(), machine)
    launcher.send_signal(signal.SIGTERM)
    assert launcher.wait(timeout=HANG) == 1
    waiting, error = (machine / "log").read_text().splitlines()
    assert waiting.count(f" by process {os.getpid()}, a cell, since ") == len(leases)
    assert error.startswith("gluegrid: stopped by SIGTERM")


def test_a_launcher_does_not_wait_for_a_card_where_its_cell_is_being_trained(machine):
    take(3)
    with lock(CellFiles(run_of_cell(machine)).lock, print):
        assert launch(machine, 1).wait(timeout=HANG) == 1
    assert last_line(machine / "log").startswith(f"this cell is being trained by process {os.getpid()} on ")


def test_of_two_launchers_of_a_cell_one_waits_without_a_card_until_the_other_has_ended(machine, monkeypatch):
    monkeypatch.setenv("GLUEGRID_EXECUTOR", "local")
    first = launch(machine, 1)
    (trained,) = noted(machine, 1)
    (machine / "noted.0").unlink()
    second = launch(machine, 1)
    wait_until(lambda: "waiting for its result" in (machine / "log").read_text(), machine)
    assert f"being trained by process {first.pid}, m/tiny/base/seed-1 of e, since " in (machine / "log").read_text()
    assert free_cards() == CARDS[1:]
    first.kill()
    first.wait()
    assert not list(machine.glob("noted.?"))  # what a killed launcher has left has still to save its work
    os.kill(trained["pid"], signal.SIGKILL)
    (trained,) = noted(machine, 1)
    assert (trained["launcher"], trained["cards"]) == (second.pid, CARDS[0])
    os.kill(trained["pid"], signal.SIGKILL)
    assert second.wait(timeout=HANG) == 1


def test_a_launcher_does_not_wait_for_a_card_when_its_cell_is_cancelled_or_its_head_has_died(machine):
    take(3)
    state = CellFiles(run_of_cell(machine)).state
    head = freeze({}, paths.heads_of_state(state))
    attempts.cancel(state)
    assert launch(machine, 1).wait(timeout=HANG) == 1
    assert last_line(machine / "log").startswith(str(Reason(Cause.CANCELLED)))
    write_json(head, read_json(head) | {"process": this_process() | {"process_started": "1"}})
    assert launch(machine, 1).wait(timeout=HANG) == 1
    assert last_line(machine / "log") == "the call of snakemake that wanted it has ended"


@pytest.mark.parametrize(
    ("values", "environment", "leased"),
    [
        ({}, {}, CARDS[0]),
        ({"device": "cpu"}, {}, None),
        ({}, {"SLURM_JOB_ID": "7", "GLUEGRID_EXECUTOR": "slurm"}, None),
        ({}, {"SLURM_JOB_ID": "7", "GLUEGRID_EXECUTOR": "local"}, CARDS[0]),
        ({"nodes": 2}, {"SLURM_JOB_ID": "7", "GLUEGRID_EXECUTOR": "local"}, None),
    ],
)
def test_a_card_is_leased_where_a_cell_needs_one_and_nobody_gives_it_one(
    machine, monkeypatch, values, environment, leased
):
    monkeypatch.setattr(subprocess, "Popen", subprocess.Popen)  # given back afterwards
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    lease_gpus_of_cell(["script.py", "--run", str(run_of_cell(machine, **values))])
    assert os.environ["CUDA_VISIBLE_DEVICES"] == (leased or "0")
    assert (CARDS[0] in free_cards()) == (leased is None)


@pytest.mark.parametrize(("device", "leased"), [("cuda", CARDS[0]), ("cpu", None)])
def test_the_cells_of_a_pack_have_one_card_for_all(machine, monkeypatch, device, leased):
    monkeypatch.setattr(subprocess, "Popen", subprocess.Popen)  # given back afterwards
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    run = run_of_cell(machine, device=device)
    files = dict.fromkeys(("model", "task", "tokens", "results", "record", "log", "benchmark"), "any")
    write_pack(machine / "pack.json", Pack("a pack", "its.log", [PackedCell(run=str(run), **files)] * 2))
    lease_gpus_of_cell(["script.py", "--pack", str(machine / "pack.json")])
    assert os.environ["CUDA_VISIBLE_DEVICES"] == (leased or "0")
    assert (CARDS[0] in free_cards()) == (leased is None)


@pytest.fixture
def clone(machine) -> Clone:
    """A clone with six cells, of which all is staged that Snakemake looks for, and a stand-in for the training."""
    clone = clone_into(machine / "clone")
    seeds = list(range(1, 7))
    experiment = {"experiment": "e", "models": {"m": {"source": "some/model"}}, "tasks": ["rte"], "seeds": seeds}
    (clone.root / "config.yaml").write_text(yaml.safe_dump(experiment | {"threads": 1}))
    planned = load_experiment(clone.root / "config.yaml")
    tokens = planned.tokens_manifest(planned.cell("m", "rte", "base", "1"))
    model = paths.MODEL_MANIFEST.format(model_key=planned.model_key("m"))
    for manifest in (model, paths.TASK_MANIFEST.format(task_key=planned.task_key("rte")), tokens):
        (clone.root / manifest).parent.mkdir(parents=True)
        (clone.root / manifest).write_text("{}")
    (clone.root / "scripts/train.py").write_text(BRIEF)
    return clone


def cells(clone: Clone) -> list[str]:
    """Return the results that training makes of all cells: the targets of a call."""
    return [f"results/e/runs/m/rte/base/seed-{seed}/all_results.json" for seed in range(1, 7)]


@pytest.mark.long
def test_as_many_cells_run_at_once_as_there_are_cards_each_on_its_own(clone):
    alone = ("--set-resources", "train:pack_minutes=0")
    done = clone.snakemake("--profile", "profiles/local", "--cores", "8", *alone, "--", *cells(clone))
    assert done.returncode == 0, done.stdout
    spans: dict[str, list[tuple[str, str]]] = {}
    for path in cells(clone):
        card, *span = (clone.root / path).read_text().split()
        spans.setdefault(card, []).append(tuple(map(float, span)))
    assert sorted(spans) == CARDS
    for ordered in map(sorted, spans.values()):
        assert all(before[1] <= after[0] for before, after in itertools.pairwise(ordered)), spans
    logs = [path.read_text() for path in clone.root.glob("results/e/logs/train/**/*.log")]
    assert len(logs) == 6
    assert not [log for log in logs if "waiting" in log]  # Snakemake starts no more than there are cards


class Workflow:
    """Stands in for Snakemake's: what gluegrid.workflow.hooks reads of it, and keeps what it registers."""

    def __init__(self, **resources: int):
        self.global_resources = {name: SimpleNamespace(value=value) for name, value in resources.items()}
        self.resource_settings = SimpleNamespace(cores=8)

    def register_resource(self, name: str, value: int) -> None:
        self.global_resources[name] = SimpleNamespace(value=value)


def limits(config: dict, workflow: Workflow, executor: str = "local") -> dict[str, object]:
    """Return the resources that a call of snakemake is executed with."""
    values = {"experiment": "e", "models": {"m": {"source": "some/model", "revision": "1"}}, "tasks": {"rte": {}}}
    experiment = Experiment(values | config)
    prepare_execution(experiment, SmallCells(experiment, None, pack_minutes=0), workflow, executor)
    return {name: resource.value for name, resource in workflow.global_resources.items()}


def test_cells_at_once_are_as_many_as_cards_and_on_the_cpu_as_cores(machine, monkeypatch):
    assert limits({}, Workflow(hub=2)) == {"hub": 2, "gpu": 3}
    assert limits({"device": "cpu"}, Workflow()) == {"gpu": 8}
    assert limits({"device": "cpu", "gpus": 9}, Workflow()) == {"gpu": 9}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,2")
    assert limits({}, Workflow()) == {"gpu": 2}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert limits({}, Workflow()) == {"gpu": 1}


def test_a_limit_that_is_given_holds_and_more_than_there_are_cards_is_warned_of(capsys):
    assert limits({}, Workflow(gpu=3)) == {"gpu": 3}
    assert limits({"device": "cpu"}, Workflow(gpu=4)) == {"gpu": 4}
    assert capsys.readouterr().err == ""
    assert limits({}, Workflow(gpu=4)) == {"gpu": 4}
    assert capsys.readouterr().err.startswith("warning: --resources gpu=4, but there are 3 here; ")


def test_a_head_of_slurms_and_a_plan_have_no_limit_and_ask_for_no_cards(monkeypatch):
    monkeypatch.setattr("gluegrid.workflow.hooks.visible_gpus", pytest.fail)
    assert limits({}, Workflow(), "slurm") == {}
    assert limits({}, Workflow(), "dryrun") == {}
