"""Durations, sizes and addresses: from the text that people write to values, and back.

Every parser raises ValueError with the reason and, where there is one, a suggestion.
"""

import re
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from extproc.process.unix_socket import UNIX

#: Longest path of a Unix socket in bytes: Linux's `sun_path` has 108, one of them the final zero.
MAX_SOCKET_PATH = 107

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"(?:[0-9]{1,12}(?:\.[0-9]{1,9})?(?:ms|s|m|h))+")
_DURATION_PART = re.compile(r"([0-9.]+)(ms|s|m|h)")
_SIZES = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}
_SIZE = re.compile(r"([0-9]{1,12})(Ki|Mi|Gi)?")
#: RFC 1123 labels, with the underscore that Kubernetes and SRV names have.
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_DNS_NAME = re.compile(rf"(?=.{{1,254}}\Z)(?:{_LABEL}\.)*{_LABEL}\.?", re.IGNORECASE | re.ASCII)


def did_you_mean(text: str) -> str:
    return f' (did you mean "{text}"?)'


def describe(value: object) -> str:
    """A value in the words of an error message."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'the string "{shorten(value)}"' if value else "an empty string"
    if isinstance(value, int | float):
        return f"the number {shorten(f'{value:g}' if isinstance(value, float) else _integer(value))}"
    return "a list" if isinstance(value, list | tuple) else "a mapping"


def shorten(text: str, limit: int = 60) -> str:
    """The text on one line and no longer than `limit` characters."""
    line = "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in text[: limit + 1])
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def _integer(value: int) -> str:
    # Python refuses to print integers of thousands of digits.
    return str(value) if value.bit_length() < 256 else hex(value)


def duration(value: object) -> float:
    """Seconds, from `200ms`, `5s`, `1h30m` or a bare number of seconds. Never negative."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        if not 0 <= value < 1e12:
            raise ValueError(f"must be a duration of 0 seconds or more, not {describe(value)}")
        return float(value)
    if isinstance(value, str) and _DURATION.fullmatch(value):
        return sum(float(number) * _UNITS[unit] for number, unit in _DURATION_PART.findall(value))
    raise ValueError(f"must be a duration such as 200ms, 5s, 15m or 24h, not {describe(value)}{_duration_hint(value)}")


def _duration_hint(value: object) -> str:
    if not isinstance(value, str):
        return ""
    text = value.strip().lower().replace(" ", "")
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)([a-z]*)", text)
    if not match:
        return ""
    number, unit = match.groups()
    if unit in {"d", "day", "days"} and "." not in number:
        return did_you_mean(f"{int(number) * 24}h")
    names = {"": "s", "sec": "s", "secs": "s", "second": "s", "seconds": "s", "min": "m", "mins": "m", "minute": "m"}
    names |= {"minutes": "m", "hr": "h", "hour": "h", "hours": "h", "millis": "ms", "msec": "ms", "s": "s", "m": "m"}
    names |= {"h": "h", "ms": "ms"}
    return did_you_mean(number + names[unit]) if unit in names else ""


def format_duration(seconds: float) -> str:
    """The shortest text that `duration` reads back as the same value."""
    for unit in ("h", "m", "s", "ms"):
        number = seconds / _UNITS[unit]
        if seconds and number == int(number) and int(number) * _UNITS[unit] == seconds:
            return f"{int(number)}{unit}"
    return f"{seconds:.9f}".rstrip("0").rstrip(".") + "s"


