"""Plain JSON calls to Prefect's REST API, with bounded waiting and errors of this package."""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import quote

import httpx
from prefect.client.base import PrefectHttpxSyncClient
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_CSRF_SUPPORT_ENABLED

from prefect_intelligent.domain.backoff import backoff_s
from prefect_intelligent.domain.secrets import mask_secrets
from prefect_intelligent.errors import (
    ConflictError,
    InvalidInputError,
    OrchestratorAccessDeniedError,
    OrchestratorBusyError,
    OrchestratorUnavailableError,
)
from prefect_intelligent.prefect_client.answers import (
    AnswerTooLargeError,
    PageTooLongError,
    ThrottledError,
    asked_for,
    detail_of,
    is_csrf,
    plain_headers,
    retry_after_s,
)
from prefect_intelligent.prefect_client.connection import headers, tls_context
from prefect_intelligent.prefect_client.json_values import check_json

PAGE: Final = 200
"""Largest number of records that Prefect returns for one call, unless the server is set to fewer."""

_TRANSIENT: Final = frozenset({408, 423, 425, 429, 500, 502, 503, 504})
_RETRY_WAIT_S: Final = 0.1
_LONGEST_WAIT_S: Final = 1.0
_LONGEST_PAUSE_S: Final = 3.0
"""A server that asks for a longer pause than this gets it, but the call is given up."""
_MOST_QUIET_S: Final = 60.0
_CSRF_S: Final = 600.0  # a token is valid for an hour
_PAGE_BYTES: Final = 4_000_000
"""How large a page of an adapted length should be."""
_MOST_BYTES: Final = 4 * _PAGE_BYTES
"""Where reading a page of several records is given up, to ask for fewer."""
_FORGET: Final = 0.95
"""By how much the size of the fattest records counts less with every page."""
_COMPARE_S: Final = 300.0
_LIMIT: Final = re.compile(r"less than or equal to (\d+)")


def path(*segments: str) -> str:
    """The route of these segments; names may have any character, also those that mean something in an address."""
    return "".join(f"/{_segment(str(segment))}" for segment in segments)


def _segment(name: str) -> str:
    """A name as one segment; "." and ".." would be taken for a way through folders."""
    return "%2E" * len(name) if name in (".", "..") else quote(name, safe="")


@contextmanager
def open_api() -> Iterator[PrefectApi]:
    """A client for the API of this process's settings, closed at the end."""
    try:
        api = PrefectApi(timeout_s=30.0)
    except InvalidInputError as error:  # none is configured, or it cannot be used
        raise OrchestratorUnavailableError(str(error)) from error
    try:
        yield api
    finally:
        api.close()


