"""Folders of models in which something is broken: all is planned within bounded reads, and sizes are guessed."""

import json
import math
import os
import socket
from pathlib import Path

import builders
import pytest
import yaml

from gluegrid.experiment.experiment import Experiment
from gluegrid.experiment.loading import load_experiment
from gluegrid.experiment.sources import state_of_folder
from gluegrid.operations.cost_model import NAME, model_size
from gluegrid.operations.estimates import estimates_of


def safetensors(header: object) -> bytes:
    text = (header if isinstance(header, str) else json.dumps(header)).encode()
    return len(text).to_bytes(8, "little") + text


def tensor(shape: object) -> dict:
    return {"w": {"dtype": "F32", "shape": shape, "data_offsets": [0, 4]}}


SOUND = {"config.json": b'{"hidden_size": 8, "vocab_size": 10}', "model.safetensors": safetensors(tensor([100, 8]))}
HEADERS = {
    "a list": [1, 2],
    "a text": "x",
    "null": "null",
    "texts": {"w": "x"},
    "no shape": {"w": {}},
    "infinity": tensor([math.inf]),
    "no number": tensor([math.nan]),
    "a text as shape": tensor("22"),
    "a text in a shape": tensor(["x"]),
    "negative": tensor([-8, 8]),
    "a huge number": tensor([10**400, 2]),
    "a number too long to read": '{"w": {"shape": [1' + "0" * 5000 + "]}}",
    "huge numbers": tensor([10**12] * 100_000),
    "nested": "[" * 200_000 + "]" * 200_000,
    "cut off": '{"w": {"shape": [1',
}
BROKEN_WEIGHTS = {name: safetensors(header) for name, header in HEADERS.items()} | {
    "nothing": b"",
    "more than there is": (2**40).to_bytes(8, "little") + b"{}",
    "a pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 2\n",
}
BROKEN_CONFIGS = {
    "a list": b"[]",
    "no text": b"\xff\xfe{\x00}\x00",
    "nested": b'{"a": ' * 200_000,
    "width in words": b'{"hidden_size": "x", "vocab_size": 1000000000}',
    "width of a fraction": b'{"hidden_size": 0.5, "vocab_size": 10}',
    "width of nothing": b'{"hidden_size": 0, "vocab_size": 10}',
    "infinite": b'{"hidden_size": 8, "vocab_size": 10, "num_hidden_groups": 1, "num_hidden_layers": 1e999}',
    "huge": b'{"hidden_size": 8, "vocab_size": 10, "num_hidden_groups": 1, "num_hidden_layers": 1%s}' % (b"0" * 400),
    "more than huge": b'{"hidden_size": 8, "vocab_size": 10, "num_hidden_layers": 1%s}' % (b"0" * 5000),
    "without words": b'{"hidden_size": 8}',
}
BROKEN_FOLDERS = [("model.safetensors", content) for content in BROKEN_WEIGHTS.values()]
BROKEN_FOLDERS += [("config.json", content) for content in BROKEN_CONFIGS.values()]
IN_PLACE_OF_A_FILE = {
    "pipe": os.mkfifo,
    "socket": lambda path: socket.socket(socket.AF_UNIX).bind(str(path)),
    "nowhere": lambda path: path.symlink_to("gone"),
    "circle": lambda path: path.symlink_to(path.name),
    "pipe behind a link": lambda path: (os.mkfifo(path.with_name("pipe")), path.symlink_to("pipe")),
    "device": lambda path: path.symlink_to("/dev/zero"),
}


def planned(folder: Path) -> Experiment:
    """Plan an experiment with a sound model, and one in this folder; return it."""
    Path("sound").mkdir()
    for name, content in SOUND.items():
        Path("sound", name).write_bytes(content)
    builders.write_split(Path("data"), "train", {"sentence": ["a"], "label": [1]})
    task = {"source": "./data", "text_columns": ["sentence"], "labels": ["no", "yes"], "metrics": ["accuracy"]}
    content = {
        "experiment": "e",
        "models": {"sound": {"source": "./sound"}, "broken": {"source": f"./{folder}"}},
        "tasks": {"t": task},
        "device": "cpu",
    }
    Path("config.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    of = load_experiment(Path("config.yaml"))
    estimates, problem = estimates_of(of)
    assert problem is None
    for cell in of.cells.values():
        assert 0 < estimates.of(cell).seconds < 10**9
    assert model_size(of, "sound").parameters == 800
    return of


@pytest.mark.parametrize(("name", "content"), BROKEN_FOLDERS, ids=[*BROKEN_WEIGHTS, *BROKEN_CONFIGS])
def test_of_a_broken_model_the_size_is_guessed_and_all_is_planned(tmp_path, monkeypatch, name, content):
    monkeypatch.chdir(tmp_path)
    folder = Path("roberta-base")
    folder.mkdir()
    for file, sound in (SOUND | {name: content}).items():
        (folder / file).write_bytes(sound)
    assert model_size(planned(folder), "broken").known_from == NAME


@pytest.mark.parametrize("kind", IN_PLACE_OF_A_FILE)
@pytest.mark.parametrize("name", SOUND)
def test_what_is_no_file_is_never_opened_and_stops_no_plan(tmp_path, monkeypatch, kind, name):
    monkeypatch.chdir(tmp_path)
    folder = Path("roberta-base")
    folder.mkdir()
    for file, sound in SOUND.items():
        (folder / file).write_bytes(sound)
    (folder / name).unlink()
    IN_PLACE_OF_A_FILE[kind](folder / name)
    assert model_size(planned(folder), "broken").known_from == NAME


def test_a_file_that_is_gone_when_it_is_read_is_a_state_like_others(tmp_path):
    states = [state_of_folder(tmp_path, ["model.safetensors"])]
    (tmp_path / "model.safetensors").write_bytes(b"")
    states.append(state_of_folder(tmp_path, ["model.safetensors"]))
    (tmp_path / "model.safetensors").unlink()
    os.mkfifo(tmp_path / "model.safetensors")
    states.append(state_of_folder(tmp_path, ["model.safetensors"]))
    assert len({*states}) == 3
