"""Checkpoints: what is interrupted and goes on gives the bits of what was not, and nothing broken is ever used."""

import errno
import json
import logging
import shutil
import time

import builders
import numpy
import pytest
import torch
from leaving_trainings import keeper_that_leaves

from gluegrid.common.errors import Stopped, TrainingError, TransientError
from gluegrid.common.files import read_json, write_json
from gluegrid.training import checkpointing, trainer
from gluegrid.training.cell_trainer import CellTraining
from gluegrid.training.checkpointing import Checkpointing
from gluegrid.training.device import lacks_device, random_states, set_random_states

PAIR = builders.task(text_columns=["first", "second"], labels=builders.NLI_LABELS)
STEPS, STEPS_PER_EPOCH = 15, 6  # 24 rows, 4 at a time, 2.5 epochs
IDENTITY = {"run_sha256": "run", "model_files": {"model.safetensors": "m"}, "tokens_files": {"train.arrow": "t"}}
MAKER = {"git": {"commit": "abc", "dirty": False}, "device": "CPU"}
NEVER = 1e9


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Return model and tokens; the model has dropout, so that its random state matters."""
    folder = tmp_path_factory.mktemp("files")
    dropout = {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}
    return builders.cell_files(folder, PAIR, builders.write_model(folder / "source", **dropout))


class Place:
    """A cell's folder of checkpoints, and what is trained there."""

    def __init__(self, folder, files):
        self.folder = folder
        self.files = files

    def keeper(self, leave_at=None, seconds_between=NEVER, identity=IDENTITY):
        return keeper_that_leaves(
            self.folder, lambda trained: trained.step == leave_at, identity, MAKER, seconds_between
        )

    def train(self, keeper=None, **changes):
        """Train to the end; return the metrics and the bits of all that came out."""
        cell = CellTraining(builders.run(PAIR, num_train_epochs=2.5, **changes), *self.files)
        metrics = cell.train(keeper)
        table, _ = cell.predict("validation")
        weights = {name: tensor.numpy().tobytes() for name, tensor in cell.model.state_dict().items()}
        return metrics, (weights, numpy.stack(table.column("logits").to_numpy()).tobytes(), metrics["train_loss"])

    def stop_at(self, step, **options):
        """Train until some steps are done, and leave."""
        with pytest.raises(Stopped, match=rf"SIGTERM.*; step {step} is kept$"):
            self.train(self.keeper(step, **options))

    def checkpoints(self):
        return sorted(path.name for path in (self.folder / "checkpoints").glob("*"))

    def checkpoint(self, step):
        return self.folder / f"checkpoints/step-{step:08d}"


@pytest.fixture
def place(tmp_path, files):
    return Place(tmp_path, files)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, files):
    return Place(tmp_path_factory.mktemp("whole"), files).train()[1]


@pytest.mark.parametrize("steps", [[1], [STEPS_PER_EPOCH], [STEPS - 1], [STEPS], [2, 3, 6, 7, 12, 15]], ids=str)
def test_a_training_that_went_on_has_the_bits_of_one_that_never_stopped(place, uninterrupted, steps):
    for step in steps:
        place.stop_at(step)
    keeper = place.keeper()
    assert place.train(keeper)[1] == uninterrupted
    assert [part["step"] for part in keeper.continued] == steps
    assert all(part["git"] == MAKER["git"] for part in keeper.continued)


def test_checkpoints_change_no_bit(place, uninterrupted):
    assert place.train(place.keeper(seconds_between=0))[1] == uninterrupted


def test_checkpoints_are_made_by_the_clock(place, monkeypatch):
    moments = iter(range(0, 1000, 7))
    monkeypatch.setattr(checkpointing.time, "monotonic", lambda: next(moments))
    monkeypatch.setattr(trainer.Training, "is_at_end_of_epoch", False)
    saved = noting_saves(monkeypatch)
    place.train(place.keeper(seconds_between=50))
    assert len(saved) in (1, 2)


def noting_saves(monkeypatch):
    """Return the list of steps at which checkpoints will be made."""
    saved, save = [], Checkpointing._save

    def noting(self, trained):
        saved.append(trained.step)
        save(self, trained)

    monkeypatch.setattr(Checkpointing, "_save", noting)
    return saved


