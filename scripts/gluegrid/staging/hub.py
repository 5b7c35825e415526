"""Downloads from the Hugging Face hub, with its own client, retries and checks of every file."""

import logging
import os
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import huggingface_hub
from huggingface_hub import constants, errors
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from huggingface_hub.file_download import http_get
from huggingface_hub.hf_api import RepoSibling
from huggingface_hub.utils import build_hf_headers, tqdm
from huggingface_hub.utils import logging as hub_logging

from gluegrid.common.errors import StagingError
from gluegrid.common.escaping import redacted
from gluegrid.common.files import sha256, size_in_words
from gluegrid.staging.hub_cache import ELSEWHERE, git_blob, snapshot_in_cache
from gluegrid.staging.repositories import Repository, Source, copy_whole

logger = logging.getLogger(__name__)

PAUSES = (5, 15, 30, 60, 120, 240)  # seconds before each retry, unless the hub names its own
PAUSES_WHILE_UNREACHABLE = (2, 5)  # a machine without a network should not be kept waiting
LONGEST_PAUSE = 600
LONGEST_WAIT = 1800  # the client also pauses within each try
BUSY = (408, 425, 429, 500, 502, 503, 504)
# The client's default of 10 MB is lost when the connection breaks, and takes minutes without progress on a slow one.
BYTES_AT_ONCE = 1 << 20
SECONDS_BETWEEN_LINES = 5  # on the progress of a file
COMMIT = re.compile(r"[0-9a-f]{40}")


def open_hub(source: Source) -> Repository:
    """Return a repository at the commit that its revision names now; if the hub is unreachable, the user's cached copy.

    Raise StagingError if there is neither.
    """
    # Log the client's messages as our own, which redacts secrets.
    logging.getLogger("huggingface_hub").handlers.clear()
    hub_logging.enable_propagation()
    constants.DOWNLOAD_CHUNK_SIZE = BYTES_AT_ONCE
    try:
        return Hub(source)
    except _UnreachableError as unreachable:
        if (cached := snapshot_in_cache(source)) is None:
            raise StagingError(
                f"{source}: {unreachable}, and the hub's cache in {constants.HF_HUB_CACHE} does not have it{ELSEWHERE}"
            ) from None
        logger.info("%s; using the copy in the hub's cache: %s", unreachable, cached.folder)
        return cached


