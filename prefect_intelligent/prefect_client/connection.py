"""Headers and TLS context of calls to Prefect, from the settings of the user's profile."""

from __future__ import annotations

import base64
import os
import ssl
from typing import Any

import certifi
from prefect.client.constants import SERVER_API_VERSION
from prefect.settings import (
    PREFECT_API_AUTH_STRING,
    PREFECT_API_KEY,
    PREFECT_API_SSL_CERT_FILE,
    PREFECT_API_TLS_INSECURE_SKIP_VERIFY,
    get_current_settings,
)

from prefect_intelligent.errors import InvalidInputError
from prefect_intelligent.local.liveness import server_of


def headers() -> dict[str, str]:
    """The headers for API version and authorisation that Prefect's client sends."""
    found = {"X-PREFECT-API-VERSION": SERVER_API_VERSION}
    # `value()` gives secrets as plain text.
    auth, key = PREFECT_API_AUTH_STRING.value(), PREFECT_API_KEY.value()
    if auth:
        found["Authorization"] = f"Basic {base64.b64encode(str(auth).encode()).decode()}"
    elif key:
        found["Authorization"] = f"Bearer {key}"
    return found


def tls_context() -> ssl.SSLContext:
    """The TLS context that Prefect's settings ask for."""
    context = _LazyContext(ssl.PROTOCOL_TLS_CLIENT)  # requires a certificate for the right host
    if PREFECT_API_TLS_INSECURE_SKIP_VERIFY.value():
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        context.authorities = PREFECT_API_SSL_CERT_FILE.value() or certifi.where()
        if not os.access(context.authorities, os.R_OK):
            raise InvalidInputError(
                "PREFECT_API_SSL_CERT_FILE", context.authorities, "cannot be read; name a file of certificates"
            )
    return context


class _LazyContext(ssl.SSLContext):
    """Reads the certificate authorities when a connection is first secured: that takes as long as ten calls.

    Attributes:
        authorities: File of certificates; None once it has been read, or if nothing is to be verified.
    """

    authorities: str | None = None

    def wrap_socket(self, *args: Any, **options: Any) -> ssl.SSLSocket:
        self._read()
        return super().wrap_socket(*args, **options)

    def wrap_bio(self, *args: Any, **options: Any) -> ssl.SSLObject:
        self._read()
        return super().wrap_bio(*args, **options)

    def _read(self) -> None:
        if self.authorities is not None:
            self.load_verify_locations(cafile=self.authorities)
            self.authorities = None


def ui_address() -> str | None:
    """Address of Prefect's own pages, without user and password; None if no server is set."""
    found = get_current_settings().ui_url
    return server_of(found) if found and found.startswith(("http://", "https://")) else None
