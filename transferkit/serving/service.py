"""What a server answers with: the model, what is known about it, and the limits of requests."""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transferkit.data.images import ImageError, read_image, stored_pixels
from transferkit.data.transforms import eval_transform
from transferkit.errors import OptionError
from transferkit.inference import PreparedPass
from transferkit.serving.batching import BatchingThread, Computed, Places
from transferkit.serving.collected import CollectedImages
from transferkit.serving.refusal import Refusal
from transferkit.serving.uploads import BodyRoom, Upload, UploadLimits
from transferkit.tables.predictions import Prediction

_BODIES_AT_ONCE = 4
"""Largest bodies whose room all requests share."""

_LARGE = 25_000_000
"""Pixels beyond which images are decoded one at a time: the largest take a gigabyte each."""

RecordOf = Callable[[str, NDArray[np.floating[Any]], float | None], Prediction]
"""Name, probabilities and score of an image to its record."""

Draw = Callable[[bytes, str], bytes]
"""Content of an image file and a class to a JPEG of the evidence for the class."""


@dataclass(frozen=True)
class ServedModel:
    """A model, and what is known about it.

    Attributes:
        about: What `GET /model` answers, as JSON values.
        class_names: Its classes.
        images: The pass that yields class probabilities.
        record_of: Makes the record of an image.
        explain: Returns what draws evidence, which the first call prepares; None for a model
            without torch.
        collected: Keeps the images whose class is marked; None to refuse marks.
        report: The page of its run, if there is one.
    """

    about: Mapping[str, Any]
    class_names: Sequence[str]
    images: PreparedPass
    record_of: RecordOf
    explain: Callable[[], Draw] | None = None
    collected: CollectedImages | None = None
    report: Path | None = None


@dataclass(frozen=True)
class Limits:
    """Limits of requests.

    Attributes:
        uploads: What the body of one request may hold.
        queue: Images that may be decoded or wait at once.
        max_wait: Seconds that an image waits for others.
        seconds: Time in which a request arrives and is answered.
    """

    uploads: UploadLimits
    queue: int
    max_wait: float
    seconds: float


class Service:
    """A model that is ready to answer requests: its threads, and the room for requests.

    The methods are for the thread of the event loop.
    """

    def __init__(self, model: ServedModel, limits: Limits) -> None:
        """Start the threads of a model; see `running_service`."""
        self.model = model
        self.limits = limits
        self.room = BodyRoom(_BODIES_AT_ONCE * limits.uploads.size)
        self.places = Places(limits.queue)
        reading = model.images.reading
        self._transform = eval_transform(model.images.preprocessing)
        self._large = Lock()
        self._decoders = ThreadPoolExecutor(reading.workers, thread_name_prefix="decoder")
        self._batches = BatchingThread(
            model.images.of_pixels, batch_size=reading.batch_size, max_wait=limits.max_wait
        )

    async def predict(self, uploads: Sequence[Upload]) -> list[Prediction]:
        """Return the records of images, in their order.

        Images that nobody waits for any more, because the call is cancelled, are not computed.

        Raises:
            Refusal: When there is no room for them now (503).
        """
        with self.places.taken(len(uploads)):
            return list(await asyncio.gather(*map(self._predict_one, uploads)))

    async def explain(self, upload: Upload, label: str) -> bytes:
        """Return a JPEG of where the evidence for a class lies.

        Raises:
            Refusal: When the image cannot be read (422), the model cannot be explained (501), or
                there is no room now (503).
        """
        explain = self.model.explain
        if explain is None:
            raise Refusal(501, "the model is served without torch, which evidence needs; serve its "
                          "run where torch is installed")  # fmt: skip

        def run() -> bytes:
            try:
                draw = explain()
                with self._batches.paused():
                    return draw(upload.data, label)
            except ImageError as error:
                raise unreadable(upload.name, str(error)) from error
            except OptionError as error:
                raise Refusal(501, f"the evidence cannot be drawn: {error}") from error

        with self.places.taken(1):
            return await asyncio.get_running_loop().run_in_executor(self._decoders, run)

    async def mark(self, upload: Upload, label: str, predicted: str) -> str:
        """Keep an image of a class; return its path in the folder of such images.

        Raises:
            Refusal: When marks are not kept (501).
            OutputError: When it cannot be written.
        """
        collected = self.model.collected
        if collected is None:
            raise Refusal(501, "the server keeps no images; start it with --collect DIR")
        keep, loop = collected.keep, asyncio.get_running_loop()
        return await loop.run_in_executor(self._decoders, keep, upload.data, label, predicted)

    async def _predict_one(self, upload: Upload) -> Prediction:
        loop = asyncio.get_running_loop()
        try:
            pixels = await loop.run_in_executor(self._decoders, self._decode, upload.data)
        except ImageError as error:
            return _failed(upload, str(error))
        computed: Computed = await asyncio.wrap_future(self._batches.submit(pixels))
        if computed.values is None:
            return _failed(upload, computed.failure)
        return self.model.record_of(upload.name, computed.values, computed.score)

    def _decode(self, data: bytes) -> NDArray[np.uint8]:
        transform, reading = self._transform, self.model.images.reading
        with self._large if stored_pixels(data) > _LARGE else nullcontext():
            image = read_image(data, transform.needed, allow_truncated=reading.allow_truncated)
            return transform.prepare(image)

    def close(self) -> None:
        """End the threads; what was not begun is left out."""
        self._decoders.shutdown(cancel_futures=True)
        self._batches.close()


def unreadable(name: str, reason: str) -> Refusal:
    """Return the refusal of a request whose only image cannot be read."""
    return Refusal(422, f"{name} cannot be read: {reason}")


def _failed(upload: Upload, reason: str) -> Prediction:
    return Prediction(upload.name, None, None, (), reason)


@contextmanager
def running_service(model: ServedModel, limits: Limits) -> Iterator[Service]:
    """Yield a service, whose threads end with the block."""
    service = Service(model, limits)
    try:
        yield service
    finally:
        service.close()
