"""Errors as OpenAI's API tells them."""

from typing import Any


class RefusedError(Exception):
    """A request that cannot be served.

    Attributes:
        status: of HTTP; below 500 it is the client's to mend.
        param: the field that is wrong.
        code: a word that programs can compare.
    """

    def __init__(self, message: str, *, status: int = 400, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message, self.status, self.param, self.code = message, status, param, code

    @property
    def body(self) -> dict[str, Any]:
        kinds = {404: "not_found_error", 429: "rate_limit_error"}
        kind = "server_error" if self.status >= 500 else kinds.get(self.status, "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}
