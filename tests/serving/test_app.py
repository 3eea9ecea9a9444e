"""The endpoint: what it answers, what it refuses, and what it does when clients leave."""

import json
import threading
from contextlib import suppress
from http.client import HTTPResponse

import numpy as np
import pytest
from served import colour_model, multipart, picture, served, shares, wait_until

from transferkit.data.images import read_image
from transferkit.errors import OptionError
from transferkit.serving.access import Access
from transferkit.serving.collected import CollectedImages

HEAD = b"POST /predict HTTP/1.1\r\nHost: localhost\r\n"


class Held:
    """The made-up model, held until it may go on; counts the images that it computes."""

    def __init__(self) -> None:
        self.began, self.go_on = threading.Event(), threading.Event()
        self.computed = 0

    def __call__(self, pixels):
        self.computed += len(pixels)
        self.began.set()
        self.go_on.wait()
        return shares(pixels)


@pytest.fixture
def held():
    model = Held()
    yield model
    model.go_on.set()


def in_background(call):
    """Call in a thread; return what waits for the result."""
    found = []
    thread = threading.Thread(target=lambda: found.append(call()))
    thread.start()

    def result():
        thread.join()
        return found[0]

    return result


def test_predict__of_one_image_answers_one_record_whatever_its_content_type():
    with served() as client:
        replies = [client.predict(picture("blue"), Content_Type=kind)
                   for kind in ("", "image/jpeg", "text/html", "application/json")]  # fmt: skip

    (record,) = replies[0].json
    assert (record["path"], record["status"], record["label"]) == ("image", "ok", "blue")
    assert [one["label"] for one in record["top"]] == ["blue", "green", "red"]
    assert {(reply.status, reply.body) for reply in replies} == {(200, replies[0].body)}


def test_predict__of_several_answers_in_their_order_and_gives_reasons():
    files = [("a.png", picture("red")), ("../../b\\c.jpg", picture("blue")), ("x", b"broken"),
             ("", picture("green"))]  # fmt: skip

    with served() as client:
        reply = client.predict_files(*files)

    assert reply.status == 200
    assert [(one["path"], one["label"], one["error"]) for one in reply.json] == [
        ("a.png", "red", None),
        ("../../b\\c.jpg", "blue", None),
        ("x", None, "not an image in a known format"),
        ("images", "green", None),
    ]


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"", {"Content_Length": "0"}, 400),
        (bytes(100_001), {}, 413),
        (iter([bytes(60_000)] * 2), {}, 413),
        (multipart([]), {"Content_Type": "multipart/form-data"}, 400),
        (b"--", {"Content_Type": "multipart/form-data; boundary=b"}, 400),
    ],
)
def test_bad_requests__are_refused_as_json_and_the_next_one_is_answered(body, headers, status):
    with served() as client:
        reply = client.ask("POST", "/predict", body, **headers)

        assert reply.status == status
        assert list(reply.json) == ["error"]
        assert client.predict().status == 200
        assert client.service.room.free == 400_000


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/predict", 405), ("PUT", "/model", 405), ("GET", "/../etc/passwd", 404),
     ("GET", "/page/index.html", 404), ("GET", "/%2e%2e/setup", 404), ("GET", "/report", 404)],
)  # fmt: skip
def test_other_paths_and_methods__are_refused_as_json(method, path, status):
    with served() as client:
        reply = client.ask(method, path)

    assert (reply.status, list(reply.json)) == (status, ["error"])


def test_rubbish__instead_of_http_is_refused():
    with served() as client:
        for rubbish in (b"\x16\x03\x01\x02\x00\n\n", b"GET\r\n\r\n", b"\0" * 40_000):
            with client.raw() as connection:
                connection.sendall(rubbish)
                assert connection.recv(1000).startswith(b"HTTP/1.1 400")
        assert client.predict().status == 200


def test_every_answer__has_the_safety_headers():
    with served(access=Access(is_local=True, token="secret")) as client:
        replies = [client.ask("GET", path) for path in ("/", "/page.js", "/model", "/nothing")]

    assert [reply.status for reply in replies] == [200, 200, 401, 401]
    for reply in replies:
        assert reply.headers["Content-Security-Policy"].startswith("default-src 'none'; script-src")
        assert reply.headers["X-Content-Type-Options"] == "nosniff"
        assert reply.headers["Referrer-Policy"] == "no-referrer"
        assert reply.headers["Server"] is None
        assert "Access-Control-Allow-Origin" not in reply.headers
    assert replies[2].headers["WWW-Authenticate"] == "Bearer"


