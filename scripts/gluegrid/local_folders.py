"""The folders of this machine that a config names as models and tasks: whether they are there, and in what state."""

from pathlib import Path

from gluegrid.config_report import Report
from gluegrid.paths import is_local
from gluegrid.quoting import quoted
from gluegrid.sources import files_below, state_of_folder, wanted_model_files, wanted_task_files


def name_states_of_folders(config: dict, report: Report) -> None:
    """Give each local folder without a revision the hash of its files as revision.

    So that editing the files makes it another resource, and reruns what was made from it.
    """
    default = config["task_defaults"].get("source")
    for part, name, entry in _local_sources(config):
        if "revision" in entry:
            continue
        own = (part, name, "source")
        place = ("task_defaults", "source") if part == "tasks" and entry["source"] == default else own
        try:
            folder = _existing_folder(entry["source"])
            place = own  # what a folder lacks, it lacks for this task alone
            entry["revision"] = state_of_folder(folder, _wanted_files(folder, part, entry))
        except (OSError, RuntimeError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            report.add(place, f"the folder {quoted(entry['source'])} cannot be used: {reason}")
    report.raise_problems()


def _existing_folder(source: str) -> Path:
    folder = Path(source).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(f"it does not exist (seen from {Path.cwd()})")
    return folder


def _wanted_files(folder: Path, part: str, entry: dict) -> list[str]:
    """Return which files in a folder are the model or task; FileNotFoundError where there are none."""
    names = files_below(folder)
    if part == "models":
        wanted = wanted_model_files(names, with_code=entry.get("trust_remote_code", False))
        what = "config.json and *.safetensors"
    else:
        wanted = wanted_task_files(names, entry.get("folder", ""))
        what = str(Path(entry.get("folder", "")) / "<split>-00000-of-00001.parquet")
    if not wanted:
        raise FileNotFoundError(f"it holds no {what}")
    return wanted


def _local_sources(config: dict) -> list[tuple[str, str, dict]]:
    """Return part, name and entry of each model and task that lies in a folder of this machine."""
    entries = [(part, name, entry) for part in ("models", "tasks") for name, entry in config[part].items()]
    return [(part, name, entry) for part, name, entry in entries if is_local(entry["source"])]
