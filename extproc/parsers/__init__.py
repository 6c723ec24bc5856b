"""What a request's body says to a scheduler: model, prompt text, whether the answer is streamed. One file per API."""

from extproc.parsers.base import Api, ParsedRequest
from extproc.parsers.select import api_of, is_model_api, parse

__all__ = ["Api", "ParsedRequest", "api_of", "is_model_api", "parse"]
