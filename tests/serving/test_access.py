"""Who may ask: names of this machine, origins, tokens."""

import pytest
from starlette.datastructures import Headers

from transferkit.serving.access import Access
from transferkit.serving.refusal import Refusal

LOCAL = Access(is_local=True)
SECRET = Access(is_local=True, token="secret")


def status_of(access, method="GET", path="/model", query="", **headers):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        access.require(method, path, query, Headers({"host": "localhost:8000", **named}))
    except Refusal as refusal:
        return refusal.status
    return 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8000", 200),
        ("LOCALHOST", 200),
        ("127.0.0.1:9", 200),
        ("127.1.2.3", 200),
        ("[::1]:8000", 200),
        ("", 421),
        ("evil.example:8000", 421),
        ("localhost.evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("evil.example@localhost", 200),  # a user's name is no host
        ("localhost@evil.example", 421),
        ("192.168.0.7", 421),
        ("[::1", 421),
    ],
)
def test_host__names_this_machine_where_only_it_reaches_the_server(host, status):
    assert status_of(LOCAL, host=host) == status
    assert status_of(Access(is_local=False), host=host) == 200


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://localhost:8000", 200),
        ("https://localhost:8000", 200),  # by a proxy
        ("http://localhost:3000", 403),
        ("https://evil.example", 403),
        ("https://friend.example", 200),
        ("null", 403),
    ],
)
def test_origin__is_the_own_page_or_allowed(origin, status):
    access = Access(is_local=True, origins=frozenset({"https://friend.example"}))

    assert status_of(access, "POST", "/predict", origin=origin) == status
    assert status_of(access, "GET", "/model", origin=origin) == 200


def test_origin_null__is_not_that_of_a_request_without_a_host():
    assert status_of(Access(is_local=False), "POST", host="", origin="null") == 403


@pytest.mark.parametrize(
    ("shown", "status"),
    [
        ("Bearer secret", 200),
        ("bearer secret", 200),
        ("Bearer Secret", 401),
        ("Bearer secrets", 401),
        ("Bearer ", 401),
        ("Basic secret", 401),
        ("secret", 401),
        ("", 401),
    ],
)
def test_token__is_shown_by_every_request_about_the_model(shown, status):
    assert status_of(SECRET, authorization=shown) == status
    assert status_of(SECRET, path="/health", authorization=shown) == 200
    assert status_of(LOCAL, authorization=shown) == 200


def test_report_address__opens_the_report_alone():
    path, _, query = SECRET.report_address.partition("?")

    assert status_of(SECRET, path=path, query=query) == 200
    assert status_of(SECRET, path=path, query="key=" + "0" * 64) == 401
    assert status_of(SECRET, path=path) == 401
    assert status_of(SECRET, path="/model", query=query) == 401
    assert "secret" not in SECRET.report_address
    assert LOCAL.report_address == "/report"
