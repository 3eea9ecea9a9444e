"""Classifiers: fast paths give the estimators' own answers; choice, calibration, persistence."""

import io
import json
import zipfile

import numpy as np
import pytest
import skops.io
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from transferkit.classifiers import Classifier
from transferkit.classifiers.families import FAMILIES, Fold
from transferkit.classifiers.fitting import fit_classifier
from transferkit.classifiers.storage import dump_classifier, load_classifier
from transferkit.errors import BundleError, DataError, OptionError


def clouds(count: int = 40, classes: int = 3, width: int = 6, seed: int = 0, spread: float = 1.6):
    """Overlapping clouds of points, `count` a class."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(classes, width))
    labels = np.repeat(np.arange(classes), count)
    return centres[labels] + spread * random.normal(size=(len(labels), width)), labels


def fold(classes: int, width: int) -> Fold:
    features, labels = clouds(classes=classes, width=width)
    train = np.arange(len(labels)) % 4 != 0
    scaler = StandardScaler().fit(features[train])
    rows = scaler.transform(features)
    return Fold(rows[train], labels[train], rows[~train])


@pytest.mark.parametrize("width", [6, 150])
@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("kind", [Classifier.SVM, Classifier.LINEAR, Classifier.RIDGE])
def test_answers__are_those_of_the_estimator_itself(kind, classes, width, balanced):
    family, part = FAMILIES[kind], fold(classes, width)
    if balanced:  # lose most of a class, so that weights matter
        kept = (part.labels != 0) | (np.arange(len(part.labels)) % 5 == 0)
        part = Fold(part.train[kept], part.labels[kept], part.test)
    common = {"class_weight": "balanced"} if balanced else {}
    grid = family.grid(len(part.labels), width)

    answers = list(family.answers(part, grid, common))

    differing = 0
    for settings, given in zip(grid, answers, strict=True):
        alone = family.create(**settings, **common).fit(part.train, part.labels)
        differing += int((alone.predict(part.test) != given).sum())
    # logistic regression ends within its tolerance of the same optimum
    allowed = 0.03 * len(grid) * len(part.test) if kind is Classifier.LINEAR else 0
    assert differing <= allowed
    assert len(np.unique(np.concatenate(answers))) == classes


@pytest.mark.parametrize("kind", Classifier)
def test_fit__chooses_the_best_of_the_grid_and_repeats_itself(kind):
    features, labels = clouds()
    fitted = fit_classifier(kind, features, labels, seed=0)
    again = fit_classifier(kind, features, labels, seed=0)
    accuracies = [accuracy for _, accuracy in fitted.tried]

    assert fitted.correct / fitted.searched == max(accuracies)
    first_best = accuracies.index(max(accuracies))
    assert fitted.settings == fitted.tried[first_best][0]
    assert (fitted.searched, fitted.folds) == (len(labels), 5)
    probabilities = fitted.estimator.predict_proba(features)
    assert np.array_equal(probabilities, again.estimator.predict_proba(features))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)
    assert (probabilities.argmax(axis=1) == labels).mean() > 0.6


def test_fit__accuracy_is_that_of_the_pipeline_in_the_same_folds():
    features, labels = clouds()
    fitted = fit_classifier(Classifier.LINEAR, features, labels, seed=3)
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000, **fitted.settings))
    correct = 0
    for train, test in StratifiedKFold(5, shuffle=True, random_state=3).split(features, labels):
        model = pipeline.fit(features[train], labels[train])
        correct += int((model.predict(features[test]) == labels[test]).sum())

    assert abs(fitted.correct - correct) <= 1


@pytest.mark.parametrize("kind", [Classifier.SVM, Classifier.LINEAR, Classifier.RIDGE])
def test_fit__probabilities_are_calibrated(kind):
    features, labels = clouds(count=120)
    new, new_labels = clouds(count=120)  # the same centres, seen again
    fitted = fit_classifier(kind, features, labels, seed=0)
    probabilities = fitted.estimator.predict_proba(new)

    confidence = probabilities.max(axis=1).mean()
    accuracy = (probabilities.argmax(axis=1) == new_labels).mean()
    assert abs(confidence - accuracy) < 0.06
    assert log_loss(new_labels, probabilities) < 0.75 * np.log(3)


def test_fit__copies_stay_on_one_side_of_a_fold():
    random = np.random.default_rng(0)
    rows = random.normal(size=(60, 8))
    labels = random.integers(0, 2, 60)  # nothing to learn but the copies themselves
    features, labels = np.tile(rows, (3, 1)), np.tile(labels, 3)
    groups = np.tile(np.arange(60), 3)

    leaking = fit_classifier(Classifier.KNN, features, labels, seed=0)
    honest = fit_classifier(Classifier.KNN, features, labels, seed=0, groups=groups)

    assert leaking.correct / leaking.searched > 0.9
    assert honest.correct / honest.searched < 0.7


def test_fit__balanced_weights_let_the_rare_class_be_heard():
    features, labels = clouds(count=100, classes=2, spread=2.5)
    kept = (labels == 0) | (np.arange(200) % 10 == 0)
    features, labels = features[kept], labels[kept]
    recall = {}
    for balanced in (False, True):
        fitted = fit_classifier(Classifier.RIDGE, features, labels, seed=0, balanced=balanced)
        said = fitted.estimator.predict_proba(features).argmax(axis=1)
        recall[balanced] = (said[labels == 1] == 1).mean()

    assert recall[True] > recall[False] + 0.2


@pytest.mark.parametrize("kind", [Classifier.MLP, Classifier.KNN])
def test_fit__says_which_classifiers_weight_classes(kind):
    with pytest.raises(OptionError, match="does not weight classes; take svm, linear, ridge"):
        fit_classifier(kind, *clouds(), seed=0, balanced=True)


def test_fit__few_images_lower_the_folds_and_one_is_an_error():
    features, labels = clouds(count=3)

    assert fit_classifier(Classifier.SVM, features, labels, seed=0).folds == 3
    with pytest.raises(DataError, match="a class has 1 training image"):
        fit_classifier(Classifier.SVM, features[2:], labels[2:], seed=0)
    with pytest.raises(DataError, match="a class has 1 training image, copies apart"):
        fit_classifier(Classifier.SVM, features, labels, seed=0, groups=np.arange(9) * (labels > 0))


def test_fit__copies_in_a_small_class_leave_it_in_every_training_part():
    features, labels = clouds(count=10)
    features, labels, groups = features[7:], labels[7:], np.arange(23)  # 3 of class 0
    groups[1] = groups[0]
    fitted = fit_classifier(Classifier.RIDGE, features, labels, seed=0, groups=groups)

    assert fitted.folds == 2
    assert fitted.estimator.predict_proba(features).shape == (23, 3)


@pytest.mark.parametrize("count", [51, 53, 200])
def test_fit__of_many_rows_a_share_of_each_class_chooses(monkeypatch, count):
    monkeypatch.setattr("transferkit.classifiers.fitting.SEARCH_ROWS", 50)
    features, labels = clouds(count=count, classes=4)
    features, labels = features[: 3 * count + 6], labels[: 3 * count + 6]  # 6 of the last class
    copies = np.arange(len(labels)) // 2
    for groups in (None, copies):
        fitted = fit_classifier(Classifier.KNN, features, labels, seed=0, groups=groups)

        assert 40 <= fitted.searched <= 60
        assert fitted.folds == (5 if groups is None else 3)


def test_fit__features_that_are_no_numbers_are_an_error():
    features, labels = clouds()
    features[3, 2] = np.inf

    with pytest.raises(DataError, match="not finite numbers; try --precision fp32"):
        fit_classifier(Classifier.LINEAR, features, labels, seed=0)


@pytest.mark.parametrize("kind", Classifier)
def test_storage__gives_the_same_classifier_back(tmp_path, kind):
    features, labels = clouds()
    fitted = fit_classifier(kind, features, labels, seed=0).estimator
    (tmp_path / "c.skops").write_bytes(dump_classifier(fitted))

    loaded = load_classifier(tmp_path / "c.skops")

    assert np.array_equal(loaded.predict_proba(features), fitted.predict_proba(features))


class Malicious:
    """What a pickle would run when it is loaded."""

    def __reduce__(self):
        return exec, ("open('ran', 'w').close()",)


def crafted(change) -> bytes:
    """A .skops file of a classifier with a changed schema."""
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
def test_storage__a_crafted_file_runs_nothing_and_its_type_is_named(
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
        lambda: of_texts(),
    ],
)
def test_storage__a_damaged_or_strange_file_is_an_error(tmp_path, content):
    (tmp_path / "c.skops").write_bytes(content() if callable(content) else content)

    with pytest.raises(BundleError, match=r"c\.skops: (cannot be read as a classifier|holds list)"):
        load_classifier(tmp_path / "c.skops")


def of_texts() -> bytes:
    features, labels = clouds()
    names = np.array(["a", "b", "c"])[labels]
    return dump_classifier(
        make_pipeline(StandardScaler(), LogisticRegression()).fit(features, names)
    )


def truncated() -> bytes:
    return crafted(lambda schema: schema)[:-200]


def test_storage__a_missing_file_is_an_error(tmp_path):
    with pytest.raises(BundleError, match=r"c\.skops: no such file"):
        load_classifier(tmp_path / "c.skops")
