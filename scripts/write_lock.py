"""Write requirements.lock from the running environment, and envs/gluegrid.yaml with the same pins.

Pin versions only: no addresses, and no hashes, which would exclude either torch's CPU or its CUDA build.
"""

import argparse
import re
import tomllib
from importlib import metadata
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
LOCK = PROJECT / "requirements.lock"
ENVIRONMENT = PROJECT / "envs" / "gluegrid.yaml"
OF_THE_ENVIRONMENT_ITSELF = {"pip", "setuptools", "wheel"}
LOCK_HEADER = """\
# Every package that gluegrid, its tests and its linters need, by version; written by `make lock` from pyproject.toml.
# On a machine with a GPU, pip adds the CUDA packages that torch asks for.
"""
ENVIRONMENT_HEADER = """\
# The environment of every rule under `--sdm conda`: the pins of requirements.lock, written by `make lock`.
channels: [conda-forge]
dependencies:
  - python=3.11
  - pip
  - pip:
"""


def main() -> None:
    """Write both files, or print the requirements of pyproject.toml."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requirements", action="store_true", help="print the requirements of pyproject.toml and exit")
    parser.add_argument("--oldest", action="store_true", help="print the oldest versions that it allows and exit")
    arguments = parser.parse_args()
    if arguments.requirements or arguments.oldest:
        print("\n".join(oldest() if arguments.oldest else requirements()))
        return
    pins = installed_pins()
    LOCK.write_text(LOCK_HEADER + "".join(f"{pin}\n" for pin in pins), encoding="utf-8")
    lines = "".join(f"      - {pin}\n" for pin in pins)
    ENVIRONMENT.write_text(ENVIRONMENT_HEADER + lines, encoding="utf-8")


def requirements() -> list[str]:
    """Return the direct requirements of the project, its tests and its linters."""
    project = _project()
    return [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]


def oldest() -> list[str]:
    """Return the oldest version of each library that the project allows, as name==version."""
    return [requirement.replace(">=", "==") for requirement in _project()["project"]["dependencies"]]


def _project() -> dict:
    return tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))


def installed_pins() -> list[str]:
    """Return name==version of each installed package, without a build's local version (torch's +cpu)."""
    pins = {}
    for distribution in metadata.distributions():
        name = re.sub(r"[-_.]+", "-", distribution.metadata["Name"]).lower()
        if name not in OF_THE_ENVIRONMENT_ITSELF:
            pins[name] = distribution.version.partition("+")[0]
    return [f"{name}=={pins[name]}" for name in sorted(pins)]


if __name__ == "__main__":
    main()
