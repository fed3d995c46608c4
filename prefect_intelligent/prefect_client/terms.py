"""Published terms: how the decorator's terms reach the controller, one Prefect variable per flow or deployment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from prefect_intelligent.domain import Terms
from prefect_intelligent.errors import InvalidInputError
from prefect_intelligent.prefect_client.api import PrefectApi
from prefect_intelligent.prefect_client.variables import MAX_CHARACTERS, put_variable, slug_of

TAG: Final = "prefect-intelligent-terms"
_PREFIX: Final = "prefect_intelligent_terms_"


def variable_name(subject: str) -> str:
    """Name of the variable that holds the terms of `subject`, a flow or a "flow/deployment"."""
    return f"{_PREFIX}{slug_of(subject)}"


def publish_terms(api: PrefectApi, subject: str, terms: Terms) -> bool:
    """Publish the terms to controllers, unless they are published already.

    Args:
        api: The Prefect server.
        subject: Name of a flow, or "flow/deployment" for that deployment alone (it takes precedence over the flow's).
        terms: The terms.

    Returns:
        Whether anything had to be written.

    Raises:
        InvalidInputError: They are longer than a Prefect variable may be.
    """
    name = variable_name(subject)
    value = {"subject": subject, "terms": terms.to_dict()}
    if len(str(value)) > MAX_CHARACTERS - 500:
        raise InvalidInputError(f"terms of {subject!r}", f"{len(str(value))} characters", "keep them under 4500")
    return put_variable(api, name, value, TAG)


@dataclass(frozen=True, slots=True)
class PublishedTerms:
    """All terms published on a server.

    Attributes:
        by_subject: Flow or "flow/deployment" to its terms.
        problems: Variables that could not be read, one sentence each (a person has edited them).
    """

    by_subject: Mapping[str, Terms] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    def of(self, flow: str, deployment: str) -> Terms | None:
        """Terms of a deployment: its own, else its flow's; None if there are none."""
        return self.by_subject.get(f"{flow}/{deployment}") or self.by_subject.get(flow)


def read_terms(api: PrefectApi) -> PublishedTerms:
    """The terms of all flows and deployments of the server, in one call per 200 of them."""
    found: dict[str, Terms] = {}
    problems: list[str] = []
    for page in api.pages("/variables/filter", {"variables": {"tags": {"all_": [TAG]}}}):
        for variable in page:
            try:
                subject, terms = _read(variable["value"])
            except InvalidInputError as error:
                problems.append(f"variable {variable['name']}: {error}")
            else:
                found[subject] = terms
    return PublishedTerms(found, tuple(problems))


def _read(value: Any) -> tuple[str, Terms]:
    """Subject and terms held by a variable."""
    try:
        return str(value["subject"]), Terms.from_dict(value["terms"])
    except InvalidInputError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInputError("terms", value, "must be an object with 'subject' and 'terms'") from error
