"""scikit-learn classifiers on features: cross-validated, fitted, and saved without pickle.

Importing this package does not import scikit-learn.
"""

from enum import StrEnum


class Classifier(StrEnum):
    """A kind of classifier on features.

    `svm`: a support vector machine with a linear or a radial kernel. `linear`: logistic regression.
    `ridge`: least squares with an L2 penalty. `mlp`: one hidden layer. `knn`: nearest neighbours.
    """

    SVM = "svm"
    LINEAR = "linear"
    RIDGE = "ridge"
    MLP = "mlp"
    KNN = "knn"
