"""What answers of a Prefect server that are no success mean, and what is asked of one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx

from prefect_intelligent.errors import ConflictError, OrchestratorUnavailableError


class ThrottledError(OrchestratorUnavailableError):
    """The server limits the rate of calls.

    Args:
        message: What was asked, and Prefect's answer.
        wait_s: For how long it wants no further call, seconds.
    """

    def __init__(self, message: str, wait_s: float) -> None:
        self.wait_s = wait_s
        super().__init__(message)


def retry_after_s(answer: httpx.Response) -> float:
    """Seconds that an answer asks to wait, 0 or more; Prefect gives them as a number."""
    try:
        return max(0.0, float(answer.headers.get("Retry-After", 0.0)))
    except ValueError:
        return 0.0


class AnswerTooLargeError(OrchestratorUnavailableError):
    """A page of several records did not come in time, or is larger than is good for us."""


class PageTooLongError(ConflictError):
    """The server gives fewer records for one call.

    Args:
        message: What was asked, and Prefect's answer.
        longest: How many it gives.
    """

    def __init__(self, message: str, longest: int) -> None:
        self.longest = longest
        super().__init__(message)


def asked_for(route: str, body: Any) -> int:
    """How many records a call of a filter route asks for; 0 for other calls."""
    limit = body.get("limit") if route.endswith("/filter") and isinstance(body, Mapping) else None
    return limit if isinstance(limit, int) else 0


def plain_headers(headers: httpx.Headers) -> list[tuple[str, str]]:
    """Headers of an answer whose content has been decoded."""
    return [item for item in headers.multi_items() if item[0].lower() not in ("content-encoding", "content-length")]


def is_csrf(answer: httpx.Response) -> bool:
    """Whether the server refuses the CSRF token, which says nothing about the credentials."""
    return answer.status_code == 403 and "CSRF" in answer.text


def detail_of(answer: httpx.Response) -> str:
    """Prefect's reason for a refusal, on one line."""
    try:
        decoded = answer.json()
    except ValueError:
        decoded = answer.text
    found = decoded.get("detail") or decoded.get("exception_detail") if isinstance(decoded, dict) else decoded
    return " ".join(str(found or answer.reason_phrase).split())[:300]
