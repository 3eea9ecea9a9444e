"""Exported models as files: damaged and crafted ones are refused with a reason."""

import json
from contextlib import suppress
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from transferkit.data.preprocessing import Preprocessing
from transferkit.engines.onnx_file import Description, described, read_onnx
from transferkit.errors import BundleError, TransferKitError
from transferkit.exported_model import ExportedModel

ABOUT = Description(("cat", "dog"), Preprocessing(input_size=(3, 8, 8)), "tiny", "0" * 64)


def tiny_model(weights=None, *extra):
    """Return a model that averages the colours of an image and mixes them."""
    weights = weights or numpy_helper.from_array(np.eye(3, 2, dtype=np.float32), "weights")
    nodes = [
        helper.make_node("Cast", ["pixels"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats"], ["means"], axes=[1, 2], keepdims=0),
        helper.make_node("MatMul", ["means", "weights"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        *extra,
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["n", 8, 8, 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 2])],
        [weights],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def written(path: Path, model) -> Path:
    path.write_bytes(described(model.SerializeToString(), ABOUT))
    return path


def outside(location: str) -> TensorProto:
    """Return a tensor whose values are in another file."""
    tensor = TensorProto(name="weights", data_type=TensorProto.FLOAT, dims=[3, 2])
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", "24")):
        tensor.external_data.add(key=key, value=value)
    return tensor


def test_read_onnx__returns_what_the_file_says_about_itself(tmp_path):
    file = read_onnx(written(tmp_path / "tiny.onnx", tiny_model()))

    assert file.description == ABOUT
    assert file.is_standard


def test_exported_model__classifies(tmp_path):
    model = ExportedModel.load(written(tmp_path / "tiny.onnx", tiny_model()))
    pixels = np.zeros((5, 8, 8, 3), dtype=np.uint8)
    pixels[0, ..., 0] = 3

    values = model.runtime(pixels)

    np.testing.assert_allclose(values[0], [1 / (1 + np.exp(-3)), 1 / (1 + np.exp(3))], rtol=1e-5)
    np.testing.assert_allclose(values[1:], 0.5)


@pytest.mark.parametrize("place", ["/etc/hostname", "../secret.bin", "inner/../../secret.bin"])
@pytest.mark.parametrize("nested", [False, True])
def test_read_onnx__refuses_files_outside_the_folder(tmp_path, place, nested):
    (tmp_path / "secret.bin").write_bytes(bytes(24))
    folder = tmp_path / "folder"
    folder.mkdir()
    if nested:
        constant = helper.make_node("Constant", [], ["hidden"], value=outside(place))
        branch = helper.make_graph([constant], "inner", [], [])
        model = tiny_model(None, helper.make_node("If", ["c"], ["o"], then_branch=branch))
    else:
        model = tiny_model(outside(place))

    with pytest.raises(BundleError, match="outside its folder; such a file is not read"):
        read_onnx(written(folder / "tiny.onnx", model))


def test_read_onnx__refuses_a_link_out_of_the_folder(tmp_path):
    (tmp_path / "secret.bin").write_bytes(bytes(24))
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "weights.bin").symlink_to(tmp_path / "secret.bin")

    with pytest.raises(BundleError, match="outside its folder"):
        read_onnx(written(folder / "tiny.onnx", tiny_model(outside("weights.bin"))))


def test_exported_model__reads_weights_beside_it(tmp_path):
    values = np.array([[0, 1], [1, 0], [1, 1]], dtype=np.float32)
    (tmp_path / "weights.bin").write_bytes(values.tobytes())
    model = ExportedModel.load(written(tmp_path / "t.onnx", tiny_model(outside("weights.bin"))))
    pixels = np.zeros((1, 8, 8, 3), dtype=np.uint8)
    pixels[..., 0] = 2

    assert model.runtime(pixels)[0, 1] == pytest.approx(1 / (1 + np.exp(-2)))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "has no description of format 1"),
        (b"not a model at all", "is no ONNX file, or is cut off"),
        (tiny_model().SerializeToString(), "has no description of format 1"),
    ],
)
def test_read_onnx__explains_what_cannot_be_read(tmp_path, content, reason):
    (tmp_path / "bad.onnx").write_bytes(content)

    with pytest.raises(BundleError, match=reason):
        read_onnx(tmp_path / "bad.onnx")


def test_read_onnx__names_what_is_missing(tmp_path):
    with pytest.raises(BundleError, match=r"nowhere\.onnx: no such file"):
        read_onnx(tmp_path / "nowhere.onnx")
    with pytest.raises(BundleError, match="is a directory"):
        read_onnx(tmp_path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"format": 2}, "no description of format 1"),
        ({"class_names": []}, "no class names"),
        ({"preprocessing": {"input_size": [3, 0, 8]}}, "input_size must be three whole numbers"),
        ({"preprocessing": {"mean": ["a"]}}, "mean must be a number per channel"),
    ],
)
def test_description__refuses_what_it_cannot_mean(change, reason):
    with pytest.raises(ValueError, match=reason):
        Description.from_text(json.dumps(json.loads(ABOUT.to_text()) | change))


def test_exported_model__with_too_few_names_is_refused(tmp_path):
    path = tmp_path / "tiny.onnx"
    named = Description(("cat", "dog", "bird"), ABOUT.preprocessing, "tiny", "")
    path.write_bytes(described(tiny_model().SerializeToString(), named))

    with pytest.raises(BundleError, match="names 3 classes and gives values of the shape"):
        ExportedModel.load(path)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_exported_model__damaged_at_random_never_crashes(tmp_path, data):
    content = bytearray(described(tiny_model().SerializeToString(), ABOUT))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(content)))
    (tmp_path / "tiny.onnx").write_bytes(content[:cut] if cut % 2 else content)

    with suppress(TransferKitError):
        model = ExportedModel.load(tmp_path / "tiny.onnx")
        assert len(model.runtime(np.zeros((3, 8, 8, 3), dtype=np.uint8))) == 3


def test_described__keeps_the_model():
    before = tiny_model()

    after = onnx.load_model_from_string(described(before.SerializeToString(), ABOUT))

    assert after.graph == before.graph
