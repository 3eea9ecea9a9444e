"""Sockets, addresses, and a server that is idle."""

import socket
import threading

import pytest
from served import in_thread

from transferkit.errors import OptionError
from transferkit.serving import server


def test_open_socket__of_a_port_that_is_taken_says_so():
    with server.open_socket("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        expected = f"--port: cannot listen at 127.0.0.1, port {port}: address already in use;"
        with pytest.raises(OptionError, match=expected):
            server.open_socket("127.0.0.1", port)


@pytest.mark.parametrize("host", ["no such host", "host.invalid", "192.0.2.1", "a" * 300])
def test_open_socket__of_a_host_that_is_not_here_says_so(host, monkeypatch):
    def resolve(name, *args, **kwargs):
        if name != "192.0.2.1":
            raise socket.gaierror("unknown")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (name, 0))]

    monkeypatch.setattr("socket.getaddrinfo", resolve)

    with pytest.raises(OptionError, match=r"--(host|port): "):
        server.open_socket(host, 0)


@pytest.mark.parametrize(
    ("host", "is_loopback", "address"),
    [
        ("127.0.0.1", True, "http://127.0.0.1:"),
        ("localhost", True, "http://localhost:"),
        ("0.0.0.0", False, "http://localhost:"),
    ],
)
def test_addresses__are_to_be_opened_here(host, is_loopback, address):
    with server.open_socket(host, 0) as listening:
        assert server.is_loopback(listening) == is_loopback
        port = listening.getsockname()[1]
        assert server.address_of(listening, host) == f"{address}{port}"


def test_address__of_version_6_has_brackets():
    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    with server.open_socket("::1", 0) as listening:
        assert server.address_of(listening, "::1").startswith("http://[::1]:")


def test_an_idle_server__says_so_once(monkeypatch):
    monkeypatch.setattr(server, "_IDLE_TICKS", 1)
    said = []
    again = threading.Event()

    class Ticking(server.Server):
        async def on_tick(self, counter):
            if counter == 3:
                again.set()
            return await super().on_tick(counter)

    monkeypatch.setattr(server, "Server", Ticking)
    with server.open_socket("127.0.0.1", 0) as listening:
        made = server.create_server(None, 1, lambda: said.append("idle"))
        with in_thread(lambda: made.run([listening]), made.stop):
            again.wait()

    assert said == ["idle"]
