"""Predict the classes of images: one record per input, in the order of the inputs."""

from collections.abc import Iterable, Iterator

from transferkit.data.image_inputs import image_name
from transferkit.options.predict import PredictOptions
from transferkit.recipes.predicting.answer import choose_answer
from transferkit.recipes.shared.inputs import expand_inputs
from transferkit.recipes.shared.predictor import open_predictor
from transferkit.reporter import SILENT, Reporter
from transferkit.tables.predictions import Prediction


def predict(
    options: PredictOptions, reporter: Reporter = SILENT, *, listed: Iterable[str] = ()
) -> Iterator[Prediction]:
    """Yield a prediction for every input as soon as it is computed.

    Args:
        options: The model and the inputs; the caller writes the output.
        reporter: Receives notices and progress.
        listed: The paths that replace the input `-`.

    Raises:
        DataError: When the inputs name no files.
        BundleError: When the model cannot be loaded.
        WeightsError: When the backbone's weights are not available.
        OptionError: When the model's validation images do not show the wanted accuracy or coverage.
    """
    images = expand_inputs(options.inputs, listed)
    names = [image_name(image, position) for position, image in enumerate(images)]
    predictor = open_predictor(options, reporter, len(images))
    answer = choose_answer(options, predictor, reporter)
    with reporter.progress("predicting", len(images)) as progress:
        for part in predictor.probabilities(images):
            found = answer.predictions(names, part)
            yield from found
            progress.advance(len(found))
