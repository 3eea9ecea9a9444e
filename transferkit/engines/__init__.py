"""Engines that compute networks without gradient: torch, OpenVINO and ONNX Runtime.

Importing this module imports none of them.
"""

from enum import StrEnum


class Engine(StrEnum):
    """What computes layers that are not trained.

    `auto` is OpenVINO on the CPU where there are enough images to make up for converting the
    network, and torch elsewhere.
    """

    AUTO = "auto"
    TORCH = "torch"
    OPENVINO = "openvino"
    ONNXRUNTIME = "onnxruntime"


class ExportFormat(StrEnum):
    """Format of an exported model: ONNX, OpenVINO's own, or a program of torch.export."""

    ONNX = "onnx"
    OPENVINO = "openvino"
    TORCH = "torch"


class Quantize(StrEnum):
    """Number format of an exported model's weights: fp32, or 8-bit integers."""

    NONE = "none"
    INT8 = "int8"


DISTRIBUTIONS = {Engine.OPENVINO: "openvino", Engine.ONNXRUNTIME: "onnxruntime"}
"""The packages of the engines that run converted networks."""
