"""The routes: requests to calls of the service, and what it returns to answers."""

import asyncio
import traceback
from collections.abc import Awaitable, Callable, Coroutine
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from transferkit.errors import TransferKitError
from transferkit.files import json_text
from transferkit.serving.access import REPORT, REPORT_POLICY, Access, Gate, SafetyHeaders
from transferkit.serving.api_description import describe_api
from transferkit.serving.refusal import Refusal, come_later
from transferkit.serving.service import Service, unreadable
from transferkit.serving.uploads import Upload, read_uploads
from transferkit.tables.predictions import PredictionFormat, format_predictions

_PACKAGE = Path(__file__).parents[1]

_PAGE, _STYLE = _PACKAGE / "serving/page", _PACKAGE / "report/templates"

_FILES = {
    "/": ([_PAGE / "index.html"], "text/html"),
    "/page.css": ([_PAGE / "page.css"], "text/css"),
    "/page.js": ([_PAGE / "page.js"], "text/javascript"),
    "/style.css": ([_STYLE / "style.css", _STYLE / "controls.css"], "text/css"),
}
"""The page, and the style that it shares with the reports."""

_GONE = 499
"""Status of a request whose client has left, which nobody receives."""

_T = TypeVar("_T")


def create_app(service: Service, access: Access, tell: Callable[[str], None]) -> Starlette:
    """Return the application of a service.

    Args:
        service: The service.
        access: Who may ask.
        tell: Receives what the operator should know of an error within the server.
    """
    endpoints = _Endpoints(service, access)
    description = describe_api(needs_token=access.token is not None)
    routes = [
        *(Route(path, _always(_file(*file))) for path, file in _FILES.items()),
        Route("/openapi.json", _always(_json(description))),
        Route("/health", _always(_json({"status": "ok"}))),
        Route("/model", endpoints.model),
        Route(REPORT, endpoints.report),
        Route("/predict", endpoints.predict, methods=["POST"]),
        Route("/explain", endpoints.explain, methods=["POST"]),
        Route("/marks", endpoints.mark, methods=["POST"]),
    ]

    return Starlette(
        routes=routes,
        middleware=[
            Middleware(SafetyHeaders),
            *_cross_origin(access),
            Middleware(_Failures, tell=tell),
            Middleware(Gate, access=access),
        ],
        exception_handlers={HTTPException: _http_error},
    )


def _cross_origin(access: Access) -> list[Middleware]:
    if not access.origins:
        return []
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=sorted(access.origins),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type"],
        )
    ]


