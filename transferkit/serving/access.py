"""Who may ask, and what browsers may do with the answers.

Pages of other sites reach a server of this machine through the browser of whoever opens them. The
name in the Host header and the Origin header tell such requests from those of the own page.
"""

import hashlib
import hmac
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from transferkit.serving.refusal import Refusal

REPORT = "/report"

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""What the page may load: only what this server sends."""

REPORT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
"""What a run's report may load: nothing; its styles and images are within it."""

_HEADERS = {
    "Content-Security-Policy": PAGE_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Headers of every answer that does not set them itself."""

_LOCAL_NAMES = frozenset({"localhost"})


@dataclass(frozen=True)
class Access:
    """Who may ask.

    Attributes:
        is_local: Whether only this machine reaches the server. Its names are known then, and a
            request for another one comes from a page whose site took this machine's address (DNS
            rebinding). The port is not compared: tunnels have ports of their own.
        token: What requests must show; None for nothing.
        origins: Origins of pages that may ask beside the own page.
    """

    is_local: bool
    token: str | None = None
    origins: frozenset[str] = frozenset()

    @property
    def report_address(self) -> str:
        """Address of the report, which a link can open: it holds a key for the report alone."""
        return f"{REPORT}?key={self._report_key()}" if self.token else REPORT

    def require(self, method: str, path: str, query: str, headers: Headers) -> None:
        """Require that a request may be carried out.

        Raises:
            Refusal: When its host is a foreign name (421), it is sent by a foreign page (403), or
                it shows no token (401).
        """
        host = headers.get("host", "")
        if self.is_local and not _is_local_name(host):
            raise Refusal(
                421, f"the header Host names {host!r}, expected localhost or this machine's address"
            )
        origin = headers.get("origin")
        if method not in ("GET", "HEAD") and origin and not self._is_allowed(origin, host):
            raise Refusal(
                403,
                f"pages of {origin} may not ask; the server's --allow-origin lets them",
            )
        if self.token and path not in OPEN and not self._shows_token(path, query, headers):
            raise Refusal(
                401,
                "the token is missing or wrong, expected the header Authorization: Bearer TOKEN "
                "with the token that the server was started with",
                {"WWW-Authenticate": "Bearer"},
            )

    def _is_allowed(self, origin: str, host: str) -> bool:
        # The scheme is not compared: a proxy before this server may add TLS.
        return origin in self.origins or urlsplit(origin).netloc == host != ""

    def _shows_token(self, path: str, query: str, headers: Headers) -> bool:
        kind, _, shown = headers.get("authorization", "").partition(" ")
        is_bearer = kind.lower() == "bearer" and _same(shown.strip(), self.token or "")
        key = QueryParams(query).get("key", "") if path == REPORT else ""
        return is_bearer or (key != "" and _same(key, self._report_key()))

    def _report_key(self) -> str:
        return hmac.new((self.token or "").encode(), REPORT.encode(), hashlib.sha256).hexdigest()


OPEN = frozenset({"/", "/page.css", "/page.js", "/style.css", "/health", "/openapi.json"})
"""Paths that need no token: nothing in them depends on the model."""


def _same(one: str, other: str) -> bool:
    """Compare two texts in a time that does not tell how alike they are."""
    return hmac.compare_digest(one.encode("utf-8", "replace"), other.encode("utf-8", "replace"))


def _is_local_name(host: str) -> bool:
    """Return whether the Host header names this machine, by `localhost` or a loopback address."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name in _LOCAL_NAMES or ip_address(name).is_loopback
    except ValueError:
        return False


class SafetyHeaders:
    """Adds the safety headers to every answer of an application."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap an application."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_with_headers)


class Gate:
    """Lets only those requests through to an application that may be carried out."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        """Wrap an application."""
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request.

        Raises:
            Refusal: When it may not be carried out.
        """
        query = scope["query_string"].decode("latin-1")
        self._access.require(scope["method"], scope["path"], query, Headers(scope=scope))
        await self._app(scope, receive, send)
