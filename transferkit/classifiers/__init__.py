"""Classifiers of scikit-learn on features: chosen by cross-validation, fitted, kept without pickle.

Needs no scikit-learn to be imported.
"""

from enum import StrEnum


class Classifier(StrEnum):
    """What is fitted on features.

    `svm`: a support vector machine, with a linear or a radial kernel. `linear`: logistic
    regression. `ridge`: least squares with an L2 penalty. `mlp`: one hidden layer. `knn`: nearest
    neighbours.
    """

    SVM = "svm"
    LINEAR = "linear"
    RIDGE = "ridge"
    MLP = "mlp"
    KNN = "knn"
