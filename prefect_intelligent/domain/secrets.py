"""Passwords in addresses, masked wherever an address is shown."""

from __future__ import annotations

import re
from typing import Final

_PASSWORD: Final = re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s/:@'\"]*):[^\s'\"]*@", re.IGNORECASE)
_TOKEN: Final = re.compile(r"(\bhttps?://)[^\s/:@'\"]+@", re.IGNORECASE)
_PARAMETER: Final = re.compile(
    r"([?&;](?:[\w.-]*(?:password|passwd|pwd|token|secret|signature|credential|api_?key|access_?key)[\w.-]*|sig)=)[^&;\s'\"]+",
    re.IGNORECASE,
)
MASK: Final = "***"


def mask_secrets(text: str) -> str:
    """The text with the passwords and tokens of all addresses in it replaced by `MASK`."""
    text = _PASSWORD.sub(rf"\1:{MASK}@", text)
    return _PARAMETER.sub(rf"\1{MASK}", _TOKEN.sub(rf"\1{MASK}@", text))