def size(value: object) -> int:
    """Bytes, from an integer or from `64Ki`, `16Mi`, `1Gi`."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and (match := _SIZE.fullmatch(value)):
        number, unit = match.groups()
        return int(number) * _SIZES.get(unit, 1)
    hint = ""
    if isinstance(value, str) and (
        match := re.fullmatch(r"([0-9]{1,12})\s*([kmg])(?:i?b?)", value.strip(), re.IGNORECASE)
    ):
        hint = did_you_mean(f"{match[1]}{match[2].upper()}i")
    raise ValueError(f"must be a number of bytes, or a size such as 64Ki, 16Mi or 1Gi, not {describe(value)}{hint}")


def format_size(count: int) -> int | str:
    """The number itself, or a round number of the largest unit that fits."""
    for unit in ("Gi", "Mi", "Ki"):
        if count and count % _SIZES[unit] == 0:
            return f"{count // _SIZES[unit]}{unit}"
    return count


def host(text: str) -> str:
    """An IP address to listen on, in its shortest form, without brackets."""
    try:
        return str(_ip(text.removeprefix("[").removesuffix("]")))
    except ValueError:
        hint = did_you_mean("127.0.0.1") if text == "localhost" else ""
        raise ValueError(f"must be an IP address such as 0.0.0.0, not {describe(text)}{hint}") from None


def is_loopback(name: str) -> bool:
    """Whether a host, given by name or by address, is this machine."""
    try:
        return _ip(name).is_loopback
    except ValueError:
        return name.lower().rstrip(".") == "localhost"


def is_ip(name: str) -> bool:
    try:
        _ip(name)
    except ValueError:
        return False
    return True


def pod_address(text: str) -> str:
    """`ip:port` or `[ip6]:port`, the IP in its shortest form, so that equal addresses are equal strings."""
    name, port = split_port(text)
    try:
        ip = _ip(name)
    except ValueError:
        if _DNS_NAME.fullmatch(name):
            raise ValueError(
                f"must be an IP address and a port; {shorten(name)!r} is a host name: list it under endpoints.dns"
                f" as {{name: {shorten(name)}, port: {port}}}"
            ) from None
        raise ValueError(f"must be an IP address and a port, such as 10.0.0.1:8000, not {describe(text)}") from None
    if ip.is_unspecified or ip.is_multicast:
        raise ValueError(f"{ip} is not the address of a pod")
    if not port:
        raise ValueError("the port must be from 1 to 65535")
    return f"[{ip}]:{port}" if ip.version == 6 else f"{ip}:{port}"


def dns_name(text: str) -> str:
    if is_ip(text.strip("[]")):
        raise ValueError(f"must be a host name; {shorten(text)} is an address: list it under endpoints.static")
    if not _DNS_NAME.fullmatch(text):
        raise ValueError(f"must be a host name such as vllm.models.svc.cluster.local, not {describe(text)}")
    return text.lower()


def transport_address(text: str) -> str:
    """`unix:///absolute/path` or `host:port` (port 0: a free one)."""
    if text.startswith(("unix:", "/")):
        if not text.startswith(f"{UNIX}/"):
            path = text.removeprefix("unix:").lstrip("/")
            raise ValueError(f"must be unix:///absolute/path{did_you_mean(f'{UNIX}/{shorten(path)}')}")
        return UNIX + socket_path(text.removeprefix(UNIX))
    name, port = split_port(text)
    if is_ip(name):
        return f"{f'[{_ip(name)}]' if ':' in name else _ip(name)}:{port}"
    if not _DNS_NAME.fullmatch(name):
        raise ValueError(f"must be unix:///absolute/path or host:port, not {describe(text)}")
    return f"{name.lower()}:{port}"


def http_url(text: str) -> str:
    """A URL of http or https. Raises ValueError."""
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be an http:// or https:// URL")
    return text


def host_port(text: str) -> str:
    """`host:port`, the host by address or name; no port of 0."""
    if text.startswith(("unix:", "/")) or transport_address(text).endswith(":0"):
        raise ValueError(f"must be host:port, not {describe(text)}")
    return transport_address(text)


def redis_url(text: str) -> str:
    """`redis://host:port`, `rediss://host:port` or `unix:///absolute/path`, without credentials.

    Raises:
        ValueError: it is none.
    """
    if text.startswith(("unix:", "/")):
        return transport_address(text)
    scheme, separator, rest = text.partition("://")
    if "@" in rest:
        raise ValueError("must not hold a user or password, which would be shown: give passwordFile and usernameFile")
    if scheme not in {"redis", "rediss"} or not separator:
        raise ValueError(f"must be redis://host:port, rediss://host:port or unix:///path, not {describe(text)}")
    rest = rest.removesuffix("/")
    if "/" in rest or "?" in rest:
        raise ValueError("must end with the port: the number of the database has a key of its own, `database`")
    if rest and not rest.endswith("]") and ":" not in rest.rpartition("]")[2]:
        raise ValueError(f"has no port{did_you_mean(f'{scheme}://{shorten(rest)}:6379')}")
    return f"{scheme}://{host_port(rest)}"


def socket_path(text: str) -> str:
    """An absolute path that a Unix socket may have."""
    absolute_path(text)
    if len(text.encode()) > MAX_SOCKET_PATH:
        raise ValueError(f"the path of a Unix socket must not be longer than {MAX_SOCKET_PATH} bytes")
    return text


def absolute_path(text: str) -> str:
    if text.startswith("unix:"):
        path = text.removeprefix("unix:").lstrip("/")
        raise ValueError(f"must be a path without unix://{did_you_mean(f'/{shorten(path)}')}")
    if "\0" in text or not PurePosixPath(text).is_absolute() or text.endswith("/"):
        raise ValueError(f"must be the absolute path of a file, not {describe(text)}")
    return text


def split_port(text: str) -> tuple[str, int]:
    """Host without brackets, and port 0-65535."""
    name, colon, digits = text.rpartition(":")
    if not colon or (":" in name and not (name.startswith("[") and name.endswith("]"))):
        if is_ip(text):
            example = f"[{text}]:8000" if ":" in text else f"{text}:8000"
            raise ValueError(f"has no port{did_you_mean(example)}")
        raise ValueError(f"must be host:port, not {describe(text)}")
    if not re.fullmatch(r"[0-9]{1,5}", digits) or int(digits) > 65535:
        raise ValueError(f"the port must be a number from 1 to 65535, not {describe(digits)}")
    return name.removeprefix("[").removesuffix("]"), int(digits)


def _ip(text: str) -> IPv4Address | IPv6Address:
    # A scope ("%eth0") names an interface of one machine: Envoy takes none.
    if "%" in text:
        raise ValueError("an address with a scope")
    return ip_address(text)
