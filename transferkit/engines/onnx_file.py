"""Exported models: ONNX files that hold their class names and preprocessing. Imports no torch."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transferkit import __version__
from transferkit.confidence import ConfidenceTable
from transferkit.data.preprocessing import Preprocessing
from transferkit.errors import BundleError
from transferkit.files import json_text

SUFFIX = ".onnx"

_KEY = "transferkit"
"""The entry of the file's metadata that describes the model, as JSON."""

_FORMAT = 1
"""Increased when older versions could no longer read the description."""

_STANDARD = ("", "ai.onnx")
"""Domains of the operators that every engine knows."""


@dataclass(frozen=True)
class Description:
    """What an exported model says about itself.

    Attributes:
        class_names: Names of the classes, in the order of the outputs.
        preprocessing: What it expects of its pixels; the normalisation is part of the model.
        backbone: Name of the network.
        weights_sha256: Digest of the weights file of the run that it was made from.
        confidence: What its confidence is worth, if that was measured.
        usual_threshold: Images with a higher score are unusual; None for a model without scores.
    """

    class_names: tuple[str, ...]
    preprocessing: Preprocessing
    backbone: str
    weights_sha256: str
    confidence: ConfidenceTable | None = None
    usual_threshold: float | None = None

    def to_text(self) -> str:
        """Return the description as JSON."""
        return json_text(
            {
                "format": _FORMAT,
                "class_names": list(self.class_names),
                "preprocessing": self.preprocessing.to_config(),
                "backbone": self.backbone,
                "weights_sha256": self.weights_sha256,
                "confidence": self.confidence and self.confidence.to_record(),
                "usual_threshold": self.usual_threshold,
                "versions": {"transferkit": __version__},
            }
        )

    @classmethod
    def from_text(cls, text: str) -> "Description":
        """Read a description from JSON.

        Raises:
            ValueError: When it is none.
        """
        found = json.loads(text)
        if not isinstance(found, dict) or found.get("format") != _FORMAT:
            raise ValueError(f"it has no description of format {_FORMAT}")
        names, given = found.get("class_names"), found.get("preprocessing")
        if not isinstance(names, list) or not names or not isinstance(given, Mapping):
            raise ValueError("it has no class names or no preprocessing")
        table = found.get("confidence")
        try:
            preprocessing = Preprocessing.from_config(given)
            confidence = ConfidenceTable.from_record(table) if table else None
            threshold = found.get("usual_threshold")
            threshold = None if threshold is None else float(threshold)
        except TypeError as error:
            raise ValueError(str(error)) from error
        return cls(
            tuple(map(str, names)),
            preprocessing,
            str(found.get("backbone")),
            str(found.get("weights_sha256")),
            confidence,
            threshold,
        )


@dataclass(frozen=True)
class OnnxFile:
    """An exported model, read but not opened by an engine.

    Attributes:
        path: The file.
        description: What it says about itself.
        is_standard: Whether all its operators are of the standard domain.
    """

    path: Path
    description: Description
    is_standard: bool


def described(content: bytes, description: Description) -> bytes:
    """Return the content of an ONNX file with a description in its metadata."""
    import onnx

    model = onnx.load_model_from_string(content)
    onnx.helper.set_model_props(model, {_KEY: description.to_text()})
    whole: bytes = model.SerializeToString()
    return whole


def read_onnx(path: Path) -> OnnxFile:
    """Read the description of an exported model, and check that it reads no files elsewhere.

    Raises:
        BundleError: When it cannot be read, is damaged, was not written by `transferkit export`, or
            reads files outside its folder.
    """
    import onnx

    try:
        model = onnx.load_model(path, load_external_data=False)
    except OSError as error:
        raise BundleError(f"{path}: {(error.strerror or str(error)).lower()}") from error
    except Exception as error:
        # protobuf raises types of its own, which differ between its versions.
        raise BundleError(
            f"{path}: is no ONNX file, or is cut off; write it again with transferkit export"
        ) from error
    _require_own_files(path, model)
    properties = {entry.key: entry.value for entry in model.metadata_props}
    try:
        description = Description.from_text(properties.get(_KEY, "null"))
    except ValueError as error:
        raise BundleError(
            f"{path}: cannot be used for prediction, {error}; expected a file that transferkit "
            "export wrote"
        ) from error
    domains = {node.domain for graph in _graphs(model) for node in graph.node}
    return OnnxFile(path, description, domains <= set(_STANDARD))


def _require_own_files(path: Path, model: Any) -> None:
    """Check that tensors outside the file are in its folder; a crafted file could name any file."""
    folder = path.resolve().parent
    for tensor in _tensors(model):
        places = [entry.value for entry in tensor.external_data if entry.key == "location"]
        for place in places:
            if not (folder / place).resolve().is_relative_to(folder):
                raise BundleError(
                    f"{path}: its tensor {tensor.name!r} is in {place}, outside its folder; such a "
                    "file is not read"
                )


def _tensors(model: Any) -> Iterator[Any]:
    for graph in _graphs(model):
        yield from getattr(graph, "initializer", ())
        for sparse in getattr(graph, "sparse_initializer", ()):
            yield from (sparse.values, sparse.indices)
        for node in graph.node:
            for attribute in node.attribute:
                yield from (attribute.t, *attribute.tensors)
                for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                    yield from (sparse.values, sparse.indices)


def _graphs(model: Any) -> Iterator[Any]:
    """Yield the graph of a model, its functions, and all graphs inside them."""
    waiting = [model.graph, *model.functions]
    while waiting:
        graph = waiting.pop()
        yield graph
        for node in graph.node:
            for attribute in node.attribute:
                waiting += [attribute.g] if attribute.HasField("g") else []
                waiting += attribute.graphs
