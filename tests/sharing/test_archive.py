"""What `make export` writes, and that nothing is read from an archive which is not what it says."""

import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import builders
import pytest
from shared_experiments import REASON, digest, killed_in_between, write_experiment

from gluegrid.common.errors import DataError, GluegridError
from gluegrid.common.files import canonical_json, sha256
from gluegrid.experiment.cell import run_text
from gluegrid.sharing.archived_cells import opened_archive
from gluegrid.sharing.exporting import export_experiment
from gluegrid.sharing.importing import import_archives

RESULTS, FILE = Path("results"), Path("grid.zip")
FAILED, NOT_RUN = "bert/number/base/seed-1", "bert/number/base/seed-2"
PAIR = "runs/bert/pair/base/seed-1"
PREDICTIONS = f"{PAIR}/predictions_validation.parquet"


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A clone with an experiment of four cells, of which one failed and one was not run. To be copied."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_experiment("grid", {"bert": {}}, seeds=[1, 2], failed=[FAILED], not_run=[NOT_RUN])
    return folder


@pytest.fixture
def clone(finished, tmp_path, monkeypatch) -> Path:
    """A copy of it, as the working folder."""
    shutil.copytree(finished, tmp_path / "clone")
    monkeypatch.chdir(tmp_path / "clone")
    return tmp_path / "clone"


@pytest.fixture(scope="module")
def exported(finished, tmp_path_factory) -> Path:
    """Its archive. To be copied."""
    file = tmp_path_factory.mktemp("exported") / FILE
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(finished)
        export(file)
    return file


