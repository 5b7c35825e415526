"""A trained model as a folder that transformers loads: weights, config, tokenizer and model card."""

from pathlib import Path

from transformers import AutoTokenizer, PreTrainedModel

from gluegrid.common.files import replacing_folder, write_text
from gluegrid.experiment.run import Run
from gluegrid.model_card import model_card
from gluegrid.models.classifier import takes_token_types

ONE_FILE = "1000GB"  # more than any encoder: its weights are never split
OF_LOADING = ("local_files_only", "is_local", "trust_remote_code")  # which transformers would write into its config


def write_model(folder: Path, model: PreTrainedModel, tokenizer_folder: Path, run: Run, about: dict) -> None:
    """Write a model, with adapters merged, and the tokenizer that made its tokens, whole or not at all.

    `about` is for the model card: `results` (all_results.json's), `epoch` (the epoch whose weights these are),
    `run_sha256`, `task_files` (name to SHA-256), `git` and `versions` (run_record.json's). The outputs' names are those
    of the model's config. Raises TransientError when the disk is full.
    """
    trusted = run.model.get("trust_remote_code", False)
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder, local_files_only=True, trust_remote_code=trusted)
    if not takes_token_types(model):
        # A borrowed tokenizer may make what the model does not take.
        taken = [name for name in tokenizer.model_input_names if name != "token_type_ids"]
        tokenizer.model_input_names = taken
        tokenizer.init_kwargs["model_input_names"] = taken  # without it, the names are not written
    for name in OF_LOADING:
        tokenizer.init_kwargs.pop(name, None)
    with replacing_folder(folder) as temporary:
        model.save_pretrained(temporary, max_shard_size=ONE_FILE)
        # Not copied: of which class a tokenizer is may stand in the config of the model that it was borrowed from.
        tokenizer.save_pretrained(temporary)
        write_text(temporary / "README.md", model_card(run, about))
