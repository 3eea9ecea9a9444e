"""A stand-in for the model hub: real files over HTTP, with the headers its client reads."""

import base64
import hashlib
import json
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from huggingface_hub import constants
from loopback import server_of, serving

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def serve_hub(
    files: dict[str, bytes],
    *,
    truncated: Collection[str] = (),
    damaged: Collection[str] = (),
    repositories: dict[str, bool] | None = None,
    token: str = "",
) -> Iterator[tuple[str, list[str]]]:
    """Serve `files` ("owner/name/file" -> content); yields the address and the requests seen.

    Uploads add to `files`: text in the commit, all else by the protocol of Git LFS, as the hub
    wants it.

    Args:
        files: The content of the hub.
        truncated: Files whose downloads break off half way.
        damaged: Files announced with a wrong digest. Once removed from this collection, a file is
            announced correctly.
        repositories: "owner/name" -> whether it is private, of those that were created.
        token: Who writes needs it; empty if nobody may.
    """
    seen: list[str] = []
    stored: dict[str, bytes] = {}
    created = {} if repositories is None else repositories

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self, body: bool) -> None:
            seen.append(f"{self.command} {self.path}")
            name = self.path.lstrip("/")
            name = name.replace("/resolve/main/", "/").replace(f"/resolve/{COMMIT}/", "/")
            content = files.get(name)
            if content is None:
                self.send_response(404)
                self.send_header("X-Error-Code", "EntryNotFound")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            digest = "0" * 64 if name in damaged else hashlib.sha256(content).hexdigest()
            self.send_response(200)
            self.send_header("ETag", f'"{digest}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Content-Length", str(len(content)))
            if body:
                # Said before, or the client could send its next request while this side closes.
                self.send_header("Connection", "close")
            self.end_headers()
            if body:
                self.wfile.write(content[: len(content) // 2] if name in truncated else content)

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def do_PUT(self) -> None:
            seen.append(f"{self.command} {self.path}")
            content = self._body()
            digest = self.path.rsplit("/", 1)[-1]
            if hashlib.sha256(content).hexdigest() != digest:
                return self._reply(400, {"error": "another digest"})
            stored[digest] = content
            return self._reply(200, {})

        def do_POST(self) -> None:
            seen.append(f"{self.command} {self.path}")
            content = self._body()
            if not token or self.headers.get("Authorization") != f"Bearer {token}":
                return self._reply(401, {"error": "Invalid username or password."})
            if self.path == "/api/repos/create":
                return self._reply(*self._create(json.loads(content)))
            if self.path == "/api/validate-yaml":
                return self._reply(200, {"errors": [], "warnings": []})
            if "/preupload/" in self.path:
                return self._reply(200, {"files": list(map(_mode, json.loads(content)["files"]))})
            if self.path.endswith("/info/lfs/objects/batch"):
                return self._reply(200, self._uploads(json.loads(content)["objects"]))
            repository = self.path.removeprefix("/api/models/").partition("/commit/")[0]
            self._commit(repository, content)
            url = f"http://{self.headers['Host']}/{repository}/commit/{COMMIT}"
            return self._reply(200, {"commitUrl": url, "commitOid": COMMIT})

        def _create(self, wanted: dict) -> tuple[int, dict]:
            name = f"{wanted['organization']}/{wanted['name']}"
            address = f"http://{self.headers['Host']}/{name}"
            if name in created:
                return 409, {"error": "You already created this model repo", "url": address}
            created[name] = bool(wanted.get("private")) or wanted.get("visibility") == "private"
            return 200, {"url": address}

        def _uploads(self, objects: list[dict]) -> dict:
            address = f"http://{self.headers['Host']}/lfs"
            actions = [
                {**one, "actions": {"upload": {"href": f"{address}/{one['oid']}"}}}
                for one in objects
            ]
            return {"transfer": "basic", "objects": actions}

        def _commit(self, repository: str, content: bytes) -> None:
            for line in map(json.loads, content.splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    files[f"{repository}/{value['path']}"] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    files[f"{repository}/{value['path']}"] = stored[value["oid"]]

        def _body(self) -> bytes:
            return self.rfile.read(int(self.headers["Content-Length"]))

        def _reply(self, status: int, values: dict) -> None:
            body = json.dumps(values).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with serving(server_of(Handler)) as address:
        yield address, seen


def _mode(file: dict) -> dict:
    mode = "regular" if file["path"].endswith((".md", ".json")) else "lfs"
    return {"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": None}


def point_client_at(address: str, cache: Path, patch: pytest.MonkeyPatch) -> None:
    """Point this process's hub client, which has already read its environment, at another hub."""
    url = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, address)
    patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url)
    patch.setattr(constants, "ENDPOINT", address)
    patch.setattr(constants, "HF_HUB_CACHE", str(cache))