@pytest.fixture
def archive(exported, tmp_path, monkeypatch) -> Path:
    """A copy of its archive, in an empty working folder."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copy(exported, tmp_path))


def export(file: Path = FILE) -> list[str]:
    return list(export_experiment(RESULTS, "grid", file))


def content(file: Path) -> dict[str, bytes]:
    """Return the files of an archive, by their names below its folder."""
    with zipfile.ZipFile(file) as opened:
        return {name.removeprefix("grid/"): opened.read(name) for name in opened.namelist()}


# Writing.


def test_an_archive_holds_results_predictions_records_config_and_tables_and_nothing_else(clone):
    folder = RESULTS / "grid"
    for name in (
        "runs/bert/pair/base/seed-1/model/model.safetensors",
        "state/bert/pair/base/seed-1/checkpoints/x.json",
    ):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text("weights", encoding="utf-8")
    for name in ("logs/train/x.md", "trackers/x.json", "benchmarks/x.csv", ".hidden.md", "notes.txt", "weights.bin"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("private", encoding="utf-8")
    (folder / "link.md").symlink_to("notes.txt")
    (folder / "figures").mkdir()
    (folder / "figures" / "scores.svg").write_text("<svg/>", encoding="utf-8")
    export()
    cells = {
        "pair": ("predictions_validation.parquet", "predictions_test.parquet", "all_results.json", "run_record.json")
    }
    expected = [f"runs/bert/{task}/base/seed-{seed}/run.json" for task in ("pair", "number") for seed in (1, 2)]
    expected += [f"runs/bert/pair/base/seed-{seed}/{name}" for seed in (1, 2) for name in cells["pair"]]
    expected += ["manifest.json", "config.json", "cells.json", "results.md", "results.csv", "results.json"]
    assert sorted(content(FILE)) == sorted([*expected, "figures/scores.svg"])


def test_what_is_in_an_archive_is_byte_for_byte_what_was_there(clone):
    export()
    there = {name: (RESULTS / "grid" / name) for name in content(FILE)}
    same = [name for name, path in there.items() if path.exists()]
    assert PREDICTIONS in same and len(same) == 2 * 5 + 3
    assert all(content(FILE)[name] == there[name].read_bytes() for name in same)


def test_the_manifest_has_size_and_hash_of_every_other_file(clone):
    export()
    files = content(FILE)
    manifest = json.loads(files.pop("manifest.json"))
    assert manifest["schema_version"] == 1 and manifest["experiment"] == "grid"
    assert {name: entry["bytes"] for name, entry in manifest["files"].items()} == {n: len(c) for n, c in files.items()}
    Path("predictions").write_bytes(files[PREDICTIONS])
    assert manifest["files"][PREDICTIONS]["sha256"] == sha256(Path("predictions"))


def test_equal_content_gives_equal_bytes(clone, tmp_path, monkeypatch):
    export(tmp_path / "first.zip")
    for path in sorted(clone.rglob("*")):
        os.utime(path, (1e9, 1e9))
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    shutil.copytree(clone, tmp_path / "another place")
    monkeypatch.chdir(tmp_path / "another place")
    Path("results/grid/runs/bert/pair/base/seed-1/run_record.json").chmod(0o600)
    export(tmp_path / "second.zip")
    assert (tmp_path / "first.zip").read_bytes() == (tmp_path / "second.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "first.zip") as opened:
        assert {info.date_time for info in opened.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_predictions_are_stored_and_texts_are_packed(clone):
    export()
    with zipfile.ZipFile(FILE) as opened:
        kinds = {info.filename.rpartition(".")[2]: info.compress_type for info in opened.infolist()}
    assert kinds == {
        **{"parquet": zipfile.ZIP_STORED, "json": zipfile.ZIP_DEFLATED},
        **{"md": zipfile.ZIP_DEFLATED, "csv": zipfile.ZIP_DEFLATED},
    }


def test_cells_without_a_result_are_there_with_what_they_were_to_run_and_the_reason(clone):
    export()
    cells = {
        f"{cell['model']}/{cell['task']}/{cell['variant']}/seed-{cell['seed']}": cell
        for cell in json.loads(content(FILE)["cells.json"])["cells"]
    }
    assert {name: cell["reason"] for name, cell in cells.items()} == {
        **dict.fromkeys(("bert/pair/base/seed-1", "bert/pair/base/seed-2")),
        **{FAILED: REASON, NOT_RUN: "not run yet"},
    }
    assert cells[FAILED]["log"] == f"results/grid/logs/train/{FAILED}.log"
    assert json.loads(content(FILE)[f"runs/{FAILED}/run.json"])["seed"] == 1


def test_it_says_what_it_has_written(clone):
    lines = export()
    assert lines[0].startswith("grid.zip: 2 of 4 cells with a result, 18 files, ")
    assert lines[1:] == ["  with results.csv, results.json, results.md"]


def test_a_report_that_is_older_than_the_results_is_left_out_and_named(clone):
    report, fresh = RESULTS / "grid" / "report.html", RESULTS / "grid" / "parity.md"
    report.write_text("old", encoding="utf-8")
    fresh.write_text("new", encoding="utf-8")
    os.utime(report, (1e9, 1e9))
    lines = export()
    assert "report.html" not in content(FILE) and content(FILE)["parity.md"] == b"new"
    assert lines[2].startswith("  without report.html: older than the results;")


def test_tables_are_those_of_the_results_and_not_older_ones(clone):
    (RESULTS / "grid" / "results.csv").write_text("old\n", encoding="utf-8")
    export()
    assert content(FILE)["results.csv"].count(b"\n") == 1 + 4


def test_predictions_that_are_not_those_of_the_record_are_not_exported(clone):
    export()
    before = FILE.read_bytes()
    path = RESULTS / "grid" / PREDICTIONS
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(DataError, match=rf"{PREDICTIONS}: is not what its cell's record says; .* `make verify`"):
        export()
    assert FILE.read_bytes() == before
    assert sorted(path.name for path in Path().iterdir()) == ["grid.yaml", "grid.zip", "results"]


@pytest.mark.parametrize(
    ("name", "file", "message"),
    [
        ("other", "x.zip", "results/other is not an experiment; there are: empty, grid"),
        ("grid", "x.tar.gz", "FILE=x.tar.gz: an archive is a zip file; end its name in .zip"),
        ("empty", "x.zip", "results/empty: no cell has a result yet, so there is nothing to export"),
    ],
)
def test_what_cannot_be_exported_is_one_line(clone, name, file, message):
    write_experiment("empty", {"bert": {}}, ["pair"], not_run=["bert/pair/base/seed-42"])
    with pytest.raises(GluegridError) as caught:
        list(export_experiment(RESULTS, name, Path(file)))
    assert str(caught.value) == message
    assert not Path(file).exists()


def test_without_a_name_the_only_experiment_is_exported_and_of_several_none(clone):
    command = [sys.executable, builders.SCRIPTS / "commands.py", "export", ""]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("grid.zip: "), done.stderr
    write_experiment("other", {"bert": {}}, ["pair"])
    for name, said in (
        ("", "which experiment? Add EXPERIMENT=...; there are: grid, other\n"),
        ("gird", "results/gird is not an experiment; there are: grid, other (did you mean 'grid'?)\n"),
    ):
        done = subprocess.run([*command[:-1], name], capture_output=True, text=True)
        assert (done.returncode, done.stdout, done.stderr) == (1, "", f"gluegrid: {said}")


def test_an_export_that_is_killed_leaves_the_archive_as_it_was_and_the_next_one_cleans_up(clone):
    call = "list(exporting.export_experiment(Path('results'), 'grid', Path('grid.zip')))"
    killed_in_between("exporting", "archive.ArchiveWriter.add_file", call, 5)
    assert not FILE.exists()
    assert len(list(Path().glob(".grid.zip.*"))) == 1
    export()
    before = FILE.read_bytes()
    killed_in_between("exporting", "archive.ArchiveWriter.add_file", call, 5)
    assert FILE.read_bytes() == before
    export()
    assert FILE.read_bytes() == before and not list(Path().glob(".grid.zip.*"))


# Reading.


def rewritten(file: Path, changes: dict[str, bytes | None], is_honest: bool = False) -> None:
    """Write an archive anew with other files; `is_honest`: with a manifest that says so."""
    files = content(file) | changes
    files = {name: data for name, data in files.items() if data is not None}
    if is_honest:
        manifest = json.loads(files["manifest.json"])
        others = {name: data for name, data in files.items() if name != "manifest.json"}
        manifest["files"] = {name: {"bytes": len(data), "sha256": hashed(data)} for name, data in others.items()}
        files["manifest.json"] = canonical_json(manifest).encode()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as target:
        for name, data in files.items():
            target.writestr(f"grid/{name}", data)


def hashed(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def around(file: Path) -> set[Path]:
    """Return all in the archive's folder, and what lies beside that folder, which belongs to other tests."""
    return {*file.parent.rglob("*"), *file.parent.parent.iterdir()}


