"""A site's choices as Snakemake hands them over: from each place of a profile, and from the command line."""

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from snakemake.cli import parse_args

from gluegrid.execution.invocation import SiteChoices, choices_of_site, freeze
from gluegrid.workflow.site_choices import site_choices


@pytest.fixture(autouse=True)
def in_a_job(tmp_path, monkeypatch):
    """The controller may be a job itself, with a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SLURM_TMPDIR", "/local/job-of-the-controller")


def choices_of(profile: str, monkeypatch, *more: str) -> SiteChoices:
    """Return what Snakemake's own reading of a command line with this profile leads to."""
    Path("site").mkdir(exist_ok=True)
    Path("site/config.yaml").write_text(profile)
    argv = ["--profile", "site", *more]
    monkeypatch.setattr(sys, "argv", ["snakemake", *argv])
    arguments = parse_args(argv)[1]
    settings = SimpleNamespace(
        overwrite_resources=arguments.set_resources, default_resources=arguments.default_resources
    )
    return site_choices(SimpleNamespace(resource_settings=settings))


@pytest.mark.parametrize(
    ("profile", "chosen"),
    [
        ("executor: local", SiteChoices(15, "")),
        ("set-resources: {train: {pack_minutes: 30, scratch: $SLURM_TMPDIR}}", SiteChoices(30, "$SLURM_TMPDIR")),
        ("default-resources: [pack_minutes=7.5, 'scratch=${SLURM_TMPDIR}/x']", SiteChoices(7.5, "${SLURM_TMPDIR}/x")),
        ("default-resources: {pack_minutes: 0, scratch: SLURM_TMPDIR}", SiteChoices(0, "SLURM_TMPDIR")),
        ("set-resources: {train: {pack_minutes: '0'}}\ndefault-resources: [pack_minutes=5]", SiteChoices(0, "")),
        ("set-resources: {train: {scratch: \"'/scratch/$USER'\"}}", SiteChoices(15, "/scratch/$USER")),
        ("set-resources: {train: {scratch: \"''\", pack_minutes: }}", SiteChoices(15, "")),
        ("set-resources: {tokenize_task: {pack_minutes: 3}}", SiteChoices(15, "")),
    ],
)
def test_every_form_of_a_choice_with_its_variables_as_written(monkeypatch, profile, chosen):
    assert choices_of(profile, monkeypatch) == chosen


def test_the_command_line_wins(monkeypatch):
    profile = "set-resources: {train: {pack_minutes: 30}}"
    assert choices_of(profile, monkeypatch, "--set-resources", "train:pack_minutes=0").pack_minutes == 0


@pytest.mark.parametrize(
    ("choice", "wanted"),
    [
        ("pack_minutes: soon", "must be a number of minutes"),
        ("pack_minutes: -0.5", "must be a number of minutes"),
        ("pack_minutes: .inf", "must be a number of minutes"),
        ("pack_minutes: true", "must be a number of minutes"),
        ("scratch: here/there", "must be an absolute path or a variable"),
        ("scratch: 5", "must be an absolute path or a variable"),
    ],
)
def test_what_makes_no_sense_is_refused_with_profile_and_key(monkeypatch, choice, wanted):
    with pytest.raises(SystemExit, match=wanted) as refused:
        choices_of(f"set-resources: {{train: {{{choice}}}}}", monkeypatch)
    assert str(refused.value).startswith(f"profile site: {choice.partition(':')[0]}=")
    assert "\n" not in str(refused.value)


def test_jobs_read_the_choices_of_their_invocation(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "environ", dict(os.environ))
    os.environ.pop("GLUEGRID_HEAD", None)
    assert choices_of_site() == SiteChoices()
    freeze({"experiment": "grid"}, tmp_path, site=SiteChoices(0, "$SLURM_TMPDIR"))
    assert choices_of_site() == SiteChoices(0, "$SLURM_TMPDIR")