def test_checkpoints_are_made_at_the_ends_of_epochs(place, monkeypatch):
    saved = noting_saves(monkeypatch)
    monkeypatch.setattr(checkpointing, "MOST_SHARE_OF_TIME", 1e9)
    place.train(place.keeper())
    assert saved == [6, 12, 15]


def test_short_epochs_do_not_spend_their_time_on_checkpoints(place, monkeypatch):
    saved = noting_saves(monkeypatch)
    monkeypatch.setattr(checkpointing, "MOST_SHARE_OF_TIME", 1e-9)
    place.train(place.keeper())
    assert saved == []


def test_a_training_shorter_than_its_checkpoints_are_expected_to_take_makes_none(place, monkeypatch):
    saved = noting_saves(monkeypatch)
    monkeypatch.setattr(checkpointing, "BYTES_PER_SECOND", 1)
    place.train(place.keeper())
    assert saved == []


def test_the_last_good_one_is_kept_until_the_next_is_complete_and_two_at_most(place, monkeypatch):
    there_while_writing, write = [], Checkpointing._write

    def noting(self, folder, trained):
        there_while_writing.append(place.checkpoints())
        write(self, folder, trained)

    monkeypatch.setattr(Checkpointing, "_write", noting)
    place.stop_at(4, seconds_between=0)
    assert there_while_writing[1:] == [[f"step-{step:08d}"] for step in (1, 2, 3)]
    assert place.checkpoints() == ["step-00000003", "step-00000004"]


def test_a_done_cell_leaves_none(place):
    keeper = place.keeper(seconds_between=0)
    place.train(keeper)
    assert place.checkpoints()
    keeper.delete()
    assert list(place.folder.iterdir()) == []


def truncate(checkpoint):
    path = checkpoint / "state.pt"
    path.write_bytes(path.read_bytes()[:-100])


def flip_a_bit(checkpoint):
    path = checkpoint / "state.pt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def empty(checkpoint):
    (checkpoint / "state.pt").write_bytes(b"")


def lose_state(checkpoint):
    (checkpoint / "state.pt").unlink()


def lose_description(checkpoint):
    (checkpoint / "checkpoint.json").unlink()


def break_description(checkpoint):
    (checkpoint / "checkpoint.json").write_text('{"sha256": ')


def describe_by_a_list(checkpoint):
    (checkpoint / "checkpoint.json").write_text("[1, 2]")


def describe_with(key, value):
    def damage(checkpoint):
        path = checkpoint / "checkpoint.json"
        path.write_text(json.dumps(read_json(path) | {key: value}))

    return damage


def become_a_file(checkpoint):
    shutil.rmtree(checkpoint)
    checkpoint.write_text("x")


def be_of_other_data(checkpoint):
    path = checkpoint / "checkpoint.json"
    about = read_json(path)
    about["identity"]["tokens_files"] = {"train.arrow": "other"}
    write_json(path, about)


def be_of_another_format(checkpoint):
    path = checkpoint / "checkpoint.json"
    about = read_json(path)
    about["identity"]["format"] = 0
    write_json(path, about)


def forget_the_identity(checkpoint):
    path = checkpoint / "checkpoint.json"
    write_json(path, {key: value for key, value in read_json(path).items() if key != "identity"})


DAMAGES = [
    *(truncate, flip_a_bit, empty, lose_state, lose_description, break_description, describe_by_a_list),
    *(become_a_file, be_of_other_data, be_of_another_format, forget_the_identity),
    *(describe_with(key, value) for key in ("identity", "sha256") for value in (None, 7, "x")),
]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_or_foreign_checkpoint_is_reported_and_the_one_before_used(place, uninterrupted, caplog, damage):
    place.stop_at(5, seconds_between=0)
    damage(place.checkpoint(5))
    keeper = place.keeper()
    with caplog.at_level(logging.INFO):
        bits = place.train(keeper)[1]
    assert bits == uninterrupted
    assert [part["step"] for part in keeper.continued] == [4]
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert warnings[0].startswith(f"{place.checkpoint(5)}: this checkpoint cannot be used: it")
    assert "\n" not in warnings[0]


