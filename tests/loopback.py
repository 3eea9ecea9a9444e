"""HTTP servers on loopback, which stand in for those that are not reachable from tests."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer
from threading import Thread


@contextmanager
def serving(server: HTTPServer) -> Iterator[str]:
    """Let a server answer until the end of the block; yields its address."""
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def server_of(handler: type[BaseHTTPRequestHandler]) -> HTTPServer:
    """Return a server at a free port that answers each request in a thread by a handler."""
    return ThreadingHTTPServer(("127.0.0.1", 0), handler)
