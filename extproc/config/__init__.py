"""The configuration: from a ConfigMap to frozen values, with every mistake in one clear report."""

from extproc.config.loader import Loaded, load, loads
from extproc.config.model import GatewayConfig
from extproc.config.sections.authentication import AuthConfig
from extproc.config.sections.endpoints import EndpointsConfig
from extproc.config.sections.transport import TransportConfig
from extproc.config.show import dump, json_schema, rule
from extproc.errors import ConfigError

__all__ = [
    "AuthConfig",
    "ConfigError",
    "EndpointsConfig",
    "GatewayConfig",
    "Loaded",
    "TransportConfig",
    "dump",
    "json_schema",
    "load",
    "loads",
    "rule",
]