def refusal(file: Path) -> str:
    """Return why an archive is not imported; nothing may be left of it, and nothing written anywhere else."""
    before = around(file)
    with pytest.raises(GluegridError) as caught:
        list(import_archives(RESULTS, "merged", [str(file)]))
    assert around(file) - before <= {file.parent / "results"}
    message = str(caught.value)
    assert str(file) in message and "Traceback" not in message
    return message


def test_a_whole_archive_is_read(archive):
    with opened_archive(archive) as opened:
        assert opened.experiment == "grid"
        assert [each.cell.name for each in opened.cells if each.is_done] == [f"bert/pair/base/seed-{n}" for n in (1, 2)]
        first = opened.cells[0]
        assert run_text(first.cell).encode() == content(archive)[f"{PAIR}/run.json"]
        assert first.predictions["validation"] == hashed(content(archive)[PREDICTIONS])
        assert opened.others == ["results.csv", "results.json", "results.md"]
        assert opened.cells[2].reason == REASON


@pytest.mark.parametrize(
    "name", [PREDICTIONS, f"{PAIR}/run.json", f"{PAIR}/all_results.json", "results.md", "cells.json"]
)
def test_a_changed_byte_is_found_and_its_file_named(archive, name):
    data = content(archive)[name]
    middle = len(data) // 2
    rewritten(archive, {name: data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]})
    assert f"{name} has another SHA-256 (" in refusal(archive)


@pytest.mark.parametrize("name", [PREDICTIONS, f"{PAIR}/run_record.json"])
def test_a_longer_or_missing_or_additional_file_is_named(archive, name):
    data = content(archive)[name]
    rewritten(archive, {name: data + b" "})
    assert f"{name} has {len(data) + 1} bytes, in the manifest {len(data)}" in refusal(archive)
    rewritten(archive, {name: None})
    assert f"lacks '{name}', which its manifest names" in refusal(archive)
    rewritten(archive, {name: data, "results.txt": b"x"})
    assert "'results.txt' was added after the export" in refusal(archive)


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_archive_is_refused(archive, share):
    data = archive.read_bytes()
    archive.write_bytes(data[: int(share * len(data))])
    assert "is not a complete archive of `make export`: " in refusal(archive)


