"""MLflow's client against a server, which a stand-in on loopback is."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import urlsplit

from loopback import server_of, serving

from transferkit.reporter import Outcome, Plan, RunEnd, RunStart
from transferkit.trackers.to_mlflow import Recorder

RUN = "0123456789abcdef"
PLAN = Plan((), {}, (), (), ())


@contextmanager
def serve_mlflow(artifacts: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield the address of a server with one experiment and one run, and the calls it gets.

    Args:
        artifacts: Where the client is told to write files.
    """
    calls: list[str] = []
    info = {
        "run_id": RUN, "run_uuid": RUN, "experiment_id": "7", "status": "RUNNING",
        "artifact_uri": artifacts.as_uri(), "start_time": 0, "lifecycle_stage": "active",
    }  # fmt: skip
    answers = {
        "experiments/get-by-name": {"experiment": {"experiment_id": "7", "name": "transferkit"}},
        "runs/create": {"run": {"info": info}},
        "runs/get": {"run": {"info": info}},
        "runs/update": {"run_info": info},
    }

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            call = urlsplit(self.path).path.partition("/mlflow/")[2]
            calls.append(call)
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            body = json.dumps(answers.get(call, {})).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    with serving(server_of(Handler)) as address:
        yield address, calls


def test_recorder__tells_where_a_server_shows_the_run_and_prints_nothing(
    tmp_path, monkeypatch, capsys
):
    (tmp_path / "run/model").mkdir(parents=True)
    (tmp_path / "run/model/classes.json").write_text("[]")
    told: list[str] = []
    with serve_mlflow(tmp_path / "artifacts") as (address, calls):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{address}/")
        recorder = Recorder(told.append)
        recorder.began(RunStart(tmp_path / "run", {"epochs": 3}, PLAN, is_resumed=False))
        recorder.ended(RunEnd(Outcome.FINISHED, {}, model=tmp_path / "run/model"))

    assert told == [f"--log mlflow: {address}/#/experiments/7/runs/{RUN}"]
    assert calls[-1] in ("runs/update", "runs/get")
    assert (tmp_path / "artifacts/model/classes.json").is_file()
    assert capsys.readouterr() == ("", "")