@pytest.mark.parametrize("damage", [flip_a_bit, be_of_other_data, become_a_file], ids=lambda damage: damage.__name__)
def test_without_a_usable_checkpoint_the_training_begins_anew(place, uninterrupted, damage):
    place.stop_at(5, seconds_between=0)
    for step in (4, 5):
        damage(place.checkpoint(step))
    keeper = place.keeper(seconds_between=0)
    assert place.train(keeper)[1] == uninterrupted
    assert keeper.continued == []
    assert place.checkpoints() == ["step-00000014", "step-00000015"]


def test_a_checkpoint_of_another_run_is_not_mixed_in(place, files, tmp_path):
    place.stop_at(5)
    identity = IDENTITY | {"run_sha256": "other"}
    expected = Place(tmp_path / "other", files).train(learning_rate=1e-4)[1]
    keeper = place.keeper(identity=identity)
    assert place.train(keeper, learning_rate=1e-4)[1] == expected
    assert keeper.continued == []


def test_weights_of_another_shape_are_refused_before_anything_is_restored(place, uninterrupted):
    """What the hash cannot see: a checkpoint made by code that saved something else."""
    place.stop_at(5)
    change_state(place.checkpoint(5), lambda state: state["model"].update({"classifier.weight": torch.zeros(7, 32)}))
    assert place.train(place.keeper())[1] == uninterrupted


def change_state(checkpoint, change):
    """Change what a checkpoint has kept of the training, as if it had been written so."""
    path = checkpoint / "state.pt"
    state = torch.load(path, weights_only=True)
    change(state["training"])
    torch.save(state, path)
    describe_with("sha256", checkpointing.sha256(path))(checkpoint)


