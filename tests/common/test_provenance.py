"""The recorded state of the code."""

import os
import subprocess

import pytest

from gluegrid.common import provenance


def git(folder, *arguments):
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    done = subprocess.run(["git", "-C", str(folder), *identity, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "train.py").write_text("1\n")
    (tmp_path / "config.yaml").write_text("a: 1\n")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "-m", "first")
    monkeypatch.setattr(provenance, "PROJECT", tmp_path)
    return tmp_path


def test_a_clean_checkout_has_its_commit(checkout):
    assert provenance.git_state() == {"commit": git(checkout, "rev-parse", "HEAD"), "dirty": False}


@pytest.mark.parametrize(
    ("name", "dirty"),
    [("scripts/train.py", True), ("scripts/new.py", True), ("config.yaml", False), ("mine.yaml", False)],
)
def test_only_changed_code_is_dirty(checkout, name, dirty):
    (checkout / name).write_text("2\n")
    assert provenance.git_state()["dirty"] is dirty


def test_an_archive_inside_another_checkout_has_no_commit(checkout, monkeypatch):
    monkeypatch.setattr(provenance, "PROJECT", checkout / "scripts")
    assert provenance.git_state() == {"commit": None, "dirty": None}


def test_a_repository_that_a_hook_of_gits_is_about_is_not_meant(checkout, tmp_path_factory, monkeypatch):
    other = tmp_path_factory.mktemp("other")
    git(other, "init", "--quiet")
    git(other, "commit", "--quiet", "--allow-empty", "-m", "other")
    expected = provenance.git_state()
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other))
    assert provenance.git_state() == expected


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_clone_of_another_user_has_its_commit(checkout, monkeypatch):
    expected = provenance.git_state()
    for path in (checkout, checkout / ".git"):
        os.chown(path, 65534, 65534)
    refused = subprocess.run(["git", "-C", str(checkout), "status"], capture_output=True, text=True)
    assert "dubious ownership" in refused.stderr
    assert provenance.git_state() == expected


def test_no_home_is_needed(checkout, monkeypatch):
    expected = provenance.git_state()
    monkeypatch.setenv("HOME", "/proc/nobody")
    assert provenance.git_state() == expected
    monkeypatch.delenv("HOME")
    assert provenance.git_state() == expected


def test_a_checkout_without_git_says_so(checkout, monkeypatch):
    monkeypatch.setenv("PATH", str(checkout))
    state = provenance.git_state()
    assert state == {"commit": None, "dirty": None, "unknown": "git is not installed"}
    assert provenance.without_commit(state) == "of an unknown commit (git is not installed)"


@pytest.mark.parametrize("broken", ["HEAD", "index"])
def test_a_checkout_that_git_cannot_read_is_not_called_clean(checkout, broken):
    (checkout / ".git" / broken).write_text("damaged")
    state = provenance.git_state()
    assert (state["commit"], state["dirty"]) == (None, None)
    assert state["unknown"].startswith("git: fatal: ")


def test_an_archive_has_no_commit_with_and_without_git(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "PROJECT", tmp_path)
    assert provenance.git_state() == {"commit": None, "dirty": None}
    monkeypatch.setenv("PATH", str(tmp_path))
    assert provenance.git_state() == {"commit": None, "dirty": None}
    assert provenance.without_commit(provenance.git_state()) == "not from a git checkout"
