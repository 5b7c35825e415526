"""Nothing after staging touches a network or a cache that others use."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import builders
import pytest
import train
import yaml
from callers import JOB, MPIRUN, NOTEBOOK, TORCHRUN, python_variables
from clones import Clone, clone_into, copy_of
from needs import give_up
from network_trace import Contact, contacts, listens
from waiting import HANG

from gluegrid.execution import attempts
from gluegrid.operations.measured_speeds import PATH as MEASURED_SPEEDS

LOCAL = ("--profile", "profiles/local", "--configfile", "mine.yaml")
BY_HAND = "results/by-hand/runs/tiny/wnli/base/seed-1"
TOKEN = "hf_ThisIsATokenThatNobodyMayRead"

# Snakemake's SLURM plugin asks `scontrol show config` at each start of Snakemake, before any Snakefile is read.
OF_SNAKEMAKE = {"scontrol"}
# All that Snakemake itself leaves in a home: empty folders.
CACHE_OF_SNAKEMAKE = Path(".cache/snakemake/snakemake/source-cache/snakemake-runtime-cache")

WITHOUT_NETWORK = """
import errno, os, socket, sys
for address in ("192.0.2.1", "127.0.0.1"):
    with socket.socket() as client:
        assert client.connect_ex((address, 80)) == errno.ENETUNREACH, f"there is a network with {address}"
os.execv(sys.argv[1], sys.argv[1:])
"""

OUTSIDE = """
import socket
addresses = [("192.0.2.1", 443), ("2001:db8::1", 443), ("::ffff:192.0.2.2", 80)]
for host, port in addresses:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as client:
        client.connect_ex((host, port))
with socket.socket(type=socket.SOCK_DGRAM) as client:
    try:
        client.sendto(b"?", ("127.0.0.53", 53))
    except OSError:
        pass
