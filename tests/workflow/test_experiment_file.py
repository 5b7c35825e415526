"""Which experiment file a call of snakemake reads, and that each broken one ends it with the same lines."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from clones import Clone, clone_into, job_counts
from config_texts import START

from gluegrid.common.errors import ConfigError
from gluegrid.experiment.loading import load_experiment

# Calls Snakemake's command line several times in one process, each as the first would: what takes time is its import.
CALLS = """
import io, json, sys
from contextlib import redirect_stderr, redirect_stdout
from snakemake.cli import main
outputs = []
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["snakemake", *arguments]
    told = io.StringIO()
    with redirect_stdout(told), redirect_stderr(told):
        try:
            main()
        except SystemExit as end:
            print(end.code)
    outputs.append(told.getvalue())
print(json.dumps(outputs))
"""
BROKEN = {
    "a tab": START.replace("  bert", "\tbert").encode(),
    "NUL": START.encode().replace(b"small", b"sm\0ll"),
    "UTF-16": START.encode("utf-16"),
    "Latin-1": "# é\n".encode("latin-1") + START.encode(),
    "nested": b"a: " + b"[" * 100_000,
    "nested and closed": b"a: " + b"[" * 100_000 + b"]" * 100_000,
    "an alias of itself": b"a: &a [*a]\n" + START.encode(),
    "aliases of aliases": b"".join(
        b"a%d: &a%d [%s]\n" % (n, n, b",".join([b"*a%d" % (n - 1) if n else b"x"] * 10)) for n in range(12)
    ),
    "nothing": b"",
    "a list": b"- a\n",
    "a key twice": START.encode() + b"tasks: [rte]\n",
    "code for yte": b"__use_yte__: true\n__definitions__: [print('code was run')]\n" + START.encode(),
    "code for PyYAML": b"a: !!python/object/apply:print ['code was run']\n",
    "no date": START.encode() + b"num_train_epochs: 2020-13-45\n",
    "JSON that ends": b'{"experiment": "small", "models": ',
}


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Clone:
    """A clone in which nothing has run."""
    return clone_into(tmp_path_factory.mktemp("experiment_file") / "clone")


def outputs_of(clone: Clone, folder: Path, *calls: tuple[str, ...]) -> list[list[str]]:
    """Return the lines of several calls of snakemake in a folder, without its own about the profile."""
    done = subprocess.run(
        [sys.executable, "-c", CALLS, json.dumps(calls)],
        cwd=folder,
        env=clone.full_environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    told = [output.splitlines() for output in json.loads(done.stdout)]
    return [[line for line in lines if not line.startswith("Using workflow specific profile")] for lines in told]


def lines_for(path: Path) -> list[str]:
    with pytest.raises(ConfigError) as error:
        load_experiment(path)
    return error.value.problems


def test_whatever_is_wrong_with_the_file_of_configfile_is_told_as_of_config_yaml(clone, monkeypatch):
    monkeypatch.chdir(clone.root)
    files = [Path(f"broken-{number}.yaml") for number in range(len(BROKEN))]
    for file, content in zip(files, BROKEN.values(), strict=True):
        file.write_bytes(content)
    Path("folder.yaml").mkdir()
    files += [Path("folder.yaml"), Path("gone.yaml")]
    outputs = outputs_of(clone, clone.root, *(("-n", "--configfile", str(file)) for file in files))
    for name, file, lines in zip([*BROKEN, "folder", "gone"], files, outputs, strict=True):
        assert lines == lines_for(file), name
        assert lines[0].startswith(str(file))


def test_a_call_from_another_folder_takes_its_config_yaml_else_that_beside_the_snakefile(clone, tmp_path):
    (tmp_path / "tab.yaml").write_bytes(BROKEN["a tab"])
    elsewhere = ("-n", "-s", str(clone.root / "Snakefile"))
    broken, default = outputs_of(clone, tmp_path, (*elsewhere, "--configfile", "tab.yaml"), elsewhere)
    assert broken[0].startswith("tab.yaml:3: not valid YAML: while scanning for the next token")
    assert len(broken) == 1
    assert f"{tmp_path} has no config.yaml; using {clone.root / 'config.yaml'}" in default
    assert job_counts("\n".join(default))["train"] == 18
    (tmp_path / "config.yaml").write_text(START, encoding="utf-8")
    (own,) = outputs_of(clone, tmp_path, elsewhere)
    assert job_counts("\n".join(own))["train"] == 2


def test_another_workflow_that_uses_this_one_is_told_in_one_line_to_call_it_on_its_own(clone, tmp_path):
    snakefile = clone.root / "Snakefile"
    (tmp_path / "module").write_text(
        f'module gluegrid:\n    snakefile: "{snakefile}"\n\nuse rule * from gluegrid as grid_*\n', encoding="utf-8"
    )
    (tmp_path / "include").write_text(f'include: "{snakefile}"\n', encoding="utf-8")
    for name, (line,) in zip(
        ("module", "include"),
        outputs_of(clone, tmp_path, ("-n", "-s", "module"), ("-n", "-s", "include")),
        strict=True,
    ):
        assert line.startswith(f"{tmp_path / name}: gluegrid cannot be a module of another workflow")
        assert f"snakemake -s {snakefile}" in line