def test_a_byte_that_changed_on_the_way_is_found_wherever_it_is(archive):
    """Each byte of a zip file matters to somebody, but for those that only older readers look at."""
    data = archive.read_bytes()
    found = 0
    for place in range(0, len(data), len(data) // 25):
        archive.write_bytes(data[:place] + bytes([data[place] ^ 0x55]) + data[place + 1 :])
        try:
            list(import_archives(RESULTS, "merged", [str(archive)]))
        except GluegridError:
            found += 1
            continue
        same = [path for path in Path("results/merged/runs").rglob("*") if path.is_file()]
        original = content_of(data, archive)
        assert all(path.read_bytes() == original[str(path.relative_to("results/merged"))] for path in same)
    assert found > 18


def content_of(data: bytes, archive: Path) -> dict[str, bytes]:
    whole = archive.with_name("whole.zip")
    whole.write_bytes(data)
    return content(whole)


def with_entry(file: Path, name: str, **changes: int) -> None:
    """Add a file of this name to an archive; `changes` are attributes of its entry."""
    entry = zipfile.ZipInfo(name)
    for key, value in changes.items():
        setattr(entry, key, value)
    with zipfile.ZipFile(file, "a") as target:
        target.writestr(entry, b"evil")


LINK = (stat.S_IFLNK | 0o777) << 16
DEVICE = (stat.S_IFCHR | 0o666) << 16


@pytest.mark.parametrize(
    ("name", "attributes", "problem"),
    [
        ("../evil.txt", 0, "leads out of the archive's folder"),
        ("grid/../../evil.txt", 0, "leads out of the archive's folder"),
        ("grid/runs/../../../evil.txt", 0, "leads out of the archive's folder"),
        ("/evil.txt", 0, "leads out of the archive's folder"),
        ("//evil.txt", 0, "leads out of the archive's folder"),
        ("grid/./evil.txt", 0, "leads out of the archive's folder"),
        ("grid//evil.txt", 0, "leads out of the archive's folder"),
        ("grid\\..\\evil.txt", 0, "leads out of the archive's folder"),
        ("grid/evil.txt", LINK, "is a link or a device, and no plain file"),
        ("grid/evil.txt", DEVICE, "is a link or a device, and no plain file"),
        ("grid/.evil", 0, "is no name of a file of ours"),
        ("grid/evil\x1b[2J.txt", 0, "is no name of a file of ours"),
        (f"grid/{'x' * 500}", 0, "is no name of a file of ours"),
        ("evil.txt", 0, "is in no folder"),
        ("grid/results.md", 0, "is there twice"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_entry_that_leads_elsewhere_is_refused_before_anything_is_unpacked(archive, name, attributes, problem):
    with_entry(archive, name, external_attr=attributes)
    message = refusal(archive)
    assert f"{problem}; nothing was unpacked" in message
    assert message.isprintable()


def test_files_in_two_folders_are_refused(archive):
    with_entry(archive, "other/evil.txt")
    assert "its files are not all in one folder" in refusal(archive)


def test_an_encrypted_entry_and_an_odd_compression_are_refused(archive):
    with zipfile.ZipFile(archive, "a", zipfile.ZIP_LZMA) as target:
        target.writestr("grid/evil.txt", b"evil")
    assert "is encrypted, or packed in a way that ours are not" in refusal(archive)


def test_a_bomb_is_refused_by_what_it_says_that_it_is(archive):
    with zipfile.ZipFile(archive, "a", zipfile.ZIP_DEFLATED) as target:
        target.writestr("grid/zeros.json", b"0" * 20_000_000)
    assert "would be 20." in refusal(archive)


def test_a_bomb_that_says_it_is_small_unpacks_to_no_more_than_that(archive, monkeypatch):
    rewritten(archive, {"results.md": b"0" * 5_000_000})
    data = archive.read_bytes()
    # In both of its headers.
    small = data.replace((5_000_000).to_bytes(4, "little"), len(content(archive)["results.csv"]).to_bytes(4, "little"))
    assert small != data
    archive.write_bytes(small)
    refusal(archive)


def test_a_list_that_is_too_large_is_not_read(archive, monkeypatch):
    monkeypatch.setattr("gluegrid.sharing.archive.MOST_BYTES_OF_JSON", 1000)
    assert "far more than `make export` writes" in refusal(archive)


def test_an_archive_of_a_later_release_is_refused(archive):
    manifest = json.loads(content(archive)["manifest.json"]) | {"schema_version": 2}
    rewritten(archive, {"manifest.json": json.dumps(manifest).encode()})
    assert "has schema version 2, this release reads 1" in refusal(archive)


def edited(change: Callable[[dict], object]) -> Callable[[bytes], bytes]:
    """Return an edit of a JSON file."""

    def edit(data: bytes) -> bytes:
        parsed = json.loads(data)
        change(parsed)
        return json.dumps(parsed, indent=2, sort_keys=True).encode() + b"\n"

    return edit


FORGED = {
    "no text": ("cells.json", lambda data: b"\xff" + data, "cells.json is not UTF-8 text"),
    "no JSON": ("cells.json", lambda data: data[:-5], "cells.json: cannot be read as JSON"),
    "a list": ("config.json", lambda data: b"[]", "config.json: [] is not of type 'object'"),
    "deep": ("cells.json", lambda data: b"[" * 100_000, "cells.json: cannot be read as JSON"),
    "infinite": (f"{PAIR}/all_results.json", lambda data: data.replace(b"0.5", b"1e999"), "cannot be read as JSON"),
    "nan": (f"{PAIR}/all_results.json", edited(lambda c: c.update(epoch=float("nan"))), "cannot be read as JSON"),
    "a half of a character": ("cells.json", edited(lambda c: c["cells"][2].update(reason="\ud800")), "as JSON"),
    "name that leads out": ("cells.json", edited(lambda c: c["cells"][0].update(model="../..")), "cells.0.model"),
    "variant that leads out": ("cells.json", edited(lambda c: c["cells"][0].update(variant="..")), "cells.0.variant"),
    "seed": ("cells.json", edited(lambda c: c["cells"][0].update(seed="1/../..")), "cells.0.seed"),
    "a cell that is not there": ("cells.json", edited(lambda c: c["cells"][0].update(seed=9)), "is not there"),
    "a cell twice": ("cells.json", edited(lambda c: c["cells"].append(c["cells"][0])), "has the cell of"),
    "a cell of no list": ("cells.json", edited(lambda c: c["cells"].pop(0)), "is of no cell in cells.json"),
    "a model of no config": ("config.json", edited(lambda c: c["models"].update(b=c["models"].pop("bert"))), "has not"),
    "a key that no config has": ("config.json", edited(lambda c: c.update(evil=1)), "config.json: "),
    "a reason for a result": ("cells.json", edited(lambda c: c["cells"][0].update(reason="x")), "is of no cell in"),
    "no reason": ("cells.json", edited(lambda c: c["cells"][2].update(reason=None)), "is not there"),
    "a later recipe": (f"{PAIR}/run.json", edited(lambda c: c.update(recipe=99)), "recipe 99 is of a later release"),
    "another run": (f"{PAIR}/run.json", edited(lambda c: c.update(weight_decay=0.5)), "is of another run.json than"),
    "a run of odd values": (f"{PAIR}/run.json", edited(lambda c: c.update(gpus="many")), "run.json: gpus: "),
    "a run in other words": (f"{PAIR}/run.json", lambda data: data + b"\n", "was not written by gluegrid"),
    "a record without hashes": (
        f"{PAIR}/run_record.json",
        edited(lambda c: c.pop("model_files")),
        "'model_files' is a",
    ),
    "other predictions": (PREDICTIONS, lambda data: data + b"x", "is not what run_record.json says of it"),
    "predictions of no record": (
        f"{PAIR}/run_record.json",
        edited(lambda c: c["predictions_sha256"].update({"../../../../evil": digest("x")})),
        "is not what run_record.json says of it",
    ),
}


@pytest.mark.parametrize(("name", "edit", "problem"), FORGED.values(), ids=FORGED)
def test_what_does_not_fit_together_is_refused_whatever_the_manifest_says(archive, name, edit, problem):
    rewritten(archive, {name: edit(content(archive)[name])}, is_honest=True)
    message = refusal(archive)
    assert problem in message and message.startswith(f"{archive}: ")
    assert len(message) < 1000


def test_what_is_no_archive_is_refused(archive):
    for name in ("config.json", "cells.json", "manifest.json"):
        shutil.copy(archive, "copy.zip")
        rewritten(Path("copy.zip"), {name: None}, is_honest=name != "manifest.json")
        assert name in refusal(Path("copy.zip").absolute())
    Path("text.zip").write_text("no zip file", encoding="utf-8")
    assert "is not a complete archive of `make export`" in refusal(Path("text.zip").absolute())
    with zipfile.ZipFile("empty.zip", "w"):
        pass
    assert "is not an archive of `make export`" in refusal(Path("empty.zip").absolute())
    assert "cannot be read: No such file or directory" in refusal(Path("missing.zip").absolute())
    Path("folder.zip").mkdir()
    assert "cannot be read: Is a directory" in refusal(Path("folder.zip").absolute())
