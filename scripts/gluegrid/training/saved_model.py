"""A trained model as a folder that transformers loads: weights, config, tokenizer and model card."""

from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path

import yaml
from transformers import AutoTokenizer, PreTrainedModel

from gluegrid.common import paths
from gluegrid.common.escaping import code, markdown, one_line
from gluegrid.common.files import replacing_folder, write_text
from gluegrid.experiment.run import Run
from gluegrid.models.classifier import is_decoder, pads_left, takes_token_types
from gluegrid.models.tokenizer import pad_with_the_end_of_texts

ONE_FILE = "1000GB"  # more than any encoder: its weights are never split
OF_LOADING = ("local_files_only", "is_local", "trust_remote_code")  # which transformers would write into its config
NO_VALUES = {"experiment", "model", "task", "variant", "save_model"}  # of a run; the card shows them elsewhere
LOADING = """\
```python
from transformers import pipeline

classifier = pipeline("text-classification", model="path/of/this/folder"{options})
classifier({example})
```"""
ONE_TEXT = '"A text."'
TWO_TEXTS = '{"text": "One text.", "text_pair": "Another text."}'


def write_model(folder: Path, model: PreTrainedModel, tokenizer_folder: Path, run: Run, about: dict) -> None:
    """Write a model, with adapters merged, and the tokenizer that made its tokens, whole or not at all.

    `about` is for the model card: `results` (from all_results.json), `epoch` (of these weights), `run_sha256`,
    `task_files` (name to SHA-256), `git` and `versions` (from run_record.json). The outputs have the names in the
    model's config. Raise TransientError if the disk is full.
    """
    trusted = run.model.get("trust_remote_code", False)
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder, local_files_only=True, trust_remote_code=trusted)
    pad_with_the_end_of_texts(tokenizer)
    if is_decoder(model.config) and not pads_left(model.config):
        # Pad as in training: if positions are counted from the left, padding there would shift them.
        tokenizer.padding_side = "right"
    if not takes_token_types(model):
        # A tokenizer borrowed from another model may make inputs that this model does not take.
        taken = [name for name in tokenizer.model_input_names if name != "token_type_ids"]
        tokenizer.model_input_names = taken
        tokenizer.init_kwargs["model_input_names"] = taken  # without it, the names are not written
    for name in OF_LOADING:
        tokenizer.init_kwargs.pop(name, None)
    with replacing_folder(folder) as temporary:
        model.save_pretrained(temporary, max_shard_size=ONE_FILE)
        # Do not copy the files: a borrowed tokenizer's class may be named only in the config of its own model.
        tokenizer.save_pretrained(temporary)
        write_text(temporary / "README.md", model_card(run, about))


def model_card(run: Run, about: dict) -> str:
    """Return README.md of a saved model: the hub's front matter, and Markdown. For `about`, see `write_model`."""
    metrics = {key: about["results"].get(key) for key in run.task.metric_keys()}
    values = {field.name: getattr(run, field.name) for field in fields(run) if field.name not in NO_VALUES}
    parts = [
        f"---\n{yaml.safe_dump(_front_matter(run, about), sort_keys=False, allow_unicode=True)}---",
        f"# {markdown(run.model['name'])} fine-tuned on {markdown(run.task.name)}",
        _what(run, about),
        "## Results",
        _table(
            "Metric", "Value", [(code(key), "-" if score is None else f"{score:.4f}") for key, score in metrics.items()]
        ),
        "## How it was trained",
        _table("Value", "", [(code(name), code(str(value))) for name, value in values.items() if value is not None]),
        "## From what, with what",
        _table("What", "", _origins(run, about)),
        "## How to load it",
        _loading(run),
    ]
    return "\n\n".join(parts) + "\n"


def _front_matter(run: Run, about: dict) -> dict:
    # A folder's path means nothing elsewhere, and the hub refuses it.
    base = {} if paths.is_local(run.model["source"]) else {"base_model": one_line(run.model["source"])}
    data = {} if paths.is_local(run.task.source) else {"datasets": [one_line(run.task.source)]}
    return {
        **base,
        **data,
        "library_name": "transformers",
        "pipeline_tag": "text-classification",
        "tags": ["text-classification", "gluegrid", one_line(run.task.name)],
        "metrics": [one_line(metric) for metric in run.task.metrics],
        **_model_index(run, about),
    }


def _model_index(run: Run, about: dict) -> dict:
    """Return the scores as the hub shows them beside a model, or nothing if none is defined."""
    results = []
    for split, suffix in run.task.validation.items():
        scores = {metric: about["results"].get(f"eval_{metric}{suffix}") for metric in run.task.metrics}
        if metrics := [{"type": one_line(name), "value": value} for name, value in scores.items() if value is not None]:
            results.append(
                {
                    "task": {"type": "text-classification", "name": one_line(run.task.name)},
                    "dataset": _scored_data(run, split),
                    "metrics": metrics,
                }
            )
    name = one_line(f"{run.model['name']} fine-tuned on {run.task.name}")
    return {"model-index": [{"name": name, "results": results}]} if results else {}


def _scored_data(run: Run, split: str) -> dict:
    folder = {"config": run.task.folder} if run.task.folder else {}
    return {
        "name": one_line(run.task.name),
        "type": one_line(_source(run.task.source)),
        **folder,
        "split": one_line(split),
        "revision": one_line(str(run.task.revision)),
    }


def _what(run: Run, about: dict) -> str:
    labels = ", ".join(map(markdown, run.task.labels or []))
    outputs = "one number, the prediction itself" if run.task.is_regression else f"the labels {labels}"
    return (
        f"Fine-tuned by gluegrid; these are the weights after epoch {about['epoch']:g} of {run.num_train_epochs:g}."
        f" The output is {outputs}."
    )


def _origins(run: Run, about: dict) -> Iterable[tuple[str, str]]:
    yield "Model", f"{code(_source(run.model['source']))}, revision {code(str(run.model['revision']))}"
    yield "Data", f"{code(_source(run.task.source))}, revision {code(str(run.task.revision))}"
    for name, digest in sorted(about["task_files"].items()):
        yield f"SHA-256 of {code(name)}", code(digest)
    yield "SHA-256 of run.json", code(about["run_sha256"])
    commit = about["git"]["commit"]
    if commit:
        yield "Commit of gluegrid", code(commit) + (", with changes" if about["git"]["dirty"] else "")
    yield "Versions", ", ".join(code(f"{name} {version}") for name, version in about["versions"].items() if version)


def _source(source: str) -> str:
    """Return a hub id, or only the name of a folder: its path stays private."""
    return source.rstrip("/").rpartition("/")[2] if paths.is_local(source) else source


def _table(first: str, second: str, rows: Iterable[tuple[str, str]]) -> str:
    lines = [(first, second), ("---", "---"), *rows]
    return "\n".join(f"| {first} | {second} |" for first, second in lines)


def _loading(run: Run) -> str:
    options = ", trust_remote_code=True" if run.model.get("trust_remote_code") else ""
    text = LOADING.format(options=options, example=TWO_TEXTS if len(run.task.text_columns) > 1 else ONE_TEXT)
    return text + ("\n\nThe `score` that it returns is the prediction." if run.task.is_regression else "")
