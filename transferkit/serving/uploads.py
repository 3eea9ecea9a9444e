"""Images in the body of a request: one as it is, or several as multipart/form-data.

Everything is counted while it arrives, and is held in memory only. Nothing in a body, such as the
name of a file or a content type, decides what is done with the images.
"""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from transferkit.serving.refusal import Refusal, come_later

UNNAMED = "image"
"""Name of an image that is sent without one."""

_MULTIPART = "multipart/form-data"

_MAX_PARTS = 10_000
"""Parts of a body; the limit of images does not count empty ones."""


@dataclass(frozen=True, slots=True)
class Upload:
    """An image that was sent.

    Attributes:
        name: Name of its file, as the client sent it.
        data: Content of its file.
    """

    name: str
    data: bytes


@dataclass(frozen=True)
class UploadLimits:
    """What the body of one request may hold.

    Attributes:
        size: Bytes of it.
        images: Number of images.
    """

    size: int
    images: int

    def require_size(self, size: int) -> None:
        """Require that a body is not too large.

        Raises:
            Refusal: When it is (413).
        """
        if size > self.size:
            raise Refusal(
                413,
                f"the body has more than the {self.size / 1e6:g} MB of a request; send fewer "
                "images at once, or smaller ones",
            )


class BodyRoom:
    """Room for the bodies of all requests together."""

    def __init__(self, size: int) -> None:
        """Make room for `size` bytes."""
        self.free = size

    @contextmanager
    def held(self) -> Iterator[Callable[[int], None]]:
        """Yield a function that takes room for more bytes; the end of the block gives it back.

        Raises:
            Refusal: By the function, when there is no room (503).
        """
        taken = 0

        def take(size: int) -> None:
            nonlocal taken
            if size > self.free:
                raise come_later("other requests hold the memory for images")
            self.free -= size
            taken += size

        try:
            yield take
        finally:
            self.free += taken


class Body(Protocol):
    """The body of a request, which arrives in pieces."""

    def feed(self, piece: bytes) -> None:
        """Take the next piece.

        Raises:
            Refusal: When the body cannot be read, or holds too many images.
        """

    def finish(self) -> list[Upload]:
        """Return the images, once all pieces were fed.

        Raises:
            Refusal: When the body is cut off, or holds no image.
        """


class RawBody:
    """A body that is one image."""

    def __init__(self) -> None:
        """Begin with an empty body."""
        self._data = bytearray()

    def feed(self, piece: bytes) -> None:
        """Take the next piece."""
        self._data += piece

    def finish(self) -> list[Upload]:
        """Return the one image.

        Raises:
            Refusal: When there is none (400).
        """
        if not self._data:
            raise Refusal(
                400, "the body is empty, expected an image, or several as multipart/form-data"
            )
        return [Upload(UNNAMED, bytes(self._data))]


class MultipartBody:
    """A body of multipart/form-data: every part is an image, whatever its headers say.

    Its name is that of the file, or else of the form's field. Parts without a name and without
    content are left out; browsers send one where no file was chosen.
    """

    def __init__(self, boundary: bytes, max_images: int) -> None:
        """Begin with an empty body.

        Args:
            boundary: What separates the parts.
            max_images: How many images there may be.

        Raises:
            Refusal: When the boundary cannot be one (400).
        """
        self._max_images = max_images
        self._images: list[Upload] = []
        self._parts = 0
        self._is_whole = False
        self._header, self._value = bytearray(), bytearray()
        self._name, self._data = "", bytearray()
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin_part,
                    "on_header_field": lambda data, start, end: self._header.extend(
                        data[start:end]
                    ),
                    "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
                    "on_header_end": self._end_header,
                    "on_part_data": lambda data, start, end: self._data.extend(data[start:end]),
                    "on_part_end": self._end_part,
                    "on_end": self._end,
                },
            )
        except FormParserError as error:
            raise _malformed(error) from error

    def feed(self, piece: bytes) -> None:
        """Take the next piece.

        Raises:
            Refusal: When it is not part of such a body (400), or there are too many images (413).
        """
        try:
            self._parser.write(piece)
        except FormParserError as error:
            raise _malformed(error) from error

    def finish(self) -> list[Upload]:
        """Return the images, in their order.

        Raises:
            Refusal: When the body is cut off or holds no image (400).
        """
        if not self._is_whole:
            raise Refusal(400, "the multipart body is cut off, expected a closing boundary")
        if not self._images:
            raise Refusal(400, "the multipart body holds no image, expected one in each part")
        return self._images

    def _begin_part(self) -> None:
        self._name, self._data = "", bytearray()
        self._parts += 1
        if len(self._images) >= self._max_images or self._parts > _MAX_PARTS:
            raise Refusal(
                413,
                f"the body holds more than the {self._max_images} images of a request; send fewer "
                "at once",
            )

    def _end_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            _, options = parse_options_header(bytes(self._value))
            name = options.get(b"filename") or options.get(b"name") or b""
            self._name = name.decode("utf-8", "replace")
        self._header, self._value = bytearray(), bytearray()

    def _end_part(self) -> None:
        if self._data or self._name:
            self._images.append(Upload(self._name or UNNAMED, bytes(self._data)))
        self._data = bytearray()

    def _end(self) -> None:
        self._is_whole = True


def _malformed(error: FormParserError) -> Refusal:
    return Refusal(400, f"the multipart body is malformed: {error}")


def body_of(headers: Mapping[str, str], limits: UploadLimits) -> Body:
    """Return what reads the body of a request with these headers.

    Args:
        headers: By their names in lower case.
        limits: What it may hold.

    Raises:
        Refusal: When the headers tell that it is too large, or do not say how its parts are
            separated.
    """
    declared = headers.get("content-length", "")
    if declared.isdecimal():
        limits.require_size(int(declared))
    kind, options = parse_options_header(headers.get("content-type", ""))
    if kind.decode("latin-1").strip().lower() != _MULTIPART:
        return RawBody()
    if not options.get(b"boundary"):
        raise Refusal(400, "the header Content-Type has no boundary, expected multipart/form-data "
                      "with one")  # fmt: skip
    return MultipartBody(options[b"boundary"], limits.images)


async def read_uploads(
    headers: Mapping[str, str],
    pieces: AsyncIterator[bytes],
    limits: UploadLimits,
    take: Callable[[int], None],
) -> list[Upload]:
    """Return the images in the body of a request, one or more.

    Args:
        headers: Headers of the request, by their names in lower case.
        pieces: The body.
        limits: What it may hold.
        take: Takes room for more bytes; see `BodyRoom`.

    Raises:
        Refusal: When no image can be taken from it: it is empty, malformed (400) or too large
            (413), or there is no room now (503).
    """
    body = body_of(headers, limits)
    size = 0
    async for piece in pieces:
        size += len(piece)
        limits.require_size(size)
        take(len(piece))
        body.feed(piece)
    return body.finish()
