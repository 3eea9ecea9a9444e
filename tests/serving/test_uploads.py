"""Bodies of requests: what is taken from them, and what any stream of bytes comes to."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from served import BOUNDARY, multipart

from transferkit.serving.refusal import Refusal
from transferkit.serving.uploads import BodyRoom, Upload, UploadLimits, read_uploads

FORM = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}
LIMITS = UploadLimits(size=10_000, images=3)


def read(pieces, headers=FORM, limits=LIMITS, room=1_000_000):
    async def stream():
        for piece in pieces:
            yield piece

    with BodyRoom(room).held() as take:
        return result_of(read_uploads(headers, stream(), limits, take))


def result_of(coroutine):
    """Return the result of a coroutine that never waits; an event loop may run (the browser's)."""
    with pytest.raises(StopIteration) as ended:
        coroutine.send(None)
    return ended.value.value


def pieces_of(body: bytes, size: int) -> list[bytes]:
    return [body[start : start + size] for start in range(0, len(body), size)]


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_multipart__gives_names_and_contents_in_order_however_it_arrives(size):
    files = [("a.png", b"one\r\n--two"), ("../../b.png", b"\x00\xff"), ("", b"unnamed")]

    found = read(pieces_of(multipart(files), size))

    assert found == [
        Upload("a.png", b"one\r\n--two"),
        Upload("../../b.png", b"\x00\xff"),
        Upload("images", b"unnamed"),
    ]


def test_multipart__leaves_out_a_part_without_name_and_content():
    empty = f"--{BOUNDARY}\r\nContent-Type: image/png\r\n\r\n\r\n".encode()

    assert read([empty + multipart([("a.png", b"a")])]) == [Upload("a.png", b"a")]


def test_any_other_content_type__is_one_image():
    assert read([b"an", b" image"], {"content-type": "text/html"}) == [Upload("image", b"an image")]


@pytest.mark.parametrize(
    ("body", "headers", "status", "reason"),
    [
        (b"", {}, 400, "the body is empty"),
        (b"x" * 10_001, {}, 413, "more than the 0.01 MB"),
        (b"x", {"content-length": "10001"}, 413, "more than the 0.01 MB"),
        (b"x", {"content-type": "multipart/form-data"}, 400, "has no boundary"),
        (b"x", {"content-type": f"multipart/form-data; boundary={'b' * 999}"}, 400, "malformed"),
        (b"", FORM, 400, "cut off"),
        (b"rubbish", FORM, 400, "malformed"),
        (multipart([("a", b"a")])[:-10], FORM, 400, "cut off"),
        (multipart([]), FORM, 400, "no image"),
        (multipart([("a", b"a")] * 4), FORM, 413, "more than the 3 images"),
        (multipart([("a" * 9000, b"a")]), FORM, 400, "malformed"),
    ],
)
def test_bodies_without_an_image__are_refused_with_the_reason(body, headers, status, reason):
    with pytest.raises(Refusal, match=reason) as refused:
        read([body], headers)

    assert refused.value.status == status


def test_parts__are_bounded_even_if_they_are_empty(monkeypatch):
    monkeypatch.setattr("transferkit.serving.uploads._MAX_PARTS", 5)
    empty = f"--{BOUNDARY}\r\nContent-Type: image/png\r\n\r\n\r\n".encode()

    with pytest.raises(Refusal, match="more than the 3 images"):
        read([empty * 6 + multipart([("a.png", b"a")])])


def test_room__is_shared_by_all_bodies_and_given_back():
    room = BodyRoom(10)

    with room.held() as take:
        take(8)
        with room.held() as other, pytest.raises(Refusal, match="other requests hold") as refused:
            other(3)
        assert (refused.value.status, refused.value.headers) == (503, {"Retry-After": "1"})
        take(2)
    assert room.free == 10


HEADS = st.sampled_from(
    [
        *(b"--", BOUNDARY.encode(), b"\r\n", b"\n", b"Content-Disposition: form-data", b"; name="),
        *(b'"', b"filename=a", b"filename*=x'y'%ff", b"; name*0*=%ff", b":", b"\x00", b"\xff"),
    ]
)
"""What such bodies are made of."""

LATIN = st.text(st.characters(max_codepoint=255), max_size=60)
"""What headers of HTTP hold."""

PARAMETERS = st.sampled_from(["; boundary=b", "; filename*=x'y'z", "; a*0*=%ff", ";", "=", '"'])
KINDS = st.lists(st.one_of(st.just(FORM["content-type"]), PARAMETERS, LATIN)).map("".join)


def status_of(pieces, headers) -> int:
    """Return the status of a body: 200 where images can be taken from it."""
    try:
        found = read(pieces, headers)
    except Refusal as refusal:
        return refusal.status
    return 200 if 0 < len(found) <= LIMITS.images else 0


@given(st.lists(st.one_of(st.binary(max_size=40), HEADS), max_size=60))
@example([f"--{BOUNDARY}\r\n".encode(), b"\r\n\r\n", b"\r\n", f"--{BOUNDARY}--".encode()])
@example([f"--{BOUNDARY}\r\nA: \xff\r\n\r\nx\r\n--{BOUNDARY}--".encode("latin-1")])
def test_any_stream_of_bytes__gives_images_or_a_refusal(pieces):
    assert status_of(pieces, FORM) in (200, 400, 413)


@given(KINDS, st.binary(max_size=200))
def test_any_content_type__gives_images_or_a_refusal(kind, body):
    assert status_of([body], {"content-type": kind}) in (200, 400)
