"""A hub on loopback that the real huggingface_hub client talks to: a stand-in, as tests cannot reach the real one."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "c0ffee" + "0" * 34


class _Handler(BaseHTTPRequestHandler):
    """Answers for the repositories in `server.files`: "models/org/name" -> file name -> content."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self._answer(with_body=False)

    def do_GET(self):
        self._answer(with_body=True)

    def log_message(self, *_):
        """Keep the tests' output clean."""

    def _answer(self, with_body: bool) -> None:
        self.server.requests.append(self.path)
        status, headers, body = self._content()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def _content(self) -> tuple[int, dict[str, str], bytes]:
        for repository, files in self.server.files.items():
            if self.path.startswith(f"/api/{repository}/revision/"):
                listing = {"id": repository.split("/", 1)[1], "sha": COMMIT}
                listing["siblings"] = [{"rfilename": name} for name in files]
                return 200, {"Content-Type": "application/json"}, json.dumps(listing).encode()
            address = "/" + repository.removeprefix("models/")
            name = self.path.removeprefix(f"{address}/resolve/{COMMIT}/")
            if name in files:
                etag = hashlib.sha256(files[name]).hexdigest()
                return 200, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT}, files[name]
        return 404, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"}, b""


@contextmanager
def serving(files: dict[str, dict[str, bytes]]) -> Iterator[tuple[str, list[str]]]:
    """Serve repositories; yield the endpoint's address and the list of paths that were asked for."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.files, server.requests = files, []
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", server.requests
    finally:
        server.shutdown()
        thread.join()
