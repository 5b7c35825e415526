"""Stage a pinned model: safetensors weights, config, tokenizer, and a manifest that identifies them."""

import argparse
import os
from pathlib import Path

os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

from gluegrid.common import cli
from gluegrid.common.cli import run_script
from gluegrid.common.errors import StagingError
from gluegrid.execution.invocation import TerminalHandler
from gluegrid.experiment.sources import wanted_model_files
from gluegrid.staging.model_check import describe_checkpoint
from gluegrid.staging.repositories import Source
from gluegrid.staging.stage import stage


def main() -> None:
    """Stage the model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", required=True, help="hub id or local folder")
    parser.add_argument("--revision", required=True, help="commit, tag or branch")
    parser.add_argument("--manifest", required=True, type=Path, help="manifest.json to write")
    parser.add_argument("--trust-remote-code", action="store_true", help="fetch and run the model's own Python code")
    arguments = parser.parse_args()
    cli.setup(TerminalHandler())
    source = Source("model", arguments.source, arguments.revision)
    trusted = arguments.trust_remote_code

    def wanted(names: list[str]) -> list[str]:
        return checked_model_files(source.name, names, with_code=trusted)

    stage(source, arguments.manifest, wanted, lambda folder: describe_checkpoint(folder, trusted))


def checked_model_files(source: str, names: list[str], with_code: bool = False) -> list[str]:
    """Return the files to fetch. Raise StagingError if the model has no config or no safetensors weights."""
    files = wanted_model_files(names, with_code)
    if "config.json" not in files:
        raise StagingError(f"{source}: has no config.json; name the repository or folder of a transformers model")
    if not any(name.endswith(".safetensors") for name in files):
        pickled = [name for name in names if name.endswith((".bin", ".pt", ".h5", ".ckpt"))]
        pickles = f" (only {', '.join(pickled)}, which run code when loaded)" if pickled else ""
        raise StagingError(
            f"{source}: has no safetensors weights{pickles}; name a revision that has them, or convert it"
        )
    return files


if __name__ == "__main__":
    run_script(main)
