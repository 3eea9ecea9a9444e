"""Load a server of a run: its throughput beside predict's, its answers, its memory, and abuse.

    python benchmarks/serving.py RUN IMAGES [--seconds 60] [--rounds 4] [--requests 20000]

Needs wrk (https://github.com/wg/wrk). 32 clients on loopback send one image per request, for
`--seconds` in several rounds; in turn with these, `transferkit predict` computes the same images,
and its rate counts from its first record on. The answers to all images are compared with those of
predict. `--requests` more, with the smallest of the images, and hostile clients follow, and the
server's memory is told after each. Prints one line per figure; processor times are per image.
"""

import argparse
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any

CLIENTS, BATCH, PORT = 32, 32, 8321
IDLE_SECONDS = 7
"""After these, an idle server has returned freed memory."""

TRANSFERKIT = [sys.executable, "-m", "transferkit"]

SCRIPT = """
local files, at = {}, 0
for line in io.lines("LIST") do
  local file = io.open(line, "rb")
  files[#files + 1] = file:read("*a")
  file:close()
end
statuses = {}
function setup(thread) shared = thread end
function request()
  at = at % #files + 1
  return wrk.format("POST", "/predict", nil, files[at])
end
function response(status)
  statuses[status] = (statuses[status] or 0) + 1
end
function done()
  for status, count in pairs(shared:get("statuses")) do print("status " .. status, count) end
end
"""
"""Sends the files of a list in turn, and counts the statuses of the answers."""


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--requests", type=int, default=20_000)
    given = parser.parse_args()
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed")
    files = sorted(path for path in given.images.rglob("*.*") if path.is_file())
    with served(given.run) as process:
        ratios = []
        for _ in range(given.rounds):
            rate = predict_rate(given.run, files)
            before = processor_time(process)
            found = load(files, given.seconds // given.rounds)
            spent = (processor_time(process) - before) / sum(found["statuses"].values())
            ratios.append(found["rate"] / rate)
            print(f"predict: {rate:.1f} images per second; served, {1000 * spent:.1f} ms: {found}")
        print(f"throughput: {median(ratios):.2f} times that of predict "
              f"({', '.join(f'{one:.2f}' for one in ratios)})")  # fmt: skip
        compare_answers(given.run, files)
        tell_memory(process, "after the load")
        many_requests(files, given.requests, process)
        abuse(process, files[0].read_bytes())
    print("SIGTERM: exit code", process.returncode)


def predict_rate(run: Path, files: list[Path]) -> float:
    """Return the images per second of predict, after its first batch."""
    times = [when for when, _ in predict(run, files)]
    return (len(files) - BATCH) / (times[-1] - times[BATCH - 1])


def predict(run: Path, files: list[Path]) -> list[tuple[float, dict[str, Any]]]:
    """Return the records of predict, each with the time when it came."""
    words = [*TRANSFERKIT, "predict", "-", "-m", str(run), "--format", "jsonl", "-q"]
    with TemporaryFile("w+") as listed:
        listed.write("\n".join(map(str, files)))
        listed.seek(0)
        with subprocess.Popen(words, stdin=listed, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            return [(time.perf_counter(), json.loads(line)) for line in process.stdout]


def processor_time(process: subprocess.Popen[str]) -> float:
    """Return the seconds of processor time that a process has taken."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def served(run: Path) -> Iterator[subprocess.Popen[str]]:
    """Serve a run until the end of the block, and end it by SIGTERM."""
    words = [*TRANSFERKIT, "serve", str(run), "--port", str(PORT), "--timeout", "10"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline()
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def load(files: list[Path], seconds: int) -> dict[str, Any]:
    """Let all clients send images; return the requests per second, latencies and statuses."""
    with TemporaryDirectory() as folder:
        listed = Path(folder, "files.txt")
        listed.write_text("\n".join(map(str, files)) + "\n")
        script = Path(folder, "load.lua")
        script.write_text(SCRIPT.replace("LIST", str(listed)))
        words = ["wrk", "-t1", f"-c{CLIENTS}", f"-d{seconds}s", "--timeout", "30", "--latency"]
        address = f"http://127.0.0.1:{PORT}"
        ran = subprocess.run(
            [*words, "-s", str(script), address], capture_output=True, text=True, check=True
        )
    return {
        "rate": float(re.search(r"Requests/sec:\s+([\d.]+)", ran.stdout)[1]),  # type: ignore[index]
        "p50": re.search(r"\n\s+50%\s+(\S+)", ran.stdout)[1],  # type: ignore[index]
        "p99": re.search(r"\n\s+99%\s+(\S+)", ran.stdout)[1],  # type: ignore[index]
        "statuses": {int(s): int(n) for s, n in re.findall(r"status (\d+)\t(\d+)", ran.stdout)},
        "socket errors": re.findall(r"Socket errors: (.*)", ran.stdout),
    }


def compare_answers(run: Path, files: list[Path]) -> None:
    """Print how far the answers to all images are from the records of predict."""
    gaps, other_labels = [], 0
    for file, (_, expected) in zip(files, predict(run, files), strict=True):
        (record,) = json.loads(ask(file.read_bytes())[1])
        other_labels += record["label"] != expected["label"]
        assert record["error"] == expected["error"]
        of_class = {one["label"]: one["probability"] for one in expected["top"]}
        gaps += [abs(one["probability"] - of_class.get(one["label"], one["probability"]))
                 for one in record["top"]]  # fmt: skip
    print(f"answers: {len(files)} images, {other_labels} other labels, probabilities differ by at "
          f"most {max(gaps):.1e}")  # fmt: skip


def many_requests(files: list[Path], count: int, process: subprocess.Popen[str]) -> None:
    """Send `count` requests with the smallest images, and print the memory on the way."""
    smallest = sorted(files, key=lambda file: file.stat().st_size)[:100]
    sent = 0
    while sent < count:
        found = load(smallest, 30)
        sent += sum(found["statuses"].values())
        tell_memory(process, f"after {sent} requests, {found['statuses']}")


def abuse(process: subprocess.Popen[str], image: bytes) -> None:
    """Be a hostile client in several ways, and print what became of it, and the memory."""
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\n"
    chunk = b"10000\r\n" + bytes(0x10000) + b"\r\n"
    print("1 GB, announced:", flood(head + b"Content-Length: 1000000000\r\n\r\n", bytes(0x10000)))
    print("1 GB, in chunks:", flood(head + b"Transfer-Encoding: chunked\r\n\r\n", chunk))
    tell_memory(process, "after the floods", image)
    half_open = []
    for _ in range(1000):
        half_open.append(socket.create_connection(("127.0.0.1", PORT)))
        with suppress(OSError):
            half_open[-1].sendall(head)
    tell_memory(process, "with 1,000 half-open connections", image)
    slow = [socket.create_connection(("127.0.0.1", PORT)) for _ in range(200)]
    for connection in slow:
        connection.sendall(head + b"Content-Length: 1000000\r\n\r\n" + bytes(500_000))
    tell_memory(process, "with 200 slow bodies of 0.5 MB", image)
    answers = [first_line(connection) for connection in slow]
    print("slow bodies:", {line: answers.count(line) for line in set(answers)})
    for connection in half_open:
        connection.close()
    time.sleep(IDLE_SECONDS)
    tell_memory(process, "after all of it", image)


def flood(head: bytes, piece: bytes) -> str:
    """Send up to 1 GB; return the status line, and how much was taken."""
    with socket.create_connection(("127.0.0.1", PORT)) as connection:
        connection.sendall(head)
        sent = 0
        with suppress(OSError):
            while sent < 10**9:
                connection.sendall(piece)
                sent += len(piece)
        return f"{first_line(connection)}, {sent / 1e6:.0f} MB were taken"


def first_line(connection: socket.socket) -> str:
    """Return the first line of an answer; `dropped` where there is none."""
    try:
        with connection:
            return connection.recv(1000).partition(b"\r\n")[0].decode() or "dropped"
    except OSError:
        return "dropped"


def ask(image: bytes) -> tuple[int, bytes]:
    """Return the status and the body of the answer to an image."""
    connection = HTTPConnection("127.0.0.1", PORT, timeout=60)
    connection.request("POST", "/predict", image)
    response = connection.getresponse()
    try:
        return response.status, response.read()
    finally:
        connection.close()


def tell_memory(process: subprocess.Popen[str], when: str, image: bytes = b"") -> None:
    """Print the resident memory of the server; with an image, also whether it is answered."""
    status = f"; an image: {ask(image)[0]}" if image else ""
    pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
    print(f"memory {when}: {pages * os.sysconf('SC_PAGE_SIZE') / 1e6:.0f} MB{status}", flush=True)


if __name__ == "__main__":
    main()
