"""Quantization to 8-bit integers: smaller, close, for any batch, with its metadata."""

import logging

import numpy as np
import onnx
import pytest
from untrained import create_random

from transferkit.data.preprocessing import Preprocessing
from transferkit.devices import Precision
from transferkit.engines import Engine
from transferkit.engines.conversion import FromPixels, convert
from transferkit.engines.onnx_file import Description, described
from transferkit.engines.quantization import quantize
from transferkit.engines.runtimes import open_runtime
from transferkit.errors import EngineError


@pytest.fixture(scope="module")
def exact() -> bytes:
    network = create_random("test_resnet", 32)
    module = FromPixels(network.module, network.preprocessing, softmax=True)
    names = Description(("a", "b"), Preprocessing(), "test_resnet", "")
    return described(convert(module, (32, 32)), names)


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def quantized(exact, pixels) -> bytes:
    return quantize(exact, (pixels[i : i + 8] for i in range(0, 40, 8)))


@pytest.mark.parametrize("engine", [Engine.OPENVINO, Engine.ONNXRUNTIME])
def test_quantize__stays_close_for_any_batch(exact, quantized, pixels, engine):
    before, after = (open_runtime(engine, c, Precision.FP32) for c in (exact, quantized))
    expected, found = before(pixels), after(pixels)

    assert 0 < np.abs(found - expected).max() < 0.1
    assert (found.argmax(axis=1) == expected.argmax(axis=1)).mean() > 0.9
    for count in (1, 7):
        np.testing.assert_allclose(after(pixels[:count]), found[:count], atol=1e-6)


def test_quantize__makes_the_file_smaller_and_keeps_what_it_says(exact, quantized):
    before, after = map(onnx.load_model_from_string, (exact, quantized))

    assert len(quantized) < 0.5 * len(exact)
    assert after.metadata_props == before.metadata_props
    kept = [(v.name, v.type.tensor_type.elem_type) for v in before.graph.input]
    assert [(v.name, v.type.tensor_type.elem_type) for v in after.graph.input] == kept
    assert after.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    assert {"QLinearConv", "QuantizeLinear"} & {node.op_type for node in after.graph.node}


def test_quantize__passes_on_what_ends_the_images(exact):
    def broken():
        yield np.zeros((2, 32, 32, 3), dtype=np.uint8)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quantize(exact, broken())


def test_quantize__explains_what_it_cannot_do_and_logs_nothing(exact, pixels, caplog):
    with caplog.at_level(logging.DEBUG):
        quantize(exact, [pixels[:4]])
        with pytest.raises(EngineError, match="cannot be quantized"):
            quantize(b"not a model", [pixels])

    assert caplog.text == ""
