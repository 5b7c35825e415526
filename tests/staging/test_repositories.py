"""Fetching from a folder of this machine: what is copied, and that links do not lead out of it."""

import os
import re
import socket
from pathlib import Path

import pytest
import yaml
from builders import stage_model, stage_task
from fake_hub import FakeHub
from fetching import TRAIN, Fetcher, parquet, parquet_of

from gluegrid.common.errors import ConfigError, DataError, StagingError
from gluegrid.common.files import read_json
from gluegrid.experiment.loading import load_experiment
from gluegrid.operations.local_data import look_at_local_data

SPLIT = "train-00000-of-00001.parquet"
MODEL_FILES = {"config.json": b'{"model_type": "bert"}', "model.safetensors": b"weights"}


@pytest.fixture
def fetch(tmp_path: Path) -> Fetcher:
    """Calls the scripts where no hub answers."""
    hub = FakeHub()
    hub.ports["hub"] = 9
    return Fetcher(hub, tmp_path)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """The folder of a model, of which only the names matter here."""
    return write(tmp_path / "checkpoint", MODEL_FILES)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The folder of a data set with one split."""
    return write(tmp_path / "data", {SPLIT: parquet()})


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def write_cache(folder: Path, repository: str, files: dict[str, bytes]) -> Path:
    """Write a repository as huggingface_hub keeps it; return the folder of its snapshot."""
    snapshot = folder / repository / "snapshots" / ("c0ffee" + "0" * 34)
    snapshot.mkdir(parents=True)
    for name, content in files.items():
        write(folder / repository / "blobs", {f"blob-of-{name}": content})
        (snapshot / name).symlink_to(f"../../blobs/blob-of-{name}")
    return snapshot


def test_a_folder_is_copied_and_a_second_fetch_keeps_it(fetch, tmp_path):
    source = write(tmp_path / "data", {TRAIN: parquet(rows=4), "rte/notes.txt": b"", "cola/x.parquet": b""})
    content = fetch.task(source=str(source), revision="v1").content
    assert (content["source"], content["revision"], content["resolved_revision"]) == (str(source), "v1", None)
    assert content["rows"] == {"train": 4}
    assert list(content["files"]) == [TRAIN]
    written = fetch.manifest().stat().st_mtime_ns
    assert "already staged" in fetch.task(source=str(source), revision="v1").log
    assert fetch.manifest().stat().st_mtime_ns == written
    assert sorted(path.name for path in fetch.resources.iterdir()) == ["it"]


def test_a_file_that_is_no_parquet_is_one_line(fetch, tmp_path):
    source = write(tmp_path / "data", {TRAIN: b"not parquet"})
    assert f"gluegrid: {source}: {TRAIN}: is not a parquet file" in fetch.task(source=str(source), revision="v1").error


def test_a_folder_that_is_not_there_is_one_line(fetch, tmp_path):
    source = str(tmp_path / "nowhere")
    assert f"gluegrid: {source}: there is no such folder" in fetch.model(source=source, revision="v1").error


def test_files_of_an_earlier_state_of_the_folder_do_not_stay(tmp_path, data):
    manifest = stage_task(tmp_path / "it", write(data, {"dev-00000-of-00001.parquet": parquet()}))
    (data / "dev-00000-of-00001.parquet").unlink()
    stage_task(tmp_path / "it", data)
    assert sorted(path.name for path in manifest.parent.iterdir()) == ["manifest.json", SPLIT]


def test_a_link_within_the_folder_is_followed(tmp_path, data):
    write(data, {"of-today/rows": parquet(rows=5)})
    relink(data / SPLIT, Path("of-today/rows"))
    manifest = stage_task(tmp_path / "it", data)
    assert read_json(manifest)["rows"] == {"train": 5}
    assert not (manifest.parent / SPLIT).is_symlink()


def test_a_link_to_the_folder_itself_is_followed(tmp_path, data):
    (tmp_path / "link").symlink_to(data)
    assert read_json(stage_task(tmp_path / "it", tmp_path / "link"))["rows"] == {"train": 3}


@pytest.mark.parametrize("target", ["../secret", "{}/secret"])
def test_a_link_out_of_a_checkpoint_is_refused_by_name(tmp_path, checkpoint, target):
    write(tmp_path, {"secret": b"not the model's"})
    relink(checkpoint / "model.safetensors", Path(target.format(tmp_path)))
    with pytest.raises(
        StagingError, match=re.escape(f"{checkpoint}/model.safetensors: is a link to {tmp_path}/secret")
    ):
        stage_model(tmp_path / "it", checkpoint)
    assert not list((tmp_path / "it").glob("*"))


def test_a_chain_of_links_out_of_a_checkpoint_is_refused(tmp_path, checkpoint):
    write(tmp_path, {"secret": b"not the model's"})
    (checkpoint / "hop").symlink_to(tmp_path / "secret")
    relink(checkpoint / "model.safetensors", Path("hop"))
    with pytest.raises(StagingError, match="outside its folder"):
        stage_model(tmp_path / "it", checkpoint)


def test_links_that_somebody_has_made_of_the_files_elsewhere_are_followed(fetch, tmp_path):
    """As from a store that many share, whose files bear the same ending, or are named by their hash."""
    write(tmp_path / "elsewhere", {TRAIN: parquet(rows=2)})
    write(tmp_path / "store", {"0123456789abcdef0123456789abcdef": parquet(rows=3)})
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "rte").symlink_to(tmp_path / "elsewhere" / "rte")
    assert fetch.task(source=str(tmp_path / "data"), revision="v1").content["rows"] == {"train": 2}
    relink(tmp_path / "elsewhere" / TRAIN, tmp_path / "store" / "0123456789abcdef0123456789abcdef")
    fetch.manifest().unlink()
    assert fetch.task(source=str(tmp_path / "data"), revision="v1").content["rows"] == {"train": 3}


def test_an_ending_is_no_leave_to_bring_what_has_another(tmp_path, data):
    write(tmp_path, {"secret.pem": b"not the data's"})
    relink(data / SPLIT, tmp_path / "secret.pem")
    with pytest.raises(StagingError, match="outside its folder and with another ending"):
        stage_task(tmp_path / "it", data)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (os.mkfifo, "is a named pipe, not a file"),
        (lambda path: socket.socket(socket.AF_UNIX).bind(str(path)), "is a socket, not a file"),
        (lambda path: path.symlink_to("/dev/zero"), "is a device, not a file"),
        (lambda path: path.symlink_to("gone"), "is a link to gone, which is not a file (No such file or directory)"),
        (lambda path: path.symlink_to(path.name), "which is not a file (Too many levels of symbolic links)"),
    ],
    ids=["pipe", "socket", "device", "nowhere", "circle"],
)
@pytest.mark.parametrize("name", MODEL_FILES)
def test_what_is_no_file_is_named_and_never_opened(tmp_path, monkeypatch, checkpoint, name, make, reason):
    (checkpoint / name).unlink()
    monkeypatch.chdir(checkpoint)  # the address of a socket may not be long
    make(Path(name))
    with pytest.raises(StagingError, match=re.escape(reason)) as error:
        stage_model(tmp_path / "it", checkpoint)
    assert str(checkpoint / name) in str(error.value)
    assert "\n" not in str(error.value)


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22e\nsize 12345\n"


@pytest.mark.parametrize("name", [*MODEL_FILES, "tokenizer.json", "vocab.txt", "spiece.model"])
def test_a_pointer_of_git_lfs_is_named_with_the_command_that_fetches_the_file(tmp_path, checkpoint, name):
    write(checkpoint, {name: POINTER})
    with pytest.raises(DataError) as error:
        stage_model(tmp_path / "it", checkpoint)
    advice = "is a Git LFS pointer, not the file itself; run `git lfs pull` in"
    assert str(error.value) == f"{checkpoint}/{name}: {advice} {checkpoint}"


def test_a_pointer_among_data_is_named_too(fetch, data):
    write(data, {SPLIT: POINTER})
    said = fetch.task("", str(data), "v1").error
    assert said == f"gluegrid: {data / SPLIT}: is a Git LFS pointer, not the file itself; run `git lfs pull` in {data}"


def test_what_is_not_whole_is_said_before_anything_runs_and_stops_nothing_else(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(Path("model"), MODEL_FILES | {"model.safetensors": POINTER})
    validation = "validation-00000-of-00001.parquet"
    data = parquet_of({"filling": ["cheese"], "label": [1]})
    write(Path("data"), {SPLIT: data, validation: POINTER})
    loaded = load(Path("model"), Path("data"), look_at_local_data)
    assert loaded.models["m"]["revision"]
    assert [warning.partition("; ")[0] for warning in loaded.warnings] == [
        "config.yaml:5: models.m.source: model.safetensors: is a Git LFS pointer, not the file itself",
        f"config.yaml:8: tasks.t.source: data/{validation}: is a Git LFS pointer, not the file itself",
    ]
    write(Path("data"), {"validation-00000-of-00003.parquet": data})
    (Path("data") / validation).unlink()
    _, warning = load(Path("model"), Path("data"), look_at_local_data).warnings
    assert "validation-00001-of-00003.parquet: is missing" in warning


def test_an_entry_of_the_hubs_cache_that_is_named_itself_names_its_snapshot(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = write_cache(Path("hub"), "models--org--tiny", MODEL_FILES)
    data = write_cache(Path("hub"), "datasets--org--tiny", {SPLIT: parquet()})
    assert load(model, data).models["m"]["source"] == f"./{model}"
    for wrong in (model.parent, model.parent.parent):
        with pytest.raises(ConfigError, match=re.escape("config.yaml:5: models.m.source: ")) as error:
            load(wrong, data)
        assert f"not one of its snapshots; write ./{model}" in str(error.value)
    with pytest.raises(ConfigError, match=re.escape(f"not one of its snapshots; write ./{data}")):
        load(model, data.parent.parent)
    # Of several, the one that `main` names.
    write(model.parent / ("f" * 40), MODEL_FILES)
    with pytest.raises(ConfigError, match=re.escape(f"write ./{model.parent}/<commit>")):
        load(model.parent, data)
    write(model.parents[1], {"refs/main": model.name.encode()})
    with pytest.raises(ConfigError, match=re.escape(f"write ./{model}")):
        load(model.parent, data)


def test_a_folder_above_a_model_names_the_one_below(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(Path("models/bert"), MODEL_FILES)
    with pytest.raises(ConfigError, match=re.escape("its folder bert contains one: write ./models/bert")):
        load(Path("models"), write(Path("data"), {SPLIT: parquet()}))


def load(model: Path, data: Path, *look_at_data):
    task = {
        "source": f"./{data}",
        "text_columns": ["filling"],
        "labels": ["a", "b"],
        "metrics": ["accuracy"],
        "test": [],
    }
    content = {"experiment": "e", "models": {"m": {"max_seq_length": 8, "source": f"./{model}"}}, "tasks": {"t": task}}
    Path("config.yaml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return load_experiment(Path("config.yaml"), None, *look_at_data)


def test_a_snapshots_subfolder_may_link_to_the_blobs_of_its_entry(tmp_path):
    snapshot = write_cache(tmp_path / "hub", "datasets--org--tiny", {})
    write(snapshot.parents[1] / "blobs", {"blob": parquet()})
    (snapshot / "rte").mkdir()
    (snapshot / "rte" / SPLIT).symlink_to("../../../blobs/blob")
    assert read_json(stage_task(tmp_path / "it", snapshot / "rte"))["rows"] == {"train": 3}


def test_a_cache_of_the_hub_may_link_to_its_own_blobs(tmp_path):
    manifest = stage_task(tmp_path / "it", write_cache(tmp_path / "hub", "datasets--org--tiny", {SPLIT: parquet()}))
    assert read_json(manifest)["rows"] == {"train": 3}


def test_a_link_out_of_a_repository_in_a_cache_of_the_hub_is_refused(tmp_path):
    snapshot = write_cache(tmp_path / "hub", "models--org--tiny", MODEL_FILES)
    write(tmp_path / "hub" / "models--org--other" / "blobs", {"blob": b"another's"})
    relink(snapshot / "model.safetensors", Path("../../../models--org--other/blobs/blob"))
    with pytest.raises(StagingError, match="outside its folder"):
        stage_model(tmp_path / "it", snapshot)


def relink(link: Path, target: Path) -> None:
    link.unlink()
    link.symlink_to(target)
