"""Options that several commands share, and the texts and panel names they have in common."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from transferkit.devices import USUAL_BATCH_SIZE, Device, Precision
from transferkit.engines import Engine
from transferkit.errors import OptionError
from transferkit.models import PRETRAINED
from transferkit.options.declaration import OnResume, Option, Options, Range
from transferkit.options.parsers import count_or_auto, number_or_auto
from transferkit.places import Place

DEFAULT_BACKBONE = "tf_efficientnet_lite0"
"""EfficientNet-Lite0, whose ImageNet weights are installed with transferkit."""

DATA_HELP = (
    "Folder of images, one subfolder per class; or train/, val/ and test/ folders of such "
    "subfolders; or tar archives; or a .csv, .tsv or .parquet table of paths and labels. A path, "
    "or an address such as s3://bucket/photos."
)
BACKBONE_HELP = (
    "timm name with or without a weights tag, torchvision:NAME, hf-hub:OWNER/NAME, "
    "local-dir:PATH, or edges8. See: transferkit backbones."
)
WEIGHTS_HELP = "pretrained, none (random weights), or the path of a .safetensors or .pth file."
IMAGE_SIZE_HELP = "Size of the network's input in pixels: a side, or height x width as in 128x256."
MODEL_HELP = "A run, its model/ folder, or a local-dir: or hf-hub: model."

EXPORTED_HELP = (
    "A run, its model/ folder, an exported .onnx file, or a local-dir: or hf-hub: model."
)

OUTPUT, SORTING, MODEL, STRATEGY, FEATURES, EXPLANATION, DATA, TRAINING, COMPUTE, CLUSTER = (
    "Output", "Sorting", "Model", "Strategy", "Features and classifier", "Explanation", "Data",
    "Training", "Compute", "Cluster",
)  # fmt: skip
DRAWINGS = "Drawings"


Data = Annotated[Place, Option(argument=True, help=DATA_HELP, on_resume=OnResume.CALL)]

Backbone = Annotated[str, Option(panel=MODEL, flags=("-b", "--backbone"), help=BACKBONE_HELP)]

Weights = Annotated[str, Option(panel=MODEL, help=WEIGHTS_HELP)]

MovedData = Annotated[
    Place | None,
    Option(
        panel=DATA,
        help="Folder of the run's dataset, if it has moved.",
        metavar="DIR",
        show_default="where it was",
    ),
]

Overwrite = Annotated[
    bool,
    Option(
        panel=OUTPUT,
        flags=("--overwrite",),
        help="Replace existing files.",
        on_resume=OnResume.CALL,
    ),
]


Tta = Annotated[
    bool,
    Option(
        panel=OUTPUT,
        flags=("--tta",),
        help="Average over each image and its mirror image (test-time augmentation), in twice the "
        "time.",
    ),
]


EngineOption = Annotated[
    Engine,
    Option(
        panel=COMPUTE,
        flags=("--engine",),
        help="What computes layers that are not trained; auto is OpenVINO on the CPU for many "
        "images, else torch.",
    ),
]


Workers = Annotated[
    int | None,
    Option(
        panel=COMPUTE,
        help="Threads that read and decode images; auto is one per core, at most 16, and 16 for "
        "images in a store.",
        within=Range(1),
        parse=number_or_auto,
        metavar="N|auto",
        show_default="auto",
        on_resume=OnResume.FREE,
    ),
]


BatchSize = Annotated[
    int | Literal["auto"],
    Option(
        panel=COMPUTE,
        help="Images per batch; auto is a power of two from 32 to 1024, by the GPU's free "
        "memory, for training and passes, and 32 on the CPU.",
        within=Range(1, 65536),
        parse=count_or_auto,
        metavar="N|auto",
    ),
]


@dataclass(frozen=True, kw_only=True)
class ComputeOptions(Options):
    """How every command computes."""

    batch_size: BatchSize = USUAL_BATCH_SIZE
    device: Annotated[Device, Option(panel=COMPUTE, help="Device to compute on.")] = Device.AUTO
    precision: Annotated[
        Precision,
        Option(
            panel=COMPUTE,
            help="Number format; auto is bf16 where the GPU or CPU has instructions for it, else "
            "fp32.",
        ),
    ] = Precision.AUTO
    workers: Workers = None
    allow_truncated: Annotated[
        bool,
        Option(
            panel=DATA,
            flags=("--allow-truncated",),
            help="Accept JPEGs whose end is missing; the missing part is grey.",
        ),
    ] = False


def require_one_network(model: str | None, backbone: str | None, weights: str) -> None:
    """Require that a model is named alone.

    Raises:
        OptionError: When a backbone or its weights are named beside a model.
    """
    if model and (backbone or weights != PRETRAINED):
        raise OptionError(
            "--model has its own backbone and weights; leave out --backbone and --weights"
        )


def _as_inputs(given: Any) -> tuple[Any, ...]:
    """Return paths as text, and images that Python callers give as they are.

    Raises:
        ImageTypeError: When there is something else among them.
    """
    if isinstance(given, list | tuple) and all(isinstance(item, str) for item in given):
        return tuple(given)
    # Imported here: the command line needs no numpy to read paths.
    from transferkit.data.image_inputs import as_images

    return tuple(str(one) if isinstance(one, Path) else one for one in as_images(given))


@dataclass(frozen=True)
class InputOptions(ComputeOptions):
    """Images, and the model that classifies them."""

    inputs: Annotated[
        Any,
        Option(
            argument=True,
            convert=_as_inputs,
            help="Image files, folders, glob patterns, or - for a list of paths on standard input.",
            on_resume=OnResume.CALL,
        ),
    ]
    model: Annotated[
        str | None,
        Option(
            panel=MODEL, flags=("-m", "--model"), help=MODEL_HELP, metavar="RUN", show_default=False
        ),
    ] = None
    backbone: Annotated[
        str | None,
        Option(
            panel=MODEL,
            flags=("-b", "--backbone"),
            help="Without --model: a pretrained network with its own categories (ImageNet).",
            show_default=DEFAULT_BACKBONE,
        ),
    ] = None
    weights: Annotated[str, Option(panel=MODEL, help=f"With --backbone: {WEIGHTS_HELP}")] = (
        PRETRAINED
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require_one_network(self.model, self.backbone, self.weights)