class PrefectApi:
    """A client of one Prefect server that never waits for long.

    Address, key, TLS and custom headers come from the user's Prefect profile. Answers stay plain JSON: validating a
    thousand flow runs with pydantic takes longer than reading them. Prefect's own retries are bypassed, because even
    with PREFECT_CLIENT_MAX_RETRIES=0 they sleep for as long as a "Retry-After" says; ours are few and short, and
    jittered.

    Args:
        url: The API; by default PREFECT_API_URL of the profile in force.
        timeout_s: Time-out of one attempt, seconds.
        attempts: How often a call is tried when the server is unavailable.
        patience: How many more attempts are made while it answers that it is busy; with SQLite a writer may have to
            wait for seconds.

    Raises:
        InvalidInputError: No API is configured, or its address or a certificate cannot be used.
    """

    def __init__(self, url: str | None = None, *, timeout_s: float = 5.0, attempts: int = 3, patience: int = 5) -> None:
        found = url or PREFECT_API_URL.value()
        if not found:
            raise InvalidInputError(
                "PREFECT_API_URL", None, "set it to the API of your Prefect server, e.g. http://127.0.0.1:4200/api"
            )
        self.url: str = str(found)
        self.shown_url = mask_secrets(self.url)
        """The address without its password."""
        if not self.url.startswith(("http://", "https://")):
            raise InvalidInputError("PREFECT_API_URL", self.shown_url, "must begin with http:// or https://")
        self.skew_s: float | None = None
        """How far this machine's clock is ahead of the server's, to about a second; None before the first answer."""
        self.calls = 0
        """Number of requests sent so far, with failed ones."""
        self.waited_s = 0.0
        """Time spent waiting for the server so far."""
        self._timeout_s, self._attempts, self._patience = timeout_s, attempts, patience
        self._deadline: float | None = None
        self._quickest_s = self._compare_at = -float("inf")
        self._longest = PAGE
        self._quiet_until = -float("inf")
        self._record_bytes: dict[str, float] = {}  # by route, of the fattest page lately
        self._answer_bytes = 0
        try:
            self._http: httpx.Client = PrefectHttpxSyncClient(
                base_url=self.url,
                headers=headers(),
                verify=tls_context(),
                timeout=timeout_s,
                follow_redirects=True,
                enable_csrf_support=False,
            )
        except (httpx.InvalidURL, OSError, ValueError) as error:
            reason = mask_secrets(str(error))
            raise InvalidInputError("PREFECT_API_URL", self.shown_url, f"cannot be used: {reason}") from error
        self._csrf_client = str(uuid.uuid4())
        self._csrf_until = -float("inf") if PREFECT_CLIENT_CSRF_SUPPORT_ENABLED.value() else float("inf")

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Limit the calls made inside to so many seconds together; later ones raise at once."""
        outer = self._deadline
        self._deadline = min(time.monotonic() + seconds, outer or float("inf"))
        try:
            yield
        finally:
            self._deadline = outer

    def call(
        self,
        method: str,
        route: str,
        body: Any = None,
        *,
        absent_ok: bool = False,
        attempts: int | None = None,
    ) -> Any:
        """One request.

        Args:
            method: HTTP method.
            route: Below the API's address, e.g. "/flow_runs/filter".
            body: Sent as JSON.
            absent_ok: Return None for "not found" instead of raising.
            attempts: Replaces the client's own number.

        Returns:
            The decoded answer; None if it is empty.

        Raises:
            InvalidInputError: The body has a number or a text that a server could not store and read again.
            OrchestratorUnavailableError: No answer, or one that is transient.
            OrchestratorAccessDeniedError: The credentials are not accepted, or do not permit this.
            ConflictError: Prefect has refused the request.
        """
        check_json(body, f"{method} {route}")
        return self.send(method, route, body, absent_ok, attempts or self._attempts)

    def send(
        self, method: str, route: str, body: Any, absent_ok: bool, tries: int, *, may_shorten: bool = False
    ) -> Any:
        """One request, by itself or for a page, with so many attempts; see `call` for the rest.

        Args:
            method: HTTP method.
            route: Below the API's address.
            body: Sent as JSON.
            absent_ok: Return None for "not found" instead of raising.
            tries: Attempts while the server cannot be reached.
            may_shorten: Whether an answer that is too large is left to the caller, who asks for less.
        """
        for attempt in range(1, tries + self._patience + 1):
            try:
                return self._once(method, route, body, absent_ok)
            except PageTooLongError as error:
                if not 0 < error.longest < asked_for(route, body):
                    raise
                self._longest, body = error.longest, {**body, "limit": error.longest}
            except OrchestratorUnavailableError as error:
                pause_s = backoff_s(attempt, first_s=_RETRY_WAIT_S, longest_s=_LONGEST_WAIT_S)
                refused = isinstance(error, OrchestratorBusyError | ThrottledError)  # it has not been done
                most = tries + self._patience if refused else tries
                shorten = may_shorten and isinstance(error, AnswerTooLargeError)
                if isinstance(error, ThrottledError):
                    pause_s = max(pause_s, error.wait_s)
                if shorten or attempt >= most or min(self._left_s(), _LONGEST_PAUSE_S) < pause_s:
                    raise
                time.sleep(pause_s)
        raise AssertionError("the last attempt returns or raises")  # pragma: no cover

    def pages(self, route: str, body: Mapping[str, Any]) -> Iterator[list[dict[str, Any]]]:
        """All results of a filter route, page by page; at least one page, which may be empty."""
        offset = 0
        while True:
            page, complete = self.page(route, {**body, "offset": offset})
            yield page
            if complete:
                return
            offset += len(page)

    def page(self, route: str, body: Mapping[str, Any], *, most: int = PAGE) -> tuple[list[dict[str, Any]], bool]:
        """The first results of a filter route, and whether there are no more.

        As many as the server is set to give and as are known to arrive in time: where records are fat, pages get short.

        Args:
            route: Below the API's address.
            body: Filter, sort and offset.
            most: Largest number of results.
        """
        limit = max(1, min(most, self._longest, int(_PAGE_BYTES / self._record_bytes.get(route, 1.0))))
        while True:
            try:
                asked = {**body, "limit": limit}
                page = self.send("POST", route, asked, False, self._attempts, may_shorten=limit > 1)
            except AnswerTooLargeError:
                limit = max(1, limit // 8)
                continue
            limit = min(limit, self._longest)
            if page:
                lately = _FORGET * self._record_bytes.get(route, 1.0)
                self._record_bytes[route] = max(1.0, self._answer_bytes / len(page), lately)
            return page, len(page) < limit

    def fitting(self, route: str, most: int) -> int:
        """How many records of a filter route fit into a sixteenth of a page, at most so many."""
        return max(1, min(most, int(_PAGE_BYTES / 16 / self._record_bytes.get(route, 1.0))))

    def now_s(self) -> float:
        """The present instant on the server's clock, Unix seconds, to about a second."""
        if self.skew_s is None:
            self.call("GET", "/admin/version", absent_ok=True)  # Prefect Cloud has no such route, and says when
        return time.time() - (self.skew_s or 0.0)

    def _left_s(self) -> float:
        return float("inf") if self._deadline is None else self._deadline - time.monotonic()

    def _once(self, method: str, route: str, body: Any, absent_ok: bool) -> Any:
        left_s = self._left_s()
        if left_s <= 0:
            raise OrchestratorUnavailableError(f"{method} {route}: no time left for this call")
        started = time.monotonic()
        if started < self._quiet_until:
            text = f"{method} {self.shown_url}{route}: not asked, the server wants no call for {{:.0f}} s more (429)"
            raise ThrottledError(text.format(self._quiet_until - started), self._quiet_until - started)
        self.calls += 1
        try:
            answer = self._send(method, route, body, min(self._timeout_s, left_s))
        except OrchestratorAccessDeniedError:
            raise
        except (httpx.HTTPError, httpx.InvalidURL, OSError, RuntimeError) as error:
            reason = mask_secrets(str(error)) or type(error).__name__
            if isinstance(error, httpx.ConnectError):
                reason += "; is a Prefect server running there? PREFECT_API_URL names it"
            text = f"{method} {self.shown_url}{route}: {reason}"
            if isinstance(error, httpx.ReadTimeout) and asked_for(route, body) > 1:
                raise AnswerTooLargeError(text) from error
            raise OrchestratorUnavailableError(text) from error
        finally:
            self.waited_s += time.monotonic() - started
        if not answer.is_success:
            return self._refused(method, route, answer, absent_ok)
        if not answer.content:
            return None
        try:
            return answer.json()
        except ValueError as error:
            text = f"{method} {self.shown_url}{route}: the answer is not JSON{self._hint()}"
            raise OrchestratorUnavailableError(text) from error

    def _send(self, method: str, route: str, body: Any, timeout_s: float) -> httpx.Response:
        """Send with httpx's own `send`, bypassing Prefect's, which retries."""
        if method != "GET" and time.monotonic() > self._csrf_until:
            self._get_csrf_token(timeout_s)
        request = self._http.build_request(method, route, json=body, timeout=timeout_s)
        answer = self._receive(request, body, timeout_s)
        if is_csrf(answer):
            self._csrf_until = -float("inf")
            self._get_csrf_token(timeout_s)
            request.headers.update(self._http.headers)
            answer = self._receive(request, body, timeout_s)
        return answer

    def _receive(self, request: httpx.Request, body: Any, timeout_s: float) -> httpx.Response:
        """The whole answer; of several records no more than `_MOST_BYTES`, and no longer than for four time-outs."""
        several = asked_for(request.url.path, body) > 1
        sent_s, until = time.time(), time.monotonic() + 4 * timeout_s
        answer = httpx.Client.send(self._http, request, stream=True)
        try:
            self._compare_clocks(answer.headers.get("Date"), sent_s)
            parts: list[bytes] = []
            size = 0
            for part in answer.iter_bytes():
                parts.append(part)
                size += len(part)
                if several and (size > _MOST_BYTES or time.monotonic() > until):
                    raise httpx.ReadTimeout(f"more than {size} bytes", request=request)
        finally:
            answer.close()
        self._answer_bytes = size
        return httpx.Response(
            answer.status_code, headers=plain_headers(answer.headers), content=b"".join(parts), request=request
        )

    def _compare_clocks(self, date: str | None, sent_s: float) -> None:
        """Learn the difference of the clocks from the date of an answer, by the quickest answer of some minutes.

        A difference that the time under way explains is none.
        """
        here_s, now = time.time(), time.monotonic()
        if here_s - sent_s > self._quickest_s and now < self._compare_at:
            return
        with suppress(TypeError, ValueError):
            there_s = parsedate_to_datetime(date or "").timestamp()  # in whole seconds, cut off
            least, most = sent_s - (there_s + 1.0), here_s - there_s
            self.skew_s = 0.0 if least <= 0.0 <= most else (least + most) / 2
            self._quickest_s, self._compare_at = here_s - sent_s, now + _COMPARE_S

    def _get_csrf_token(self, timeout_s: float) -> None:
        """Get the token that a server may require for every write; a server that does not answers 422 or 404."""
        query = {"client": self._csrf_client}
        request = self._http.build_request("GET", "/csrf-token", params=query, timeout=timeout_s)
        answer = httpx.Client.send(self._http, request)
        if answer.is_success:
            self._http.headers["Prefect-Csrf-Token"] = answer.json()["token"]
            self._http.headers["Prefect-Csrf-Client"] = self._csrf_client
            self._csrf_until = time.monotonic() + _CSRF_S
        elif answer.status_code in (404, 422):
            self._csrf_until = float("inf")
        elif answer.status_code in (401, 403):
            self._refused("GET", "/csrf-token", answer, absent_ok=False)

    def _refused(self, method: str, route: str, answer: httpx.Response, absent_ok: bool) -> None:
        status = answer.status_code
        if status == 404 and absent_ok:
            return
        text = f"{method} {self.shown_url}{route}: Prefect answered {status} {detail_of(answer)}"
        if status in (404, 405):
            text += self._hint()
        if status == 429:
            wait_s = retry_after_s(answer)
            self._quiet_until = time.monotonic() + min(wait_s, _MOST_QUIET_S)
            raise ThrottledError(text, wait_s)
        if status == 503:
            raise OrchestratorBusyError(text)
        if status in (401, 403) and not is_csrf(answer):
            raise OrchestratorAccessDeniedError(text)
        if status in _TRANSIENT or status >= 500 or is_csrf(answer):
            raise OrchestratorUnavailableError(text)
        asked = asked_for(route, json.loads(answer.request.content or b"null"))
        if status == 422 and asked > 1 and "limit" in detail_of(answer):
            found = _LIMIT.search(detail_of(answer))
            raise PageTooLongError(text, int(found[1]) if found else asked // 2)
        raise ConflictError(text)

    def _hint(self) -> str:
        """What is probably wrong with an address that answers, but not as the API does."""
        address = httpx.URL(self.url)
        if "api" in address.path.split("/"):
            return ""
        right = mask_secrets(str(address.copy_with(path=address.path.rstrip("/") + "/api")))
        return f"; the API of a Prefect server is below /api: is it PREFECT_API_URL={right}?"
