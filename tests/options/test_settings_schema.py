"""The schema of a settings file agrees with the options themselves."""

import json

import pytest
from commands import COMMANDS
from jsonschema import Draft202012Validator

from transferkit.options.declaration import declared_options
from transferkit.options.finetune import FinetuneOptions
from transferkit.options.recorded import json_values
from transferkit.options.settings_file import read_settings
from transferkit.options.settings_schema import settings_schema


@pytest.mark.parametrize("command", COMMANDS)
def test_schema__describes_every_option_and_takes_every_default(command):
    kind = COMMANDS[command]
    schema = json.loads(json.dumps(settings_schema(kind, command)))
    Draft202012Validator.check_schema(schema)
    declared = declared_options(kind)
    defaults = {
        entry.name: entry.default
        for entry in declared
        if not entry.is_required and entry.default is not None
    }

    assert set(schema["properties"]) == {entry.name for entry in declared}
    assert all(entry["description"] for entry in schema["properties"].values())
    defaults = json.loads(json.dumps(json_values(defaults)))
    assert list(Draft202012Validator(schema).iter_errors(defaults)) == []


@pytest.mark.parametrize(
    ("values", "is_right"),
    [
        ({"epochs": 3}, True),
        ({"epochs": 0}, False),
        ({"epochs": "x"}, False),
        ({"epoch": 3}, False),
        ({"val_fraction": 0.5}, True),
        ({"val_fraction": 1.0}, False),
        ({"strategy": "full"}, True),
        ({"strategy": "fully"}, False),
        ({"image_size": [32, 64]}, True),
        ({"image_size": [32]}, False),
        ({"image_size": "32x64"}, True),
        ({"learning_rate": 0.1}, True),
        ({"learning_rate": -0.1}, False),
        ({"learning_rate": "auto"}, True),
        ({"layer": ["stem"], "strategy": "features"}, True),
        ({"layer": "stem", "strategy": "features"}, True),
        ({"log": ["csv", "wandb"]}, True),
        ({"log": ["csv", "paper"]}, False),
        ({"report": False}, True),
        ({"report": "no"}, False),
    ],
)
def test_schema__agrees_with_the_options(values, is_right, tmp_path):
    file = tmp_path / "settings.toml"
    file.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items()))
    schema = Draft202012Validator(settings_schema(FinetuneOptions, "finetune"))

    assert schema.is_valid(values) == is_right
    if is_right:
        assert set(read_settings(file, FinetuneOptions)) == set(values)
    else:
        with pytest.raises(ValueError, match=str(file)):
            read_settings(file, FinetuneOptions)


def test_config_schema__is_printed_without_any_argument(cli):
    ran = cli("predict", "--config-schema")

    assert ran.code == 0
    assert json.loads(ran.out)["title"] == "Settings of transferkit predict"
