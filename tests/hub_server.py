"""A small hub in a thread: what a download needs of Hugging Face's API and file server, and their troubles."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.official import NAMES, without_version
from weights.header_folder import GEMMA_REPOSITORY
from weights.tiny_model import tiny_folder

REVISION = "a" * 40
LTX = "Lightricks/LTX-2"


@dataclass
class Hub:
    """repositories: name -> file name -> content. What else is here makes trouble on purpose.

    gated: repositories that ask for a licence. said: other names, or sizes, than those that are served. cut: bytes of a
    file's answer after which the connection ends, and the hub goes down. stall: after which nothing more comes. down:
    every file is answered with 503.
    """

    repositories: dict[str, dict[str, bytes]]
    gated: set[str] = field(default_factory=set)
    said: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    cut: dict[str, int] = field(default_factory=dict)
    stall: dict[str, int] = field(default_factory=dict)
    down: bool = False
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    """Method, file name (or repository), Range header of every request."""
    tokens: set[str] = field(default_factory=set)
    url: str = ""

    def siblings(self, repository: str) -> list[dict[str, Any]]:
        found = []
        for name, content in self.repositories[repository].items():
            sha = hashlib.sha256(content).hexdigest()
            lfs = {"sha256": sha, "size": len(content), "pointerSize": 130} if name.endswith(".safetensors") else None
            blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            found.append({"rfilename": name, "size": len(content), "blobId": blob, **({"lfs": lfs} if lfs else {})})
        return found + self.said.get(repository, [])

    def fetched(self, name: str) -> list[str]:
        """Range headers of the requests for its content."""
        return [span for method, asked, span in self.asked if method == "GET" and asked == name]


def handler_for(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            """Nothing."""

        def refuse(self, code: int, kind: str = "") -> None:
            self.send_response(code)
            if kind:
                self.send_header("X-Error-Code", kind)
                self.send_header("X-Error-Message", kind)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_HEAD(self) -> None:
            self.answer()

        def do_GET(self) -> None:
            self.answer()

        def answer(self) -> None:
            path = unquote(urlsplit(self.path).path)
            span = self.headers.get("Range") or ""
            hub.tokens.add((self.headers.get("Authorization") or "").removeprefix("Bearer "))
            if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/[^/]+)?", path):
                hub.asked.append((self.command, match[1], span))
                if match[1] not in hub.repositories:
                    return self.refuse(404, "RepoNotFound")
                answer = {"id": match[1], "sha": REVISION, "siblings": hub.siblings(match[1])}
                raw = json.dumps(answer).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)
                return None
            match = re.fullmatch(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)", path)
            if match is None:
                return self.refuse(404)
            repository, name = match[1], match[2]
            hub.asked.append((self.command, name, span))
            if repository in hub.gated:
                return self.refuse(403 if self.headers.get("Authorization") else 401, "GatedRepo")
            content = hub.repositories.get(repository, {}).get(name)
            if content is None:
                return self.refuse(404, "EntryNotFound")
            if hub.down and self.command == "GET":
                return self.refuse(503)
            sibling = next(one for one in hub.siblings(repository) if one["rfilename"] == name)
            etag = sibling["lfs"]["sha256"] if "lfs" in sibling else sibling["blobId"]
            start = int(span.removeprefix("bytes=").partition("-")[0]) if span else 0
            self.send_response(206 if span else 200)
            self.send_header("ETag", f'"{etag}"')
            self.send_header("X-Repo-Commit", REVISION)
            self.send_header("Accept-Ranges", "bytes")
            if span:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            if self.command == "HEAD":
                return None
            if name in hub.cut:
                self.wfile.write(content[start : start + hub.cut[name]])
                self.wfile.flush()
                hub.down = True
                self.close_connection = True
                return None
            if name in hub.stall:
                self.wfile.write(content[start : start + hub.stall[name]])
                self.wfile.flush()
                time.sleep(60)
                return None
            self.wfile.write(content[start:])
            return None

    return Handler


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler_for(hub))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


def tiny_hub() -> Hub:
    """Both official repositories, with the tiny model's files."""
    gemma = {path.name: path.read_bytes() for path in (tiny_folder() / "gemma-tiny").iterdir()}
    ltx = {name: without_version(tiny_folder() / tiny) for name, tiny in NAMES.items()}
    return Hub({LTX: ltx, GEMMA_REPOSITORY: {**gemma, "README.md": b"not wanted"}})
