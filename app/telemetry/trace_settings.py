"""The standard `OTEL_` variables that decide whether and where traces are exported.

The SDK reads the others itself: `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_TRACES_SAMPLER`,
`OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_BSP_…`.
"""

import os

from app.errors import StartupError
from app.setting_values import is_http_address
from app.settings import Settings

TRACES_ENDPOINT = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
PROTOCOL = "http/protobuf"
TRACES_PATH = "/v1/traces"


def traces_endpoint(settings: Settings) -> str | None:
    """Return the address that spans are posted to, or `None` if traces are off.

    Raises:
        StartupError: a variable is invalid, or requires a protocol other than OTLP over HTTP.
    """
    address = traces_address(settings)
    if address is None or variable("OTEL_SDK_DISABLED").lower() == "true":
        return None
    exporter = variable("OTEL_TRACES_EXPORTER") or "otlp"
    if exporter == "none":
        return None
    if exporter != "otlp":
        raise StartupError("OTEL_TRACES_EXPORTER is invalid: must be otlp or none.")
    for name in PROTOCOLS:
        if variable(name) not in ("", PROTOCOL):
            raise StartupError(f"{name} is invalid: spans are sent as {PROTOCOL} only.")
        if variable(name):
            break
    return address


def traces_address(settings: Settings) -> str | None:
    """Return the address for spans: that of their own variable, else the path below the collector's address."""
    own = variable(TRACES_ENDPOINT)
    if own:
        try:
            return is_http_address(own)
        except ValueError as error:
            raise StartupError(f"{TRACES_ENDPOINT} is invalid: {error}.") from None
    base = settings.otel_exporter_otlp_endpoint
    return None if base is None else base.rstrip("/") + TRACES_PATH


def variable(name: str) -> str:
    """Return the value of an environment variable, without spaces around it."""
    return os.environ.get(name, "").strip()