"""

HOLDING = (
    "import os\nfrom gluegrid.execution.isolation import isolate; isolate(); print(os.environ['HF_HOME'], flush=True)"
)


def unshare(*namespaces: str) -> list[str]:
    """Return the start of a command that runs in namespaces of its own, as root or as a user."""
    for command in (["unshare", *namespaces], ["unshare", "--user", "--map-root-user", *namespaces]):
        if shutil.which("unshare") and subprocess.run([*command, "true"], capture_output=True).returncode == 0:
            return command
    return give_up(f"this machine does not let {namespaces} be unshared")


@pytest.fixture(scope="module")
def staged(tmp_path_factory) -> Clone:
    """A clone with all staged for a small task. To be copied, not changed."""
    clone = clone_into(tmp_path_factory.mktemp("staged") / "clone")
    subprocess.run([sys.executable, clone.root / "demo/generate.py"], check=True, timeout=HANG)
    write_experiment(clone, "by-hand", [1])
    done = clone.snakemake("stage", f"{BY_HAND}/run.json", *LOCAL, "--cores", "2")
    assert done.returncode == 0, done.stdout
    return clone


def write_experiment(clone: Clone, name: str, seeds: list[int]) -> None:
    """Write mine.yaml: one model on a few rows of one task."""
    config = {
        "experiment": name,
        "seeds": seeds,
        "models": {"tiny": {"source": "./demo/generated/models/bert-demo-small"}},
        "task_defaults": {"source": "./demo/generated/glue"},
        "tasks": {"wnli": {"max_train_samples": 32, "max_eval_samples": 16, "num_train_epochs": 1}},
        "max_seq_length": 16,
        "device": "cpu",
        "threads": 1,
    }
    (clone.root / "mine.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")


def environment_of(clone: Clone, folder: Path, **variables: str) -> dict[str, str]:
    """Return the environment of a user with a home and a TMPDIR in `folder`, made here, who set nothing else."""
    kept = {name: value for name, value in clone.full_environment().items() if not name.startswith(("HF_", "XDG_"))}
    # As a login sets them: bash asks the machine's name services for the user's shell where SHELL is missing.
    own = {"HOME": str(folder / "home"), "TMPDIR": str(folder / "tmp"), "LOGNAME": "user", "SHELL": "/bin/bash"}
    for name in ("HOME", "TMPDIR"):
        Path(own[name]).mkdir()
    return kept | own | variables


def run(command: list, clone: Clone, environment: dict[str, str]) -> str:
    """Run a command in a clone; return what it printed."""
    done = subprocess.run(
        list(map(str, command)),
        cwd=clone.root,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=3600,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def below(folder: Path) -> set[Path]:
    """Return all that lies in a folder, relative to it."""
    return {path.relative_to(folder) for path in folder.rglob("*")}


@pytest.mark.long
def test_a_cell_and_the_tables_need_no_network_no_home_and_nothing_of_their_caller(staged, tmp_path):
    clone = copy_of(staged, tmp_path / "clone")
    shutil.rmtree(clone.root / "resources/tokens")
    write_experiment(clone, "offline", [1])
    theirs = (
        TORCHRUN | MPIRUN | JOB | NOTEBOOK | python_variables(tmp_path / "of_the_caller") | {"HOME": "/proc/nobody"}
    )
    theirs.pop("PYTHONINSPECT")  # with it, snakemake itself ends with exit code 1
    start = [*unshare("--net"), sys.executable, "-c", WITHOUT_NETWORK]
    run([*start, *clone.command(*LOCAL, "--cores", "2")], clone, environment_of(clone, tmp_path, **theirs))
    assert (clone.root / "results/offline/runs/tiny/wnli/base/seed-1/all_results.json").exists()
    table = (clone.root / "results/offline/results.md").read_text(encoding="utf-8")
    assert "\n| WNLI " in table
    assert "failed" not in table


@pytest.mark.long
def test_nothing_after_fetching_contacts_another_machine_or_opens_a_port(staged, tmp_path, strace):
    clone = copy_of(staged, tmp_path / "clone")
    write_experiment(clone, "traced", [1])
    shutil.rmtree(clone.root / "resources/tokens")
    trace = tmp_path / "trace"
    start = [*strace, "-s", "4096", "-o", trace]
    run([*start, *clone.command(*LOCAL, "--cores", "2")], clone, environment_of(clone, tmp_path))

    lines = trace.read_text(encoding="utf-8").splitlines()
    started = "\n".join(line for line in lines if " execve(" in line)
    for script in ("tokenize_task.py", "write_runs.py", "accelerate_launch.py", "train.py", "results.py"):
        assert script in started
    assert not any(script in started for script in ("fetch_model.py", "fetch_task.py"))
    found = [contact for contact in contacts(lines) if contact.program not in OF_SNAKEMAKE]
    assert [contact for contact in found if contact.leaves_the_machine()] == []
    # Daemons of this machine resolve names, too: nscd, systemd-resolved.
    assert [contact for contact in found if contact.family == "AF_UNIX"] == []
    assert listens(lines) == []


@pytest.mark.long
def test_eight_cells_at_once_leave_nothing_in_their_home(staged, tmp_path):
    clone = copy_of(staged, tmp_path / "clone")
    before = below(clone.root)
    write_experiment(clone, "crowd", list(range(1, 9)))
    environment = environment_of(clone, tmp_path, HF_TOKEN=TOKEN)
    run(clone.command(*LOCAL, "--cores", "8", "--resources", "gpu=8"), clone, environment)

    states = sorted((clone.root / "results/crowd/state/tiny/wnli/base").iterdir())
    tries = [attempt for state in states for attempt in attempts.read(state)]
    assert [attempt["reason"] for attempt in tries] == ["done"] * 8
    assert max(attempt["start"] for attempt in tries) < min(attempt["end"] for attempt in tries)
    assert below(tmp_path / "home") <= {CACHE_OF_SNAKEMAKE, *CACHE_OF_SNAKEMAKE.parents}
    # Leases of cells stay until the next one is taken.
    assert {path.parts[0] for path in below(tmp_path / "tmp")} <= {
        f"gluegrid-gpus-{socket.gethostname()}-{os.getuid()}"
    }
    new = below(clone.root) - before
    assert {path.parts[0] for path in new - {MEASURED_SPEEDS}} - {"scripts"} <= {"results", ".snakemake"}
    assert [path for path in new if is_lock_or_temporary(path)] == []
    assert [path for path in new if contains(clone.root / path, TOKEN)] == []


def is_lock_or_temporary(path: Path) -> bool:
    """Tell locks and unfinished files by their names; Snakemake's own folder has folders called so."""
    if path.parts[0] == ".snakemake":
        return path.suffix == ".lock"
    return path.name == "lock" or path.name.startswith(".") or path.suffix in (".lock", ".partial", ".incomplete")