@pytest.fixture
def cards(monkeypatch):
    """Let the machine seem to have cards, whose random states are asked for and set; return what was set."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    were_set = []

    def state_of(device):
        return torch.tensor([torch.device(device).index or 0], dtype=torch.uint8)

    def refuse(*_):
        raise IndexError("a card that this process does not train on")

    monkeypatch.setattr(torch.cuda, "get_rng_state", state_of)
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: were_set.append((int(state), device)))
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", refuse)
    monkeypatch.setattr(torch.cuda, "set_rng_state_all", refuse)
    return were_set


def as_before(state):
    """Make a state one of earlier code: with the random states of all cards, though none is trained on."""
    del state["micro_batch_rows_of_all"]
    state["random_states"][0]["cuda"] = [torch.zeros(16, dtype=torch.uint8)] * 4


def test_a_training_on_the_cpu_leaves_the_machines_cards_alone(place, uninterrupted, cards):
    place.stop_at(2)
    place.stop_at(5)
    change_state(place.checkpoint(5), as_before)
    keeper = place.keeper()
    assert place.train(keeper)[1] == uninterrupted
    assert [part["step"] for part in keeper.continued] == [2, 5]
    assert cards == []


@pytest.mark.parametrize(("device", "index"), [("cuda", 0), ("cuda:0", 0), ("cuda:2", 2)])
def test_the_random_state_of_the_card_that_is_trained_on_is_kept_and_that_alone(cards, device, index):
    device = torch.device(device)
    states = random_states(device)
    assert [int(state) for state in states["cuda"]] == [index]
    set_random_states(states, device)
    of_all_cards = [torch.tensor([number], dtype=torch.uint8) for number in range(4)]
    set_random_states(states | {"cuda": of_all_cards}, device)
    fewer_cards = torch.device("cuda", 0)
    set_random_states(states, fewer_cards)
    assert cards == [(index, device), (index, device), (index, fewer_cards)]


def test_random_states_of_other_devices_are_reported_and_the_checkpoint_before_is_used(place, uninterrupted, caplog):
    place.stop_at(5, seconds_between=0)
    change_state(place.checkpoint(5), lambda state: state.update(random_states=[]))
    keeper = place.keeper()
    assert place.train(keeper)[1] == uninterrupted
    assert [part["step"] for part in keeper.continued] == [4]
    assert (
        f"{place.checkpoint(5)}: this checkpoint cannot be used: its random states belong to other devices"
        in caplog.text
    )
    states = random_states(torch.device("cpu"))
    assert lacks_device(states, torch.device("cuda"))
    assert not lacks_device(states, torch.device("cpu"))


def test_what_was_half_written_is_not_taken_for_a_checkpoint(place, uninterrupted):
    place.stop_at(5)
    place.checkpoint(5).rename(place.folder / "checkpoints/partial")
    keeper = place.keeper(seconds_between=0)
    assert place.train(keeper)[1] == uninterrupted
    assert keeper.continued == []
    assert "partial" not in place.checkpoints()


def full_disk(state, stream):
    stream.write(b"half")
    raise OSError(errno.ENOSPC, "No space left on device")


def full_disk_below_torch(state, stream):
    try:
        full_disk(state, stream)
    except OSError:
        raise RuntimeError("unexpected pos 704 vs 598") from None


@pytest.mark.parametrize("save", [full_disk, full_disk_below_torch])
def test_a_full_disk_is_one_clear_error_and_the_last_checkpoint_stays(place, uninterrupted, monkeypatch, save):
    place.stop_at(4)
    with monkeypatch.context() as patch:
        patch.setattr(checkpointing.torch, "save", save)
        with pytest.raises(TransientError) as caught:
            place.train(place.keeper(seconds_between=0))
    assert str(caught.value).startswith(f"{place.checkpoint(5)}: cannot be written because the disk (or your quota)")
    assert "\n" not in str(caught.value)
    assert not caught.value.is_permanent
    assert place.checkpoints() == ["step-00000004"]
    assert place.train(place.keeper())[1] == uninterrupted


def test_a_loss_that_is_no_number_is_never_kept(place):
    """The rate is such that the loss is infinite after some steps."""
    with pytest.raises(TrainingError, match="try a smaller learning_rate"):
        place.train(place.keeper(seconds_between=0), learning_rate=1e20)
    assert place.checkpoints()
    for name in place.checkpoints():
        state = torch.load(place.folder / "checkpoints" / name / "state.pt", weights_only=True)
        assert torch.isfinite(state["training"]["losses"]).all()


def test_the_time_is_that_of_all_attempts(place):
    place.stop_at(5)
    progress = place.folder / "progress.json"
    write_json(progress, {"run_sha256": "run", "train_seconds": 1000.0})
    metrics, _ = place.train(place.keeper())
    assert 1000 < metrics["train_runtime"] < 1100
    assert metrics["train_steps_per_second"] == pytest.approx(STEPS / metrics["train_runtime"])
    noted = read_json(progress)
    assert (noted["step"], noted["steps"]) == (STEPS, STEPS)
    assert 1000 < noted["train_seconds"] <= metrics["train_runtime"]


def test_the_time_noted_for_another_run_does_not_count(place):
    write_json(place.folder / "progress.json", {"run_sha256": "other", "train_seconds": 1000.0})
    assert place.train(place.keeper())[0]["train_runtime"] < 1000


def test_progress_that_cannot_be_written_stops_nothing(place, uninterrupted, caplog):
    (place.folder / "progress.json").mkdir()
    assert place.train(place.keeper())[1] == uninterrupted
    assert "the progress could not be written" in caplog.text


def test_leaving_before_the_first_step_keeps_nothing(place):
    with pytest.raises(Stopped, match=r"SIGTERM.*; before its first step was done"):
        place.train(place.keeper(leave_at=0))
    assert not (place.folder / "checkpoints").exists()


def test_the_end_of_the_jobs_time_is_kept_clear_of_by_what_a_checkpoint_takes(place, monkeypatch):
    monkeypatch.setattr(checkpointing, "BYTES_PER_SECOND", 1)
    keeper = place.keeper()
    asked = []
    keeper.leaving.reason = lambda seconds_needed=0.0: asked.append(seconds_needed)
    keeper.seconds_between = 0
    started = time.monotonic()
    place.train(keeper)
    assert asked[0] > 10_000, "the first one is expected to be as large as the model's weights"
    assert 0 < max(asked[2:]) < 2 * (time.monotonic() - started)
