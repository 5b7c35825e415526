"""A Hugging Face hub on loopback for the real huggingface_hub: a stand-in, as tests cannot reach the real one.

Like that, it is two servers (fake_hub_servers.py): the hub itself, and a CDN to which it redirects for large files. A
forward proxy may stand before both. It speaks what huggingface_hub 2.4 uses of the protocol to list and download files,
writes down every request, and does wrong what a test tells it to (`Fault`).
"""

import gzip
import hashlib
import json
import math
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

LISTING = re.compile(r"/api/(?P<kind>models|datasets)/(?P<name>.+?)/revision/(?P<revision>[^/]+)")
TREE = re.compile(r"/api/(?P<kind>models|datasets)/(?P<name>.+?)/tree/(?P<revision>[^/]+)")
RESOLVE = re.compile(r"/((?P<kind>datasets)/)?(?P<name>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)")
SMALL_CONTENT = re.compile(
    r"/api/resolve-cache/(?P<kind>models|datasets)/(?P<name>.+?)/(?P<revision>[0-9a-f]{40})/(?P<file>.+)"
)
LARGE_CONTENT = re.compile(r"/(?P<kind>models|datasets)/(?P<name>.+?)/(?P<revision>[0-9a-f]{40})/(?P<file>.+)")
# The hub keeps these with Git LFS and serves them from its CDN.
LARGE = (".safetensors", ".parquet", ".bin")
SIGNATURE = "Signature=of-the-fake"
# A mirror may be at a path of its host.
MIRROR = "/mirror"
# These names do not resolve; only our proxy knows them.
HUB_BEHIND_PROXY, CDN_BEHIND_PROXY = "hub.invalid", "cdn.invalid"


@dataclass(frozen=True)
class Request:
    """A request to 'hub', 'cdn' or 'proxy'; the names of headers are in lower case."""

    server: str
    method: str
    address: str
    headers: dict[str, str]

    @property
    def path(self) -> str:
        """The path without query, as it was sent."""
        return urlsplit(self.address).path

    @property
    def token(self) -> str | None:
        """The token of the Authorization header."""
        kind, _, value = self.headers.get("authorization", "").partition(" ")
        return value if kind == "Bearer" else None


@dataclass
class Fault:
    """A fault of 'listing', 'resolve' or 'content' for paths that contain `path`, the first `times` times."""

    part: str
    path: str = ""
    times: float = math.inf
    status: int | None = None  # an error with this status and these headers
    headers: dict[str, str] = field(default_factory=dict)
    content: bytes | None = None  # sent instead of the right content
    cut_after: int | None = None  # bytes, after which the connection ends
    resets: bool = False  # the connection ends with a reset
    bytes_per_second: int | None = None
    ignores_range: bool = False
    stops_after: int | None = None  # bytes, after which it waits for `go_on`
    go_on: threading.Event = field(default_factory=threading.Event)


@dataclass
class Answer:
    """What to send back; a `fault` changes how a file's content is sent."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    file: str | None = None
    fault: Fault | None = None


@dataclass
class Repository:
    """The files of each commit, the commit of each branch, and who may read them."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    readers: frozenset[str] | None = None  # tokens; None: everyone
    is_gated: bool = False  # everyone may see the list of files, but only `readers` the files
    claims: dict[str, dict] = field(default_factory=dict)  # false entries of the list of files


