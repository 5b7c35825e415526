"""What a training process must not do: talk to a network, phone home, or share a cache with other jobs."""

import atexit
import os
import shutil
import tempfile


def isolate() -> None:
    """Set the environment of Hugging Face's libraries; call it before any of them is imported."""
    cache = tempfile.mkdtemp(prefix="gluegrid-")
    atexit.register(shutil.rmtree, cache, ignore_errors=True)
    os.environ |= {
        "HF_HOME": cache,
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "HF_EVALUATE_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "DO_NOT_TRACK": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    for variable in ("HF_DATASETS_CACHE", "HF_METRICS_CACHE", "HF_EVALUATE_CACHE", "HF_MODULES_CACHE"):
        os.environ.pop(variable, None)
