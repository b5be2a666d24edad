"""How model APIs refuse a request: the status and the JSON that each of them sends."""

from typing import Any, Literal

JSON = dict[str, Any]
Api = Literal["openai", "groq", "deepseek", "responses", "anthropic", "gemini"]

_GEMINI_STATUS = {400: "INVALID_ARGUMENT", 404: "NOT_FOUND", 413: "INVALID_ARGUMENT"}
_ANTHROPIC_TYPE = {404: "not_found_error", 413: "request_too_large"}


class Refusal(Exception):
    """The refusal of a request by a model API.

    Attributes:
        api: the API that refuses.
        message: the text of the error.
        status: the HTTP status.
        type: the kind of error. OpenAI's and Anthropic's APIs send it.
        code: a machine-readable reason. Only OpenAI's APIs send it, and not always.
        param: the path of the refused value, as the API writes it. Only OpenAI's APIs send it.
    """

    def __init__(
        self,
        api: Api,
        message: str,
        *,
        status: int = 400,
        code: str | None = None,
        param: str | None = None,
    ) -> None:
        super().__init__(message)
        self.api = api
        self.message = message
        self.status = status
        self.type = (
            _ANTHROPIC_TYPE.get(status, "invalid_request_error")
            if api == "anthropic"
            else "invalid_request_error"
        )
        self.code = code
        self.param = param

    def body(self) -> JSON:
        """Return the JSON of the response."""
        match self.api:
            case "anthropic":
                error: JSON = {"type": self.type, "message": self.message}
                return {"type": "error", "error": error, "request_id": "req_strict"}
            case "gemini":
                status = _GEMINI_STATUS.get(self.status, "INVALID_ARGUMENT")
                code = 400 if self.status == 413 else self.status
                return {"error": {"code": code, "message": self.message, "status": status}}
            case "groq":
                return {"error": {"message": self.message, "type": self.type}}
            case _:
                return {
                    "error": {
                        "message": self.message,
                        "type": self.type,
                        "param": self.param,
                        "code": self.code,
                    }
                }
