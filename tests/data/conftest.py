"""Fixtures of the tests about datasets."""

import os

import pytest


@pytest.fixture
def secret(monkeypatch):
    """Make folders called `secret` unreadable, for any user."""
    allowed = os.scandir

    def scandir(path):
        if str(path).endswith("secret"):
            raise PermissionError(13, "Permission denied", str(path))
        return allowed(path)

    monkeypatch.setattr(os, "scandir", scandir)
