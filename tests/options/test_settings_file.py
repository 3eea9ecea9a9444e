"""Options in a TOML file or in a run's record, through the command line."""

import json
import tomllib
from dataclasses import fields

import pytest

import transferkit
from transferkit.errors import OptionError
from transferkit.options.declaration import create_options
from transferkit.options.finetune import FinetuneOptions
from transferkit.options.predict import PredictOptions
from transferkit.options.settings_file import format_settings, read_settings

SMALL = {"backbone": "test_resnet", "weights": "none", "image_size": 32, "batch_size": 8}


def write(path, text):
    path.write_text(text, "utf-8")
    return path


def small_file(path, data, **more):
    """Write a settings file by hand: TOML's values here are as JSON's."""
    values = {"data": str(data), **SMALL, "epochs": 1, **more}
    return write(path, "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items()))


def test_config__gives_what_the_command_line_does_not(cli, few_images, tmp_path):
    file = small_file(tmp_path / "small.toml", few_images, seed=3, report=False, log=["csv"])
    ran = cli("finetune", "--config", file, "-o", tmp_path / "run", "--seed", 4)
    given = json.loads((tmp_path / "run/options.json").read_text())["given"]

    assert ran.code == 0
    assert given == {**SMALL, "epochs": 1, "seed": 4, "report": False, "log": ["csv"]}


def test_config__takes_a_run(cli, few_images, tmp_path):
    file = small_file(tmp_path / "small.toml", few_images, unfreeze="last:1", learning_rate=0.5)
    assert cli("finetune", "--config", file, "-o", tmp_path / "one").code == 0
    for config in (tmp_path / "one", tmp_path / "one/options.json"):
        again = tmp_path / f"again-{config.name}"
        assert cli("finetune", "--config", config, "-o", again).code == 0
        one, other = (
            json.loads((run / "options.json").read_text()) for run in (tmp_path / "one", again)
        )
        assert {**one, "output": ""} == {**other, "output": ""}
        refused = cli("predict", few_images, "--config", config)
        assert "options of finetune, of which this command lacks data, " in refused.err
        assert "; name the run with --model, or write the options that it has to" in refused.err


def test_config__takes_a_comparison(cli, few_images, tmp_path):
    transferkit.compare(few_images, tmp_path / "one", strategy="knn", seeds=1, **SMALL)
    assert cli("compare", "--config", tmp_path / "one", "-o", tmp_path / "two").code == 0
    one, two = (
        json.loads((tmp_path / name / "compare-options.json").read_text())
        for name in ("one", "two")
    )

    assert one == two


@pytest.mark.parametrize("command", ["predict", "evaluate", "extract-features", "audit"])
def test_config__is_for_every_command(command, cli, image_folder, run_folder, tmp_path):
    values = {"inputs" if command == "predict" else "data": str(image_folder), "batch_size": 4}
    if command in ("predict", "evaluate"):
        values["model"] = str(run_folder)
    else:
        values |= {"backbone": "test_resnet", "weights": "none", "output": str(tmp_path / "a.csv")}
    lines = (f"{key} = {json.dumps(value)}\n" for key, value in values.items())
    ran = cli(command, "--config", write(tmp_path / "settings.toml", "".join(lines)))

    assert ran.code == 0, ran.err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch = 3", "unknown key 'epoch', did you mean epochs?"),
        ("lr = 0.1", "unknown key 'lr', did you mean learning_rate?"),
        ("val-fraction = 0.1", "unknown key 'val-fraction', did you mean val_fraction?"),
        (
            "xyzzy = 1\nplugh = 2",
            "unknown key 'xyzzy'; unknown key 'plugh'; --config-schema lists all keys",
        ),
        ("[finetune]\nepochs = 3", "unknown key 'finetune'; --config-schema lists all keys"),
        ("epochs = 'x'", "--epochs: got 'x', expected a whole number"),
        ("epochs = 0", "--epochs: got 0, expected 1 or more"),
        ("report = 'no'", "--report: got 'no', expected true or false"),
        ("seed = 2026-01-01", "--seed: got datetime.date(2026, 1, 1), expected a whole number"),
        ("image_size = [64]", "--image-size: got [64], expected"),
        ("strategy = 'partly'", "--strategy: got 'partly', expected partial, full"),
        ("epochs = = 3", "Invalid value (at line 1, column 10); expected a TOML file"),
    ],
)
def test_config__says_what_is_wrong_and_where(text, message, cli, tmp_path):
    file = write(tmp_path / "settings.toml", text)
    ran = cli("finetune", "photos", "--config", file)

    assert ran.code == 2
    assert ran.err.startswith(f"error: {file}: {message}")
    assert len(ran.err.splitlines()) == 1


