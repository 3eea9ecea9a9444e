"""Quantization: the same network in 8 bits, smaller and nearly as exact."""

import logging
import weakref

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from timm.layers import Conv2dSame
from torch import nn
from untrained import create_random

from transferkit.data.preprocessing import Preprocessing
from transferkit.devices import Precision
from transferkit.engines import Engine
from transferkit.engines.conversion import FromPixels, convert
from transferkit.engines.quantization import quantize
from transferkit.engines.runtimes import open_runtime
from transferkit.errors import EngineError

ENGINES = (Engine.OPENVINO, Engine.ONNXRUNTIME)
PROPERTIES = {"transferkit": '{"format": 1}', "author": "somebody"}


class SamePadding(nn.Module):
    """A network that computes its padding from shapes, and reshapes by the number of images."""

    def __init__(self) -> None:
        super().__init__()
        self.first = Conv2dSame(3, 16, 3, stride=2)
        self.second = Conv2dSame(16, 16, 3, stride=2)
        self.head = nn.Linear(16 * 8 * 8, 5)

    def forward(self, x):
        x = self.second(self.first(x).relu()).relu()
        return self.head(x.reshape(x.shape[0], -1))


def images(count, size, seed=0):
    """Return images of smooth colours with a little noise, unlike each other."""
    random = np.random.default_rng(seed)
    corners = random.integers(0, 256, (count, 2, 2, 3))
    ramp = np.stack([np.linspace(1, 0, size), np.linspace(0, 1, size)])
    smooth = np.einsum("nabc,ai,bj->nijc", corners, ramp, ramp)
    return (smooth + random.normal(0, 20, smooth.shape)).clip(0, 255).astype(np.uint8)


def batches(size):
    return (images(4, size, seed) for seed in range(1, 7))


def converted(module, preprocessing):
    module = FromPixels(module, preprocessing, softmax=True)
    model = onnx.load_from_string(convert(module, preprocessing.input_size[1:], "probabilities"))
    onnx.helper.set_model_props(model, PROPERTIES)
    return model.SerializeToString()


def run(engine, content, pixels):
    return open_runtime(engine, content, Precision.FP32)(pixels)


def logits(probabilities):
    """Return logits whose mean is zero for each image and for each class."""
    values = np.log(probabilities)
    values -= values.mean(axis=1, keepdims=True)
    return values - values.mean(axis=0)


def distance(values, expected):
    """Return the distance of logits, relative to the expected ones."""
    return np.linalg.norm(logits(values) - logits(expected)) / np.linalg.norm(logits(expected))


def nodes(content, kind):
    return [n for n in onnx.load_from_string(content).graph.node if n.op_type == kind]


def sources(content, kind):
    """Return the types of the operators that compute the inputs of those of a type."""
    graph = onnx.load_from_string(content).graph
    made_by = {name: node.op_type for node in graph.node for name in node.output}
    return {made_by.get(name) for node in nodes(content, kind) for name in node.input}


@pytest.fixture(scope="module")
def exact():
    network = create_random("test_resnet", 32)
    for name, parameter in network.module.named_parameters():
        if name.endswith("weight") and not parameter.any():  # of the last norm of each block
            nn.init.ones_(parameter)
    return converted(network.module, network.preprocessing)


@pytest.fixture(scope="module")
def quantized(exact):
    return quantize(exact, batches(32))


def test_quantize__makes_the_file_smaller(exact, quantized):
    assert len(quantized) < 0.4 * len(exact)


@pytest.mark.parametrize("engine", ENGINES)
def test_quantize__leaves_the_results_nearly_as_they_were(exact, quantized, engine):
    pixels = images(100, 32)

    expected, values = run(engine, exact, pixels), run(engine, quantized, pixels)

    assert distance(values, expected) < 0.25
    assert (values.argmax(axis=1) == expected.argmax(axis=1)).mean() > 0.85


@pytest.mark.parametrize("engine", ENGINES)
def test_quantize__leaves_the_number_of_images_open(quantized, engine):
    pixels = images(7, 32)
    runtime = open_runtime(engine, quantized, Precision.FP32)
    model = onnx.load_from_string(quantized)

    alone = np.concatenate([runtime(pixels[i : i + 1]) for i in range(7)])

    assert np.array_equal(runtime(pixels), alone)
    for value in (*model.graph.input, *model.graph.output):
        assert value.type.tensor_type.shape.dim[0].dim_param == "n"


