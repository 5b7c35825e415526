"""The copy of the code that a head's jobs run."""

import os
from pathlib import Path

import pytest

from gluegrid.workflow import code_copy
from gluegrid.workflow.code_copy import copy_code


@pytest.fixture
def project(tmp_path) -> Path:
    """A project of a few files."""
    root = tmp_path / "project"
    for name in ("Snakefile", "rules/one.smk", "scripts/train.py", "scripts/__pycache__/train.pyc", "results/old.json"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    (root / "scripts/train.py").chmod(0o755)
    return root


def test_what_jobs_need_is_copied_and_nothing_else(project, tmp_path):
    copy = copy_code(project, tmp_path / "heads")
    files = sorted(str(path.relative_to(copy)) for path in copy.rglob("*") if path.is_file())
    assert files == ["Snakefile", "rules/one.smk", "scripts/train.py"]
    assert os.access(copy / "scripts/train.py", os.X_OK)
    assert copy.is_absolute()
    assert [path.name for path in (tmp_path / "heads").iterdir()] == [copy.name]


def test_equal_code_is_copied_once_and_edited_code_beside_it(project, tmp_path):
    first = copy_code(project, tmp_path / "heads")
    written = first.stat().st_mtime_ns
    assert copy_code(project, tmp_path / "heads") == first
    assert first.stat().st_mtime_ns == written
    (project / "scripts/train.py").write_text("edited")
    second = copy_code(project, tmp_path / "heads")
    assert second != first
    assert (first / "scripts/train.py").read_text() == "scripts/train.py"
    assert (second / "scripts/train.py").read_text() == "edited"


def test_a_copy_that_fails_halfway_leaves_nothing(project, tmp_path, monkeypatch):
    def full(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(code_copy.shutil, "copymode", full)
    with pytest.raises(OSError, match="No space left"):
        copy_code(project, tmp_path / "heads")
    assert list((tmp_path / "heads").iterdir()) == []


def test_two_heads_may_copy_at_the_same_time(project, tmp_path):
    other = copy_code(project, tmp_path / "heads")
    content = {name: (project / name).read_bytes() for name in code_copy._names(project)}
    code_copy._write(project, content, other)
    assert [path.name for path in (tmp_path / "heads").iterdir()] == [other.name]


def test_the_project_has_all_that_is_copied(request):
    root = Path(__file__).resolve().parents[2]
    assert [part for part in code_copy.PARTS if not (root / part).exists()] == []
