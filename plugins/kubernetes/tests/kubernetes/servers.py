"""Servers on loopback for tests: one that answers as it is told, one that stands in between."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import yaml
from tests.kubernetes.apiserver import Server

Reply = tuple[int, bytes, Mapping[str, str]]
Answerer = Callable[[str, str, Mapping[str, str], bytes], "Reply | None"]


@contextmanager
def serving(answer: Answerer, keys: Path | None = None) -> Iterator[str]:
    """Serve HTTP on loopback; None for an answer closes the connection without one."""

    class Handler(BaseHTTPRequestHandler):
        def do(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            reply = answer(self.command, self.path, dict(self.headers), self.rfile.read(length))
            self.close_connection = True
            if reply is None:
                return
            code, body, headers = reply
            self.send_response(code)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do  # noqa: N815 - as http.server has it

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        if keys is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(keys / "server.crt", keys / "server.key")
            httpd.socket = context.wrap_socket(httpd.socket, server_side=True)
        thread = threading.Thread(target=httpd.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"{'http' if keys is None else 'https'}://127.0.0.1:{httpd.server_address[1]}"
        finally:
            httpd.shutdown()
            thread.join()


def kubeconfig(path: Path, url: str, token: str = "token") -> Path:
    """Write a kubeconfig file for a server."""
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "users": [{"name": "somebody", "user": {"token": token}}],
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "somebody"}}],
        "current-context": "here",
    }
    path.write_text(yaml.safe_dump(content))
    return path


def status(code: int, reason: str, message: str, **headers: str) -> Reply:
    """Return a Status as an API server answers with it."""
    body = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    }
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return code, json.dumps(body).encode(), {"Content-Type": "application/json", **named}


def found(body: Mapping[str, Any]) -> Reply:
    """Return an object or a list."""
    return 200, json.dumps(body).encode(), {"Content-Type": "application/json"}


@dataclass
class Script:
    """Answers in turn, the last again and again; and what was asked."""

    replies: Sequence[Reply | None]
    asked: list[str] = field(default_factory=list)

    def __call__(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> Reply | None:
        """Answer the next request."""
        self.asked.append(f"{method} {path.partition('?')[0]}")
        return self.replies[min(len(self.asked), len(self.replies)) - 1]


@contextmanager
def before_it(
    server: Server, hook: Callable[[str, str], Reply | None], keys: Path | None = None
) -> Iterator[str]:
    """Serve what an API server answers, as a proxy does that may answer itself.

    Args:
        server: The API server.
        hook: Called with the method and the path of each request; None to pass it on.
        keys: A directory with the server's certificate and key, to serve them over TLS.
    """
    context = ssl.create_default_context(cafile=str(server.certificate))
    with httpx2.Client(base_url=server.url, verify=context, trust_env=False) as client:

        def answer(method: str, path: str, headers: Mapping[str, str], body: bytes) -> Reply | None:
            own = hook(method, path)
            if own is not None:
                return own
            kept = {k: v for k, v in headers.items() if k in ("Authorization", "Content-Type")}
            done = client.request(method, path, headers=kept, content=body)
            types = {"Content-Type": done.headers.get("Content-Type", "text/plain")}
            return done.status_code, done.content, types

        with serving(answer, keys) as url:
            yield url


@contextmanager
def noting(server: Server, keys: Path | None = None) -> Iterator[tuple[str, list[str]]]:
    """Serve what an API server answers, and note what is asked, such as ``list pods``.

    ``list all pods`` is a list of the pods of everybody. ``keys`` are as of `before_it`.
    """
    asked: list[str] = []

    def note(method: str, path: str) -> None:
        plain, _, query = path.partition("?")
        kind, *name = plain.partition("/namespaces/")[2].split("/")[1:] or ["namespaces", ""]
        lists = "list" if "labelSelector" in query else "list all"
        verb = "get" if name else lists
        asked.append(f"{verb if method == 'GET' else method.lower()} {kind}")

    with before_it(server, note, keys) as url:
        yield url, asked


CHANGES = ("POST", "PUT", "PATCH", "DELETE")
"""The methods of requests that change something."""


@contextmanager
def between(
    server: Server,
    before: Callable[[int], None],
    after: Callable[[int], None],
    *,
    counted: Collection[str] = ("GET", "POST", "PUT", "PATCH", "DELETE"),
    keys: Path | None = None,
) -> Iterator[str]:
    """Serve what an API server answers, and do something before and after each request.

    Args:
        server: The API server.
        before: Called with the number of a request, from 1, before it is passed on.
        after: Called once the API server has done it, before it is answered.
        counted: The methods of the requests that are counted; others are only passed on.
        keys: A directory with the server's certificate and key, to serve them over TLS.
    """
    count = 0
    lock = threading.Lock()
    context = ssl.create_default_context(cafile=str(server.certificate))
    with httpx2.Client(base_url=server.url, verify=context, trust_env=False) as client:

        def answer(method: str, path: str, headers: Mapping[str, str], body: bytes) -> Reply | None:
            nonlocal count
            with lock:
                count += method in counted
                number = count if method in counted else 0
            if number:
                before(number)
            kept = {k: v for k, v in headers.items() if k in ("Authorization", "Content-Type")}
            done = client.request(method, path, headers=kept, content=body)
            if number:
                after(number)
            types = {"Content-Type": done.headers.get("Content-Type", "text/plain")}
            return done.status_code, done.content, types

        with serving(answer, keys) as url:
            yield url
