"""`make gpu-bundle`: a folder with everything that `make gpu-check` needs on a machine without a network.

It holds code, data, a tokenizer, and wheels, in the lock's versions, of packages that a machine with torch and
transformers is likely to lack. The machine must have `THERE`; gpu-check.sh installs other missing packages into a
folder of its own.
"""

import argparse
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path
from platform import machine

sys.path.append(str(Path(__file__).resolve().parents[1] / "scripts"))

from gpu_check import SHARED
from gpu_checks.running import MADE_FROM
from packaging.requirements import Requirement

from gluegrid.common.cli import run_script
from gluegrid.common.errors import DataError
from gluegrid.common.files import write_json
from gluegrid.common.provenance import git_state
from gluegrid.experiment.config import TASK_DEFAULTS, load_registry

PROJECT = Path(__file__).resolve().parents[1]
THERE = ("torch", "transformers", "accelerate", "peft", "scikit-learn", "scipy", "pyarrow", "pandas", "tabulate")
THERE += ("matplotlib", "jinja2")  # and all that these need
CARRIED = ("datasets", "evaluate", "jsonschema")  # and what these need beside
PLATFORMS = [f"manylinux_2_{version}_{machine()}" for version in (34, 31, 28, 27, 17, 12, 5)] + [
    f"manylinux2014_{machine()}"
]
MOST_BYTES = 40_000_000
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt", "config.json")
FOLDERS_OF_CODE = ("benchmarks", "scripts", "schemas", "rules", "demo")
NOT_CODE = ("docs/", "tests/", "references/", "experiments/")
ABOUT = """\
# gpu-bundle

Everything that gluegrid's `make gpu-check` needs on a machine with a GPU and without a network. That machine must have
Python {python} with torch for CUDA, transformers, accelerate, peft, scikit-learn, scipy, pyarrow, pandas, tabulate,
matplotlib and jinja2. There, run

    bash gpu-check.sh

It takes at most 8 minutes and writes `gpu-check.json` to the folder `gpu-check`, or to `OUT`. `PRETEND=1 bash
gpu-check.sh` runs the checks' code on the CPU, in two minutes. The project's docs/gpu.md says how to read the result.
"""


def main() -> None:
    """Write the folder and print its size."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--out", type=Path, default=PROJECT / "gpu-bundle", help="folder to write; an existing one is replaced")
    add("--data", type=Path, default=SHARED / "glue", help="folder with a folder of parquet files for each task")
    add("--tokenizer", type=Path, default=SHARED / "models" / "minilm-l6-h384", help="folder with a BERT tokenizer")
    add("--python", default="3.12", help="the machine's Python version, such as 3.12")
    options = parser.parse_args()
    shutil.rmtree(options.out, ignore_errors=True)
    copy_code(options.out / "gluegrid")
    write_json(options.out / "gluegrid" / MADE_FROM.name, git_state())
    shutil.copy(PROJECT / "benchmarks" / "gpu-check.sh", options.out)
    (options.out / "README.md").write_text(ABOUT.format(python=options.python), encoding="utf-8")
    copy_data(options.data, options.out / "data")
    copy_tokenizer(options.tokenizer, options.out / "tokenizer")
    download_wheels(options.out / "wheels", options.python)
    sizes = {part.name: size_of(part) for part in sorted(options.out.iterdir())}
    told = ", ".join(f"{name} {1e-6 * size:.1f}" for name, size in sizes.items() if size > 50_000)
    print(f"{options.out}: {1e-6 * sum(sizes.values()):.1f} MB ({told}); there, run: bash gpu-check.sh")
    if sum(sizes.values()) > MOST_BYTES:
        raise DataError(f"{options.out}: is larger than {1e-6 * MOST_BYTES:.0f} MB; use less data (DATA=...)")


def copy_code(target: Path) -> None:
    """Copy the project's current files, without documents and tests."""
    for name in _own_files():
        if (PROJECT / name).is_file() and not name.startswith(NOT_CODE):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(PROJECT / name, target / name)


def _own_files() -> list[str]:
    """Return the files that git tracks or would add; outside a checkout, those of the code's folders."""
    command = ["git", "-C", str(PROJECT), "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    if (PROJECT / ".git").exists():
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip("\0").split("\0")
    paths = [path for folder in FOLDERS_OF_CODE for path in (PROJECT / folder).rglob("*")]
    names = [str(path.relative_to(PROJECT)) for path in [*paths, *PROJECT.glob("*.*")]]
    return [name for name in names if "__pycache__" not in name and not name.startswith("demo/generated")]


def copy_data(source: Path, target: Path) -> None:
    """Copy the training and the first validation split of GLUE's tasks that are there."""
    for name, entry in load_registry().items():
        entry = TASK_DEFAULTS | entry
        for split in [entry["train"], *list(entry["validation"])[:1]]:
            for path in source.glob(f"{name}/{split}-*.parquet"):
                (target / name).mkdir(parents=True, exist_ok=True)
                shutil.copy(path, target / name)
    if not target.exists():
        print(f"{source}: has no data; the check will make up rows", file=sys.stderr)


def copy_tokenizer(source: Path, target: Path) -> None:
    """Copy a tokenizer's files, if there is one."""
    for name in TOKENIZER_FILES:
        if (source / name).exists():
            target.mkdir(exist_ok=True)
            shutil.copy(source / name, target)
    if not target.exists():
        print(f"{source}: has no tokenizer; the check will make one up", file=sys.stderr)


def download_wheels(target: Path, python: str) -> None:
    """Let pip download the wheels that the machine may lack. Raise DataError if it cannot."""
    target.mkdir()
    pins = _pins()
    wanted = [f"{name}=={pins[name]}" for name in sorted({*_needed(CARRIED)} - {*_needed(THERE)})]
    (target / "wanted.txt").write_text("".join(f"{pin}\n" for pin in wanted), encoding="utf-8")
    how = ["--no-deps", "--only-binary=:all:", "--implementation", "cp", "--python-version", python]
    how += [word for platform in PLATFORMS for word in ("--platform", platform)]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--dest", str(target)]
    done = subprocess.run([*command, *how, *wanted], capture_output=True, text=True)
    if done.returncode != 0:
        raise DataError(f"pip could not download the wheels: {done.stderr.strip().splitlines()[-1]}")


def _pins() -> dict[str, str]:
    lines = (PROJECT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if "==" in line)


def _needed(names: Iterable[str]) -> Iterator[str]:
    """Yield the names of packages and of all their dependencies, as installed here."""
    left, seen = [Requirement(name) for name in names], set()
    while left:
        requirement = left.pop()
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        if (name, *requirement.extras) in seen:
            continue
        seen.add((name, *requirement.extras))
        yield name
        left += _requirements_of(name, requirement.extras)


def _requirements_of(name: str, extras: set[str]) -> list[Requirement]:
    try:
        texts = metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return []  # for another system, or for a CUDA build of torch
    requirements = map(Requirement, texts)
    return [each for each in requirements if _applies(each, extras)]


def _applies(requirement: Requirement, extras: set[str]) -> bool:
    if requirement.marker is None:
        return True
    return any(requirement.marker.evaluate({"extra": extra}) for extra in ("", *extras))


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all files below a folder."""
    return sum(each.stat().st_size for each in ([path] if path.is_file() else path.rglob("*")) if each.is_file())


if __name__ == "__main__":
    run_script(main)
