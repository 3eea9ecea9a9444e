"""The record of preprocessing."""

from transferkit.data.preprocessing import Preprocessing

SMALL = Preprocessing(input_size=(3, 32, 32))


def test_preprocessing__survives_json_lists_and_strange_keys():
    record = Preprocessing(input_size=(3, 96, 128), mean=(0.5, 0.5, 0.5), crop_mode="border")

    assert Preprocessing.from_config({**record.to_config(), "url": "x", "std": None}) == record