class Hub(Repository):
    """A repository of the hub at one commit."""

    def __init__(self, source: Source):
        self.source = source
        answer = _patiently(source, str(source), lambda: _ask_for_files(source), PAUSES_WHILE_UNREACHABLE)
        self.commit, self.files = answer

    def names(self) -> list[str]:
        """Return the names of the files in the repository."""
        return list(self.files)

    def has(self, name: str) -> bool:
        """Tell whether a file is in the repository."""
        return name in self.files

    def size(self, name: str) -> int:
        """Return the size of a file in bytes, 0 if the hub does not tell it."""
        return self.files[name].size or 0

    def fetch(self, name: str, target: Path) -> None:
        """Take a file from the user's cache of the hub, or else download it, resuming an earlier download.

        Raise StagingError for a file that differs from the hub's list of files.
        """
        if target.exists() and self._difference(name, target) is None:
            return
        if not self._take_from_cache(name, target):
            incomplete = target.with_name(f"{target.name}.incomplete")
            self._download(name, incomplete)
            incomplete.replace(target)

    def _take_from_cache(self, name: str, target: Path) -> bool:
        cached = huggingface_hub.try_to_load_from_cache(
            self.source.name, name, repo_type=self.source.kind, revision=self.commit
        )
        if not isinstance(cached, str):
            return False
        if difference := self._difference(name, Path(cached)):
            logger.info("%s: not taken from the hub's cache: %s", name, difference)
            return False
        logger.info("%s: from the hub's cache", name)
        copy_whole(Path(cached), target)
        return True

    def _download(self, name: str, target: Path) -> None:
        subject = f"{self.source}: {name}"
        for is_last in (False, True):
            try:
                _patiently(self.source, subject, lambda: self._get(name, target), PAUSES)
            except _UnreachableError as unreachable:
                raise StagingError(f"{subject}: {unreachable}; run the same command again to fetch the rest") from None
            difference = self._difference(name, target)
            if difference is None:
                return
            target.unlink()
            if is_last:
                raise StagingError(f"{subject} was downloaded twice and damaged both times: {difference}")
            logger.info("%s: %s; downloading it again from the start", name, difference)

    def _get(self, name: str, target: Path) -> None:
        target.touch()
        size, there = self.files[name].size, target.stat().st_size
        if there == size:
            return
        # Without a size there is no hash either that could show whether the partial file is of this commit.
        there = 0 if size is None or there > size else there
        address = huggingface_hub.hf_hub_url(self.source.name, name, repo_type=self.source.kind, revision=self.commit)
        with target.open("r+b") as stream:
            stream.truncate(there)
            stream.seek(there)
            http_get(
                address,
                stream,
                resume_size=there,
                headers=build_hf_headers(),
                displayed_filename=name,
                tqdm_class=ProgressInLog,
            )
            os.fsync(stream.fileno())

    def _difference(self, name: str, path: Path) -> str | None:
        """Return how a file differs from the hub's list; None if it does not or the hub lists neither size nor hash."""
        said = self.files[name]
        if said.size is not None and path.stat().st_size != said.size:
            return f"it has {path.stat().st_size:,} bytes, the hub says {said.size:,}"
        if said.lfs is not None:
            kind, actual, expected = "SHA-256", sha256(path), said.lfs.sha256
        elif said.blob_id is not None:
            kind, actual, expected = "git blob", git_blob(path), said.blob_id
        else:
            return None
        return None if actual == expected else f"its {kind} is {actual}, the hub says {expected}"


class _UnreachableError(Exception):
    """The hub did not answer at all."""


def _ask_for_files(source: Source) -> tuple[str, dict[str, RepoSibling]]:
    """Return the commit of a source's revision and its files by name. Raise StagingError for an unusable answer."""
    api = huggingface_hub.HfApi()
    try:
        info = api.repo_info(
            source.name, repo_type=source.kind, revision=source.revision, timeout=30, files_metadata=True
        )
        files = {file.rfilename: file for file in info.siblings}
        is_named = all(isinstance(name, str) for name in files)
        is_sized = all(file.size is None or isinstance(file.size, int) for file in files.values())
        is_list_of_files = COMMIT.fullmatch(info.sha) and is_named and is_sized
    except HFValidationError:
        raise
    except (TypeError, ValueError, LookupError, AttributeError):  # what the client raises for other answers
        is_list_of_files = False
    if not is_list_of_files:
        raise StagingError(
            f"{source}: {redacted(constants.ENDPOINT)} did not answer with a repository's list of files; check"
            " HF_ENDPOINT, and whether a login page or a proxy answers in its place"
        )
    return info.sha, files


def _patiently(source: Source, subject: str, call: Callable[[], Any], pauses_while_unreachable: Sequence[float]) -> Any:
    """Call until the hub answers, with growing pauses. Raise StagingError if it refuses or stays busy.

    Raise _UnreachableError if nothing answers.
    """
    tries, begun = 0, time.monotonic()
    while True:
        try:
            return call()
        except errors.OfflineModeIsEnabled:
            raise _UnreachableError("the hub is switched off (HF_HUB_OFFLINE)") from None
        except (HfHubHTTPError, HFValidationError) as error:
            is_patient = tries < len(PAUSES) and time.monotonic() - begun < LONGEST_WAIT
            if _status(error) not in BUSY or not is_patient:
                raise StagingError(f"{subject}: {_explain(error, source)}") from None
            problem, pause = f"the hub asks to wait ({_status(error)})", _pause(error, PAUSES[tries])
        except (errors.HTTPError, ConnectionError, TimeoutError) as error:
            problem = f"the hub at {constants.ENDPOINT} cannot be reached ({_first_line(error)})"
            if tries >= len(pauses_while_unreachable):
                raise _UnreachableError(redacted(problem)) from None
            pause = pauses_while_unreachable[tries]
        logger.info("%s; next try in %g s", problem, pause)
        time.sleep(pause)
        tries += 1