class FakeHub:
    """Repositories ("models/org/name", "datasets/org/name"), faults, and all that was asked."""

    def __init__(self):
        self.repositories: dict[str, Repository] = {}
        self.tokens: set[str] = set()
        self.faults: list[Fault] = []
        self.lists_sizes = True
        self.requests: list[Request] = []
        self.sent: Counter[str] = Counter()  # bytes of each file
        self.transfers_at_once = self.most_transfers_at_once = 0
        self.awaited_transfers = 0  # until this many run at once, bytes come slowly
        self.ports: dict[str, int] = {}
        self._changed = threading.Condition()

    @property
    def endpoint(self) -> str:
        """The address for HF_ENDPOINT."""
        return f"http://127.0.0.1:{self.ports['hub']}"

    @property
    def proxy(self) -> str:
        """The address for HTTP_PROXY; HF_ENDPOINT is then http://hub.invalid."""
        return f"http://127.0.0.1:{self.ports['proxy']}"

    def commit(self, repository: str, files: dict[str, bytes], branch: str = "main", **properties) -> str:
        """Make a commit on the branch; return its hash."""
        digest = hashlib.sha1(usedforsecurity=False)
        for name, content in sorted(files.items()):
            digest.update(f"{name} {_git_blob(content)}\n".encode())
        entry = self.repositories.setdefault(repository, Repository(**properties))
        entry.commits[digest.hexdigest()] = files
        entry.branches[branch] = digest.hexdigest()
        return digest.hexdigest()

    def asked(self, part: str, method: str = "GET") -> list[Request]:
        """Return the requests for 'listing', 'resolve' or 'content'."""
        return [request for request in self.requests if request.method == method and _part(request)[0] == part]

    def files_sent(self) -> list[str]:
        """Return the name of each file whose content was requested, once per request."""
        return [_part(request)[1]["file"] for request in self.asked("content")]

    def ranges(self, file: str) -> list[str | None]:
        """Return the Range header of each request for a file's content."""
        contents = self.asked("content")
        return [request.headers.get("range") for request in contents if _part(request)[1]["file"] == file]

    def wait_for(self, condition: Callable[[], bool], seconds: float = 60) -> None:
        """Wait until a condition on this hub holds; it is checked whenever bytes were sent."""
        with self._changed:
            assert self._changed.wait_for(condition, seconds), "the hub has waited in vain"

    def answer(self, request: Request) -> Answer:
        """Record a request and answer it."""
        part, names = _part(request)
        with self._changed:
            self.requests.append(request)
            fault = self._fault(part, request.path)
        if fault and fault.status:
            return Answer(fault.status, {"Content-Type": "text/plain"} | fault.headers)
        if fault and fault.content is not None and part == "listing":
            return Answer(200, fault.headers, fault.content)
        if names is None:
            return Answer(404, {"X-Error-Message": "Sorry, we can't find the page you are looking for."})
        if request.token and request.token not in self.tokens:
            return Answer(401, {"X-Error-Message": "Invalid credentials in Authorization header"})
        if part == "content":
            return self._content(request, names, fault)
        return self._repository_answer(part, request, names)

    def _fault(self, part: str, path: str) -> Fault | None:
        for fault in self.faults:
            if fault.part == part and fault.path in path and fault.times > 0:
                fault.times -= 1
                return fault
        return None

    def _repository_answer(self, part: str, request: Request, names: dict[str, str]) -> Answer:
        repository = self.repositories.get(f"{names['kind']}/{names['name']}")
        may_read = repository and (repository.readers is None or request.token in repository.readers)
        if repository is None or not (may_read or repository.is_gated):
            # Only authenticated users learn whether it exists.
            if request.token is None:
                return Answer(401, {"X-Error-Message": "Invalid username or password."})
            return _not_found("RepoNotFound", "Repository not found")
        commit = repository.branches.get(names["revision"], names["revision"])
        if commit not in repository.commits:
            return _not_found("RevisionNotFound", f"Invalid rev id: {names['revision']}")
        if part == "listing":
            return self._listing(repository, names["name"], commit, with_blobs="blobs=true" in request.address.lower())
        if part == "tree":
            return _json([_tree_entry(*file) for file in repository.commits[commit].items()])
        if not may_read:
            return _gated(request, names["name"])
        if names["file"] not in repository.commits[commit]:
            return _not_found("EntryNotFound", "Entry not found")
        return self._redirect(request, names | {"revision": commit}, repository.commits[commit][names["file"]])

    def _listing(self, repository: Repository, name: str, commit: str, with_blobs: bool) -> Answer:
        siblings = []
        for file, content in repository.commits[commit].items():
            entry = {"rfilename": file}
            if with_blobs and self.lists_sizes:
                entry |= _identity(file, content) | repository.claims.get(file, {})
            siblings.append(entry)
        return _json({"_id": "1", "id": name, "sha": commit, "private": False, "gated": False, "siblings": siblings})

    def _redirect(self, request: Request, names: dict[str, str], content: bytes) -> Answer:
        headers = {"X-Repo-Commit": names["revision"], "Accept-Ranges": "bytes"}
        path = f"{names['kind']}/{names['name']}/{names['revision']}/{names['file']}"
        if not names["file"].endswith(LARGE):
            below = MIRROR if request.path.startswith(MIRROR) else ""
            return Answer(307, headers | {"Location": f"{below}/api/resolve-cache/{path}?etag={_git_blob(content)}"})
        is_behind_proxy = request.headers["host"].startswith(HUB_BEHIND_PROXY)
        host = CDN_BEHIND_PROXY if is_behind_proxy else f"127.0.0.1:{self.ports['cdn']}"
        headers["Location"] = f"http://{host}/{path}?{SIGNATURE}"
        headers["X-Linked-Size"] = str(len(content))
        headers["X-Linked-ETag"] = f'"{hashlib.sha256(content).hexdigest()}"'
        return Answer(302, headers)

    def _content(self, request: Request, names: dict[str, str], fault: Fault | None) -> Answer:
        if request.server == "cdn" and SIGNATURE not in request.address:
            return Answer(403)
        right = self.repositories[f"{names['kind']}/{names['name']}"].commits[names["revision"]][names["file"]]
        body = right if fault is None or fault.content is None else fault.content
        headers = {"ETag": f'"{_git_blob(right)}"', "Accept-Ranges": "bytes", "X-Repo-Commit": names["revision"]}
        answer = Answer(200, headers, body, names["file"], fault)
        start = re.fullmatch(r"bytes=(\d+)-", request.headers.get("range", ""))
        if start and not (fault and fault.ignores_range):
            return _part_of_content(answer, int(start[1]))
        if request.server == "hub" and "gzip" in request.headers.get("accept-encoding", ""):
            answer.headers |= {"Content-Encoding": "gzip"}
            answer.body = gzip.compress(body)
        return answer

    def send(self, answer: Answer, write: Callable[[bytes], object]) -> bool:
        """Send a body, with its fault if any; return whether the connection may stay open."""
        if answer.file is None:
            write(answer.body)
            return True
        fault = answer.fault or Fault("content")
        content = answer.body[: fault.cut_after]
        with self._counted_transfer():
            start = self._send_drops(answer.file, content, write)
            if fault.stops_after is not None:
                self._send_piece(answer.file, content[start : fault.stops_after], fault.bytes_per_second, write)
                start = max(start, fault.stops_after)
                fault.go_on.wait()
            *pieces, last = _pieces(content[start:], fault.bytes_per_second)
            for piece in pieces:
                self._send_piece(answer.file, piece, fault.bytes_per_second, write)
        # A client that has these may request its next file at once, so they do not count as running.
        self._send_piece(answer.file, last, fault.bytes_per_second, write)
        return fault.cut_after is None

    @contextmanager
    def _counted_transfer(self) -> Iterator[None]:
        with self._changed:
            self.transfers_at_once += 1
            self.most_transfers_at_once = max(self.most_transfers_at_once, self.transfers_at_once)
        try:
            yield
        finally:
            with self._changed:
                self.transfers_at_once -= 1

    def _send_drops(self, file: str, content: bytes, write: Callable[[bytes], object]) -> int:
        """Send a byte a second while other transfers are awaited; return how many were sent."""
        count = 0
        while self.most_transfers_at_once < self.awaited_transfers and count < len(content):
            self._send_piece(file, content[count : count + 1], 1, write)
            count += 1
        if count == len(content):
            self.awaited_transfers = 0  # no other started during a whole slow file: let the test fail, not hang
        return count

    def _send_piece(
        self, file: str, piece: bytes, bytes_per_second: int | None, write: Callable[[bytes], object]
    ) -> None:
        if bytes_per_second:
            time.sleep(len(piece) / bytes_per_second)
        write(piece)
        with self._changed:
            self.sent[file] += len(piece)
            self._changed.notify_all()


