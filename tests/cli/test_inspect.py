"""`transferkit inspect`: the table in a pipe and in a terminal, and misuse."""

import csv
import io

import pytest

from transferkit.models.create_network import create_network


def table_of(text: str) -> dict[str, dict[str, str]]:
    return {row["layer"]: row for row in csv.DictReader(io.StringIO(text))}


def test_inspect__in_a_pipe_is_csv_with_a_summary_on_stderr(cli):
    ran = cli("inspect", "test_resnet", "--image-size", 64)
    rows = table_of(ran.out)
    network = create_network("test_resnet", weights="none")
    total = sum(p.numel() for p in network.module.parameters())
    counted = [row for row in rows.values() if row["role"] in ("layer", "parameter")]

    assert ran.code == 0
    assert list(rows)[:4] == ["pooled", "prelogits", "stem", "stage1"]
    first = rows["conv1.0"]
    assert (first["kind"], first["kernel"], first["stride"]) == ("Conv2d", "3 x 3", "2 x 2")
    assert (first["padding"], first["output"]) == ("1 x 1", "16 x 32 x 32")
    assert (first["receptive field"], first["effective stride"]) == ("3", "2")
    assert (first["formula"], first["features"]) == ("agrees", "yes")
    assert sum(int(row["weights"]) + int(row["biases"]) for row in counted) == total
    assert f"{total:,} parameters: " in ran.err
    assert f"agree with a real pass in all {len(counted)} layers" in ran.err
    assert "layer1" not in rows
    assert "layer1" in table_of(cli("inspect", "test_resnet", "--all").out)
    assert cli("inspect", "test_resnet", "-q").err == ""


@pytest.mark.parametrize("width", [80, 120])
def test_inspect__fits_a_terminal(cli, terminal, width):
    terminal(width)
    ran = cli("inspect", "resnet18")
    lines = ran.out.splitlines()
    stem = next(line for line in lines if line.startswith("stem"))
    first = next(line for line in lines if line.startswith("conv1")).split()
    closing = next(i for i, line in enumerate(lines) if line.startswith("11,689,512 parameters"))

    assert (ran.code, ran.err) == (0, "")
    assert max(map(len, lines[:closing])) <= width
    assert stem.split() == ["stem", "conv1,", "bn1", "64x56x56", "4", "11", "9,472", "64"]
    assert first[:6] == ["conv1", "Conv2d", "7x7", "2", "3", "64x112x112"]
    assert first[6:] == (["7"] if width == 80 else ["2", "7"]) + ["9,408", "0"]
    assert any("show the effective stride of every layer" in line for line in lines) == (
        width < 110
    )


def test_inspect__names_layers_without_a_formula_and_those_layer_refuses(cli, terminal):
    terminal(120)
    out = cli("inspect", "torchvision:vit_b_32", "--image-size", 64).out

    assert "in all 63 layers that have a formula\n" in out
    assert "measured only, without a formula: 12 MultiheadAttention\n" in out
    assert "\n(class_token) " in out
    assert "--layer does not take the names in parentheses\n" in out


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([], 2, "expected one of BACKBONE and --model"),
        (["resnet18", "-m", "run"], 2, "expected one of BACKBONE and --model"),
        (["resnet81"], 1, "unknown backbone 'resnet81'; did you mean"),
        (["-m", "nowhere"], 1, "nowhere: no such run"),
        (["resnet18", "--weights", "none"], 2, "--weights is for --kernels and --activations"),
        (["resnet18", "-o", "x"], 2, "--output is for --kernels and --activations"),
        (["resnet18", "--layer", "stem"], 2, "--layer needs --activations IMAGE"),
        (["resnet18", "--channels", "3"], 2, "--channels needs --activations IMAGE"),
        (["resnet18", "--kernels", "--all"], 2, "--all is for the table"),
        (["-m", "r", "--kernels", "--weights", "none"], 2, "--model has its own weights"),
        (["vit_tiny_patch16_224", "--image-size", "10"], 2, "--image-size: "),
        (["test_resnet", "--kernels", "--weights", "none.pth"], 1, "none.pth"),
    ],
)
def test_inspect__misuse_is_one_line(cli, tmp_path, monkeypatch, words, code, message):
    monkeypatch.chdir(tmp_path)
    ran = cli("inspect", *words)

    assert (ran.code, ran.out) == (code, "")
    assert ran.err.startswith("error: ")
    assert message in ran.err
    assert ran.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