def test_quantize__stores_all_weights_but_those_of_the_first_layer_as_8_bits(quantized):
    graph = onnx.load_from_string(quantized).graph
    tensors = [numpy_helper.to_array(tensor) for tensor in graph.initializer]
    layers = [*nodes(quantized, "Conv"), *nodes(quantized, "Gemm")]

    assert [node.input[1].endswith("_DequantizeLinear_Output") for node in layers] == [
        False,
        *[True] * (len(layers) - 1),
    ]
    assert len([t for t in tensors if t.dtype == np.int8 and t.ndim > 1]) == len(layers) - 1
    assert len([t for t in tensors if t.dtype == np.float32 and t.ndim > 1 and t.size > 3]) == 1


def test_quantize__computes_the_normalisation_and_the_softmax_in_float(quantized):
    assert sources(quantized, "Softmax") == {"Gemm"}
    assert "DequantizeLinear" not in sources(quantized, "Div") | sources(quantized, "Sub")


def test_quantize__keeps_everything_around_the_graph(exact, quantized):
    before, after = map(onnx.load_from_string, (exact, quantized))

    assert {entry.key: entry.value for entry in after.metadata_props} == PROPERTIES
    assert after.opset_import == before.opset_import
    assert after.graph.input == before.graph.input
    assert after.graph.output == before.graph.output
    onnx.checker.check_model(after, full_check=True)


def test_quantize__folds_padding_but_nothing_that_depends_on_the_number_of_images():
    torch.manual_seed(0)
    exact = converted(SamePadding(), Preprocessing(input_size=(3, 32, 32)))
    pixels = images(9, 32)

    quantized = quantize(exact, batches(32))

    assert nodes(exact, "Pad")
    assert not nodes(quantized, "Pad")
    for engine in ENGINES:
        assert distance(run(engine, quantized, pixels), run(engine, exact, pixels)) < 0.1


def test_quantize__leaves_the_sums_and_the_attention_of_transformers_in_float():
    network = create_random("test_vit", 160)
    exact = converted(network.module, network.preprocessing)
    pixels = images(8, 160)

    quantized = quantize(exact, batches(160))

    assert "DequantizeLinear" in sources(quantized, "MatMul")
    assert {"Add", "Softmax"}.isdisjoint(sources(quantized, "QuantizeLinear"))
    assert (
        distance(run(Engine.OPENVINO, quantized, pixels), run(Engine.OPENVINO, exact, pixels)) < 0.1
    )


def test_quantize__reads_a_batch_only_when_it_needs_it(exact):
    read, living = [], []

    def reading():
        for batch in batches(32):
            read.append(weakref.ref(batch))
            living.append(sum(one() is not None for one in read))
            yield batch

    quantize(exact, reading())

    assert len(read) == 6
    assert max(living) <= 2


def test_quantize__prints_and_logs_nothing(exact, monkeypatch, capfd):
    monkeypatch.setattr(logging.root, "handlers", [])  # as in a program that set up no logging

    quantize(exact, batches(32))

    assert capfd.readouterr() == ("", "")
    assert logging.root.handlers == []
    assert logging.root.filters == []


def test_quantize__passes_on_what_goes_wrong_while_batches_are_read(exact):
    def reading():
        yield from batches(32)
        raise ZeroDivisionError("a bug in the caller")

    with pytest.raises(ZeroDivisionError, match="a bug in the caller"):
        quantize(exact, reading())


@pytest.mark.parametrize("content", [b"no ONNX file", b""])
def test_quantize__refuses_what_is_no_network_in_one_line(content):
    with pytest.raises(EngineError, match=r"^it cannot be quantized: .+$"):
        quantize(content, batches(32))


@pytest.mark.parametrize("wrong", [[], [np.zeros((1, 8, 8, 3), dtype=np.uint8)]])
def test_quantize__refuses_missing_and_unfitting_batches_in_one_line(exact, wrong):
    with pytest.raises(EngineError, match=r"^it cannot be quantized: .+$"):
        quantize(exact, wrong)


def test_quantize__needs_onnxruntime(exact, monkeypatch):
    monkeypatch.setattr("transferkit.engines.runtimes.find_spec", lambda name: None)

    with pytest.raises(EngineError, match="onnxruntime is not installed"):
        quantize(exact, batches(32))
