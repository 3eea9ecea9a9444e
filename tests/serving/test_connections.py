"""Connections whose clients let the server wait."""

import pytest
from served import picture, served, wait_until

from transferkit.serving import connections

HALF_OPEN = b"POST /predict HTTP/1.1\r\nHost: localhost\r\n"


def send_for_ever(connection, data):
    while True:
        connection.sendall(data)


def is_closed(connection):
    try:
        return connection.recv(1000) == b""
    except ConnectionError:
        return True


@pytest.mark.parametrize("begun", [b"", b"P", HALF_OPEN])
def test_a_request_whose_headers_never_end__is_dropped(monkeypatch, begun):
    monkeypatch.setattr(connections, "HEADER_SECONDS", 1)

    with served() as client, client.raw() as silent:
        silent.sendall(begun)

        assert is_closed(silent)
        assert client.predict().status == 200


def test_a_client_that_does_not_read_its_answer__is_dropped(monkeypatch):
    monkeypatch.setattr(connections, "GRACE_SECONDS", 0.2)

    with served(seconds=1) as client, client.raw() as deaf:
        # Answers fill the buffers, because nobody reads them.
        with pytest.raises(ConnectionError):
            send_for_ever(deaf, b"GET /style.css HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert client.predict().status == 200


def test_a_refused_body_that_goes_on__is_dropped(monkeypatch):
    monkeypatch.setattr(connections, "HEADER_SECONDS", 1)

    with served(size=1000) as client, client.raw() as sending:
        sending.sendall(HALF_OPEN + b"Content-Length: 1000000000\r\n\r\n")
        assert sending.recv(10_000).startswith(b"HTTP/1.1 413")
        with pytest.raises(ConnectionError):
            send_for_ever(sending, bytes(1000))


def test_connections_beyond_the_bound__take_the_place_of_those_that_wait(monkeypatch):
    monkeypatch.setattr(connections.OpenOnes.__init__, "__defaults__", (3,))

    with served() as client:
        half_open = [client.raw() for _ in range(10)]
        for connection in half_open:
            connection.sendall(HALF_OPEN)

        assert client.predict().status == 200
        assert all(map(is_closed, half_open[:8]))
        for connection in half_open:
            connection.close()


def test_two_requests_that_come_at_once__are_both_answered():
    request = HALF_OPEN + b"Content-Length: %d\r\n\r\n%b" % (len(picture()), picture())

    with served() as client, client.raw() as connection:
        connection.sendall(2 * request)
        received = b""
        while received.count(b'"status": "ok"') < 2:
            received += connection.recv(100_000)

    assert received.count(b"HTTP/1.1 200") == 2


def test_a_connection_that_ends__is_forgotten(monkeypatch):
    held = []
    monkeypatch.setattr(connections.OpenOnes, "discard", lambda self, one: held.append(one))

    with served() as client:
        client.raw().close()
        wait_until(lambda: len(held) > 0)

    assert len(set(held)) == len(held)  # each connection once
