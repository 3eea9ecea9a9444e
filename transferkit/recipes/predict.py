"""Predict the classes of images: one record per input, in the order of the inputs."""

from collections.abc import Iterable, Iterator, Sequence

from transferkit.data.image_inputs import image_name
from transferkit.data.images import ImageSource
from transferkit.errors import OptionError
from transferkit.files import require_new, require_place
from transferkit.options.predict import PredictOptions
from transferkit.recipes.predicting.answer import choose_answer
from transferkit.recipes.predicting.least_sure import least_sure
from transferkit.recipes.predicting.sort_into import Sorting, find_sources, opened_sorting
from transferkit.recipes.shared.inputs import expand_inputs, only_files
from transferkit.recipes.shared.predictor import open_predictor
from transferkit.reporter import SILENT, Reporter
from transferkit.tables.predictions import Prediction, written_predictions
from transferkit.tables.sort_log import NAME


def predict(
    options: PredictOptions, reporter: Reporter = SILENT, *, listed: Iterable[str] = ()
) -> Iterator[Prediction]:
    """Yield a prediction for every input as soon as it is computed; write all to an output.

    With `least_sure`, the least sure predictions come at the end, and then those of images that
    could not be read. With `sort_into`, images are sorted as they come; those that were sorted
    before have no prediction, unless there is an output.

    Args:
        options: The model and the inputs, and the file to write, if any.
        reporter: Receives notices and progress.
        listed: The paths that replace the input `-`.

    Raises:
        DataError: When the inputs name no files.
        BundleError: When the model cannot be loaded.
        WeightsError: When the backbone's weights are not available.
        OptionError: When the model's validation images do not show the wanted accuracy or coverage,
            when images cannot be sorted so, or when a cluster is to predict them.
        OutputError: When images cannot be sorted into their folder, or the output not be written.
    """
    if options.on is not None:
        raise OptionError(
            "--on: a cluster writes records to a folder, and predict() returns them; leave it out, "
            "or run transferkit predict --on"
        )
    predictions = _predictions(options, reporter, listed)
    if options.output is None:
        yield from predictions
        return
    require_new(options.output, overwrite=options.overwrite)
    require_place(options.output)
    yield from written_predictions(predictions, options.output, options.file_format, options.top_k)


def _predictions(
    options: PredictOptions, reporter: Reporter, listed: Iterable[str]
) -> Iterator[Prediction]:
    if options.sort_into is not None:
        with opened_sorting(options.sort_into, options.by) as sorting:
            yield from _predict_and_sort(sorting, options, reporter, listed)
        return
    images = expand_inputs(options.inputs, listed)
    _, predictions = _predict(images, options, reporter)
    if options.least_sure is None:
        yield from predictions
    else:
        yield from least_sure(predictions, options.least_sure)


def _predict(
    images: Sequence[ImageSource], options: PredictOptions, reporter: Reporter
) -> tuple[Sequence[str], Iterator[Prediction]]:
    """Return the names of the classes, and the predictions, which are computed as they are read."""
    names = [image_name(image, position) for position, image in enumerate(images)]
    predictor = open_predictor(options, reporter, len(images))
    answer = choose_answer(options, predictor, reporter)

    def predictions() -> Iterator[Prediction]:
        with reporter.progress("predicting", len(images)) as progress:
            for part in predictor.probabilities(images):
                found = answer.predictions(names, part)
                yield from found
                progress.advance(len(found))

    return predictor.class_names, predictions()


def _predict_and_sort(
    sorting: Sorting, options: PredictOptions, reporter: Reporter, listed: Iterable[str]
) -> Iterator[Prediction]:
    # Moving may have emptied the folders.
    images = expand_inputs(options.inputs, listed, may_be_empty=bool(sorting.log.images))
    sources = sorting.without_sorted(find_sources(only_files(images, "--sort-into")))
    unsorted = sorting.unsorted(sources)
    before = len(images) - len(sources) + sum(map(sorting.is_listed, sources))
    if before:
        reporter.notice(
            f"{before} of {len(images)} images are in {sorting.folder} already, or its {NAME} "
            "lists them; they are not sorted again"
        )
    # Records that are written to a file are to be all of them, those sorted before too.
    wanted = unsorted if options.output is None else sources
    if not wanted:
        return
    class_names, predictions = _predict([one.given for one in wanted], options, reporter)
    try:
        yield from sorting.sort(wanted, predictions, class_names)
    except KeyboardInterrupt:
        reporter.resumable("the same command")
        raise