def contains(path: Path, text: str) -> bool:
    """Tell whether a file has a text."""
    return path.is_file() and text.encode() in path.read_bytes()


@pytest.mark.long
def test_a_cell_is_trained_where_the_home_is_read_only(staged, tmp_path):
    clone = copy_of(staged, tmp_path / "clone")
    environment = environment_of(clone, tmp_path)
    mounted = 'mount -t tmpfs -o ro none "$HOME" && ! touch "$HOME/file" 2>/dev/null && exec "$@"'
    run([*unshare("--net", "--mount"), "sh", "-c", mounted, "sh", *train_command(clone)], clone, environment)
    assert (clone.root / BY_HAND / "all_results.json").exists()
    assert not below(tmp_path / "tmp")


def train_command(clone: Clone) -> list:
    """Return the command of the rule `train`."""
    tokens, model, task = (
        next(clone.root.glob(f"resources/{pattern}/manifest.json")) for pattern in ("tokens/*/*", "models/*", "tasks/*")
    )
    command = ["env", f"PATH={builders.PATH}", "bash", "scripts/launch.sh", "1", "1", "scripts/train.py"]
    command += ["--run", f"{BY_HAND}/run.json", "--model", model, "--task", task, "--tokens", tokens]
    return [*command, "--results", f"{BY_HAND}/all_results.json", "--record", f"{BY_HAND}/run_record.json"]


def test_training_knows_neither_the_users_token_nor_caches(tmp_path):
    of_the_user = {
        "HF_TOKEN": TOKEN,
        "HUGGING_FACE_HUB_TOKEN": TOKEN,
        "HF_HUB_CACHE": "/shared/hub",
        "HF_MODULES_CACHE": "/shared/modules",
        "HUGGINGFACE_HUB_CACHE": "/shared/old",
        "TORCHINDUCTOR_CACHE_DIR": "/shared/torchinductor",
        "HF_HUB_OFFLINE": "0",
        "HTTPS_PROXY": "http://proxy:3128",
    }
    names = "import json, os\nfrom gluegrid.execution.isolation import isolate"
    code = f"{names}; isolate(); print(json.dumps(dict(os.environ)))"
    process = builders.python(code, env=of_the_user | {"TMPDIR": str(tmp_path)})
    output, errors = process.communicate(timeout=HANG)
    assert process.returncode == 0, errors
    seen = json.loads(output)
    assert not [name for name, value in seen.items() if value == TOKEN or value.startswith("/shared/")]
    assert seen["HF_HUB_OFFLINE"] == "1"
    assert seen["HTTPS_PROXY"] == "http://proxy:3128"
    for name in ("HF_HOME", "XDG_CACHE_HOME", "TORCHINDUCTOR_CACHE_DIR", "CUDA_CACHE_PATH"):
        assert Path(seen[name]).is_relative_to(tmp_path)
    assert not below(tmp_path)


# What is compiled for GPUs, of which the driver, played here, says what there are.
KERNELS = ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "CUDA_CACHE_PATH")
ISOLATED_WITH_KERNELS = """
import json, os, sys
from pathlib import Path
from gluegrid.execution import isolation
isolation.DRIVER = Path(sys.argv[2])
isolation.isolate(Path(sys.argv[1]))
print(json.dumps(dict(os.environ)))
"""


def environment_with_kernels(folder: Path, kernels: Path, *cards: str, **environment: str) -> dict[str, str]:
    """Return the environment of a cell on a machine with such cards."""
    driver = folder / "driver"
    shutil.rmtree(driver, ignore_errors=True)
    for number, card in enumerate(cards):
        (driver / f"gpus/0000:{number}").mkdir(parents=True)
        about = f"Model: \t\t {card}\nIRQ:   \t\t {number}\nGPU UUID: \t GPU-{number}\n"
        (driver / f"gpus/0000:{number}/information").write_text(about)
    process = builders.python(ISOLATED_WITH_KERNELS, kernels, driver, env={"TMPDIR": str(folder)} | environment)
    output, errors = process.communicate(timeout=HANG)
    assert process.returncode == 0, errors
    return json.loads(output)


