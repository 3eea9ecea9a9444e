"""Saved classifiers: loading returns the same classifier, and no file runs code."""

import io
import json
import zipfile

import numpy as np
import pytest
import skops.io
from point_clouds import clouds
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from transferkit.classifiers import Classifier
from transferkit.classifiers.fitting import fit_classifier
from transferkit.classifiers.storage import dump_classifier, load_classifier
from transferkit.errors import BundleError


@pytest.mark.parametrize("kind", Classifier)
def test_storage__returns_the_same_classifier(tmp_path, kind):
    features, labels = clouds(count=10)
    fitted = fit_classifier(kind, features, labels, seed=0).estimator
    (tmp_path / "c.skops").write_bytes(dump_classifier(fitted))

    loaded = load_classifier(tmp_path / "c.skops")

    assert np.array_equal(loaded.predict_proba(features), fitted.predict_proba(features))


class Malicious:
    """An object whose pickle runs code when it is loaded."""

    def __reduce__(self):
        return exec, ("open('ran', 'w').close()",)


def crafted(change) -> bytes:
    """Return the content of a .skops file with a changed schema."""
    features, labels = clouds()
    fitted = fit_classifier(Classifier.RIDGE, features, labels, seed=0).estimator
    source, target = zipfile.ZipFile(io.BytesIO(dump_classifier(fitted))), io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name in source.namelist():
            data = source.read(name)
            if name == "schema.json":
                data = json.dumps(change(json.loads(data))).encode()
            archive.writestr(name, data)
    return target.getvalue()


def of_type(schema, module: str, name: str):
    return {**schema, "__module__": module, "__class__": name}


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (lambda: skops.io.dumps(make_pipeline(FunctionTransformer(eval))), "builtins.eval"),
        (lambda: skops.io.dumps(Malicious()), "Malicious"),
        (lambda: skops.io.dumps(make_pipeline(PCA(), GaussianNB())), "GaussianNB"),
        (lambda: crafted(lambda s: of_type(s, "os", "system")), "os.system"),
        (lambda: crafted(lambda s: of_type(s, "subprocess", "Popen")), "subprocess.Popen"),
    ],
    ids=["function", "reduce", "estimator", "os.system", "Popen"],
)
def test_storage__runs_nothing_in_a_crafted_file_and_names_its_type(
    tmp_path, monkeypatch, content, named
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.skops").write_bytes(content())

    with pytest.raises(BundleError, match="could run code; it was not loaded") as caught:
        load_classifier(tmp_path / "c.skops")

    assert named in str(caught.value)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no zip at all",
        lambda: skops.io.dumps([1, 2]),
        lambda: truncated(),
        lambda: skops.io.dumps(make_pipeline(StandardScaler(), LogisticRegression())),
        lambda: with_text_labels(),
    ],
)
def test_storage__refuses_a_damaged_or_foreign_file(tmp_path, content):
    (tmp_path / "c.skops").write_bytes(content() if callable(content) else content)

    expected = r"c\.skops: (cannot be read as a classifier|contains list)"
    with pytest.raises(BundleError, match=expected):
        load_classifier(tmp_path / "c.skops")


def with_text_labels() -> bytes:
    features, labels = clouds()
    names = np.array(["a", "b", "c"])[labels]
    return dump_classifier(
        make_pipeline(StandardScaler(), LogisticRegression()).fit(features, names)
    )


def truncated() -> bytes:
    return crafted(lambda schema: schema)[:-200]


def test_storage__refuses_a_missing_file(tmp_path):
    with pytest.raises(BundleError, match=r"c\.skops: no such file"):
        load_classifier(tmp_path / "c.skops")
