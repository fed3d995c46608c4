"""`@intelligent(...)`: states what a flow's runs are worth; the flow itself does not change."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar, overload

from prefect import Flow

from prefect_intelligent.domain import Deadline, RelativeDeadline, Terms, parse_deadline, parse_span
from prefect_intelligent.domain.datasets import without_password
from prefect_intelligent.errors import InvalidInputError, UnknownNameError
from prefect_intelligent.flow import hooks
from prefect_intelligent.flow.hooks import find_contract, terms_of

__all__ = ["attach", "intelligent", "publish", "terms_of"]

F = TypeVar("F", bound=Flow[Any, Any])

_HOOKS = {
    "on_running_hooks": hooks.report_running,
    "on_completion_hooks": hooks.report_completed,
    "on_failure_hooks": hooks.report_failed,
    "on_crashed_hooks": hooks.report_crashed,
    "on_cancellation_hooks": hooks.report_cancelled,
}


@overload
def intelligent(flow: F, /) -> F: ...


@overload
def intelligent(
    *,
    deadline: str | timedelta | Deadline | None = None,
    late_usd_per_hour: float = 1.0,
    failure_usd: float = 0.0,
    expected: str | timedelta | float | None = None,
    inputs: Iterable[str] = (),
    outputs: Iterable[str] = (),
    resources: Iterable[str] = (),
    contract: str | None = None,
    batch: str | None = None,
    stale: str = "keep",
    most_waiting: int | None = None,
) -> Callable[[F], F]: ...


def intelligent(flow: Any = None, /, **terms: Any) -> Any:
    """State what the runs of a flow are worth, so that they are steered by it; goes above `@flow`.

    The flow stays the same object with the same behaviour. Its terms are attached to it, our hooks are added after the
    user's, and the first run publishes the terms to Prefect (`publish` or `prefect-intelligent terms publish` do so
    earlier).

    Args:
        flow: The flow, when used without parentheses.
        **terms: As for `attach`.

    Raises:
        InvalidInputError: A term cannot be used, it is below `@flow`, or the flow has terms already.
    """
    known = make_terms.__kwdefaults__ or {}
    if unknown := [name for name in terms if name not in known]:
        raise UnknownNameError("argument of @intelligent", unknown[0], known)
    if flow is not None:
        return attach(flow, **terms)
    agreed = make_terms(**terms)  # here, so that an error is reported at the decorator's own line

    def decorate(decorated: F) -> F:
        return _attach(decorated, agreed)

    return decorate


def attach(
    flow: F,
    *,
    deadline: str | timedelta | Deadline | None = None,
    late_usd_per_hour: float = 1.0,
    failure_usd: float = 0.0,
    expected: str | timedelta | float | None = None,
    inputs: Iterable[str] = (),
    outputs: Iterable[str] = (),
    resources: Iterable[str] = (),
    contract: str | None = None,
    batch: str | None = None,
    stale: str = "keep",
    most_waiting: int | None = None,
) -> F:
    """Do the same as `@intelligent(...)` for a flow that exists already; returns that same flow.

    `with_options` makes a new flow that keeps terms and hooks, except the kinds of hooks that are passed to it; attach
    to the result to give it terms of its own.

    Args:
        flow: The flow.
        deadline: When a run is due: a span after its scheduled start ("45m", "1h30m"), or a time on the clock with its
            zone ("07:00 Europe/Paris"); None if it cannot be late.
        late_usd_per_hour: Cost of each hour past the deadline, US dollars.
        failure_usd: Cost of a run that fails or crashes, US dollars.
        expected: How long a run takes, "5m" or seconds; used until history knows better.
        inputs: Datasets read.
        outputs: Datasets written.
        resources: Shared things a run loads while it runs.
        contract: Path of the Soda data contract of the output, from the working directory, the flow's folder or a
            folder above it.
        batch: Name of the parameter whose value tells one batch of data from another, e.g. "day".
        stale: What prevention may do with runs that wait: "keep", "latest only" (of those with the same parameters) or
            "cancel after 2h".
        most_waiting: Due runs that may wait at once; of more the oldest may be cancelled. None is no bound.

    Raises:
        InvalidInputError: A term cannot be used, `flow` is no flow, or it has terms already; `UnknownNameError` if
            `batch` is no parameter of the flow.
    """
    terms = make_terms(
        deadline=deadline,
        late_usd_per_hour=late_usd_per_hour,
        failure_usd=failure_usd,
        expected=expected,
        inputs=inputs,
        outputs=outputs,
        resources=resources,
        contract=contract,
        batch=batch,
        stale=stale,
        most_waiting=most_waiting,
    )
    return _attach(flow, terms)


def publish(flow: Flow[Any, Any], *, deployment: str | None = None) -> bool:
    """Publish a flow's terms to Prefect now, e.g. in the script that deploys it, instead of at its first run.

    Args:
        flow: A flow with terms.
        deployment: Name of one of its deployments, to publish them for that alone; they take precedence over the
            flow's.

    Returns:
        Whether anything had to be written.

    Raises:
        InvalidInputError: The flow has no terms.
        OrchestratorError: Prefect cannot be reached, or does not accept the credentials.
    """
    from prefect_intelligent.prefect_client.api import PrefectApi
    from prefect_intelligent.prefect_client.terms import publish_terms

    terms = terms_of(flow)
    if terms is None:
        raise InvalidInputError("flow", flow.name, "it has no terms: put @intelligent(...) above @flow")
    api = PrefectApi()
    try:
        return publish_terms(api, flow.name if deployment is None else f"{flow.name}/{deployment}", terms)
    finally:
        api.close()


def make_terms(
    *,
    deadline: str | timedelta | Deadline | None = None,
    late_usd_per_hour: float = 1.0,
    failure_usd: float = 0.0,
    expected: str | timedelta | float | None = None,
    inputs: Iterable[str] = (),
    outputs: Iterable[str] = (),
    resources: Iterable[str] = (),
    contract: str | None = None,
    batch: str | None = None,
    stale: str = "keep",
    most_waiting: int | None = None,
) -> Terms:
    """The terms that the arguments of `attach` mean.

    Raises:
        InvalidInputError: One of them cannot be used; the message says which and what would be accepted.
    """
    return Terms(
        deadline=_deadline(deadline),
        late_usd_per_hour=_number("late_usd_per_hour", late_usd_per_hour),
        failure_usd=_number("failure_usd", failure_usd),
        expected_s=_seconds(expected),
        inputs=_names("inputs", inputs),
        outputs=_names("outputs", outputs),
        resources=_names("resources", resources),
        contract=_text("contract", contract),
        batch=_text("batch", batch),
    )


def _attach(flow: F, terms: Terms) -> F:
    """Attach the terms to the flow and add our hooks after the user's."""
    if not isinstance(flow, Flow):
        raise InvalidInputError(
            "@intelligent", flow, "needs a Prefect flow: put @intelligent(...) above @flow, or call attach(flow, ...)"
        )
    _check_batch(flow, terms.batch)
    if terms.contract is not None and find_contract(terms.contract, flow.fn) is None:
        raise InvalidInputError(
            "contract",
            terms.contract,
            f"there is no such file in {Path.cwd()}, beside the flow or in a folder above it",
        )
    if not hooks.attach_terms(flow, terms):
        raise InvalidInputError(
            "@intelligent", flow.name, "this flow already has its terms: use one @intelligent(...) or attach(...) only"
        )
    for attribute, hook in _HOOKS.items():
        # Prefect shares these lists between a flow and its `with_options` copies, and with the caller's own list.
        present = list(getattr(flow, attribute))
        if not any(known is hook for known in present):
            present.append(hook)
        setattr(flow, attribute, present)
    return flow


