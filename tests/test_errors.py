"""Errors: suggestions and shortened lists of names."""

from transferkit.errors import UnknownNameError, name_some


def test_unknown_name_error__has_suggestions():
    error = UnknownNameError("fruit", "aple", ["apple", "cherry"], "look it up")

    assert error.suggestions == ["apple"]
    assert str(error) == "unknown fruit 'aple'; did you mean apple?; look it up"


def test_name_some__counts_the_rest():
    assert name_some(["a", "b"]) == "a, b"
    assert name_some(list("abcdefg")) == "a, b, c, d, e and 2 more"
