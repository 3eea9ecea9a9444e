"""Serve a trained model: an endpoint for programs and a page for people."""

import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from transferkit import __version__
from transferkit.data.images import read_image
from transferkit.data.transforms import eval_transform
from transferkit.devices import release_freed_memory
from transferkit.engines.onnx_file import SUFFIX
from transferkit.errors import EngineError, OptionError
from transferkit.files import file_digest, require_place
from transferkit.models import HUB_PREFIX, LOCAL_PREFIX
from transferkit.options.serve import TOKEN_VARIABLE, ServeOptions
from transferkit.recipes.predicting.answer import choose_answer
from transferkit.recipes.shared.predictor import Predictor, open_predictor
from transferkit.reporter import SILENT, Reporter
from transferkit.run.folder import METRICS, MODEL, REPORT_PAGE
from transferkit.run.model_folder import model_digest, model_folder
from transferkit.run.record import read_metrics
from transferkit.run.stored_model import local_model

if TYPE_CHECKING:
    from transferkit.bundle import ModelBundle
    from transferkit.serving.collected import CollectedImages
    from transferkit.serving.server import Server
    from transferkit.serving.service import Draw, ServedModel

_EXTRA = ("starlette", "uvicorn", "python_multipart")
"""Modules of the packages that the extra `serve` installs."""

_MANY = 10**9
"""Images that a server is expected to answer: an engine that has to convert the network pays."""

_MB = 1_000_000

_HEADLINE = ("accuracy", "accuracy_interval", "top5", "macro_f1", "ece", "n")
"""Figures of a run that `GET /model` tells."""


@dataclass(frozen=True)
class Serving:
    """A server that listens.

    Attributes:
        address: What to open in a browser of this machine.
        server: Answers requests once it runs.
        socket: Where it listens.
    """

    address: str
    server: "Server"
    socket: socket.socket

    def run(self, when_ready: Callable[[], None] = lambda: None) -> None:
        """Answer requests until SIGTERM, or until `server.stop()` from another thread.

        Args:
            when_ready: Called once requests are answered and signals are handled.

        Raises:
            KeyboardInterrupt: After Ctrl-C.
        """
        self.server.when_ready = when_ready
        self.server.run([self.socket])


@contextmanager
def serve(options: ServeOptions, reporter: Reporter = SILENT) -> Iterator[Serving]:
    """Yield a server that listens, and whose model is ready.

    Args:
        options: The model, the address, who may ask, and the limits.
        reporter: Receives notices, also those of the server while it runs.

    Raises:
        BundleError: When the model cannot be loaded.
        EngineError: When the packages for serving are not installed, or the engine cannot run the
            model.
        OptionError: When other machines would reach the server without a decision about a token,
            the address cannot be used, or the options ask for what the model cannot do.
        OutputError: When the folder for collected images cannot be written.
    """
    _require_packages()
    from transferkit.serving.access import Access
    from transferkit.serving.app import create_app
    from transferkit.serving.server import address_of, create_server, is_loopback, open_socket
    from transferkit.serving.service import Limits, running_service
    from transferkit.serving.uploads import UploadLimits

    with open_socket(options.host, options.port) as listening:
        is_local = is_loopback(listening)
        access = Access(is_local, _token(options, is_local), frozenset(options.allow_origin))
        if not is_local:
            reporter.notice(_warning(options, access.token is not None))
        limits = Limits(
            UploadLimits(int(options.max_upload * _MB), options.max_images),
            options.queue,
            options.max_wait / 1000,
            options.timeout,
        )
        with running_service(_open_model(options, reporter), limits) as service:
            app = create_app(service, access, reporter.notice)
            server = create_server(app, options.timeout, release_freed_memory)
            yield Serving(address_of(listening, options.host), server, listening)


def _require_packages() -> None:
    missing = [name for name in _EXTRA if find_spec(name) is None]
    if missing:
        raise EngineError(
            f"serve: {', '.join(missing)} is not installed; install it with: "
            "pip install 'transferkit[serve]'"
        )


def _token(options: ServeOptions, is_local: bool) -> str | None:
    """Return the token that requests must show; None for none."""
    if options.no_token:
        return None
    token = options.token if options.token is not None else os.environ.get(TOKEN_VARIABLE)
    if token is None:
        if not is_local:
            raise OptionError(
                f"--host: other machines reach {options.host}; choose who may ask: give a --token, "
                f"or {TOKEN_VARIABLE} in the environment, or let everyone ask by --no-token"
            )
        return None
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise OptionError("--token: expected letters, digits and signs of ASCII, without spaces")
    return token


