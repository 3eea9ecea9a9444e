"""`transferkit backbones`: all names, and those that match a pattern."""


def test_backbones__lists_and_searches(cli):
    every = cli("backbones").out.splitlines()
    vgg = cli("backbones", "vgg1?").out.splitlines()

    assert len(every) > 1000
    assert vgg == ["vgg11", "vgg13", "vgg16", "vgg19"]
    assert "torchvision:alexnet" in cli("backbones", "alex").out.splitlines()