class _Endpoints:
    """What is answered at each path."""

    def __init__(self, service: Service, access: Access) -> None:
        self._service = service
        self._access = access

    async def model(self, request: Request) -> Response:
        """Tell what is known about the model."""
        has_report = self._service.model.report is not None
        report = self._access.report_address if has_report else None
        return _json({**self._service.model.about, "report": report})

    async def report(self, request: Request) -> Response:
        """Send the page of the model's run."""
        path = self._service.model.report
        if path is None:
            raise Refusal(404, "the model has no report, which finetune leaves in the run's folder")
        headers = {"Content-Security-Policy": REPORT_POLICY}
        return Response(path.read_bytes(), media_type="text/html", headers=headers)

    async def predict(self, request: Request) -> Response:
        """Predict the classes of images."""

        async def answer(uploads: list[Upload]) -> Response:
            records = await self._service.predict(uploads)
            text = "".join(format_predictions(records, PredictionFormat.JSON, top_k=0))
            return Response(text, media_type="application/json")

        return await self._answered(request, answer)

    async def explain(self, request: Request) -> Response:
        """Draw where the evidence for a class lies in an image; for the predicted class if none."""

        async def answer(uploads: list[Upload]) -> Response:
            label = self._label(request, "class") or await self._predicted(_only(uploads))
            drawing = await self._service.explain(_only(uploads), label)
            return Response(drawing, media_type="image/jpeg")

        return await self._answered(request, answer)

    async def mark(self, request: Request) -> Response:
        """Keep an image, and its right class."""

        async def answer(uploads: list[Upload]) -> Response:
            label = self._label(request, "label")
            if label is None:
                raise Refusal(422, "there is no class, expected it as in /marks?label=CLASS")
            predicted = await self._predicted(_only(uploads))
            file = await self._service.mark(_only(uploads), label, predicted)
            return _json({"file": file, "label": label, "predicted": predicted}, status=201)

        return await self._answered(request, answer)

    async def _answered(
        self, request: Request, answer: Callable[[list[Upload]], Coroutine[Any, Any, Response]]
    ) -> Response:
        """Read the images of a request and answer it, both within its time."""
        service, limits = self._service, self._service.limits
        until = asyncio.get_running_loop().time() + limits.seconds
        with service.room.held() as take:
            try:
                async with asyncio.timeout_at(until):
                    uploads = await read_uploads(
                        request.headers, request.stream(), limits.uploads, take
                    )
            except TimeoutError:
                raise Refusal(
                    408, f"the request did not arrive within {limits.seconds:g} seconds"
                ) from None
            try:
                async with asyncio.timeout_at(until):
                    return await _unless_gone(request, answer(uploads))
            except TimeoutError:
                raise come_later(
                    f"the images were not computed within {limits.seconds:g} seconds"
                ) from None

    async def _predicted(self, upload: Upload) -> str:
        """Return the most probable class of an image.

        Raises:
            Refusal: When it cannot be read (422).
        """
        (record,) = await self._service.predict([upload])
        if record.error is not None:
            raise unreadable(upload.name, record.error)
        return record.top[0][0]

    def _label(self, request: Request, parameter: str) -> str | None:
        """Return the class that a parameter names; None if it is not there.

        Raises:
            Refusal: When the model has no such class (422).
        """
        label, known = request.query_params.get(parameter), self._service.model.class_names
        if label is None or label in known:
            return label
        close = get_close_matches(label, known, n=3, cutoff=0.5)
        hint = f"; did you mean {', '.join(close)}?" if close else "; GET /model lists its classes"
        raise Refusal(422, f"the model has no class {label!r}{hint}")


def _only(uploads: list[Upload]) -> Upload:
    """Return the one image of a request.

    Raises:
        Refusal: When there are several (400).
    """
    if len(uploads) != 1:
        raise Refusal(400, f"the body holds {len(uploads)} images, expected one")
    return uploads[0]


async def _unless_gone(request: Request, work: Coroutine[Any, Any, _T]) -> _T:
    """Return the result of `work`, which is cancelled when the client hangs up.

    Raises:
        ClientDisconnect: When it does.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(request.receive())  # all that comes after the body
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


class _Failures:
    """Answers requests that are refused, and those on which the server fails."""

    def __init__(self, app: ASGIApp, tell: Callable[[str], None]) -> None:
        self._app = app
        self._tell = tell

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
            return
        except Refusal as refusal:
            response = _error(refusal.status, str(refusal), refusal.headers)
        except ClientDisconnect:
            response = Response(status_code=_GONE)
        except Exception as error:
            # A defect, or a device that is full: the operator is told, and other requests go on.
            is_known = isinstance(error, TransferKitError)
            self._tell(str(error) if is_known else "".join(traceback.format_exception(error)))
            response = _error(500, "the server failed; its terminal says how")
        await response(scope, receive, send)


async def _http_error(request: Request, error: Exception) -> Response:
    """Answer what has no route; Starlette's texts are for browsers."""
    assert isinstance(error, HTTPException)
    what = f"{request.method} {request.url.path}"
    return _error(error.status_code, f"{what}: {error.detail.lower()}; see /openapi.json",
                  dict(error.headers or {}))  # fmt: skip


def _file(paths: list[Path], media_type: str) -> Response:
    return Response(b"".join(path.read_bytes() for path in paths), media_type=media_type)


def _always(response: Response) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        return response

    return answer


def _error(status: int, reason: str, headers: dict[str, str] | None = None) -> Response:
    return _json({"error": reason}, status, headers)


def _json(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(json_text(value), status, headers, "application/json")
