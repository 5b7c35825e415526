"""Folders of models as their authors publish them: changed, and refused."""

import json

import pytest

from gluegrid.common.errors import StagingError
from gluegrid.common.files import read_json
from gluegrid.staging.model_check import describe_checkpoint


def change(path, **values):
    """Set values of a JSON file."""
    content = read_json(path) if path.exists() else {}
    path.write_text(json.dumps(content | values), encoding="utf-8")


def assert_refused(folder, message, trust_remote_code=False):
    """Assert that a model's folder is refused when it is staged, in one short line that matches `message`."""
    with pytest.raises(StagingError, match=message) as refusal:
        describe_checkpoint(folder, trust_remote_code)
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 500
