"""A stand-in for the model hub: real files over HTTP, with the headers its client reads."""

import hashlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from huggingface_hub import constants

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def serve_hub(
    files: dict[str, bytes], *, truncated: Collection[str] = (), damaged: Collection[str] = ()
) -> Iterator[tuple[str, list[str]]]:
    """Serve `files` ("owner/name/file" -> content); yields the address and the requests seen.

    Args:
        files: The content of the hub.
        truncated: Files whose downloads break off half way.
        damaged: Files announced with a wrong digest. Once removed from this collection, a file is
            announced correctly.
    """
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self, body: bool) -> None:
            seen.append(f"{self.command} {self.path}")
            name = self.path.lstrip("/")
            name = name.replace("/resolve/main/", "/").replace(f"/resolve/{COMMIT}/", "/")
            content = files.get(name)
            if content is None:
                self.send_response(404)
                self.send_header("X-Error-Code", "EntryNotFound")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            digest = "0" * 64 if name in damaged else hashlib.sha256(content).hexdigest()
            self.send_response(200)
            self.send_header("ETag", f'"{digest}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if body:
                self.wfile.write(content[: len(content) // 2] if name in truncated else content)
                self.close_connection = True

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", seen
    finally:
        server.shutdown()
        server.server_close()


def point_client_at(address: str, cache: Path, patch: pytest.MonkeyPatch) -> None:
    """Point this process's hub client, which has already read its environment, at another hub."""
    url = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, address)
    patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url)
    patch.setattr(constants, "ENDPOINT", address)
    patch.setattr(constants, "HF_HUB_CACHE", str(cache))