def _warning(options: ServeOptions, has_token: bool) -> str:
    who = "whoever has the token" if has_token else "everyone who reaches it"
    return (
        f"--host {options.host}: other machines reach this server, and it answers {who}; what is "
        "sent is not encrypted, so put a proxy with TLS before it in networks you do not trust"
    )


def _open_model(options: ServeOptions, reporter: Reporter) -> "ServedModel":
    from transferkit.serving.service import ServedModel

    predictor = open_predictor(options, reporter, _MANY)
    answer = choose_answer(options, predictor, reporter)
    images = predictor.prepared()
    _, *size = images.preprocessing.input_size
    images.of_pixels(np.zeros((1, *size, 3), dtype=np.uint8))  # an engine prepares at its first use
    explain, collected = _explaining(options, predictor), _collecting(options, predictor)
    report = _beside_model(options, REPORT_PAGE)
    about = {
        "name": _name(options),
        "version": __version__,
        "backbone": predictor.backbone,
        "classes": list(predictor.class_names),
        "preprocessing": images.preprocessing.to_config(),
        "metrics": _headline(options),
        "calibrated": predictor.confidence is not None,
        "tells_unusual": predictor.usual_threshold is not None,
        "explains": explain is not None,
        "collects": collected is not None,
        "limits": {
            "bytes": int(options.max_upload * _MB),
            "images": options.max_images,
            "seconds": options.timeout,
        },
    }
    return ServedModel(
        about, predictor.class_names, images, answer.prediction, explain, collected, report
    )


def _collecting(options: ServeOptions, predictor: Predictor) -> "CollectedImages | None":
    if options.collect is None:
        return None
    from transferkit.serving.collected import MARKS, CollectedImages

    require_place(options.collect / MARKS)
    return CollectedImages(options.collect, tuple(predictor.class_names), _digest(options))


def _explaining(options: ServeOptions, predictor: Predictor) -> "Callable[[], Draw] | None":
    """Return what prepares the network for evidence; None where there is none in torch."""
    if options.model.endswith(SUFFIX) or find_spec("torch") is None:
        return None
    lock = Lock()

    @cache
    def load() -> "Draw":
        from transferkit.bundle import ModelBundle

        return _drawing(predictor.bundle or ModelBundle.load(options.model), options)

    def prepare() -> "Draw":
        with lock:  # several requests may be the first
            return load()

    return prepare


def _drawing(bundle: "ModelBundle", options: ServeOptions) -> "Draw":
    from transferkit.report.evidence import evidence_in

    needed = eval_transform(bundle.network.preprocessing).needed

    def draw(data: bytes, label: str) -> bytes:
        image = read_image(data, needed, allow_truncated=options.allow_truncated)
        (drawn,) = evidence_in(bundle, [image], [bundle.class_names.index(label)])
        assert drawn is not None
        file = BytesIO()
        drawn.save(file, format="jpeg", quality=90)
        return file.getvalue()

    return draw


def _headline(options: ServeOptions) -> Mapping[str, Any] | None:
    """Return the figures that tell how good the model is, if its run has them."""
    metrics = _beside_model(options, METRICS)
    if metrics is None:
        return None
    found = read_metrics(metrics.parent)
    return {
        part: {name: found[part][name] for name in _HEADLINE if name in found[part]}
        for part in ("val", "test")
        if isinstance(found.get(part), Mapping)
    }


def _beside_model(options: ServeOptions, name: str) -> Path | None:
    """Return a file of the run that the model belongs to, if there is one."""
    if options.model.startswith((LOCAL_PREFIX, HUB_PREFIX)) or options.model.endswith(SUFFIX):
        return None
    folder = model_folder(Path(local_model(options.model)))
    file = folder.parent / name
    return file if folder.name == MODEL and file.is_file() else None


def _name(options: ServeOptions) -> str:
    """Return a name for the model: that of its run's folder, of its file or on the hub."""
    if options.model.startswith(HUB_PREFIX):
        return options.model
    path = Path(options.model.removeprefix(LOCAL_PREFIX)).resolve()
    return path.parent.name if path.name == MODEL else path.name


def _digest(options: ServeOptions) -> str:
    """Return what identifies the model: a digest of its files, or its name on the hub."""
    name = options.model.removeprefix(LOCAL_PREFIX)
    if name.startswith(HUB_PREFIX):
        return name
    path = Path(local_model(name))
    return file_digest(path) if path.suffix == SUFFIX else model_digest(model_folder(path))
