"""What a training process and its launcher load before they begin, and what the garbage collector does meanwhile."""

import json

import builders
import pytest
from waiting import HANG

# Prints what a statement loads, how often the collector looked through everything meanwhile, and what it leaves alone.
LOADING = """
import gc, json, sys
looks = []
gc.callbacks.append(lambda phase, about: looks.append(phase) if about["generation"] == 2 else None)
exec(sys.argv[1])
print(json.dumps([list(sys.modules), len(looks), gc.get_freeze_count(), gc.isenabled()]))
"""
# What takes a tenth of a second or more, and is not needed to begin.
OF_THE_LAUNCHER = {"accelerate.commands.accelerate_cli", "accelerate.commands.estimate", "datasets", "transformers"}
OF_TRAINING = {
    *("mlflow", "tensorboard", "wandb", "tensorflow", "torchvision", "torch._inductor.compile_fx"),
    *("accelerate.commands.launch", "transformers.trainer"),
}


@pytest.mark.parametrize(
    ("statement", "loads", "does_not_load"),
    [
        ("import accelerate_launch; accelerate_launch.load_launch()", "accelerate.commands.launch", OF_THE_LAUNCHER),
        ("import train; train.load_training()", "gluegrid.training.run_cell", OF_TRAINING),
    ],
    ids=["launcher", "training"],
)
def test_what_is_needed_is_loaded_without_the_collector_and_nothing_else(statement, loads, does_not_load):
    process = builders.python(LOADING, statement)
    said, failed = process.communicate(timeout=HANG)
    assert process.returncode == 0, failed
    modules, looks, left_alone, is_on_again = json.loads(said.splitlines()[-1])
    assert loads in modules
    assert not does_not_load & {*modules}
    assert looks == 0
    assert left_alone > len(modules)
    assert is_on_again