def _check_batch(flow: Flow[Any, Any], batch: str | None) -> None:
    """Refuse a batch that is no parameter of the flow, unless it takes any."""
    if batch is None:
        return
    parameters = inspect.signature(flow.fn).parameters
    if batch not in parameters and not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        raise UnknownNameError(f"parameter of flow {flow.name!r} (batch)", batch, parameters)


def _deadline(value: object) -> Deadline | None:
    if value is None or isinstance(value, Deadline):
        return value
    if isinstance(value, str):
        return parse_deadline(value)
    if isinstance(value, timedelta):
        return RelativeDeadline(within_s=value.total_seconds())
    raise InvalidInputError("deadline", value, "expected '45m', '07:00 Europe/Paris' or a timedelta")


def _seconds(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, str):
        return parse_span(value, what="expected")
    if isinstance(value, timedelta):
        return value.total_seconds()
    return _number("expected", value)


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidInputError(name, value, "must be a number")
    try:
        return float(value)
    except OverflowError:
        return math.inf  # which no term takes


def _names(name: str, value: object) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise InvalidInputError(name, value, "must be a list of names, e.g. ['flights_clean']")
    names = tuple(value)
    for place in names:
        shown = without_password(place) if isinstance(place, str) and "://" in place else place
        if shown != place:
            raise InvalidInputError(
                name, shown, "names are shown to everybody: leave the password to PGPASSWORD or ~/.pgpass"
            )
    return names


def _text(name: str, value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise InvalidInputError(name, value, "must be text")
