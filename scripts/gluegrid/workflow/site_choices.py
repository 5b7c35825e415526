"""Read what a site chooses in its profile, or a user on the command line, as resources of the rule `train`.

Profiles accept only Snakemake's own options, but a resource may have any name: Snakemake and its SLURM plugin ignore
one that they do not know.
"""

import argparse
import math
import os
import re

from gluegrid.common.errors import GluegridError
from gluegrid.execution.invocation import SiteChoices

# An absolute path, which may begin with a variable, or a variable's bare name.
FOLDER = re.compile(r"(/|\$\w|\$\{\w).*|[A-Za-z_]\w*")


def site_choices(workflow) -> SiteChoices:
    """Return the site's choices; end this call of snakemake if one is invalid."""
    written = {name: _written(workflow, name) for name in READERS}
    try:
        chosen = {name: read(written[name]) for name, read in READERS.items() if written[name] is not None}
    except GluegridError as error:
        raise SystemExit(str(error)) from None
    return SiteChoices(**chosen)


def resource_of_train(settings, name: str) -> object:
    """Return a resource of `train` as the profile or the command line has it, with its variables unexpanded.

    Snakemake expands them when it makes a job: to their values on the login node, or in the job that it runs in.
    """
    resources = (settings.overwrite_resources.get("train") or {}, settings.default_resources or {})
    # Not with `get`, which returns a resource even for a name that is not there.
    resource = next((of_rules[name] for of_rules in resources if name in of_rules), None)
    return getattr(resource, "raw", resource)


def _written(workflow, name: str) -> str | None:
    """Return a choice without quotes around it; None if it is not set (in YAML, a key without a value)."""
    text = str(resource_of_train(workflow.resource_settings, name)).strip()
    return None if text == "None" else text.strip("\"'")


def _minutes(text: str) -> float:
    try:
        minutes = float(text)
    except ValueError:
        minutes = math.nan
    if not 0 <= minutes < math.inf:
        raise GluegridError(f"{_place('pack_minutes', text)} must be a number of minutes, such as 15; 0 for no packs")
    return minutes


def _folder(text: str) -> str:
    if text and not FOLDER.fullmatch(text):
        raise GluegridError(f"{_place('scratch', text)} must be an absolute path or a variable, such as $SLURM_TMPDIR")
    return text


def _place(name: str, text: str) -> str:
    """Return how a message names a choice, which may be in several profiles and on the command line."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--profile", nargs="+", default=os.environ.get("SNAKEMAKE_PROFILE", "default").split())
    profiles = " ".join(parser.parse_known_args()[0].profile)
    return f"profile {profiles}: {name}={text}, of set-resources (train) or default-resources,"


READERS = {"pack_minutes": _minutes, "scratch": _folder}
