"""What a scheduler reads from a request's body: model, prompt text, whether to stream the answer. One file per API."""

from extproc.parsers.base import Api, ParsedRequest
from extproc.parsers.select import api_of, is_model_api, parse

__all__ = ["Api", "ParsedRequest", "api_of", "is_model_api", "parse"]
