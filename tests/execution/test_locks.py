"""Locks that several hosts can see: who waits, who takes over, who gives up, and who is told to leave."""

import json
import os
import signal
import subprocess
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import builders
import pytest
from waiting import HANG, ends, wait_until

from gluegrid.common.files import read_json
from gluegrid.common.provenance import job
from gluegrid.execution import locks

LONG_AGO = 7200  # seconds; a heart that has not beaten since has stopped


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Let locks look often, so that tests are short, and be patient for longer than any test takes."""
    monkeypatch.setattr(locks, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(locks, "HEARTBEAT_SECONDS", 0.05)
    monkeypatch.setattr(locks, "DEAD_AFTER_SECONDS", 3600.0)


QUICK = "from gluegrid.execution import locks; locks.POLL_SECONDS = 0.01; locks.HEARTBEAT_SECONDS = 0.05\n"
HOLD = f"""
import sys, time
from pathlib import Path
{QUICK}
with locks.lock(Path(sys.argv[1]), lambda holder: None):
    print("held", flush=True)
    sys.stdin.readline()
"""
COUNT = f"""
import sys, time
from pathlib import Path
{QUICK}
counter, inside = Path(sys.argv[2]), Path(sys.argv[3])
for _ in range(20):
    with locks.lock(Path(sys.argv[1]), lambda holder: None):
        inside.mkdir()
        number = int(counter.read_text())
        time.sleep(0.001)
        counter.write_text(str(number + 1))
        inside.rmdir()
