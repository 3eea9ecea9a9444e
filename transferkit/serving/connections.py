"""Connections whose requests must arrive in time, and whose number is bounded.

uvicorn bounds the time between two requests of a connection, but not the time in which a request
arrives: a client that sends nothing, or a byte now and then, would keep its connection for ever.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol

HEADER_SECONDS = 10.0
"""Time for the headers of a request, and for what a refused request still sends."""

MAX_CONNECTIONS = 512
"""Connections at once. A new one takes the place of the oldest whose request has not arrived."""

GRACE_SECONDS = 5.0
"""Time beyond that of a request, in which its answer is received."""


class TimedConnection(H11Protocol):
    """A connection that is closed when its client lets it wait."""

    def __init__(self, *args: Any, request_seconds: float, open_ones: "OpenOnes", **kwargs: Any):
        """Begin a connection.

        Args:
            *args: Those of uvicorn's connections.
            request_seconds: Time in which a request arrives and is answered.
            open_ones: Holds all connections.
            **kwargs: Those of uvicorn's connections.
        """
        super().__init__(*args, **kwargs)
        self._request_seconds = request_seconds
        self._open_ones = open_ones
        self._timed: object = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def awaits_client(self) -> bool:
        """Whether the client has not sent all of a request."""
        return self.conn.their_state in (h11.IDLE, h11.SEND_BODY)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request, if there is room for another connection."""
        super().connection_made(transport)
        self._limit(HEADER_SECONDS)
        self._open_ones.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """End the connection."""
        self._open_ones.discard(self)
        if self._timer:
            self._timer.cancel()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        """Begin the requests that have arrived."""
        super().handle_events()
        if self._timed is not self.cycle and not self.cycle.response_complete:
            self._timed = self.cycle
            self._limit(self._request_seconds + GRACE_SECONDS)

    def on_response_complete(self) -> None:
        """Wait for the next request, and for what is left of this one."""
        # Before a request that has already arrived begins.
        self._limit(HEADER_SECONDS)
        super().on_response_complete()

    def drop(self) -> None:
        """Close the connection at once, whatever the client still sends or does not read."""
        self.transport.abort()

    def _limit(self, seconds: float) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = self.loop.call_later(seconds, self.drop)


class OpenOnes:
    """The open connections, a bounded number of them."""

    def __init__(self, most: int = MAX_CONNECTIONS) -> None:
        """Have room for `most` connections."""
        self._most = most
        self._connections: dict[TimedConnection, None] = {}  # in the order of their beginning

    def add(self, connection: TimedConnection) -> None:
        """Add a connection; beyond the bound, drop the oldest that awaits its client."""
        self._connections[connection] = None
        if len(self._connections) > self._most:
            dropped = next(one for one in self._connections if one.awaits_client)
            self.discard(dropped)
            dropped.drop()

    def discard(self, connection: TimedConnection) -> None:
        """Remove a connection that has ended."""
        self._connections.pop(connection, None)


def timed_connections(request_seconds: float) -> Callable[..., TimedConnection]:
    """Return what creates the connections of a server, from uvicorn's arguments."""
    open_ones = OpenOnes()

    def create(
        config: Config, server_state: Any, app_state: dict[str, Any], _loop: Any = None
    ) -> TimedConnection:
        return TimedConnection(
            config,
            server_state,
            app_state,
            _loop,
            request_seconds=request_seconds,
            open_ones=open_ones,
        )

    return create
