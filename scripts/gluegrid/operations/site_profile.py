"""Read a Snakemake profile without Snakemake: the kind of GPU, the length of packs, the resources of a rule."""

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

from gluegrid.common.errors import GluegridError
from gluegrid.execution.invocation import SiteChoices
from gluegrid.experiment.cell import Cell
from gluegrid.experiment.yaml_loader import load

RESOURCE = "gpu_model"
OF_THIS_CLONE = Path("profiles/slurm")  # users edit this one
NAMES = ("profile.yaml", "config.yaml")
PLACES = (Path(), Path(os.environ.get("XDG_CONFIG_HOME", "~/.config")).expanduser() / "snakemake")


@dataclass(frozen=True)
class Profile:
    """A profile: its file and content."""

    file: Path
    content: dict

    @property
    def is_for_slurm(self) -> bool:
        """Whether it submits jobs to SLURM."""
        return self.content.get("executor") == "slurm"

    def resources_of(self, rule: str, defaults: dict[str, object]) -> dict[str, object]:
        """Return the values of a rule's resources, which must not depend on a job; `defaults` are the rule's own.

        Raise GluegridError for a value that depends on a job.
        """
        of_all, of_rule = self.content.get("default-resources"), self.content.get("set-resources")
        written = _pairs(of_all) | defaults | _pairs(of_rule.get(rule) if isinstance(of_rule, dict) else None)
        if isinstance(of_rule, list):
            written |= {name.removeprefix(f"{rule}:"): text for name, text in _pairs(of_rule).items() if ":" in name}
        return {name: self._value_of(name, text, rule) for name, text in written.items() if ":" not in name}

    def _value_of(self, name: str, written: object, rule: str) -> object:
        """Evaluate a resource as Snakemake does for a job without wildcards: as Python if possible."""
        if not isinstance(written, str):
            return written
        text = os.path.expandvars(written)
        try:
            return eval(text, {"attempt": 1, "input": None, "threads": 1, "wildcards": SimpleNamespace()})
        except (NameError, SyntaxError):
            return text
        except Exception as error:  # expressions may raise anything
            told = f"{self.file}: {name}: {text} cannot be evaluated for {rule} ({error})"
            raise GluegridError(f"{told}; set a value under set-resources: {rule}:") from None


def slurm_profile(name: str | None) -> Profile:
    """Return the profile with this name or path, or this clone's for SLURM. Raise GluegridError if it is unusable."""
    name = name or str(OF_THIS_CLONE)
    file = profile_file(name)
    if file is None:
        raise GluegridError(f"PROFILE={name}: no such profile; name a folder that contains a config.yaml")
    content = load(file)[0]
    profile = Profile(file, content if isinstance(content, dict) else {})
    if not profile.is_for_slurm:
        raise GluegridError(f"{file}: has no `executor: slurm`; name a profile for SLURM with PROFILE=...")
    return profile


def gpu_model_of_profile(name: str | None) -> Callable[[Cell], str]:
    """Return a function from a cell to the kind of GPU that it asks for in a profile, or in this clone's for SLURM.

    Raise GluegridError for a named profile that does not exist or cannot be read.
    """
    return gpu_model_of(_written_in(_content(name), RESOURCE))


def pack_minutes_of_profile(name: str | None) -> float:
    """Return the length of packs in such a profile; the default if it sets no number."""
    try:
        return float(str(_written_in(_content(name), "pack_minutes")))
    except ValueError:
        return SiteChoices().pack_minutes


def _content(name: str | None) -> object:
    if name:
        file = profile_file(name)
        if file is None:
            raise GluegridError(f"PROFILE={name}: no such profile; name a folder that contains a config.yaml")
        return load(file)[0]
    with suppress(GluegridError):  # Snakemake accepts more than strict YAML, and reports what is wrong
        if file := profile_file(str(OF_THIS_CLONE)):
            return load(file)[0]
    return None


def gpu_model_of(written: object) -> Callable[[Cell], str]:
    """Return a function from a cell to its kind of GPU, from `gpu_model` as written in a profile; "" for no kind."""
    text = os.path.expandvars(written) if isinstance(written, str) else ""
    return lambda cell: _evaluated(text, cell) if text else ""


def _evaluated(text: str, cell: Cell) -> str:
    """Evaluate a resource as Snakemake does for a job of this cell: as Python if possible."""
    wildcards = SimpleNamespace(**cell.wildcards)
    threads = cell.values["threads"] * cell.values["gpus"]
    names = {"wildcards": wildcards, "attempt": 1, "input": None, "threads": threads}
    try:
        value = eval(text, names)
    except (NameError, SyntaxError):
        return text
    except Exception:  # expressions may raise anything; Snakemake reports what is wrong
        return ""
    return value if isinstance(value, str) else ""


def profile_file(profile: str) -> Path | None:
    """Return the file of a profile, given by its name or path as Snakemake takes it; None where there is none."""
    for place in PLACES:
        path = place / Path(profile).expanduser()
        if path.is_file():
            return path
        if found := next((path / name for name in NAMES if (path / name).is_file()), None):
            return found
    return None


def _written_in(profile: object, name: str) -> object:
    """Return a resource as written for `train`, or else for all rules; both sections may be a mapping or a list."""
    if not isinstance(profile, dict):
        return None
    of_train = profile.get("set-resources")
    if isinstance(of_train, dict):
        of_train = of_train.get("train")
    written = _value(of_train, name, f"train:{name}")
    return _value(profile.get("default-resources"), name, name) if written is None else written


def _pairs(resources: object) -> dict[str, object]:
    """Return resources by name, from a mapping or a list of name=value."""
    if isinstance(resources, dict):
        return resources
    entries = [str(entry).partition("=") for entry in resources] if isinstance(resources, list) else []
    return {name.strip(): text.strip() for name, _, text in entries}


def _value(resources: object, name: str, name_in_list: str) -> object:
    if isinstance(resources, dict):
        return resources.get(name)
    entries = [str(entry).partition("=") for entry in resources] if isinstance(resources, list) else []
    return next((value for key, _, value in reversed(entries) if key == name_in_list), None)