def test_pages_of_allowed_origins__may_call_and_others_may_not():
    friend, foe = "https://friend.example", "https://foe.example"
    access = Access(is_local=True, token="secret", origins=frozenset({friend}))

    with served(access=access) as client:
        asked = {"Access_Control_Request_Method": "POST",
                 "Access_Control_Request_Headers": "authorization"}  # fmt: skip
        preflight = client.ask("OPTIONS", "/predict", Origin=friend, **asked)
        allowed = client.predict(Origin=friend, Authorization="Bearer secret")
        refused = client.predict(Origin=foe, Authorization="Bearer secret")
        assert client.ask("OPTIONS", "/predict", Origin=foe, **asked).status == 400

    assert (preflight.status, allowed.status, refused.status) == (200, 200, 403)
    assert allowed.headers["Access-Control-Allow-Origin"] == friend
    assert "Access-Control-Allow-Origin" not in refused.headers


def test_images_beyond_the_queue__are_told_to_come_later(held):
    with served(colour_model(held), queue=4) as client:
        first = in_background(lambda: client.predict_files(*[("a", picture())] * 3))
        held.began.wait()
        second = client.predict_files(("b", picture()), ("c", picture()))
        held.go_on.set()

        assert (second.status, second.headers["Retry-After"]) == (503, "1")
        assert second.json["error"].startswith("3 images are waiting, and 4 may")
        assert first().status == 200
        wait_until(lambda: client.service.places.free == 4)


def test_a_client_that_hangs_up__frees_its_place_and_is_not_computed(held):
    with served(colour_model(held)) as client:
        first = in_background(client.predict)
        held.began.wait()
        with client.raw() as leaving:
            leaving.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(picture()) + picture())
            wait_until(lambda: client.service.places.free == 6)
        wait_until(lambda: client.service.places.free == 7)
        held.go_on.set()

        assert first().status == 200
        assert client.predict().status == 200
    assert held.computed == 2


def test_a_body_that_stops__is_cut_and_gives_its_room_back():
    with served(seconds=0.2) as client, client.raw() as slow:
        slow.sendall(HEAD + b"Content-Length: 1000\r\n\r\n" + bytes(10))
        answer = HTTPResponse(slow)
        answer.begin()

        assert answer.status == 408
        assert b"did not arrive within 0.2 seconds" in answer.read()
        wait_until(lambda: client.service.room.free == 400_000)


def test_images_that_are_not_computed_in_time__are_told_to_come_later(held):
    with served(colour_model(held), seconds=1) as client:
        reply = client.predict()
        held.go_on.set()

        assert (reply.status, reply.headers["Retry-After"]) == (503, "1")
        assert "not computed within 1 seconds" in reply.json["error"]


@pytest.mark.parametrize(("limit", "most"), [(100, 1), (1000, 2)])
def test_large_images__are_decoded_one_at_a_time(monkeypatch, limit, most):
    active, seen, both = [], [], threading.Barrier(2)

    def read(*args, **kwargs):
        active.append(1)
        with suppress(threading.BrokenBarrierError):
            both.wait(0.1 if most == 1 else 30)  # only one comes, or the other one may be slow
        seen.append(len(active))
        active.pop()
        return read_image(*args, **kwargs)

    monkeypatch.setattr("transferkit.serving.service._LARGE", limit)
    monkeypatch.setattr("transferkit.serving.service.read_image", read)

    with served() as client:
        assert client.predict_files(*[("a.png", picture())] * 2).status == 200
    assert max(seen) == most


def test_an_error_of_the_server__is_told_to_its_operator_alone():
    def compute(pixels):
        if pixels[0, 0, 0, 2] > 100:
            raise RuntimeError("a secret")
        return shares(pixels)

    with served(colour_model(compute)) as client:
        failed = client.predict(picture("blue"))

        assert client.predict(picture("red")).status == 200
    assert (failed.status, failed.json) == (
        500,
        {"error": "the server failed; its terminal says how"},
    )
    assert client.told[0].startswith("Traceback")
    assert client.told[0].endswith("RuntimeError: a secret\n")


def test_values_that_are_not_finite__are_a_record_with_the_reason():
    with served(colour_model(lambda pixels: np.full((len(pixels), 3), np.nan))) as client:
        (record,) = client.predict().json

    assert record["status"] == "error"
    assert "not finite" in record["error"]


