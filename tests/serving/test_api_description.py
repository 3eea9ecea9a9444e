"""The description of the endpoint: valid, and true of what the server answers."""

import pytest
from openapi_spec_validator import validate
from served import colour_model, served

from transferkit.serving.access import OPEN, Access
from transferkit.serving.api_description import describe_api
from transferkit.serving.app import create_app
from transferkit.serving.service import Limits, running_service
from transferkit.serving.uploads import UploadLimits
from transferkit.tables.predictions import Prediction

FILES_OF_THE_PAGE = {"/", "/page.css", "/page.js", "/style.css"}


@pytest.mark.parametrize("needs_token", [False, True])
def test_description__is_valid(needs_token):
    described = describe_api(needs_token=needs_token)

    validate(described)
    assert ("security" in described) == needs_token


def test_description__names_every_route_and_method():
    described = describe_api(needs_token=True)["paths"]
    limits = Limits(UploadLimits(1, 1), queue=1, max_wait=0, seconds=1)
    with running_service(colour_model(), limits) as service:
        routes = create_app(service, Access(is_local=True), print).routes
    answered = {route.path: route.methods - {"HEAD"} for route in routes}

    assert {path: {m.upper() for m in methods} for path, methods in described.items()} == {
        path: methods for path, methods in answered.items() if path not in FILES_OF_THE_PAGE
    }
    without_token = {
        p for p, methods in described.items() if methods.get("get", {}).get("security") == []
    }
    assert without_token == OPEN - FILES_OF_THE_PAGE


def test_description__has_the_fields_of_a_record():
    schema = describe_api(needs_token=False)["components"]["schemas"]["Prediction"]
    record = Prediction("a.png", None, None, (), "broken").to_record()

    assert list(schema["properties"]) == list(record)
    assert set(schema["required"]) == set(record)


def test_description__is_served():
    with served() as client:
        assert client.ask("GET", "/openapi.json").json == describe_api(needs_token=False)
