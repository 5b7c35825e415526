"""The recorded state of the code."""

import subprocess

import pytest

from gluegrid import provenance


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