def _status(error: Exception) -> int | None:
    response = getattr(error, "response", None)
    return None if response is None else response.status_code


def _pause(error: HfHubHTTPError, otherwise: float) -> float:
    """Return the seconds that the hub asks for in Retry-After (RFC 9110, 10.2.3) or in an exhausted RateLimit."""
    headers = error.response.headers
    named = re.fullmatch(r"\s*(\d+)\s*", headers.get("Retry-After", "")) or re.search(
        r"\br=0;\s*t=(\d+)", headers.get("RateLimit", "")
    )
    return min(float(named.group(1)), LONGEST_PAUSE) if named else otherwise


def _explain(error: HfHubHTTPError | HFValidationError, source: Source) -> str:
    """Say in one line why the hub refuses, and what can be done."""
    if isinstance(error, errors.GatedRepoError):
        page = f"{constants.ENDPOINT}/{'datasets/' if source.kind == 'dataset' else ''}{source.name}"
        return redacted(f"it is gated: accept its terms at {page}, and set HF_TOKEN to a token of that account")
    if isinstance(error, errors.RevisionNotFoundError):
        return "it has no such revision; name one of its commits, tags or branches"
    if _status(error) == 401 and huggingface_hub.get_token() is not None:
        return "the hub does not accept the token in HF_TOKEN (or of `hf auth login`) for it; check the token"
    # Without a token, a repository that this user may not see is a 401; mirrors do not always say why.
    if isinstance(error, errors.RepositoryNotFoundError) or _status(error) == 401:
        return "the hub has no such repository, or it is private; check `source`, or set HF_TOKEN"
    if _status(error) == 429:
        return "the hub answered 429 (too many requests) for too long; try again later, or set HF_TOKEN"
    return f"the hub refused it: {redacted(_answer(error))}"


def _answer(error: HfHubHTTPError | HFValidationError) -> str:
    """Return the hub's own words; the client's contain addresses, which a CDN signs."""
    if isinstance(error, HFValidationError):
        return _first_line(error)
    said = (error.server_message or error.response.reason_phrase).splitlines()
    return f"{error.response.status_code} {said[0] if said else ''}".strip()


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


class ProgressInLog(tqdm):
    """A progress bar for huggingface_hub that writes a line now and then: bytes, rate, seconds left."""

    def __init__(self, *_, total: int | None = None, initial: int = 0, desc: str = "", **__):
        super().__init__(disable=True)
        self.name, self.expected, self.there = desc, total, initial
        self.begun, self.begun_with = time.monotonic(), initial
        self.last_line = self.begun
        size = f", {size_in_words(total)}" if total else ""
        rest = f", resumed at {size_in_words(initial)}" if initial else ""
        logger.info("fetching %s%s%s", desc, size, rest)

    def update(self, n: float = 1) -> None:
        """Count received bytes (negative if a transfer starts over)."""
        self.there += int(n)
        if time.monotonic() - self.last_line >= SECONDS_BETWEEN_LINES:
            self.last_line = time.monotonic()
            logger.info("%s", self._line())

    def _line(self) -> str:
        rate = max(self.there - self.begun_with, 0) / (time.monotonic() - self.begun)
        expected = f" of {size_in_words(self.expected)}" if self.expected else ""
        left = f", {(self.expected - self.there) / rate:.0f} s left" if self.expected and rate else ""
        return f"{self.name}: {size_in_words(self.there)}{expected}, {size_in_words(rate)}/s{left}"
