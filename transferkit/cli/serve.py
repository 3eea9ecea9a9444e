"""`transferkit serve`."""

from transferkit.cli.exits import write_result
from transferkit.cli.invocation import Invocation
from transferkit.cli.parameters import takes
from transferkit.options.serve import ServeOptions


@takes(ServeOptions)
def serve(options: ServeOptions, invocation: Invocation) -> None:
    """Serve a model: a page where anyone tries it, and an endpoint that programs call.

    Examples:
        transferkit serve runs/photos
        transferkit serve runs/photos --collect marked
        transferkit serve runs/photos --host 0.0.0.0 --token SECRET
        curl -F image=@photo.jpg http://127.0.0.1:8000/predict

    Prints the address once the model is ready. /predict takes images and answers as predict does
    with --format json; /openapi.json describes the endpoint. Ctrl-C ends the server at once,
    SIGTERM once it has answered the requests that it has.
    """
    from transferkit.recipes.serve import serve as recipe

    with recipe(options, invocation.reporter) as serving:
        serving.run(lambda: write_result(f"{serving.address}\n"))
