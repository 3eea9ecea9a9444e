"""The card of a model: README.md in its folder, as model hubs show it."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transferkit.bundle import ModelBundle
from transferkit.data.preprocessing import describe_size
from transferkit.files import utf8_text, whole_file
from transferkit.models import HUB_PREFIX, LOCAL_PREFIX
from transferkit.models.timm_source import TIMM
from transferkit.places import Place, place
from transferkit.run.record import RunRecord

CARD = "README.md"

_TEMPLATE = Path(__file__).parent / "templates/model_card.md"

_LISTED = 50
"""Up to this many classes are listed openly, the others folded."""


def write_card(folder: Place, card: str) -> None:
    """Write a card into the folder of a model, atomically.

    Raises:
        OutputError: When it cannot be written.
    """
    with whole_file(folder / CARD) as temporary:
        temporary.write_text(card, encoding="utf-8")


def model_card(record: RunRecord, bundle: ModelBundle, repository: str = "") -> str:
    """Return the text of a model's card: Markdown after a YAML header for model hubs.

    Args:
        record: The run's record.
        bundle: Its model.
        repository: OWNER/NAME on the hub, if the model goes there.
    """
    from huggingface_hub import EvalResult, ModelCard, ModelCardData

    options, network = record.options, bundle.network
    data = place(str(options["data"])).name
    licence = str(network.config.get("license") or "")
    has_timm = network.source is TIMM and bundle.head is None
    header = ModelCardData(
        license=licence or None,
        library_name="timm" if has_timm else "transferkit",
        pipeline_tag="image-classification",
        tags=["image-classification", "transferkit", *(["timm"] if has_timm else [])],
        model_name=utf8_text(f"{network.name} on {data}"),
        eval_results=[
            EvalResult(
                task_type="image-classification",
                task_name="Image classification",
                dataset_type="imagefolder",
                dataset_name=utf8_text(data),
                dataset_split=part,
                metric_type=kind,
                metric_value=float(record.metrics[part][key]),
            )
            for part in _measured(record)
            for kind, key in (("accuracy", "accuracy"), ("f1", "macro_f1"))
        ],
    )
    card = ModelCard.from_template(
        header,
        template_path=str(_TEMPLATE),
        title=_escaped(f"{network.name} on {data}"),
        is_on_hub=bool(repository),
        address=f"{HUB_PREFIX}{repository}" if repository else "FOLDER",
        timm_name=f"{HUB_PREFIX}{repository}" if repository else f"{LOCAL_PREFIX}FOLDER",
        repository=repository or "FOLDER",
        has_timm=has_timm,
        has_test="test" in record.metrics,
        licence=licence,
        backbone=_escaped(network.name),
        weights=_escaped(place(str(options["weights"])).name),
        strategy=_strategy(options),
        data=_escaped(data),
        image_size=describe_size(network.preprocessing.image_size),
        figures=_figures(record),
        baseline=record.metrics["majority_baseline"],
        calibration=record.metrics.get("calibration"),
        images=_images(record),
        classes=len(record.plan.classes),
        table_of_classes=_table_of_classes(record),
        digest=options["data_sha256"],
        version=options["versions"]["transferkit"],
    )
    return utf8_text(str(card))


def _measured(record: RunRecord) -> Sequence[str]:
    return [part for part in ("val", "test") if part in record.metrics]


def _strategy(options: Mapping[str, Any]) -> str:
    classifier = options.get("classifier")
    return f"{options['strategy']} with {classifier}" if classifier else str(options["strategy"])


def _figures(record: RunRecord) -> str:
    measured = [record.metrics[part] for part in _measured(record)]

    def accuracy(metrics: Mapping[str, Any]) -> str:
        interval = metrics["accuracy_interval"]
        return f"{metrics['accuracy']:.3f} ({interval['low']:.3f} to {interval['high']:.3f})"

    return _table(
        ("", *("validation" if part == "val" else part for part in _measured(record))),
        (
            ("accuracy (95 % Wilson interval)", *map(accuracy, measured)),
            ("macro F1", *(f"{metrics['macro_f1']:.3f}" for metrics in measured)),
            ("log loss", *(f"{metrics['log_loss']:.3f}" for metrics in measured)),
            ("expected calibration error", *(f"{metrics['ece']:.3f}" for metrics in measured)),
            ("images", *(str(metrics["n"]) for metrics in measured)),
        ),
    )


def _images(record: RunRecord) -> str:
    train, val, test = map(sum, zip(*record.plan.classes.values(), strict=True))
    tested = f", {test} for testing" if test else ""
    return f"{train} images for training, {val} for validation{tested}"


def _table_of_classes(record: RunRecord) -> str:
    of_class = record.metrics["val"]["per_class"]
    rows = [
        (_escaped(name), *map(str, counts), _figure(of_class.get(name, {}).get("f1")))
        for name, counts in record.plan.classes.items()
    ]
    table = _table(("class", "training", "validation", "test", "F1 on validation"), rows)
    if len(rows) <= _LISTED:
        return table
    return f"<details><summary>{len(rows)} classes</summary>\n\n{table}\n\n</details>"


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _escaped(text: str) -> str:
    r"""Return text such that Markdown shows it as it is, also in a table.

    >>> print(_escaped("a|b <i> *c*"))
    a\|b \<i\> \*c\*
    """
    return re.sub(r"([\\`*_{}\[\]<>()#+!|~&])", r"\\\1", text).replace("\n", " ")
