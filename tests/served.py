"""A server of a made-up model, in a thread of this process, and a client for it."""

import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
from image_files import COLOURS
from PIL import Image

from transferkit.data.preprocessing import Preprocessing
from transferkit.inference import PreparedPass, Reading, at_once
from transferkit.recipes.predicting.answer import Answer
from transferkit.serving.access import Access
from transferkit.serving.app import create_app
from transferkit.serving.server import create_server, open_socket
from transferkit.serving.service import Limits, ServedModel, Service, running_service
from transferkit.serving.uploads import UploadLimits

CLASSES = ("red", "green", "blue")
"""Their probabilities are the shares of the colours in an image."""

BOUNDARY = "boundary-of-the-tests"


def picture(name: str = "red", size: tuple[int, int] = (12, 12), kind: str = "png") -> bytes:
    """Return an image file of one colour."""
    file = BytesIO()
    Image.new("RGB", size, COLOURS[name]).save(file, kind)
    return file.getvalue()


def shares(pixels: np.ndarray) -> np.ndarray:
    """Return the shares of red, green and blue in images."""
    sums = pixels.astype(np.float32).sum(axis=(1, 2)) + 1  # an image may be black
    return sums / sums.sum(axis=1, keepdims=True)


def colour_model(
    compute: Callable[[np.ndarray], np.ndarray] = shares, batch_size: int = 4, **known: Any
) -> ServedModel:
    """Return a model whose probabilities are the shares of colours."""
    images = PreparedPass(
        at_once(compute), Preprocessing(input_size=(3, 8, 8)), Reading(batch_size, workers=2)
    )
    about = {"name": "colours", "classes": list(CLASSES)}
    record_of = Answer(CLASSES, 3, 0.0, None, None).prediction
    return ServedModel(
        **{
            "about": about,
            "class_names": CLASSES,
            "images": images,
            "record_of": record_of,
            **known,
        }
    )


class Reply(NamedTuple):
    """What a server answered."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@dataclass
class Client:
    """Sends requests to a server.

    Attributes:
        port: Where it listens.
        service: What it serves, for a server in this process.
        told: What its operator was told.
    """

    port: int
    service: Service | None = None
    told: list[str] = field(default_factory=list)

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Reply:
        """Send a request; `_` in the name of a header stands for `-`."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            connection.request(method, path, body, named)
            response = connection.getresponse()
            return Reply(response.status, response.headers, response.read())
        finally:
            connection.close()

    def predict(self, body: bytes = b"", **headers: str) -> Reply:
        """Send a body to /predict."""
        return self.ask("POST", "/predict", body or picture(), **headers)

    def predict_files(self, *files: tuple[str, bytes]) -> Reply:
        """Send named files to /predict, as a form does."""
        body = multipart(files)
        return self.predict(body, Content_Type=f"multipart/form-data; boundary={BOUNDARY}")

    def raw(self) -> socket.socket:
        """Return a connection to send bytes by."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)


def multipart(files: Sequence[tuple[str, bytes]]) -> bytes:
    """Return named files as multipart/form-data."""
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="images"; filename="{name}"\r\n'
        "Content-Type: text/plain\r\n\r\n".encode()
        + data
        + b"\r\n"
        for name, data in files
    ]
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


@contextmanager
def served(
    model: ServedModel | None = None,
    *,
    access: Access = Access(is_local=True),  # noqa: B008 - it is frozen
    size: int = 100_000,
    images: int = 4,
    queue: int = 8,
    seconds: float = 20,
) -> Iterator[Client]:
    """Serve a model until the end of the block."""
    limits = Limits(UploadLimits(size, images), queue, max_wait=0.01, seconds=seconds)
    with (
        open_socket("127.0.0.1", 0) as listening,
        running_service(model or colour_model(), limits) as service,
    ):
        client = Client(listening.getsockname()[1], service)
        server = create_server(create_app(service, access, client.told.append), seconds, list)
        with in_thread(lambda: server.run([listening]), server.stop):
            yield client


@contextmanager
def in_thread(run: Callable[[], None], stop: Callable[[], None]) -> Iterator[None]:
    """Run a server in a thread until the end of the block."""
    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop()
        thread.join()


def wait_until(holds: Callable[[], bool]) -> None:
    """Wait for what another thread does; the test fails if that never comes."""
    for _ in range(3000):
        if holds():
            return
        time.sleep(0.01)
    raise AssertionError("it did not come")