def test_config__says_what_cannot_be_read(cli, tmp_path):
    missing = cli("finetune", "photos", "--config", tmp_path / "no.toml")
    folder = cli("finetune", "photos", "--config", tmp_path)
    bare = cli("finetune", "photos", "--config", write(tmp_path / "a.json", "{}"))
    (tmp_path / "wide.toml").write_text("epochs = 2", "utf-16")
    wide = cli("finetune", "photos", "--config", tmp_path / "wide.toml")

    assert missing.err == f"error: --config: cannot read {tmp_path / 'no.toml'}: " \
                          "No such file or directory\n"  # fmt: skip
    assert "is a folder without options.json or compare-options.json" in folder.err
    assert "a.json: has no 'data'; expected a TOML file" in bare.err
    assert "wide.toml: is not text in UTF-8; expected a TOML file" in wide.err


def test_config__may_begin_with_the_mark_of_utf_8(tmp_path):
    (tmp_path / "settings.toml").write_text("epochs = 2", "utf-8-sig")

    assert read_settings(tmp_path / "settings.toml", FinetuneOptions) == {"epochs": 2}


def test_config__leaves_what_is_required_to_the_command_line_if_it_has_none(cli, tmp_path):
    ran = cli("finetune", "--config", write(tmp_path / "settings.toml", "epochs = 2"))

    assert ran.code == 2
    assert "Missing argument 'DATA'" in ran.err


def test_config__counts_as_given_for_what_a_budget_chooses(cli, tmp_path):
    file = write(tmp_path / "settings.toml", "budget = 3")
    ran = cli("finetune", "photos", "--epochs", 2, "--config", file)

    assert "--budget chooses --epochs" in ran.err


def test_save_config__writes_what_was_given_and_stops(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ("photos", "--lr", "1e-5:1e-3", "--unfreeze", "last:2", "--no-report", "-o", "run")
    ran = cli("finetune", *words, "--workers", "auto", "--group-by", r"p(\d)", "--save-config", "s")

    assert (ran.code, ran.out) == (0, "settings: s\n")
    assert tomllib.loads((tmp_path / "s").read_text()) == {
        "data": "photos",
        "output": "run",
        "learning_rate": [1e-5, 1e-3],
        "unfreeze": "last:2",
        "report": False,
        "group_by": r"p(\d)",
    }
    assert not (tmp_path / "run").exists()
    assert cli("finetune", "--config", "s", "--save-config", "t", "--epochs", 20).code == 0
    assert (tmp_path / "t").read_text() == (tmp_path / "s").read_text() + "epochs = 20\n"


def test_save_config__replaces_nothing(cli, tmp_path):
    file = write(tmp_path / "settings.toml", "epochs = 2")
    ran = cli("finetune", "photos", "--save-config", file)

    assert ran.code == 1
    assert "already exists; name another file, or remove it" in ran.err
    assert file.read_text() == "epochs = 2"


def test_save_config__checks_the_options(cli, tmp_path):
    ran = cli("finetune", "photos", "--find-lr", "--dry-run", "--save-config", tmp_path / "s")

    assert ran.code == 2
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    "value",
    ['"quoted" \\ and\ttabs', "a\nb\r\x00\x1f\x7f", "Kätzchen 猫 🐈", "'''", "# no comment"],
)
def test_format_settings__writes_any_text(value, tmp_path):
    options = PredictOptions(["photo"], model=value.replace("\x00", ""))
    text = format_settings(options, ["inputs", "model"], "predict")
    file = write(tmp_path / "settings.toml", text)

    assert read_settings(file, PredictOptions)["model"] == options.model


def test_format_settings__refuses_names_that_are_no_utf_8():
    options = PredictOptions(["photo\udcff.jpg"])

    with pytest.raises(OptionError, match="--save-config: TOML is UTF-8, and this is not: inputs"):
        format_settings(options, ["inputs"], "predict")


def test_settings__are_what_python_takes(tmp_path):
    file = small_file(tmp_path / "small.toml", "photos", image_size=[32, 64], unfreeze="last:1")
    from_file = create_options(FinetuneOptions, **read_settings(file, FinetuneOptions))
    from_python = create_options(FinetuneOptions, **tomllib.loads(file.read_text()))

    assert all(
        getattr(from_file, f.name) == getattr(from_python, f.name) for f in fields(from_file)
    )


def test_read_settings__names_five_unknown_keys(tmp_path):
    file = write(tmp_path / "many.toml", "".join(f"key{n} = 1\n" for n in range(7)))

    with pytest.raises(OptionError, match="unknown key 'key4' and 2 more"):
        read_settings(file, FinetuneOptions)
