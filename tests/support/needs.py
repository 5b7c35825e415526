"""What a test needs of the machine beyond Python and the lock's packages."""

import os
from typing import NoReturn

import pytest


def give_up(reason: str) -> NoReturn:
    """Skip a test whose needs are not met; fail it in continuous integration, which has all that is needed."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
