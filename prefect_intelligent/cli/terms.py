"""`prefect-intelligent terms`: what was agreed for flows, as controllers know it."""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import Parameter

from prefect_intelligent.cli.options import Json, add, print_json, subcommands
from prefect_intelligent.domain import Terms
from prefect_intelligent.errors import InvalidInputError

command = subcommands("terms")


@add(command, "show", "Show the published terms; exit code 1 if some cannot be read.")
def _show(*, as_json: Json = False) -> int:
    from prefect_intelligent.prefect_client.api import PrefectApi
    from prefect_intelligent.prefect_client.terms import read_terms

    agreed = read_terms(PrefectApi())
    if as_json:
        terms = {subject: found.to_dict() for subject, found in sorted(agreed.by_subject.items())}
        print_json({"terms": terms, "problems": list(agreed.problems)})
    else:
        for subject, found in sorted(agreed.by_subject.items()):
            print(f"{subject}: {_sentence(found)}")
        if not agreed.by_subject:
            print("No terms are published: put @intelligent(...) above @flow and run it, or use `terms publish`.")
        for problem in agreed.problems:
            print(f"unreadable: {problem}")
    return 1 if agreed.problems else 0


@add(command, "publish", "Import flows and publish their terms before they first run.")
def _publish(
    entrypoints: Annotated[
        list[str], Parameter(name="ENTRYPOINT", metavar="FILE.py:FLOW", help="where a decorated flow is")
    ],
    /,
    *,
    deployment: Annotated[str | None, Parameter(metavar="NAME", help="for this deployment of the flow alone")] = None,
    apply: Annotated[bool, Parameter(help="do it; without this it is only shown")] = False,
    as_json: Json = False,
) -> int:
    from prefect_intelligent.flow.decorator import publish, terms_of

    flows = [_load(entrypoint) for entrypoint in entrypoints]
    found = {}
    for flow in flows:  # all are looked at before the first is written
        terms = terms_of(flow)
        if terms is None:
            raise InvalidInputError("flow", flow.name, "it has no terms: put @intelligent(...) above @flow")
        found[flow.name if deployment is None else f"{flow.name}/{deployment}"] = terms
    changed = [publish(flow, deployment=deployment) for flow in flows] if apply else []
    if as_json:
        print_json({"terms": {key: agreed.to_dict() for key, agreed in found.items()}, "written": sum(changed)})
        return 0
    for subject, agreed in found.items():
        print(f"{subject}: {_sentence(agreed)}")
    print(f"{sum(changed)} of {len(flows)} were new." if apply else "Nothing was written. Add --apply to do it.")
    return 0


def _load(entrypoint: str) -> Any:
    """The flow at an entrypoint; importing it runs the file's top level, as Prefect does too."""
    from prefect.flows import load_flow_from_entrypoint

    try:
        return load_flow_from_entrypoint(entrypoint, use_placeholder_flow=False)
    except InvalidInputError:
        raise
    except Exception as error:
        if (mistake := _mistake(error)) is not None:
            raise InvalidInputError(mistake.what, mistake.got, f"{mistake.expected} (in {entrypoint})") from error
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InvalidInputError(
            "entrypoint", entrypoint, f"cannot be loaded, expected FILE.py:FLOW ({reason})"
        ) from error


def _mistake(error: BaseException | None) -> InvalidInputError | None:
    """What a decorator in the file has refused, which Prefect wraps."""
    while error is not None and not isinstance(error, InvalidInputError):
        error = getattr(error, "user_exc", None) or error.__cause__ or error.__context__
    return error


def _sentence(terms: Terms) -> str:
    """Terms in one line."""
    said = ", ".join(f"{name} {value}" for name, value in terms.to_dict().items())
    return said or "nothing but the defaults (no deadline, so it cannot be late)"
