"""Keep tokens and passwords out of logs and messages: both are shown to others and kept."""

import os
import re

TOKEN_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
HIDDEN = "***"
_TOKEN_OF_THE_HUB = re.compile(r"\bhf_[A-Za-z0-9]{8,}")
_LOGIN_IN_ADDRESS = re.compile(r"(?<=://)[^/\s@]+(?=@)")


def redacted(text: str) -> str:
    """Return the text without tokens of the hub and without user names and passwords in addresses."""
    for variable in TOKEN_VARIABLES:
        if token := os.environ.get(variable, "").strip():
            text = text.replace(token, HIDDEN)
    return _LOGIN_IN_ADDRESS.sub(HIDDEN, _TOKEN_OF_THE_HUB.sub(HIDDEN, text))
