"""Models go to a hub with their card, and come back the same; nothing is replaced unasked."""

import json

import pytest
from hub_server import point_client_at, serve_hub
from huggingface_hub import ModelCard

import transferkit
from transferkit.errors import BundleError, OptionError, OutputError

# The client itself uploads in a way that its library for requests has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

ADDRESS, TOKEN = "hf-hub:someone/colours", "hf_secret"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty hub whose user has logged in: its files, repositories, and requests."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    # The stand-in stores large files as Git LFS does; Xet, which replaces it, is no open protocol.
    monkeypatch.setattr("huggingface_hub._commit_api.is_xet_available", lambda: False)
    files, repositories = {}, {}
    with serve_hub(files, repositories=repositories, token=TOKEN) as (address, seen):
        point_client_at(address, tmp_path / "cache", monkeypatch)
        yield files, repositories, seen


def test_upload__comes_back_the_same(run_folder, image_folder, hub, cli):
    files, repositories, _ = hub
    ran = cli("export", run_folder, "--to", ADDRESS)
    images = [str(path) for path in sorted(image_folder.rglob("*.png"))[::7]]

    assert ran.code == 0, ran.err
    assert ran.out.startswith(f"{ADDRESS}: ")
    assert "/someone/colours/commit/" in ran.out
    assert repositories == {"someone/colours": False}
    home = {path.name: path.read_bytes() for path in (run_folder / "model").iterdir()}
    assert {name.rsplit("/", 1)[-1] for name in files} == home.keys()
    assert files["someone/colours/model.safetensors"] == home["model.safetensors"]
    assert transferkit.predict(images, model=ADDRESS) == transferkit.predict(
        images, model=str(run_folder)
    )


def test_upload__has_a_card_that_names_the_repository(run_folder, hub):
    files, _, _ = hub
    transferkit.export(run_folder, to=ADDRESS)
    card = ModelCard(files["someone/colours/README.md"].decode())
    metrics = json.loads((run_folder / "metrics.json").read_text())

    assert card.data.model_name == "test_resnet on colours"
    assert card.data.eval_results[0].metric_value == metrics["val"]["accuracy"]
    assert f"-m {ADDRESS}" in card.text
    assert 'pipeline("image-classification", model="someone/colours")' in card.text


def test_upload__is_private_if_wanted_and_replaces_only_if_told_to(run_folder, hub):
    _, repositories, _ = hub
    transferkit.export(run_folder, to=ADDRESS, private=True)
    assert repositories == {"someone/colours": True}

    with pytest.raises(OutputError, match=r"someone/colours: exists on .*--overwrite"):
        transferkit.export(run_folder, to=ADDRESS)
    uploaded = transferkit.export(run_folder, to=ADDRESS, overwrite=True)
    assert uploaded.address == ADDRESS
    assert uploaded.size > 10_000


def test_upload__without_permission_says_how_to_log_in(run_folder, hub, monkeypatch):
    files, _, _ = hub
    monkeypatch.setenv("HF_TOKEN", "hf_other")

    with pytest.raises(OutputError, match="does not let you write there; log in with `hf auth"):
        transferkit.export(run_folder, to=ADDRESS)
    assert files == {}


def test_upload__to_a_hub_that_is_away_is_one_line(run_folder, tmp_path, monkeypatch):
    point_client_at("http://127.0.0.1:9", tmp_path / "cache", monkeypatch)

    with pytest.raises(OutputError, match=r"^someone/colours: cannot be uploaded to http.*:9: "):
        transferkit.export(run_folder, to=ADDRESS)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"to": "someone/colours"}, "--to: got someone/colours, expected hf-hub:OWNER/NAME"),
        ({"to": "hf-hub:colours"}, "expected hf-hub:OWNER/NAME"),
        ({"to": ADDRESS, "output": "m.onnx"}, "--output is for a file"),
        ({"to": ADDRESS, "quantize": "int8"}, "--quantize is for a file"),
        ({"private": True}, "--private is for --to"),
    ],
)
def test_upload__refuses_what_does_not_go_together(options, told):
    with pytest.raises(OptionError, match=told):
        transferkit.export("run", **options)


def test_upload__of_a_folder_that_is_no_run_says_so(tmp_path):
    with pytest.raises(BundleError, match="no such run"):
        transferkit.export(tmp_path / "run", to=ADDRESS)
