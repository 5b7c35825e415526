"""The kind of GPU that a profile asks for: every form that Snakemake takes, and what is no kind of GPU."""

from pathlib import Path

import builders
import pytest

from gluegrid.common.errors import ConfigError, GluegridError
from gluegrid.operations import site_profile
from gluegrid.operations.site_profile import gpu_model_of_profile


@pytest.fixture
def cell(tmp_path, monkeypatch):
    """The cell of `tiny` on `pair`, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return next(iter(builders.experiment(tmp_path).cells.values()))


def write(text: str, folder: str = "site") -> str:
    path = Path(folder) / "config.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("default-resources:\n  - slurm_partition=gpu\n  - gpu_model=a100\n", "a100"),
        ("default-resources:\n  gpu_model: a100_80.2\n", "a100_80.2"),
        ("set-resources:\n  train:\n    gpu_model: v100\ndefault-resources: [gpu_model=a100]\n", "v100"),
        ("set-resources: ['train:gpu_model=v100', 'results:gpu_model=t4']\n", "v100"),
        ("set-resources:\n  results:\n    gpu_model: v100\ndefault-resources: [gpu_model=a100]\n", "a100"),
        ("""set-resources: {train: {gpu_model: "'a100' if wildcards.model == 'tiny' else 'v100'"}}""", "a100"),
        ("""set-resources: {train: {gpu_model: "'a100' if wildcards.task == 'other' else 'v100'"}}""", "v100"),
        ("""set-resources: {train: {gpu_model: "'t4' if attempt == 1 and threads >= 1 else 'a100'"}}""", "t4"),
        ("""set-resources: {train: {gpu_model: "''"}}""", ""),
        ("""set-resources: {train: {gpu_model: "1 / 0"}}""", ""),
        ("""set-resources: {train: {gpu_model: all}}""", ""),
        ("""set-resources: {train: {gpu_model: 3090}}""", ""),
        ("set-resources: {train: {runtime: 10h}}\ndefault-resources: [mem_mb=4000]\n", ""),
        ("set-resources:\ndefault-resources:\nexecutor: slurm\n", ""),
        ("# nothing\n", ""),
    ],
)
def test_every_form_of_a_kind(cell, text, kind):
    assert gpu_model_of_profile(write(text))(cell) == kind


def test_without_a_name_it_is_this_clones_profile_for_slurm_if_it_has_one(cell):
    assert gpu_model_of_profile(None)(cell) == ""
    write("default-resources: [gpu_model=h100]", "profiles/slurm")
    assert gpu_model_of_profile(None)(cell) == "h100"
    assert gpu_model_of_profile(write("{}", "other"))(cell) == ""


def test_a_profile_is_a_folder_a_file_or_a_name_among_the_users_own(cell, tmp_path, monkeypatch):
    folder = write("default-resources: [gpu_model=h100]")
    assert gpu_model_of_profile(f"{folder}/config.yaml")(cell) == "h100"
    monkeypatch.setattr(site_profile, "PLACES", (Path(), tmp_path / "mine"))
    write("default-resources: [gpu_model=t4]", "mine/cluster")
    assert gpu_model_of_profile("cluster")(cell) == "t4"


def test_a_profile_that_is_not_there_or_no_yaml_is_an_error(cell):
    with pytest.raises(GluegridError, match=r"^PROFILE=nowhere: no such profile"):
        gpu_model_of_profile("nowhere")
    with pytest.raises(ConfigError, match=r"site/config\.yaml:2: not valid YAML"):
        gpu_model_of_profile(write("a: [\n"))
    # Nobody has asked for this one, and Snakemake says what is wrong with it.
    write("a: [\n", "profiles/slurm")
    assert gpu_model_of_profile(None)(cell) == ""


def test_the_shipped_profiles_and_examples_are_read(project, cell):
    kinds = {
        path: gpu_model_of_profile(str(path))(cell)
        for path in [*project.glob("profiles/*"), *project.glob("examples/*")]
    }
    assert {path.name: kind for path, kind in kinds.items() if kind} == {"university": "v100"}
