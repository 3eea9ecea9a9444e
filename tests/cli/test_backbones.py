"""`transferkit backbones`: all names, and those that match a pattern."""


def test_backbones__lists_and_searches(cli):
    every = cli("backbones").out.splitlines()
    vgg = cli("backbones", "vgg1?").out.splitlines()

    assert len(every) > 1000
    assert vgg == ["vgg11", "vgg13", "vgg16", "vgg19"]
    assert "torchvision:alexnet" in cli("backbones", "alex").out.splitlines()


def test_backbones__shows_licence_and_origin_in_80_columns(cli, terminal):
    terminal(80)

    for pattern in ("tf_efficientnet_lite0", "convnext_tiny", "torchvision:alexnet"):
        lines = cli("backbones", pattern).out.splitlines()
        row = next(line for line in lines if f" {pattern} " in line)
        cells = [cell.strip() for cell in row.strip("│").split("│")]

        assert max(map(len, lines)) <= 80
        assert len(cells) == 5
        assert cells[3] in ("efficientnet-lite0-", "hf-hub:timm", "download.pytorch.or")
        assert cells[2] == ("" if pattern.startswith("torchvision:") else "apache-2.0")
