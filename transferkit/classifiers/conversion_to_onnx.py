"""Convert a fitted classifier to ONNX: features in, probabilities out.

The graph computes as scikit-learn does: it scales in float32 and continues in float64. A support
vector machine needs that, because its scores jump where a pairwise decision changes its sign.
skl2onnx computes it in float32, and for nearest neighbours it ignores the distances:
https://github.com/onnx/sklearn-onnx/issues/1214.

To convert another classifier, add a row to `_SCORES` or to `_PROBABILITIES`.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike, NDArray
from sklearn.calibration import CalibratedClassifierCV
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from transferkit.calibration import SMALLEST
from transferkit.engines.conversion import OPSET
from transferkit.errors import EngineError

FEATURES, PROBABILITIES = "features", "probabilities"
"""Names of the input and the output."""

_ML, _ML_OPSET = "ai.onnx.ml", 3
"""ONNX's operators for classical machine learning, and their version."""

_IR_VERSION = 8
"""Version of the file format that belongs to the versions of the operators."""

_LARGEST = 2**31 - 2**20
"""Most bytes of numbers: a file holds 2 GiB, nodes included."""

_TINY = 1e-30
"""Smallest squared distance of a neighbour; its weight outdoes that of any other distance."""


class _Graph:
    """The nodes and constants of an ONNX graph that is being built; values are their names."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self._bytes = 0

    def constant(self, values: ArrayLike) -> str:
        """Add an array of its own type.

        Raises:
            EngineError: When a file cannot hold all constants.
        """
        array = np.asarray(values)
        self._bytes += array.nbytes
        if self._bytes > _LARGEST:
            raise EngineError(
                f"the classifier keeps {self._bytes / 2**30:.1f} GiB of training rows or more, and "
                "an ONNX file holds 2 GiB; train with --classifier linear, ridge or mlp"
            )
        name = f"constant_{len(self.constants)}"
        self.constants.append(onnx.numpy_helper.from_array(array, name))
        return name

    def add(self, operator: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """Add a node with one output."""
        return self.add_several(operator, *inputs, outputs=(output,), **attributes)[0]

    def add_several(
        self, operator: str, *inputs: str, outputs: tuple[str | None, ...], **attributes: Any
    ) -> list[str]:
        """Add a node with several outputs; those without a name get one."""
        count = len(self.nodes)
        names = [name or f"{operator.lower()}_{count}_{i}" for i, name in enumerate(outputs)]
        self.nodes.append(onnx.helper.make_node(operator, inputs, names, **attributes))
        return names

    def affine(self, values: str, weights: NDArray[np.float64], offset: ArrayLike) -> str:
        """Add values (N, D) times weights (D, K) plus offset (K,)."""
        products = self.add("MatMul", values, self.constant(weights))
        return self.add("Add", products, self.constant(offset))

    def total(self, values: str, axis: int, *, keepdims: bool) -> str:
        """Add a sum over an axis."""
        return self.add("ReduceSum", values, self.constant([axis]), keepdims=int(keepdims))


def classifier_to_onnx(
    classifier: Any, width: int, num_classes: int, temperature: float = 1.0
) -> onnx.ModelProto:
    """Convert a fitted classifier to ONNX.

    Args:
        classifier: What `fit_classifier` fitted; its classes are positions in the list of classes.
        width: Number of features.
        num_classes: Number of classes, with those that the classifier has not seen.
        temperature: What the logarithms of its probabilities are divided by.

    Returns:
        A model from `features` (N, width) float32 to `probabilities` (N, num_classes) float32, for
        any N. They are those of `FeatureHead.predict_proba`.

    Raises:
        EngineError: When the classifier cannot be converted, or is for other features or classes.
    """
    classes = classifier.classes_
    if classifier.n_features_in_ != width or classes.max() >= num_classes:
        raise EngineError(
            f"the classifier is for {classifier.n_features_in_} features and {classes.max() + 1} "
            f"or more classes; got {width} features and {num_classes} classes"
        )
    graph = _Graph()
    known = _known_probabilities(graph, classifier)
    _place(graph, _at_temperature(graph, known, temperature), classes, num_classes)
    number, info = onnx.TensorProto.FLOAT, onnx.helper.make_tensor_value_info
    return onnx.helper.make_model(
        onnx.helper.make_graph(
            graph.nodes,
            "classifier",
            [info(FEATURES, number, ["n", width])],
            [info(PROBABILITIES, number, ["n", num_classes])],
            graph.constants,
        ),
        opset_imports=[
            onnx.helper.make_opsetid("", OPSET),
            onnx.helper.make_opsetid(_ML, _ML_OPSET),
        ],
        ir_version=_IR_VERSION,
        producer_name="transferkit",
    )


def _place(graph: _Graph, known: str, classes: NDArray[np.int64], num_classes: int) -> None:
    """Add the output: probabilities of all classes from those of the known ones."""
    # Classes that are not known take the column of zeros after those that are.
    columns = np.full(num_classes, len(classes))
    columns[classes] = np.arange(len(classes))
    padded = graph.add("Pad", known, graph.constant([0, 0, 0, 1]))
    # This operator does what Gather does. OpenVINO does not know it and refuses the graph, which it
    # would compute in float32 or bf16, with some probabilities wrong by more than 0.5.
    every = graph.add("ArrayFeatureExtractor", padded, graph.constant(columns), domain=_ML)
    every = graph.add("Cast", every, to=onnx.TensorProto.FLOAT)
    # 0 for a row of finite features, else NaN: comparisons would hide features that are not finite.
    invalid = graph.add("Mul", FEATURES, graph.constant(np.float32(0)))
    graph.add("Add", every, graph.total(invalid, 1, keepdims=True), output=PROBABILITIES)


def _known_probabilities(graph: _Graph, classifier: Any) -> str:
    """Add the probabilities (N, K) of the classes that the classifier knows."""
    if not isinstance(classifier, CalibratedClassifierCV):
        scaler, estimator = (step for _, step in classifier.steps)
        return _of_type(_PROBABILITIES, estimator)(graph, _scaled(graph, scaler), estimator)
    [calibrated] = classifier.calibrated_classifiers_
    [temperature] = calibrated.calibrators
    scaler, estimator = (step for _, step in calibrated.estimator.steps)
    scores = _of_type(_SCORES, estimator)(graph, _scaled(graph, scaler), estimator)
    # scikit-learn takes the logarithm first if all scores of a batch look like probabilities. Those
    # of three or more classes never do: a row sums to 0 for logistic regression, to less for ridge,
    # and to 2 or more votes for a support vector machine. One column is never looked at.
    return _softmax(graph, scores, len(estimator.classes_), float(temperature.beta_))


def _at_temperature(graph: _Graph, known: str, temperature: float) -> str:
    """Add what `calibration.at_temperature` returns, in float64."""
    if temperature == 1:
        return known
    known = graph.add("Cast", known, to=onnx.TensorProto.DOUBLE)
    known = graph.add("Max", known, graph.constant(np.float64(SMALLEST)))
    powers = graph.add("Pow", known, graph.constant(np.float64(1 / temperature)))
    return graph.add("Div", powers, graph.total(powers, 1, keepdims=True))


def _scaled(graph: _Graph, scaler: StandardScaler) -> str:
    """Add the standardised features, in float64."""
    _require(scaler, with_mean=True, with_std=True)
    # In float32, as scikit-learn does, so that pairwise decisions have the same sign.
    mean, scale = (graph.constant(a.astype(np.float32)) for a in (scaler.mean_, scaler.scale_))
    rows = graph.add("Div", graph.add("Sub", FEATURES, mean), scale)
    return graph.add("Cast", rows, to=onnx.TensorProto.DOUBLE)


def _softmax(graph: _Graph, scores: str, count: int, factor: float) -> str:
    """Add the softmax of scores times a factor; a single column is that of the second class."""
    if count == 2:
        scores = graph.add("Concat", graph.add("Neg", scores), scores, axis=1)
    return graph.add("Softmax", graph.add("Mul", scores, graph.constant(factor)), axis=1)


def _linear_scores(graph: _Graph, rows: str, model: Any) -> str:
    # For two classes, ridge keeps a vector of weights, where logistic regression keeps one row.
    return graph.affine(rows, np.atleast_2d(model.coef_).T, model.intercept_)


def _svm_scores(graph: _Graph, rows: str, svm: SVC) -> str:
    """Add the decision function: (N, 1) of two classes, else (N, K)."""
    _require(svm, decision_function_shape="ovr")
    kernel = _kernel(graph, rows, svm)
    count = len(svm.classes_)
    if count == 2:
        return graph.affine(kernel, svm.dual_coef_.T, svm.intercept_)
    return _votes(graph, _pairwise_decisions(graph, kernel, svm), count)


def _kernel(graph: _Graph, rows: str, svm: SVC) -> str:
    """Add the kernel of rows and support vectors, (N, S)."""
    if svm.kernel == "linear":
        return graph.add("MatMul", rows, graph.constant(svm.support_vectors_.T))
    _require(svm, kernel="rbf")
    distances = _squared_distances(graph, rows, svm.support_vectors_)
    return graph.add("Exp", graph.add("Mul", distances, graph.constant(-float(svm.gamma))))


def _squared_distances(graph: _Graph, rows: str, others: NDArray[np.float64]) -> str:
    """Add the squared distances (N, M) of rows (N, D) and others (M, D)."""
    norms = graph.total(graph.add("Mul", rows, rows), 1, keepdims=True)
    return graph.add("Add", graph.affine(rows, -2 * others.T, np.square(others).sum(axis=1)), norms)


def _pairwise_decisions(graph: _Graph, kernel: str, svm: SVC) -> str:
    """Add the decisions of all pairs of classes, (N, K, K) and symmetric.

    They are positive for the first class of a pair. Each class adds what its own support vectors
    say against every other class; a matrix for all pairs would be mostly zeros.
    """
    count, sizes = len(svm.classes_), svm.n_support_.astype(np.int64)
    # Row i of the coefficients is against class i, and from a vector's own class on against i + 1.
    own = np.repeat(np.arange(count), sizes)
    against = np.arange(count - 1)[:, None]
    weights = np.zeros((count, len(own)))
    np.put_along_axis(weights, against + (against >= own), svm.dual_coef_, axis=0)
    parts = graph.add_several(
        "Split", kernel, graph.constant(sizes), outputs=(None,) * count, axis=1
    )
    against_others = [
        graph.add("MatMul", part, graph.constant(weights[:, own == label].T))
        for label, part in enumerate(parts)
    ]
    shape = graph.constant([-1, count, count])
    one_sided = graph.add("Reshape", graph.add("Concat", *against_others, axis=1), shape)
    other_sided = graph.add("Transpose", one_sided, perm=[0, 2, 1])
    offset = np.zeros((count, count))
    offset[np.triu_indices(count, 1)] = svm.intercept_
    both = graph.add("Add", one_sided, other_sided)
    return graph.add("Add", both, graph.constant(offset + offset.T))


def _votes(graph: _Graph, decisions: str, count: int) -> str:
    """Add the votes (N, K) of pairwise decisions, plus a share below 1/3 for their confidence."""
    is_first = np.triu(np.ones((count, count)), 1)
    sign = graph.constant(is_first - is_first.T)
    negative = graph.add("Less", decisions, graph.constant(0.0))
    negative = graph.add("Cast", negative, to=onnx.TensorProto.DOUBLE)
    # The first class of a pair has the vote unless the decision is negative, the second if it is.
    won = graph.add("Sub", graph.constant(is_first), graph.add("Mul", negative, sign))
    confidence = graph.total(graph.add("Mul", decisions, sign), 2, keepdims=False)
    size = graph.add("Add", graph.add("Abs", confidence), graph.constant(1.0))
    share = graph.add("Div", confidence, graph.add("Mul", size, graph.constant(3.0)))
    return graph.add("Add", graph.total(won, 2, keepdims=False), share)


def _mlp_probabilities(graph: _Graph, rows: str, mlp: MLPClassifier) -> str:
    _require(mlp, activation="relu")
    *hidden, last = zip(mlp.coefs_, mlp.intercepts_, strict=True)
    for weights, offset in hidden:
        rows = graph.add("Relu", graph.affine(rows, weights, offset))
    # The logistic function of a score is the softmax of its two halves, one of them negative.
    count = len(mlp.classes_)
    return _softmax(graph, graph.affine(rows, *last), count, 0.5 if count == 2 else 1.0)


def _knn_probabilities(graph: _Graph, rows: str, knn: KNeighborsClassifier) -> str:
    """Add each class's share of the nearest neighbours, weighted by their inverse distances."""
    _require(knn, weights="distance", metric="minkowski", p=2)
    distances = _squared_distances(graph, rows, knn._fit_X)
    nearest, positions = graph.add_several(
        "TopK",
        distances,
        graph.constant([knn.n_neighbors]),
        outputs=(None, None),
        axis=1,
        largest=0,
    )
    nearest = graph.add("Sqrt", graph.add("Max", nearest, graph.constant(_TINY)))
    weights = graph.add("Unsqueeze", graph.add("Reciprocal", nearest), graph.constant([1]))
    labels = graph.add("Gather", graph.constant(knn._y[:, None]), positions)
    is_class = graph.add("Equal", labels, graph.constant(np.arange(len(knn.classes_))))
    is_class = graph.add("Cast", is_class, to=onnx.TensorProto.DOUBLE)
    sums = graph.add("Squeeze", graph.add("MatMul", weights, is_class), graph.constant([1]))
    return graph.add("Div", sums, graph.total(sums, 1, keepdims=True))


def _require(estimator: Any, **settings: Any) -> None:
    """Check that an estimator has the settings that are converted."""
    for name, expected in settings.items():
        found = getattr(estimator, name)
        if found != expected:
            raise EngineError(
                f"{type(estimator).__name__} with {name}={found!r} cannot be converted to ONNX; "
                f"expected {expected!r}"
            )


_Converter = Callable[[_Graph, str, Any], str]

_SCORES: Mapping[type, _Converter] = {
    SVC: _svm_scores,
    LogisticRegression: _linear_scores,
    RidgeClassifier: _linear_scores,
}
"""Classifiers whose scores a temperature turns into probabilities."""

_PROBABILITIES: Mapping[type, _Converter] = {
    MLPClassifier: _mlp_probabilities,
    KNeighborsClassifier: _knn_probabilities,
}
"""Classifiers with probabilities of their own."""


def _of_type(converters: Mapping[type, _Converter], estimator: Any) -> _Converter:
    if type(estimator) not in converters:
        raise EngineError(
            f"a classifier of the type {type(estimator).__name__} cannot be converted to ONNX; "
            f"expected {', '.join(kind.__name__ for kind in converters)}"
        )
    return converters[type(estimator)]
