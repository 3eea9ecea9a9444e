"""`transferkit serve`: the address it prints, how it ends, and its errors as one line."""

import http.client
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager

from served import picture


@contextmanager
def started(run, *words):
    """Start the command; yield it with the port that it listens at."""
    command = [sys.executable, "-m", "transferkit", "serve", run, "--port", "0", *words]
    process = subprocess.Popen(
        list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        address = process.stdout.readline().strip()
        assert address.startswith("http://127.0.0.1:"), process.stderr.read()
        yield process, int(address.rpartition(":")[2])
    finally:
        process.kill()
        process.communicate()


def test_sigterm__lets_requests_that_began_be_answered_and_ends_with_0(exported_run):
    with started(exported_run) as (process, port):
        image = picture("red", (40, 36))
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.putrequest("POST", "/predict")
        connection.putheader("Content-Length", str(len(image)))
        connection.putheader("Expect", "100-continue")
        connection.endheaders(image[:10])
        # The server asks for the rest once it has begun to answer.
        assert connection.sock.recv(12, socket.MSG_PEEK) == b"HTTP/1.1 100"
        process.send_signal(signal.SIGTERM)
        connection.send(image[10:])
        response = connection.getresponse()

        assert response.status == 200
        assert b'"label": "red"' in response.read()
        connection.close()
        assert process.wait(30) == 0
        assert process.stderr.read() == ""


def test_ctrl_c__ends_at_once_although_a_request_is_in_progress(exported_run):
    with started(exported_run) as (process, port):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.putrequest("POST", "/predict")
        connection.putheader("Content-Length", "1000")
        connection.endheaders(b"half")
        process.send_signal(signal.SIGINT)

        assert process.wait(30) == 130
        assert process.stderr.read() == "interrupted\n"
        connection.close()


def test_serve__tells_errors_in_one_line(cli, run_folder, monkeypatch):
    monkeypatch.delenv("TRANSFERKIT_TOKEN", raising=False)

    everyone = cli("serve", run_folder, "--host", "0.0.0.0", "--port", 0)
    wrong = cli("serve", run_folder, "--port", 70000)

    assert (everyone.code, everyone.out) == (2, "")
    assert everyone.err.startswith(
        "error: --host: other machines reach 0.0.0.0; choose who may ask"
    )
    assert everyone.err.count("\n") == 1
    assert (wrong.code, wrong.err) == (
        2, "error: --port: got 70000, expected 0 or more and at most 65535\n",
    )  # fmt: skip
