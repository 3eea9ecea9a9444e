"""Listen at an address, and serve an application there until a signal."""

import os
import signal
import socket
from collections.abc import Callable, Generator
from contextlib import contextmanager
from ipaddress import ip_address

import uvicorn
from starlette.types import ASGIApp

from transferkit.errors import OptionError
from transferkit.serving.connections import GRACE_SECONDS, timed_connections

_BACKLOG = 128
"""Connections that the system accepts before the server does; asyncio takes as many at a time."""

_HEADER_BYTES = 32 * 1024

_IDLE_TICKS = 50
"""Ticks of 0.1 s without a request after which a server is idle."""


def open_socket(host: str, port: int) -> socket.socket:
    """Return a socket that listens at the first address of `host`.

    Raises:
        OptionError: When there is no such host here, or the port is taken.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError) as error:
        reason = str(getattr(error, "strerror", None) or error).lower()
        raise OptionError(
            f"--host: got {host}, expected a name or an address of this machine ({reason})"
        ) from error
    try:
        return socket.create_server(address[:2], family=family, backlog=_BACKLOG)
    except OSError as error:
        # The text of the error itself repeats the address.
        reason = os.strerror(error.errno).lower() if error.errno else str(error)
        raise OptionError(
            f"--port: cannot listen at {host}, port {port}: {reason}; choose another port, or 0 "
            "for any free one, and an address of this machine"
        ) from error


def is_loopback(listening: socket.socket) -> bool:
    """Return whether only this machine reaches a listening socket."""
    return ip_address(listening.getsockname()[0]).is_loopback


def address_of(listening: socket.socket, host: str) -> str:
    """Return the address to open in a browser of this machine, as `http://host:port`."""
    at, port = listening.getsockname()[:2]
    name = "localhost" if ip_address(at).is_unspecified else host
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"


class Server(uvicorn.Server):
    """uvicorn's server, with signals as the other commands have them, and a call when it is idle.

    SIGTERM lets it answer the requests that it has, and end. Ctrl-C ends it at once.
    """

    def __init__(self, config: uvicorn.Config, when_idle: Callable[[], object]) -> None:
        """Create a server.

        Args:
            config: Its settings.
            when_idle: Called once there was no request for some seconds.
        """
        super().__init__(config)
        self.when_ready: Callable[[], None] = lambda: None
        """Called once requests are answered and signals are handled."""
        self._when_idle = when_idle
        self._idle_ticks = 0

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Handle SIGTERM in the block; Ctrl-C raises its error, as asyncio does it."""
        try:
            previous = signal.signal(signal.SIGTERM, self.handle_exit)
        except ValueError:
            yield  # only the main thread may handle signals
            return
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, previous)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to answer requests."""
        await super().startup(sockets)
        self.when_ready()

    async def on_tick(self, counter: int) -> bool:
        """Return whether to end; uvicorn asks ten times per second."""
        self._idle_ticks = 0 if self.server_state.tasks else self._idle_ticks + 1
        if self._idle_ticks == _IDLE_TICKS:
            self._when_idle()
        return await super().on_tick(counter)

    def stop(self) -> None:
        """Let the server answer the requests that it has, and end."""
        self.should_exit = True


def create_server(app: ASGIApp, request_seconds: float, when_idle: Callable[[], object]) -> Server:
    """Return a server for an application, to be run with a listening socket.

    Args:
        app: The application.
        request_seconds: Time in which a request arrives and is answered.
        when_idle: Called once there was no request for some seconds.
    """
    config = uvicorn.Config(
        app,
        loop="asyncio",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=_BACKLOG,
        h11_max_incomplete_event_size=_HEADER_BYTES,
        timeout_graceful_shutdown=int(request_seconds + GRACE_SECONDS) + 1,
    )
    config.load()
    config.http_protocol_class = timed_connections(request_seconds)  # type: ignore[assignment]
    return Server(config, when_idle)
