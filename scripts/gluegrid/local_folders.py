"""The folders and files of this machine that a config names as models and tasks: are they there, in what state?"""

from pathlib import Path

from gluegrid.common.errors import GluegridError
from gluegrid.common.escaping import quoted
from gluegrid.common.paths import is_local
from gluegrid.config_report import Report
from gluegrid.sources import files_below, state_of_folder, wanted_model_files, wanted_task_files
from gluegrid.split_files import SUFFIXES, files_of_splits, is_converted, is_one_file


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
        what = "file" if part == "tasks" and is_one_file(entry["source"]) else "folder"
        try:
            folder, names = _listed_folder(entry["source"], what)
            place = own  # what a folder lacks, it lacks for this task alone
            entry["revision"] = state_of_folder(folder, _wanted_files(names, part, entry))
        except (OSError, RuntimeError, ValueError, GluegridError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            report.add(place, f"the {what} {quoted(entry['source'])} cannot be used: {reason}")
    report.raise_problems()


def _listed_folder(source: str, what: str) -> tuple[Path, list[str]]:
    """Return a folder and the names of its files; of a source that is one file its folder, and that name alone."""
    path = Path(source).expanduser()
    if not (path.is_file() if what == "file" else path.is_dir()):
        raise FileNotFoundError(f"it does not exist (seen from {Path.cwd()})")
    return (path.parent, [path.name]) if what == "file" else (path, files_below(path))


def _wanted_files(names: list[str], part: str, entry: dict) -> list[str]:
    """Return which files of a folder are the model or task; FileNotFoundError or GluegridError where some lack."""
    if part == "tasks" and is_converted(entry):
        return [name for of_split in files_of_splits(names, entry).values() for name in of_split]
    if part == "models":
        wanted = wanted_model_files(names, with_code=entry.get("trust_remote_code", False))
        what = "config.json and *.safetensors"
    else:
        wanted = wanted_task_files(names, entry.get("folder", ""))
        what = str(Path(entry.get("folder", "")) / "<split>-00000-of-00001.parquet")
        if readable := [name for name in names if name.lower().endswith(SUFFIXES)]:
            what += f"; files of other names stand under files, as files: {{train: {readable[0]}}}"
    if not wanted:
        raise FileNotFoundError(f"it holds no {what}")
    return wanted


def _local_sources(config: dict) -> list[tuple[str, str, dict]]:
    """Return part, name and entry of each model and task that lies in a folder of this machine."""
    entries = [(part, name, entry) for part in ("models", "tasks") for name, entry in config[part].items()]
    return [(part, name, entry) for part, name, entry in entries if is_local(entry["source"])]
