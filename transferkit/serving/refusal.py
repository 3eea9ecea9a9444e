"""Why a request is not carried out."""


class Refusal(Exception):
    """A request is not carried out; the message says why, and becomes the answer's `error`.

    Attributes:
        status: Status code of the answer.
        headers: Headers of the answer.
    """

    def __init__(self, status: int, reason: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.headers = headers or {}


RETRY_SECONDS = 1
"""When a client that was told to come later may do so."""


def come_later(reason: str) -> Refusal:
    """Return the refusal of a request that there is no room for now."""
    return Refusal(503, f"{reason}; try again later", {"Retry-After": str(RETRY_SECONDS)})
