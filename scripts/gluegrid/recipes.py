"""The training values a run has when its experiment does not set them.

A recipe is frozen once released: run.json stores only what differs from it, so changing one would change what old runs
mean. New defaults are a new number.
"""

RECIPE = 1

RECIPES: dict[int, dict[str, object]] = {
    # Batch, rate and length of the BERT paper's appendix A.3 as most often used with run_glue.py.
    1: {
        "learning_rate": 2e-5,
        "per_device_train_batch_size": 32,
        "per_device_eval_batch_size": 32,
        "num_train_epochs": 3,
        "max_seq_length": 128,
        "max_train_samples": None,
        "max_eval_samples": None,
        "device": "cuda",
    },
}

# Not part of a recipe: both are written into every run.json.
DEFAULT_SEEDS = [42]
DEFAULT_THREADS = 4
