"""A stand-in for S3 on this machine, and a gate before it that fails as networks do."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path

import pytest
from loopback import serving

from transferkit.places import Url

_BUCKETS = count()
_PASSED_ON_ALONE = ("transfer-encoding", "content-length", "connection")


class _Gate(ThreadingHTTPServer):
    """Passes requests on to the server, unless the next fault in `faults` is due."""

    daemon_threads = True

    def __init__(self, server: tuple[str, int]) -> None:
        super().__init__(("127.0.0.1", 0), _Request)
        self.server = server
        self.faults: list[str] = []
        self.always = ""
        self.asked = 0


class _Request(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Gate

    def handle_any(self) -> None:
        gate = self.server
        gate.asked += 1
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = gate.faults.pop(0) if gate.faults else gate.always
        if fault == "stall":
            time.sleep(3)  # longer than the time-out of the test
            self.close_connection = True
        elif fault == "503":
            self.send_response(503)
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            self._pass_on(body, is_cut=fault == "cut")

    def _pass_on(self, body: bytes, *, is_cut: bool) -> None:
        connection = HTTPConnection(*self.server.server)
        connection.request(self.command, self.path, body, dict(self.headers))
        answer = connection.getresponse()
        content = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in _PASSED_ON_ALONE:
                self.send_header(name, value)
        is_head = self.command == "HEAD"
        length = answer.getheader("Content-Length") if is_head else len(content)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        if is_cut:
            self.close_connection = True
        if not is_head:
            self.wfile.write(content[: len(content) // 2] if is_cut else content)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_any

    def log_message(self, *args: object) -> None:
        pass


@dataclass
class S3:
    """A bucket of the server.

    Attributes:
        bucket: Its address.
        gate: What stands before the server.
    """

    bucket: Url
    gate: _Gate = field(repr=False)

    def put(self, folder: Path, name: str) -> Url:
        """Store a folder under a name, and return its address."""
        where = self.bucket / name
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                (where / file.relative_to(folder).as_posix()).put(file)
        return where


@contextmanager
def running_gate() -> Iterator[_Gate]:
    """Run a server and its gate, which the environment names, until the end of the block."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    gate = _Gate(server.get_host_and_port())
    with serving(gate) as address, pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        patch.setenv("AWS_ENDPOINT_URL", address)
        patch.setenv("AWS_ACCESS_KEY_ID", "tests")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "tests")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        yield gate
    server.stop()


def new_bucket(gate: _Gate) -> S3:
    """Create an empty bucket."""
    import s3fs

    gate.faults, gate.always = [], ""
    name = f"bucket-{next(_BUCKETS)}"
    s3fs.S3FileSystem().mkdir(name)
    return S3(Url(f"s3://{name}"), gate)