def test_explain__draws_the_class_that_is_asked_for_or_predicted():
    asked = []

    def draw(data, label):
        asked.append(label)
        return b"a drawing"

    with served(colour_model(explain=lambda: draw)) as client:
        replies = [client.ask("POST", path, picture("blue")) for path in
                   ("/explain", "/explain?class=red", "/explain?class=rad")]  # fmt: skip
        broken = client.ask("POST", "/explain", b"broken")

    assert asked == ["blue", "red"]
    assert replies[0][0::2] == (200, b"a drawing")
    assert replies[0].headers["Content-Type"] == "image/jpeg"
    assert replies[2].status == 422
    assert replies[2].json["error"] == "the model has no class 'rad'; did you mean red?"
    assert (broken.status, broken.json["error"]) == (
        422, "image cannot be read: not an image in a known format",
    )  # fmt: skip


def test_explain__says_why_it_cannot():
    def prepare():
        raise OptionError("neighbours have no gradient")

    with served() as client:
        assert "without torch" in client.ask("POST", "/explain", picture()).json["error"]
    with served(colour_model(explain=prepare)) as client:
        reply = client.ask("POST", "/explain", picture())

    assert reply.status == 501
    assert reply.json["error"] == "the evidence cannot be drawn: neighbours have no gradient"


def test_marks__keep_the_image_in_the_folder_of_its_class(tmp_path):
    collected = CollectedImages(tmp_path, ("red", "green", "blue"), "digest")

    with served(colour_model(collected=collected)) as client:
        reply = client.ask("POST", "/marks?label=blue", picture("red"))

    assert reply.status == 201
    assert reply.json | {"file": ""} == {"file": "", "label": "blue", "predicted": "red"}
    assert (tmp_path / reply.json["file"]).read_bytes() == picture("red")


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/marks", picture(), 422),
        ("/marks?label=..%2Fx", picture(), 422),
        ("/marks?label=", picture(), 422),
        ("/marks?label=red", b"broken", 422),
        ("/marks?label=red", b"", 400),
    ],
)
def test_marks__are_of_images_and_known_classes_alone(tmp_path, path, body, status):
    collected = CollectedImages(tmp_path / "marked", ("red", "green", "blue"), "digest")

    with served(colour_model(collected=collected)) as client:
        assert client.ask("POST", path, body).status == status
    assert list(tmp_path.iterdir()) == []


def test_marks__are_of_one_image_each(tmp_path):
    body, kind = multipart([("a", picture())] * 2), "multipart/form-data; boundary="

    with served(colour_model(collected=CollectedImages(tmp_path, ("red",), ""))) as client:
        boundary = body[2 : body.index(b"\r\n")].decode()
        reply = client.ask("POST", "/marks?label=red", body, Content_Type=kind + boundary)

    assert (reply.status, reply.json["error"]) == (400, "the body holds 2 images, expected one")


def test_marks__are_refused_where_they_are_not_kept():
    with served() as client:
        reply = client.ask("POST", "/marks?label=red", picture())

    assert (reply.status, reply.json["error"]) == (
        501, "the server keeps no images; start it with --collect DIR",
    )  # fmt: skip


def test_marks__that_cannot_be_written_are_told_to_the_operator(tmp_path):
    (tmp_path / "red").write_bytes(b"in the way")

    with served(colour_model(collected=CollectedImages(tmp_path, ("red",), ""))) as client:
        reply = client.ask("POST", "/marks?label=red", picture())

    assert reply.status == 500
    assert str(tmp_path) not in reply.body.decode()
    assert str(tmp_path) in client.told[0]


def test_report__loads_nothing_and_its_address_needs_no_header(tmp_path):
    (tmp_path / "report.html").write_text("<p>good</p>")
    model = colour_model(report=tmp_path / "report.html")

    with served(model, access=Access(is_local=True, token="secret")) as client:
        about = client.ask("GET", "/model", Authorization="Bearer secret").json
        reply = client.ask("GET", about["report"])

    assert (reply.status, reply.body) == (200, b"<p>good</p>")
    assert "script-src" not in reply.headers["Content-Security-Policy"]


@pytest.mark.parametrize("folder", ["hostile", "imagenet_sample"])
def test_odd_images__get_a_record_each(shared, folder):
    files = [p for p in sorted((shared / "data" / folder).rglob("*")) if p.is_file()]

    with served(size=50_000_000, images=1000, queue=1000) as client:
        replies = [client.predict_files((file.name, file.read_bytes())) for file in files]

        assert client.predict().status == 200
    assert client.told == []
    assert {reply.status for reply in replies} == {200}
    records = [json.loads(reply.body)[0] for reply in replies]
    assert [record["path"] for record in records] == [file.name for file in files]
    assert {record["status"] for record in records if record["error"]} <= {"error"}
    assert any(record["label"] for record in records)
