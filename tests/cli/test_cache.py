"""`transferkit cache`: it lists and clears what runs have cached."""

from tiny_backbone import TINY


def test_cache__lists_and_clears_what_runs_have_cached(cli, image_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("TRANSFERKIT_CACHE", str(tmp_path / "cache"))
    cli("finetune", image_folder, "-o", tmp_path / "run", "--epochs", "2", *TINY)
    header, *lines = cli("cache").out.splitlines()
    (line,) = (line for line in lines if '"test_resnet, frozen layers",24,' in line)
    key = line.split(",")[0]

    assert header == "entry,what,rows,MB,last used"
    assert [line for line in lines if f"images of {image_folder}, checked" in line]
    assert key in cli("cache", key).out
    assert cli("cache", "nonsense").err.startswith("error: unknown cache entry 'nonsense'")
    assert cli("cache", key, "--clear").out.startswith("removed 1 entries")
    assert len(cli("cache").out.splitlines()) == 2
    assert cli("cache", "--clear").out.startswith("removed 1 entries")
    assert cli("cache").out.splitlines() == [header]
    assert cli("cache", "--clear").out == "removed 0 entries, 0.0 MB\n"