def test_what_is_compiled_for_a_gpu_is_kept_for_cells_on_such_a_gpu(tmp_path):
    first, same, other = (
        environment_with_kernels(tmp_path, tmp_path / "kernels", *cards)
        for cards in (["NVIDIA A100", "NVIDIA A100"], ["NVIDIA A100"], ["NVIDIA H100"])
    )
    for name in KERNELS:
        assert Path(first[name]).parent.parent == tmp_path / "kernels"
        assert first[name] == same[name] != other[name]
    assert len({first[name] for name in KERNELS}) == 3
    assert first["CUDA_CACHE_MAXSIZE"] == str(2**28)
    assert not Path(first["HF_HOME"]).is_relative_to(tmp_path / "kernels")
    assert Path(first[KERNELS[0]]).parent.is_dir()
    assert not Path(first["HF_HOME"]).exists()


@pytest.mark.parametrize(("device", "expected"), [("cuda", Path("resources/kernels")), ("cpu", None)])
def test_only_cells_on_a_gpu_have_a_place_for_what_they_compile(device, expected):
    arguments = SimpleNamespace(model=Path("resources/models/some--model@main/manifest.json"))
    assert train.kernels_for(builders.run(builders.task(), device=device), arguments) == expected


def test_what_is_compiled_for_a_gpu_is_private_where_nothing_can_be_kept(tmp_path):
    (tmp_path / "kernels").write_text("no folder")
    seen = environment_with_kernels(tmp_path, tmp_path / "kernels", "NVIDIA A100")
    private = Path(seen["HF_HOME"]).parent
    assert [Path(seen[name]).parent for name in KERNELS] == [private] * 3
    assert not private.exists()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"PYTORCH_ALLOC_CONF": "expandable_segments:True"}),
        ({"PYTORCH_CUDA_ALLOC_CONF": "max_split_size_mb:64"}, {"PYTORCH_CUDA_ALLOC_CONF": "max_split_size_mb:64"}),
        ({"PYTORCH_ALLOC_CONF": "backend:cudaMallocAsync"}, {"PYTORCH_ALLOC_CONF": "backend:cudaMallocAsync"}),
    ],
)
def test_gpu_memory_is_taken_in_segments_that_grow_unless_the_user_says_how(tmp_path, monkeypatch, given, expected):
    for name in [name for name in os.environ if name.endswith("ALLOC_CONF")]:
        monkeypatch.delenv(name)
    seen = environment_with_kernels(tmp_path, tmp_path / "kernels", **given)
    assert {name: value for name, value in seen.items() if name.endswith("ALLOC_CONF")} == expected


def test_torch_reads_the_name_by_which_it_is_told_how_to_take_memory(tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.endswith("ALLOC_CONF")]:
        monkeypatch.delenv(name)
    code = (
        "from gluegrid.execution.isolation import isolate; isolate()\n"
        "import torch; print(torch._C._accelerator_getAllocatorSettings())"
    )
    output, errors = builders.python(code, env={"TMPDIR": str(tmp_path)}).communicate(timeout=HANG)
    assert (output.strip(), errors) == ("expandable_segments:True", "")


def test_the_folder_of_a_killed_process_is_removed_by_the_next_one(tmp_path):
    similar = tmp_path / f"gluegrid-cell-{socket.gethostname()}-mine"
    similar.mkdir()
    killed, living = (isolated_process(tmp_path) for _ in range(2))
    folders = [Path(process.stdout.readline().strip()).parent for process in (killed, living)]
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert folders[0].is_dir()
    isolated_process(tmp_path).communicate(timeout=HANG)
    assert set(tmp_path.iterdir()) == {similar, folders[1]}
    living.communicate(timeout=HANG)
    assert set(tmp_path.iterdir()) == {similar}


