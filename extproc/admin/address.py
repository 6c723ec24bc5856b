"""Where the admin pages are, as people write it."""

from urllib.parse import urlsplit

DEFAULT = "127.0.0.1:9090"


def admin_address(text: str) -> str:
    """`host:port` out of itself, or out of the URL that the gateway prints.

    Raises:
        ValueError: there is no host, no port, or another scheme than http.
    """
    parts = urlsplit(text if "://" in text else f"http://{text}")
    if parts.scheme != "http":
        raise ValueError(f"the admin pages have no {parts.scheme}://; write host:port or http://host:port")
    if not parts.hostname or parts.port is None:
        raise ValueError(f"write host:port or http://host:port, such as {DEFAULT}, not {text!r}")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{host}:{parts.port}"
