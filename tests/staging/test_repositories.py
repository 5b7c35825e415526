"""Fetching from a folder of this machine: what is copied, and that links do not lead out of it."""

import re
from pathlib import Path

import pytest
from builders import stage_model, stage_task
from fake_hub import FakeHub
from fetching import TRAIN, Fetcher, parquet

from gluegrid.common.errors import StagingError
from gluegrid.common.files import read_json

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
    assert f"gluegrid: {source}: {TRAIN} is no parquet file" in fetch.task(source=str(source), revision="v1").error


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


@pytest.mark.parametrize("kind", ["model", "data"])
def test_a_pointer_of_git_lfs_is_one_line_and_not_copied(fetch, tmp_path, checkpoint, data, kind):
    folder, name = (checkpoint, "model.safetensors") if kind == "model" else (data, SPLIT)
    write(folder, {name: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"})
    fetched = fetch.model(str(folder), "v1") if kind == "model" else fetch.task("", str(folder), "v1")
    expected = f"gluegrid: {folder / name}: is a pointer of git-lfs, not the file; run `git lfs pull` where it lies"
    assert fetched.error == expected


def test_a_chain_of_links_out_of_a_checkpoint_is_refused(tmp_path, checkpoint):
    write(tmp_path, {"secret": b"not the model's"})
    (checkpoint / "hop").symlink_to(tmp_path / "secret")
    relink(checkpoint / "model.safetensors", Path("hop"))
    with pytest.raises(StagingError, match="outside its folder"):
        stage_model(tmp_path / "it", checkpoint)


def test_a_linked_folder_of_a_data_set_is_refused(fetch, tmp_path):
    write(tmp_path / "elsewhere", {TRAIN: parquet()})
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "rte").symlink_to(tmp_path / "elsewhere" / "rte")
    error = fetch.task(source=str(tmp_path / "data"), revision="v1").error
    assert f"{tmp_path}/data/{TRAIN}: is a link to {tmp_path}/elsewhere/{TRAIN}, outside its folder" in error


def test_a_link_that_leads_nowhere_is_no_file(tmp_path, checkpoint):
    relink(checkpoint / "model.safetensors", Path("gone"))
    with pytest.raises(StagingError, match="has no safetensors weights"):
        stage_model(tmp_path / "it", checkpoint)


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
