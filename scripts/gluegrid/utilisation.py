"""How busy processor and GPU are kept."""

import subprocess
import threading
import time

SECONDS_BETWEEN_SAMPLES = 10
QUERY = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]


class Utilisation:
    """Measures, while it is entered, what share of the time its threads and its GPU were busy.

    `gpu` names the GPU for nvidia-smi (a UUID), None without one. `measured` has `cpu` and `gpu`, from 0 to 1, None
    where nothing could be measured.
    """

    def __init__(self, threads: int, gpu: str | None):
        self.threads = threads
        self.gpu = gpu
        self.measured: dict[str, float | None] = {"cpu": None, "gpu": None}
        self._samples: list[float] = []
        self._ended = threading.Event()
        self._sampler = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> "Utilisation":
        self._began = time.perf_counter(), time.process_time()
        if self.gpu is not None:
            self._sampler.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        wall, busy = time.perf_counter() - self._began[0], time.process_time() - self._began[1]
        self.measured["cpu"] = busy / (wall * self.threads)
        if self._samples:
            self.measured["gpu"] = sum(self._samples) / len(self._samples)

    def _sample(self) -> None:
        while not self._ended.wait(SECONDS_BETWEEN_SAMPLES):
            try:
                done = subprocess.run([*QUERY, f"--id={self.gpu}"], capture_output=True, text=True, timeout=30)
                self._samples.append(float(done.stdout) / 100)
            except (OSError, subprocess.SubprocessError, ValueError):
                return  # no nvidia-smi, or one that does not tell
