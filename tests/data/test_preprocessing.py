"""Preprocessing, recorded and read back."""

from transferkit.data.preprocessing import Preprocessing


def test_preprocessing__is_read_back_from_lists_and_beside_unknown_keys():
    record = Preprocessing(input_size=(3, 96, 128), mean=(0.5, 0.5, 0.5), crop_mode="border")

    assert Preprocessing.from_config({**record.to_config(), "url": "x", "std": None}) == record
