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
        # Options of later releases: these values are what runs did before there were the options.
        "precision": "fp32",
        "train_sampling_strategy": "random",
        "lr_scheduler_type": "linear",
        "warmup_ratio": 0,
        "weight_decay": 0,
        "max_grad_norm": 1,
        "gradient_accumulation_steps": 1,
        "gradient_checkpointing": False,
        "attn_implementation": "auto",
        "lora": None,
        "eval_strategy": "no",
        "save_model": "none",
        "gpus": 1,
        "nodes": 1,
        "do_train": True,
        "init_from": None,
        "selection": "validation",
    },
}

# What decides a cell that is not trained; all else is left out of its run.json.
KEYS_OF_PREDICTION = (
    "per_device_eval_batch_size",
    "max_seq_length",
    "max_eval_samples",
    "device",
    "precision",
    "attn_implementation",
    "gpus",
    "nodes",
    "do_train",
    "init_from",
)

# What `lora` means where it does not say; run.json has these written out.
LORA = {"r": 8, "lora_alpha": 16, "lora_dropout": 0, "target_modules": "all-linear"}

# Not part of a recipe: both are written into every run.json.
DEFAULT_SEEDS = [42]
DEFAULT_THREADS = 4
