"""What a test needs from the machine, besides Python and the packages of the lock."""

import os
from typing import NoReturn

import pytest


def give_up(reason: str) -> NoReturn:
    """Skip a test whose needs are not met; fail it in continuous integration, which must have everything."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