def isolated_process(folder: Path) -> subprocess.Popen:
    """Start a process that is isolated until it may read its standard input."""
    return builders.python(f"{HOLDING}; input()", env={"TMPDIR": str(folder)}, stdin=subprocess.PIPE)


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (
            'connect(3, {sa_family=AF_INET, sin_port=htons(443), sin_addr=inet_addr("203.0.113.7")}, 16) = 0',
            Contact("python3", "AF_INET", "203.0.113.7", 443),
        ),
        (
            "connect(3, {sa_family=AF_INET6, sin6_port=htons(443), sin6_flowinfo=htonl(0), inet_pton(AF_INET6,"
            ' "2001:db8::7", &sin6_addr), sin6_scope_id=0}, 28) = -1 EINPROGRESS (Operation now in progress)',
            Contact("python3", "AF_INET6", "2001:db8::7", 443),
        ),
        (
            "connect(3, {sa_family=AF_INET6, sin6_port=htons(80), sin6_flowinfo=htonl(0), inet_pton(AF_INET6,"
            ' "::ffff:203.0.113.7", &sin6_addr), sin6_scope_id=0}, 28 <unfinished ...>',
            Contact("python3", "AF_INET6", "::ffff:203.0.113.7", 80),
        ),
        (
            r'sendto(3, "\370\30\1\0", 33, MSG_NOSIGNAL, {sa_family=AF_INET, sin_port=htons(53),'
            ' sin_addr=inet_addr("127.0.0.53")}, 16) = 33',
            Contact("python3", "AF_INET", "127.0.0.53", 53),
        ),
        (
            'sendmsg(3, {msg_name={sa_family=AF_INET, sin_port=htons(123), sin_addr=inet_addr("203.0.113.7")},'
            ' msg_namelen=16, msg_iov=[{iov_base="a", iov_len=1}], msg_iovlen=1, msg_controllen=0}, 0) = 1',
            Contact("python3", "AF_INET", "203.0.113.7", 123),
        ),
        ("connect(3, 0x7ffe8a1b2c30, 16) = 0", Contact("python3", "unknown", "3, 0x7ffe8a1b2c30, 16) = 0")),
    ],
    ids=["IPv4", "IPv6", "IPv4 in IPv6", "name server on loopback", "message", "not readable"],
)
def test_a_contact_that_leaves_the_machine_is_read_from_a_trace(call, expected):
    trace = ['17 execve("/usr/bin/python3", ["python3"], 0x7ffe /* 9 vars */) = 0', f"17 {call}"]
    assert list(contacts(trace)) == [expected]
    assert expected.leaves_the_machine()


@pytest.mark.parametrize(
    "call",
    [
        'connect(3, {sa_family=AF_INET, sin_port=htons(80), sin_addr=inet_addr("127.3.2.1")}, 16) = 0',
        'sendto(3, "a", 1, 0, {sa_family=AF_INET6, sin6_port=htons(80), sin6_flowinfo=htonl(0), inet_pton(AF_INET6,'
        ' "::1", &sin6_addr), sin6_scope_id=0}, 28) = 1',
        'connect(3, {sa_family=AF_UNIX, sun_path="/run/nscd/socket"}, 110) = -1 ENOENT (No such file or directory)',
    ],
    ids=["IPv4", "IPv6", "UNIX"],
)
def test_a_contact_within_the_machine_is_told_from_others(call):
    (contact,) = contacts([f"17 {call}"])
    assert not contact.leaves_the_machine()


def test_what_strace_writes_of_contacts_is_read(tmp_path, strace):
    trace = tmp_path / "trace"
    command = [*unshare("--net"), *strace, "-o", str(trace), sys.executable, "-c", OUTSIDE]
    subprocess.run(command, check=True, timeout=HANG)
    found = [contact for contact in contacts(trace.read_text().splitlines()) if contact.leaves_the_machine()]
    addresses = ["192.0.2.1", "2001:db8::1", "::ffff:192.0.2.2", "127.0.0.53"]
    assert [contact.address for contact in found] == addresses
    assert {contact.program for contact in found} == {Path(sys.executable).name}