def _part(request: Request) -> tuple[str, dict[str, str] | None]:
    """Return which part of the protocol a request belongs to, and what it requests."""
    patterns = {"cdn": {"content": LARGE_CONTENT}, "proxy": {}}.get(
        request.server, {"listing": LISTING, "tree": TREE, "content": SMALL_CONTENT, "resolve": RESOLVE}
    )
    for part, pattern in patterns.items():
        if match := pattern.fullmatch(request.path.removeprefix(MIRROR)):
            names = {name: unquote(value) for name, value in match.groupdict(default="models").items()}
            return part, names
    return "other", None


def _pieces(content: bytes, bytes_per_second: int | None) -> list[bytes]:
    """Return the chunks in which content is sent, 20 per second."""
    size = max(1, bytes_per_second // 20) if bytes_per_second else 1 << 18
    return [content[start : start + size] for start in range(0, len(content), size)] or [b""]


def _part_of_content(answer: Answer, start: int) -> Answer:
    size = len(answer.body)
    if start >= size:
        return Answer(416, {"Content-Range": f"bytes */{size}"})
    answer.status = 206
    answer.headers |= {"Content-Range": f"bytes {start}-{size - 1}/{size}"}
    answer.body = answer.body[start:]
    return answer


def _json(content: object) -> Answer:
    return Answer(200, {"Content-Type": "application/json; charset=utf-8"}, json.dumps(content).encode())


def _not_found(code: str, message: str) -> Answer:
    return Answer(404, {"X-Error-Code": code, "X-Error-Message": message})


def _gated(request: Request, name: str) -> Answer:
    status = 403 if request.token else 401
    return Answer(status, {"X-Error-Code": "GatedRepo", "X-Error-Message": f"Access to {name} is restricted."})


def _identity(file: str, content: bytes) -> dict:
    """Return a file's entry in the list of files: size, git blob, and for large files their Git LFS entry."""
    if not file.endswith(LARGE):
        return {"size": len(content), "blobId": _git_blob(content)}
    sha256 = hashlib.sha256(content).hexdigest()
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {len(content)}\n".encode()
    lfs = {"sha256": sha256, "size": len(content), "pointerSize": len(pointer)}
    return {"size": len(content), "blobId": _git_blob(pointer), "lfs": lfs}


def _tree_entry(file: str, content: bytes) -> dict:
    """Return a file's entry in the list of a folder, which has other names for the same values."""
    identity = _identity(file, content)
    entry = {"type": "file", "path": file, "oid": identity["blobId"], "size": identity["size"]}
    if lfs := identity.get("lfs"):
        entry["lfs"] = {"oid": lfs["sha256"], "size": lfs["size"], "pointerSize": lfs["pointerSize"]}
    return entry


def _git_blob(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
