"""Runtimes: what is running when Ctrl-C is pressed is waited for."""

import numpy as np
import pytest
from untrained import create_random

from transferkit.devices import Precision
from transferkit.engines import Engine
from transferkit.engines.conversion import FromPixels, convert
from transferkit.engines.runtimes import BLOCK, open_runtime


def test_openvino__waits_for_its_requests_when_interrupted(monkeypatch):
    network = create_random("test_resnet", 32)
    content = convert(FromPixels(network.module, network.preprocessing), (32, 32))
    runtime = open_runtime(Engine.OPENVINO, content, Precision.FP32)
    pixels = np.zeros((5 * BLOCK, 32, 32, 3), dtype=np.uint8)
    waited, interrupted = [], []

    class Watched:
        def __init__(self, request):
            self.request = request

        def __getattr__(self, name):
            return getattr(self.request, name)

        def start_async(self):
            self.request.start_async()
            waited.append(False)

        def wait(self):
            if waited == [False] * len(runtime._requests) and not interrupted:
                interrupted.append(True)
                raise KeyboardInterrupt
            self.request.wait()
            waited[waited.index(False)] = True

    plain = list(runtime._requests)
    monkeypatch.setattr(runtime, "_requests", [Watched(request) for request in plain])
    with pytest.raises(KeyboardInterrupt):
        runtime(pixels)

    assert all(request.wait_for(0) for request in plain)
    assert all(waited)
    monkeypatch.setattr(runtime, "_requests", plain)
    assert runtime(pixels).shape == (5 * BLOCK, 5)
