"""Fetching from a hub: the real client and the real scripts against a fake hub on loopback."""

import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from fake_hub import FakeHub, Fault
from fake_hub_servers import serving
from fetching import MEGABYTE, TRAIN, Fetched, Fetcher, parquet
from needs import give_up
from waiting import HANG, wait_until

from gluegrid.common.files import sha256

TOKEN = "hf_ofAReaderWhoMayReadIt"
OTHER_TOKEN = "hf_ofSomeoneElseAltogether"
VALIDATION = "rte/validation-00000-of-00001.parquet"
DATA = "datasets/org/glue"
MODEL = "models/org/tiny"
# No model that could be trained, which is seen once its files are there.
MODEL_FILES = {"config.json": b'{"model_type": "bert"}', "model.safetensors": b"weights" * 100}
SMALL = parquet()
LARGE = parquet(megabytes=4)
CUT = 5 * MEGABYTE // 2
RATE = 550_000  # bytes per second
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with serving() as hub:
        yield hub


@pytest.fixture
def fetch(hub: FakeHub, tmp_path: Path) -> Fetcher:
    return Fetcher(hub, tmp_path)


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, tuple[FakeHub, Fetched]]]:
    """Fetches that have to wait, each with a hub of its own; all at once, as each alone takes 6 s or more."""
    # The hub tells with every answer how many requests are left, which is no reason to wait.
    many_left = {"RateLimit": '"resolvers";r=2999;t=200'}
    none_left = {"RateLimit": '"api";r=0;t=2'}
    cases: dict[str, tuple[bytes, list[Fault], dict[str, str]]] = {
        "reset": (LARGE, [Fault("content", times=1, cut_after=CUT, resets=True, bytes_per_second=CUT)], {}),
        "busy": (
            SMALL,
            [
                Fault("listing", times=1, status=429, headers={"Retry-After": "1"}),
                Fault("listing", times=1, status=429, headers=none_left),
                Fault("resolve", times=1, status=429, headers={"Retry-After": "1"}),
            ],
            {},
        ),
        "out of order": (SMALL, [Fault("resolve", times=1, status=500, headers=many_left)], {}),
        "throttled": (LARGE, [Fault("content", bytes_per_second=RATE)], {}),
        "nowhere": (SMALL, [], {"HF_ENDPOINT": NOWHERE}),
    }
    with ExitStack() as stack:
        started = {}
        for name, (content, faults, variables) in cases.items():
            hub = stack.enter_context(serving())
            hub.commit(DATA, {TRAIN: content})
            hub.faults += faults
            fetch = Fetcher(hub, tmp_path_factory.mktemp("slow"))
            started[name] = (hub, fetch, fetch.start_task(**variables))
        yield {name: (hub, fetch.finish(process)) for name, (hub, fetch, process) in started.items()}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder with room for 8 MB. Mounting it needs root, as continuous integration has."""
    folder = tmp_path / "resources"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode != 0:
        give_up("no small file system can be mounted here; that needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


# What is asked for, and what is recorded


def test_a_branch_is_resolved_and_only_the_tasks_files_are_fetched(hub, fetch):
    names = [TRAIN, VALIDATION, "cola/train-00000-of-00001.parquet", "README.md"]
    commit = hub.commit(DATA, dict.fromkeys(names, SMALL), branch="release/1")
    content = fetch.task(revision="release/1").content
    assert content["resolved_revision"] == commit
    assert content["rows"] == {"train": 3, "validation": 3}
    staged = fetch.manifest().parent / TRAIN
    assert content["files"][TRAIN] == {"bytes": len(SMALL), "sha256": sha256(staged)}
    assert sorted(hub.files_sent()) == [TRAIN, VALIDATION]
    assert all(f"/resolve/{commit}/" in request.path for request in hub.asked("resolve"))
    # Nothing else is told to the hub, and the user's cache is left alone.
    assert not hub.asked("other")
    assert not list(fetch.home.rglob("*"))
    assert sorted(path.name for path in fetch.resources.iterdir()) == ["it"]


def test_no_home_is_needed_to_fetch(hub, fetch):
    hub.commit(DATA, {TRAIN: SMALL})
    homeless = {"HOME": "/proc/nobody", "HF_HOME": "/proc/nobody/huggingface", "XDG_CACHE_HOME": "/proc/nobody/cache"}
    assert fetch.task(**homeless).content["rows"] == {"train": 3}


def test_a_branch_that_moves_changes_what_is_fetched_next_and_a_pinned_commit_does_not(hub, fetch):
    first = hub.commit(DATA, {TRAIN: parquet(rows=2)})
    assert fetch.task(key="before").content["resolved_revision"] == first
    second = hub.commit(DATA, {TRAIN: parquet(rows=5)})
    assert fetch.task(key="after").content["resolved_revision"] == second
    assert fetch.task(revision=first, key="pinned").content["rows"] == {"train": 2}
    assert fetch.staged(TRAIN, "after") == parquet(rows=5)
    asked = len(hub.requests)
    assert "already staged" in fetch.task(key="after").log
    assert len(hub.requests) == asked


def test_pickled_weights_are_never_asked_for(hub, fetch):
    hub.commit(MODEL, MODEL_FILES | {"pytorch_model.bin": b"pickle", "README.md": b"", "modeling_tiny.py": b""})
    assert "model.safetensors" in fetch.model().error
    assert sorted(hub.files_sent()) == ["config.json", "model.safetensors"]


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({"config.json": b"{}", "pytorch_model.bin": b"x"}, "org/tiny: has no safetensors weights (only pytorch_model"),
        ({"model.safetensors": b"x"}, "org/tiny: has no config.json"),
    ],
)
def test_an_unusable_model_is_refused_before_anything_is_fetched(hub, fetch, files, problem):
    hub.commit(MODEL, files)
    assert problem in fetch.model().error
    assert not hub.asked("resolve")


def test_a_data_set_without_the_folder_is_one_line(hub, fetch):
    hub.commit(DATA, {TRAIN: SMALL})
    assert "org/glue: has no cola/<split>-00000-of-00001.parquet" in fetch.task("cola").error


# What the hub refuses


@pytest.mark.parametrize("token", ["", TOKEN])
def test_an_unknown_repository_is_named_and_so_is_the_token_a_private_one_needs(hub, fetch, token):
    hub.tokens = {TOKEN}
    error = fetch.model("org/nothing", HF_TOKEN=token).error
    assert error.startswith("gluegrid: model 'org/nothing' at revision 'main': the hub has no such repository, or it")
    assert "HF_TOKEN" in error


def test_an_unknown_revision_is_named(hub, fetch):
    hub.commit(DATA, {TRAIN: SMALL})
    error = fetch.task(revision="v9").error
    assert error.startswith("gluegrid: dataset 'org/glue' at revision 'v9': it has no such revision")


@pytest.mark.parametrize(
    "answer",
    [
        b"<html>Please log in to this network</html>",
        b"",
        b"null",
        b"[]",
        b'{"id": "org/glue"}',
        b'{"id": "org/glue", "sha": "main", "siblings": []}',
        b'{"id": "org/glue", "sha": "%s", "siblings": [{"rfilename": 5}]}' % (b"0" * 40),
        b'{"id": "org/glue", "sha": "%s", "siblings": [5]}' % (b"0" * 40),
        b'{"id": "org/glue", "sha": "%s", "siblings": [{"rfilename": "rte/x", "size": "9"}]}' % (b"0" * 40),
    ],
)
def test_an_answer_that_is_not_a_hubs_is_told_from_one(hub, fetch, answer):
    hub.commit(DATA, {TRAIN: SMALL})
    hub.faults.append(Fault("listing", content=answer))
    assert fetch.task().error == (
        f"gluegrid: dataset 'org/glue' at revision 'main': {hub.endpoint} did not answer with a repository's"
        " list of files; check HF_ENDPOINT, and whether a login page or a proxy answers in its place"
    )


@pytest.mark.parametrize("address", ["hub.example", "ftp://hub.example", "http://", "http://[", "http://hub:99999"])
def test_a_mirrors_address_that_is_none_is_named(fetch, address):
    error = fetch.task(HF_ENDPOINT=address).error
    assert error.startswith(f"gluegrid: HF_ENDPOINT is '{address}', not an address such as https://hub.example; ")


def test_a_gated_data_set_is_fetched_with_a_token_that_only_the_hub_sees(hub, fetch):
    hub.tokens = {TOKEN, OTHER_TOKEN}
    hub.commit(DATA, {TRAIN: SMALL}, readers=frozenset({TOKEN}), is_gated=True)
    for variables in ({}, {"HF_TOKEN": OTHER_TOKEN}):
        error = fetch.task(**variables).error
        assert f"accept its terms at {hub.endpoint}/datasets/org/glue, and set HF_TOKEN" in error
    assert not hub.files_sent()
    hub.requests.clear()
    assert fetch.task(HF_TOKEN=TOKEN).content["rows"] == {"train": 3}
    assert {request.token for request in hub.requests if request.server == "hub"} == {TOKEN}
    assert [request.headers.get("authorization") for request in hub.requests if request.server == "cdn"] == [None]


def test_a_wrong_token_is_said_to_be_wrong_and_is_not_shown_even_if_the_hub_repeats_it(hub, fetch):
    hub.commit(DATA, {TRAIN: SMALL})
    done = fetch.task(HF_TOKEN="s3cr3t-of-a-mirror")
    assert "the hub does not accept the token in HF_TOKEN" in done.error
    hub.faults.append(Fault("listing", status=403, headers={"X-Error-Message": "s3cr3t-of-a-mirror is too old"}))
    again = fetch.task(HF_TOKEN="s3cr3t-of-a-mirror")
    assert "the hub refused it: 403 *** is too old" in again.error
    assert "s3cr3t" not in done.log + again.log


def test_a_file_that_is_in_the_list_and_not_in_the_repository_is_named(hub, fetch):
    hub.commit(MODEL, MODEL_FILES)
    headers = {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found"}
    hub.faults.append(Fault("resolve", "model.safetensors", status=404, headers=headers))
    error = fetch.model().error
    assert "at revision 'main': model.safetensors: the hub refused it: 404 Entry not found" in error


# What breaks on the way


def test_a_transfer_that_is_cut_off_goes_on_where_it_was(hub, fetch):
    hub.commit(DATA, {TRAIN: LARGE})
    hub.faults.append(Fault("content", TRAIN, times=1, cut_after=CUT))
    fetched = fetch.task()
    assert fetched.content["rows"] == {"train": 3}
    assert fetch.staged(TRAIN) == LARGE
    assert_resumed(hub, least=MEGABYTE, most=CUT)


def test_a_killed_fetch_is_resumed_by_the_next_and_a_new_commit_is_not_mixed_into_the_old(hub, fetch):
    hub.commit(DATA, {TRAIN: LARGE, VALIDATION: SMALL})
    kill_in_the_middle(hub, fetch)
    assert not fetch.manifest().parent.exists()
    fetched = fetch.task()
    assert fetched.content["rows"] == {"train": 3, "validation": 3}
    assert "resumed at" in fetched.log
    assert fetch.staged(TRAIN) == LARGE
    assert_resumed(hub, least=MEGABYTE, most=len(LARGE) - 1)


def test_what_a_killed_fetch_left_of_an_older_commit_does_no_harm(hub, fetch):
    hub.commit(DATA, {TRAIN: LARGE})
    kill_in_the_middle(hub, fetch)
    newer = parquet(megabytes=4, seed=1)
    hub.commit(DATA, {TRAIN: newer})
    assert fetch.task().content["rows"] == {"train": 3}
    assert fetch.staged(TRAIN) == newer


def test_a_fetch_killed_after_its_last_byte_is_completed(hub, fetch):
    hub.commit(DATA, {TRAIN: SMALL})
    leave_incomplete(fetch, SMALL)
    assert fetch.task().content["rows"] == {"train": 3}
    assert not hub.files_sent()
    assert not list(fetch.resources.glob("*.partial"))


def test_a_server_that_ignores_ranges_is_listened_to_from_the_start(hub, fetch):
    hub.commit(DATA, {TRAIN: SMALL})
    leave_incomplete(fetch, SMALL[:100])
    hub.faults.append(Fault("content", TRAIN, ignores_range=True))
    assert fetch.task().content["rows"] == {"train": 3}
    assert hub.ranges(TRAIN) == ["bytes=100-"]
    assert fetch.staged(TRAIN) == SMALL


def test_content_that_is_wrong_once_is_fetched_again(hub, fetch):
    hub.commit(DATA, {TRAIN: SMALL})
    hub.faults.append(Fault("content", TRAIN, times=1, content=bytes(len(SMALL))))
    fetched = fetch.task()
    assert fetched.content["rows"] == {"train": 3}
    assert f"{TRAIN}: its SHA-256 is " in fetched.log
    assert fetch.staged(TRAIN) == SMALL
    assert hub.ranges(TRAIN) == [None, None]


@pytest.mark.parametrize(("name", "kind"), [("config.json", "git blob"), ("model.safetensors", "SHA-256")])
def test_content_that_stays_wrong_is_refused_with_both_hashes(hub, fetch, name, kind):
    hub.commit(MODEL, MODEL_FILES)
    hub.faults.append(Fault("content", name, content=bytes(len(MODEL_FILES[name]))))
    assert re.search(
        rf"model 'org/tiny' at revision 'main': {name} was downloaded twice and damaged both times: its {kind} is"
        " [0-9a-f]{40,}, the hub says [0-9a-f]{40,}",
        fetch.model().error,
    )
    assert hub.files_sent().count(name) == 2


def test_a_size_that_is_not_the_files_is_refused(hub, fetch):
    hub.commit(DATA, {TRAIN: SMALL}, claims={TRAIN: {"size": len(SMALL) + 1}})
    error = fetch.task().error
    said = f"it has {len(SMALL):,} bytes, the hub says {len(SMALL) + 1:,}"
    assert f"{TRAIN} was downloaded twice and damaged both times: {said}" in error


def test_a_hub_that_always_asks_to_wait_is_given_up(hub, fetch):
    hub.commit(DATA, {TRAIN: SMALL})
    hub.faults.append(Fault("listing", status=429, headers={"Retry-After": "0"}))
    assert "the hub answered 429 (too many requests) for too long; try again later" in fetch.task().error
    assert len(hub.asked("listing")) == 7


# What takes patience; see `slow`


def test_a_connection_that_is_reset_goes_on_where_it_was(slow):
    hub, fetched = slow["reset"]
    assert fetched.content["rows"] == {"train": 3}
    assert (fetched.manifest.parent / TRAIN).read_bytes() == LARGE
    assert_resumed(hub, least=MEGABYTE, most=CUT)


def test_a_hub_that_asks_to_wait_is_waited_for_and_the_log_says_how_long(slow):
    _, fetched = slow["busy"]
    assert fetched.content["rows"] == {"train": 3}
    assert "the hub asks to wait (429); next try in 1 s" in fetched.log
    assert "the hub asks to wait (429); next try in 2 s" in fetched.log


def test_a_hub_that_is_out_of_order_is_asked_again_after_a_pause_of_ours(slow):
    _, fetched = slow["out of order"]
    assert fetched.content["rows"] == {"train": 3}
    assert "(500); next try in 5 s" in fetched.log


def test_a_slow_transfer_says_how_far_it_is(slow):
    _, fetched = slow["throttled"]
    assert fetched.content["rows"] == {"train": 3}
    lines = re.findall(rf"{TRAIN}: ([\d.]+) MB of 4\.0 MB, ([\d.]+) kB/s, (\d+) s left", fetched.log)
    assert any(float(there) < 4 for there, _, _ in lines), fetched.log
    for there, rate, left in lines:
        assert RATE / 1e4 < float(rate) < RATE / 1e2  # kB/s; a machine that stalls is slower
        assert float(left) == pytest.approx((len(LARGE) / 1e3 - float(there) * 1e3) / float(rate), rel=0.1, abs=1.5)


def test_a_hub_that_cannot_be_reached_is_named_with_what_can_be_done(slow):
    _, fetched = slow["nowhere"]
    assert f"the hub at {NOWHERE} cannot be reached" in fetched.error
    assert "run `snakemake stage` on a machine with network access" in fetched.error


# Mirrors and proxies


def test_a_mirror_below_a_path_that_tells_neither_sizes_nor_hashes_will_do(hub, fetch):
    hub.commit(DATA, {TRAIN: SMALL})
    hub.lists_sizes = False
    leave_incomplete(fetch, b"of an older state")
    content = fetch.task(HF_ENDPOINT=f"{hub.endpoint}/mirror").content
    assert fetch.staged(TRAIN) == SMALL
    assert content["files"][TRAIN]["bytes"] == len(SMALL)
    assert all(request.path.startswith("/mirror/") for request in hub.requests if request.server == "hub")


def test_a_login_in_the_mirrors_address_is_used_and_shown_nowhere(hub, fetch):
    endpoint = hub.endpoint.replace("//", "//reader:s3cr3t@")
    hub.commit(DATA, {TRAIN: SMALL}, readers=frozenset({TOKEN}), is_gated=True)
    gated = fetch.task(HF_ENDPOINT=endpoint)
    assert "accept its terms at http://***@127.0.0.1:" in gated.error
    hub.repositories[DATA].readers = None
    hub.faults.append(Fault("resolve", times=1, status=429, headers={"Retry-After": "0"}))
    fetched = fetch.task(HF_ENDPOINT=endpoint)
    assert fetched.code == 0
    assert all(
        request.headers["authorization"].startswith("Basic ") for request in hub.requests if request.server == "hub"
    )
    assert "s3cr3t" not in gated.log + fetched.log + fetched.manifest.read_text(encoding="utf-8")


def test_a_proxy_is_used_except_where_it_is_not_to_be(hub, fetch):
    hub.commit(DATA, {TRAIN: SMALL})
    proxy = hub.proxy.replace("//", "//me:s3cr3t@")
    fetched = fetch.task(HF_ENDPOINT="http://hub.invalid", HTTP_PROXY=proxy)
    assert fetched.content["rows"] == {"train": 3}
    through = [request for request in hub.requests if request.server == "proxy"]
    assert len(through) == len(hub.requests) / 2
    assert {request.headers["proxy-authorization"].split()[0] for request in through} == {"Basic"}
    assert "s3cr3t" not in fetched.log
    hub.requests.clear()
    assert fetch.task(key="direct", HTTP_PROXY=proxy, NO_PROXY="localhost,127.0.0.1").code == 0
    assert not any(request.server == "proxy" for request in hub.requests)


# The user's cache of the hub


def test_what_the_users_cache_has_is_not_downloaded_again_unless_it_is_damaged(hub, fetch):
    hub.commit(DATA, {TRAIN: SMALL, VALIDATION: parquet(rows=4)})
    fetch.in_cache(f"for name in ({TRAIN!r}, {VALIDATION!r}): hf_hub_download('org/glue', name, repo_type='dataset')")
    assert fetch.home.exists()
    hub.requests.clear()
    before = state_of(fetch.home)
    fetched = fetch.task()
    assert fetched.content["rows"] == {"train": 3, "validation": 4}
    assert f"{TRAIN}: from the hub's cache" in fetched.log
    assert not hub.files_sent()
    assert state_of(fetch.home) == before
    cached = next(fetch.home.rglob(TRAIN))
    cached.write_bytes(bytes(len(SMALL)))
    assert fetch.task(key="again").code == 0
    assert hub.files_sent() == [TRAIN]
    assert fetch.staged(TRAIN, "again") == SMALL


@pytest.mark.parametrize(
    "filled_by",
    [
        "snapshot_download('org/glue', repo_type='dataset', allow_patterns=['*.parquet'])",
        f"for name in ({TRAIN!r}, {VALIDATION!r}): hf_hub_download('org/glue', name, repo_type='dataset')",
    ],
    ids=["in one go", "file by file"],
)
def test_without_a_network_a_full_cache_is_enough_unless_it_is_damaged(hub, fetch, filled_by):
    commit = hub.commit(DATA, {TRAIN: SMALL, VALIDATION: parquet(rows=4), "README.md": b"long"})
    fetch.in_cache(filled_by)
    fetched = fetch.task(HF_HUB_OFFLINE="1")
    assert fetched.content["resolved_revision"] == commit
    assert fetched.content["rows"] == {"train": 3, "validation": 4}
    assert fetch.staged(TRAIN) == SMALL
    assert "HF_HUB_OFFLINE" in fetched.log
    cached = next(fetch.home.rglob(TRAIN))
    cached.write_bytes(bytes(len(SMALL)))
    assert f"gluegrid: {cached}: is damaged" in fetch.task(key="again", HF_HUB_OFFLINE="1").error


def test_without_a_network_a_cache_that_lacks_a_file_is_not_enough(hub, fetch):
    hub.commit(DATA, {TRAIN: SMALL, VALIDATION: SMALL})
    fetch.in_cache(f"snapshot_download('org/glue', repo_type='dataset', allow_patterns=[{TRAIN!r}])")
    error = fetch.task(HF_HUB_OFFLINE="1").error
    assert VALIDATION in error
    assert "cache" in error


def test_without_a_network_a_cached_model_without_weights_is_said_to_be_incomplete(hub, fetch):
    hub.commit(MODEL, MODEL_FILES)
    fetch.in_cache("hf_hub_download('org/tiny', 'config.json')")
    error = fetch.model(HF_HUB_OFFLINE="1").error
    assert "cache" in error


# Room on the disk, and others who fetch


def test_too_little_room_is_seen_before_the_first_byte(hub, fetch, small_disk):
    hub.commit(DATA, {TRAIN: parquet(megabytes=9)})
    assert re.search(
        rf"{small_disk}: 9\.\d MB are needed, but only 8\.\d MB are free; free some space", fetch.task().error
    )
    assert not hub.files_sent()


def test_a_disk_that_fills_up_is_named_and_the_same_command_goes_on(hub, fetch, small_disk):
    hub.lists_sizes = False
    hub.commit(DATA, {TRAIN: parquet(megabytes=9)})
    assert f"the disk (or your quota) below {small_disk} is full; free some space" in fetch.task().error
    hub.commit(DATA, {TRAIN: SMALL})
    assert fetch.task().content["rows"] == {"train": 3}


def test_of_two_that_fetch_the_same_one_waits_and_keeps_the_others_work(hub, fetch):
    hub.commit(DATA, {TRAIN: SMALL})
    held = Fault("content", TRAIN, stops_after=0)
    hub.faults.append(held)
    first = fetch.start_task()
    assert wait_until(lambda: hub.asked("content"))
    second = fetch.start_task()
    said = []
    for line in second.stdout:
        said.append(line)
        if "waiting for another process that fetches this: process" in line:
            held.go_on.set()
    assert second.wait(HANG) == 0
    assert held.go_on.is_set()
    assert "already staged by another process" in "".join(said)
    done = fetch.finish(first)
    assert done.content["rows"] == {"train": 3}
    assert "another process" not in done.log
    assert hub.files_sent() == [TRAIN]


def assert_resumed(hub: FakeHub, least: int, most: int) -> None:
    """The large file was asked for twice, the second time from a byte between these."""
    first, second = hub.ranges(TRAIN)
    assert first is None
    assert least <= int(re.fullmatch(r"bytes=(\d+)-", second)[1]) <= most


def kill_in_the_middle(hub: FakeHub, fetch: Fetcher) -> None:
    """Start a fetch and kill it, with no time to tidy up, when half of the large file has been sent."""
    hub.faults.append(Fault("content", TRAIN, times=1, stops_after=CUT))
    process = fetch.start_task()
    path = fetch.resources / "it.partial" / f"{TRAIN}.incomplete"
    assert wait_until(lambda: path.exists() and path.stat().st_size >= MEGABYTE)
    process.send_signal(signal.SIGKILL)
    process.wait()


def leave_incomplete(fetch: Fetcher, content: bytes, name: str = TRAIN) -> None:
    """Leave what a killed fetch would."""
    path = fetch.resources / "it.partial" / f"{name}.incomplete"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)


def state_of(folder: Path) -> dict[Path, int]:
    return {path: path.lstat().st_mtime_ns for path in folder.rglob("*")}