"""


def kill(process):
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=HANG)


def start_holder(path):
    process = builders.python(HOLD, path, stdin=subprocess.PIPE)
    assert process.stdout.readline() == "held\n", process.communicate()
    return process


def take(path, waited_for=None):
    """Take and release a lock."""
    with locks.lock(path, [].append if waited_for is None else waited_for.append):
        pass


def take_in_a_thread(path, waited_for):
    thread = threading.Thread(target=take, args=(path, waited_for), daemon=True)
    thread.start()
    return thread


def foreign_lock(path, seconds_ago):
    """Write the lock of a process on another host whose heart last beat some seconds ago."""
    holder = job() | {"host": "elsewhere", "pid": 1, "process_started": "1", "since": "then", "token": "foreign"}
    path.write_text(json.dumps(holder), encoding="utf-8")
    beat(path, seconds_ago)


def beat(path, seconds_ago=0.0):
    moment = time.time() - seconds_ago
    os.utime(path, (moment, moment))


def test_a_lock_is_gone_when_released(tmp_path):
    path = tmp_path / "below" / "lock"
    with locks.lock(path, lambda holder: None):
        assert read_json(path)["pid"] == os.getpid()
        assert list(path.parent.iterdir()) == [path]
    assert list(path.parent.iterdir()) == []


def test_a_lock_is_released_after_an_exception(tmp_path):
    with pytest.raises(ValueError, match="inside"), locks.lock(tmp_path / "lock", lambda holder: None):
        raise ValueError("inside")
    assert list(tmp_path.iterdir()) == []


def test_a_second_process_waits_for_the_first_and_says_for_whom(tmp_path):
    path = tmp_path / "lock"
    holder = start_holder(path)
    waited_for = []
    thread = take_in_a_thread(path, waited_for)
    assert wait_until(lambda: waited_for)
    assert thread.is_alive()
    holder.communicate("end\n", timeout=HANG)
    thread.join(HANG)
    assert not thread.is_alive()
    assert [holder["pid"] for holder in waited_for] == [holder.pid]
    assert f"process {holder.pid} on " in locks.describe(waited_for[0])


def test_the_lock_of_a_killed_process_of_this_host_is_taken_over_at_once(tmp_path):
    path = tmp_path / "lock"
    kill(start_holder(path))
    assert path.exists()
    waited_for = []
    assert ends(lambda: take(path, waited_for))
    assert waited_for == []
    assert list(tmp_path.iterdir()) == []


def test_a_killed_process_that_nobody_has_reaped_is_dead(tmp_path):
    path = tmp_path / "lock"
    process = start_holder(path)
    process.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert ends(lambda: take(path))
    process.communicate(timeout=HANG)


def test_a_process_that_reuses_a_dead_holders_number_is_not_the_holder(tmp_path):
    path = tmp_path / "lock"
    foreign_lock(path, seconds_ago=0)
    path.write_text(json.dumps(read_json(path) | {"host": job()["host"], "pid": os.getpid()}), encoding="utf-8")
    assert ends(lambda: take(path))


def test_the_lock_of_another_host_is_taken_over_when_its_heart_has_stopped(tmp_path):
    path = tmp_path / "lock"
    foreign_lock(path, seconds_ago=LONG_AGO)
    assert ends(lambda: take(path))
    assert list(tmp_path.iterdir()) == []


def test_a_heart_that_has_stopped_in_the_future_is_not_waited_for_until_then(tmp_path, monkeypatch):
    path = tmp_path / "lock"
    foreign_lock(path, seconds_ago=-86400)
    monkeypatch.setattr(locks, "DEAD_AFTER_SECONDS", 0.5)
    assert ends(lambda: take(path))
    assert list(tmp_path.iterdir()) == []


def test_the_lock_of_another_host_is_respected_while_its_heart_beats(tmp_path, monkeypatch):
    path = tmp_path / "lock"
    foreign_lock(path, seconds_ago=0)
    waited_for, slept = [], []

    def sleep(_):
        """Let ten minutes pass, in which the heart beats."""
        slept.append(600)
        beat(path)
        if sum(slept) > 2 * locks.DEAD_AFTER_SECONDS:
            path.unlink()

    clock = SimpleNamespace(sleep=sleep, monotonic=lambda: sum(slept), time=time.time)
    monkeypatch.setattr(locks, "time", clock)
    assert ends(lambda: take(path, waited_for))
    assert sum(slept) > 2 * locks.DEAD_AFTER_SECONDS
    assert [holder["host"] for holder in waited_for] == ["elsewhere"]


def test_a_holders_heart_beats(tmp_path):
    path = tmp_path / "lock"
    with locks.lock(path, lambda holder: None):
        beat(path, seconds_ago=1000)
        assert wait_until(lambda: time.time() - path.stat().st_mtime < 500)


def test_a_lock_that_was_long_waited_for_does_not_look_dead(tmp_path, monkeypatch):
    """Its file was written when the waiting began; another host compares its time with the present."""
    monkeypatch.setattr(locks, "HEARTBEAT_SECONDS", 1000)
    path = tmp_path / "lock"
    holder = start_holder(path)
    ages = []

    def wait(_):
        next(tmp_path.glob(".lock.*")).touch()
        beat(next(tmp_path.glob(".lock.*")), seconds_ago=1000)
        holder.communicate("end\n", timeout=HANG)

    with locks.lock(path, wait):
        ages.append(time.time() - path.stat().st_mtime)
    assert ages[0] < 500


def test_a_heart_survives_a_failing_file_system(tmp_path, monkeypatch):
    path = tmp_path / "lock"
    real, calls = os.utime, []

    def utime(name, *arguments):
        calls.append(name)
        if len(calls) < 5:
            raise OSError("stale file handle")
        real(name, *arguments)

    with locks.lock(path, lambda holder: None):
        monkeypatch.setattr(locks.os, "utime", utime)
        assert wait_until(lambda: len(calls) >= 6)


def count_in_processes(tmp_path, processes):
    counter = tmp_path / "counter"
    counter.write_text("0", encoding="utf-8")
    started = [builders.python(COUNT, tmp_path / "lock", counter, tmp_path / "inside") for _ in range(processes)]
    for process in started:
        _, errors = process.communicate(timeout=HANG)
        assert process.returncode == 0, errors
    return int(counter.read_text(encoding="utf-8"))


def test_only_one_process_at_a_time_is_inside(tmp_path):
    assert count_in_processes(tmp_path, 4) == 80


def test_several_takers_of_a_dead_lock_go_one_after_the_other(tmp_path):
    kill(start_holder(tmp_path / "lock"))
    assert count_in_processes(tmp_path, 4) == 80
    assert {path.name for path in tmp_path.iterdir()} == {"counter"}


def test_a_slow_taker_does_not_remove_the_lock_of_a_faster_one(tmp_path, monkeypatch):
    """It saw the dead holder, and acts when another process has already taken the lock over."""
    path = tmp_path / "lock"
    foreign_lock(path, seconds_ago=LONG_AGO)
    is_dead, threads, order, removed_while_held = locks._is_dead, [], [], []

    def be_faster():
        with locks.lock(path, lambda holder: None):
            order.append("faster")
            time.sleep(0.3)
            order.append("faster is done")

    def slow(holder, lock, candidate):
        dead = is_dead(holder, lock, candidate)
        if dead and not threads:
            threads.append(threading.Thread(target=be_faster, daemon=True))
            threads[0].start()
            assert wait_until(lambda: bool(order))
        return dead

    def watched(remove):
        def removing(name, *arguments, **options):
            if Path(name) == path and order == ["faster"]:
                removed_while_held.append(name)
            return remove(name, *arguments, **options)

        return removing

    monkeypatch.setattr(locks, "_is_dead", slow)
    for name in ("rename", "replace", "unlink"):
        monkeypatch.setattr(os, name, watched(getattr(os, name)))
    with locks.lock(path, lambda holder: None):
        order.append("slow")
    threads[0].join(HANG)
    assert order == ["faster", "faster is done", "slow"]
    assert removed_while_held == []


def test_a_taker_that_died_while_taking_over_stops_nobody(tmp_path):
    path = tmp_path / "lock"
    kill(start_holder(path))
    os.link(path, tmp_path / ".lock.claim")
    assert ends(lambda: take(path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'{"host": "elsewhere"}'])
def test_a_lock_that_says_nothing_is_taken_over_when_its_heart_has_stopped(tmp_path, content):
    """Of a host that lost its power, the name may be on the disk and not the content."""
    path = tmp_path / "lock"
    path.write_bytes(content)
    beat(path, seconds_ago=LONG_AGO)
    assert ends(lambda: take(path))
    assert list(tmp_path.iterdir()) == []


class GivingUpError(Exception):
    pass


def give_up(holder):
    raise GivingUpError


def test_who_does_not_wait_for_the_living_gives_up_at_once_on_the_same_host(tmp_path):
    path = tmp_path / "lock"
    holder = start_holder(path)
    with pytest.raises(GivingUpError):
        ends(lambda: taking(path, [].append, on_alive=give_up))
    assert [each.name for each in tmp_path.iterdir()] == ["lock"]
    holder.communicate("end\n", timeout=HANG)


def test_on_another_host_only_a_heart_that_beats_shows_life(tmp_path):
    path = tmp_path / "lock"
    foreign_lock(path, seconds_ago=0)
    waited_for, alive = [], []
    callbacks = {"on_wait": waited_for.append, "on_alive": alive.append}
    thread = threading.Thread(target=taking, args=(path,), kwargs=callbacks, daemon=True)
    thread.start()
    assert wait_until(lambda: waited_for)
    time.sleep(0.3)
    assert alive == []
    beat(path, seconds_ago=-1)
    assert wait_until(lambda: bool(alive))
    path.unlink()
    thread.join(HANG)


def taking(path, on_wait, **callbacks):
    with locks.lock(path, on_wait, **callbacks):
        pass


def test_a_holder_is_told_that_it_is_asked_to_leave(tmp_path):
    path, asked = tmp_path / "lock", []
    with locks.lock(path, [].append, on_asked_to_leave=lambda: asked.append(True)):
        locks.ask_to_leave(path, locks._holder(path))
        assert wait_until(lambda: bool(asked))
        time.sleep(0.1)
    assert asked == [True]
    assert list(tmp_path.iterdir()) == []


def test_a_request_to_an_earlier_holder_does_not_reach_the_next(tmp_path):
    path, asked = tmp_path / "lock", []
    with locks.lock(path, [].append):
        earlier = locks._holder(path)
    with locks.lock(path, [].append, on_asked_to_leave=lambda: asked.append(True)):
        locks.ask_to_leave(path, earlier)
        time.sleep(0.2)
    assert asked == []
    assert list(tmp_path.iterdir()) == []


def taken_over(path):
    path.write_text(json.dumps(read_json(path) | {"token": "another"}), encoding="utf-8")


@pytest.mark.parametrize("lose", [taken_over, Path.unlink], ids=["taken over", "removed"])
def test_a_holder_notices_that_its_lock_is_gone(tmp_path, lose):
    """It was suspended, and another host took it for dead."""
    path, lost = tmp_path / "lock", []
    with locks.lock(path, [].append, on_lost=lambda: lost.append(True)):
        time.sleep(0.3)
        assert lost == []
        lose(path)
        assert wait_until(lambda: bool(lost))


def test_a_lock_that_cannot_be_read_for_a_while_is_not_lost(tmp_path):
    path, lost = tmp_path / "lock", []
    with locks.lock(path, [].append, on_lost=lambda: lost.append(True)):
        content = path.read_bytes()
        path.write_bytes(b"")
        time.sleep(0.5)
        path.write_bytes(content)
    assert lost == []
