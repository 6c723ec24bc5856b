"""Why the API server gave no answer: a reason that is one of few, and words that are the same each time."""

from http import HTTPStatus

import aiohttp

from extproc.discovery.contact import Reason
from extproc.discovery.kubernetes.api import Refused
from extproc.discovery.kubernetes.credentials import CredentialsError
from extproc.discovery.kubernetes.store import BadAnswer

_BY_STATUS: dict[int, Reason] = {
    HTTPStatus.UNAUTHORIZED: Reason.UNAUTHORIZED,
    HTTPStatus.FORBIDDEN: Reason.FORBIDDEN,
    HTTPStatus.NOT_FOUND: Reason.NOT_FOUND,
    HTTPStatus.GONE: Reason.BAD_ANSWER,
    HTTPStatus.TOO_MANY_REQUESTS: Reason.BUSY,
}


def reason_and_words(error: Exception) -> tuple[Reason, str]:
    """Of one of what a look at the API server raises. The words are never empty.

    aiohttp's own texts are used only where they have neither the URL, whose query differs each time, nor the address of
    an object.
    """
    if isinstance(error, Refused):
        otherwise = Reason.BUSY if error.status >= 500 else Reason.REFUSED
        return _BY_STATUS.get(error.status, otherwise), str(error)
    if isinstance(error, CredentialsError):
        return Reason.CREDENTIALS, _words(error)
    if isinstance(error, BadAnswer):
        return Reason.BAD_ANSWER, _words(error)
    if isinstance(error, TimeoutError):
        # aiohttp's are TimeoutErrors, too.
        return Reason.TIMEOUT, "no answer in time"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return Reason.CONNECT, f"cannot connect to {error.host}:{error.port}: {_words(error.certificate_error)}"
    if isinstance(error, aiohttp.ClientConnectorError):
        why = error.os_error.strerror or str(error.os_error) or type(error.os_error).__name__
        return Reason.CONNECT, f"cannot connect to {error.host}:{error.port}: {why}"
    if isinstance(error, aiohttp.ClientResponseError):
        # Its text has the URL.
        return Reason.BAD_ANSWER, f"not an answer of HTTP: {error.message or type(error).__name__}"
    if isinstance(error, aiohttp.ClientPayloadError | aiohttp.ServerDisconnectedError | ConnectionError):
        return Reason.CUT, "the connection ended early"
    if isinstance(error, OSError):
        return Reason.CONNECT, error.strerror or _words(error)
    return Reason.BAD_ANSWER, type(error).__name__


def _words(error: BaseException) -> str:
    return str(error) or type(error).__name__
