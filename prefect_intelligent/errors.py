"""Every error that `prefect_intelligent` raises on purpose.

    PrefectIntelligentError
    ├── InvalidInputError (ValueError)      what a person wrote cannot be used; the CLI exits with 2
    │   ├── UnknownNameError (LookupError)  a name that does not exist; says the nearest that does
    │   └── MissingExtraError (ImportError) an optional dependency is not installed; says the pip line
    ├── IncompatibleLibraryError (ImportError)  a version that does not work; says the pip line
    ├── OrchestratorError (RuntimeError)    Prefect refused, or did not answer
    │   ├── OrchestratorUnavailableError    transient: try again or skip this decision
    │   │   └── OrchestratorBusyError       the server is busy and will answer in a moment
    │   ├── OrchestratorAccessDeniedError   401 or 403: somebody has to change the credentials
    │   └── ConflictError                   what was to be changed has changed or gone
    ├── StoreError (RuntimeError)           the history store cannot be read or written
    ├── TrackerError (RuntimeError)         the tracking server will not take a record
    │   ├── TrackerUnavailableError         transient: try again later
    │   └── TrackerAccessDeniedError        401 or 403: somebody has to change the credentials
    └── QualityError (RuntimeError)         a gate stops: the data may not be used
        ├── DataQualityError                the data is bad
        ├── RetryRunError                   the data is bad and the run that made it is to run again
        └── CheckerError                    the checker failed: nothing is known about the data

A message says what, which, got, and what to do. The data is kept as attributes.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Final


class PrefectIntelligentError(Exception):
    """Base of all errors raised on purpose by this package."""


class InvalidInputError(PrefectIntelligentError, ValueError):
    """A value given by a person cannot be used.

    Args:
        what: Name of the field, option or file.
        got: The value that was given.
        expected: What would be accepted, or what to do.
    """

    def __init__(self, what: str, got: object, expected: str) -> None:
        self.what, self.got, self.expected = what, got, expected
        super().__init__(f"{what}: got {got!r}; {expected}")


class UnknownNameError(InvalidInputError, LookupError):
    """A name that is not among the known ones.

    Args:
        kind: What the name should denote, e.g. "work pool".
        name: The name that was given.
        known: All names that exist.
        example: A name to show instead of the list, where the list is long.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str], *, example: str | None = None) -> None:
        self.kind, self.name, self.known = kind, name, tuple(sorted(known))
        near = difflib.get_close_matches(name, self.known, n=1, cutoff=0.5)
        if near:
            hint = f"did you mean {near[0]!r}?"
        elif example is not None:
            hint = f"expected a name such as {example!r}"
        elif self.known:
            shown = ", ".join(self.known[:12]) + (" ..." if len(self.known) > 12 else "")
            hint = f"known: {shown}"
        else:
            hint = "none exist"
        super().__init__(f"unknown {kind}", name, hint)


class MissingExtraError(PrefectIntelligentError, ImportError):
    """An optional dependency is not installed.

    Args:
        feature: What was asked for.
        extra: The extra of `prefect-intelligent` that brings it.
        install: The line that installs it, where it is no extra of the wheel.
    """

    def __init__(self, feature: str, extra: str, *, install: str | None = None) -> None:
        self.feature, self.extra = feature, extra
        what = f"the extra {extra!r}" if install is None else repr(extra)
        line = install or f"pip install 'prefect-intelligent[{extra}]'"
        super().__init__(f"{feature} needs {what}: {line}")


EXTRA_OF: Final[Mapping[str, str]] = {
    "prefect_dask": "cluster",
    "duckdb": "quality",
    "pyarrow": "quality",
    "soda_core": "quality",
    "soda_duckdb": "quality",
    "sqlglot": "quality",
    "psycopg": "postgres",
    "soda_postgres": "postgres",
    "mlflow": "tracking",
    "prometheus_client": "tracking",
    "llvmlite": "twin",
    "matplotlib": "twin",
    "numba": "twin",
    "PIL": "twin",
    "sklearn": "insight",
    "threadpoolctl": "insight",
    "uvicorn": "dashboard",
}
"""Modules of others that we import late, and the extra that brings each."""


def missing_extra(feature: str, error: ModuleNotFoundError) -> MissingExtraError | None:
    """The hint for an import that failed because an extra is not installed; None if that is not the reason."""
    extra = EXTRA_OF.get((error.name or "").partition(".")[0])
    return None if extra is None else MissingExtraError(feature, extra)


class IncompatibleLibraryError(PrefectIntelligentError, ImportError):
    """A library is installed in a version that this package cannot work with.

    Args:
        library: Its name and version, e.g. "Numba 0.70.0".
        what: What differs, e.g. "layout of an array".
        got: What it is in this version.
        expected: What the package relies on.
        extra: The extra of `prefect-intelligent` that brings a version that works.
    """

    def __init__(self, library: str, what: str, got: object, expected: object, extra: str) -> None:
        self.library, self.what, self.got, self.expected, self.extra = library, what, got, expected, extra
        super().__init__(
            f"{what} in {library}: got {got}; expected {expected}; install a version that works: "
            f"pip install 'prefect-intelligent[{extra}]'"
        )


class OrchestratorError(PrefectIntelligentError, RuntimeError):
    """Prefect refused a call or could not be understood."""


class OrchestratorUnavailableError(OrchestratorError):
    """Prefect cannot be reached, timed out or answered 5xx: skip and try again."""


class OrchestratorBusyError(OrchestratorUnavailableError):
    """Prefect answered 503, as it does for a moment while its database is locked."""


class OrchestratorAccessDeniedError(OrchestratorError):
    """Prefect answered 401 or 403: trying again does not help until somebody changes the credentials or their rights.

    Args:
        message: What was asked, and Prefect's answer.
    """

    def __init__(self, message: str) -> None:
        super().__init__(f"{message}; check PREFECT_API_KEY or PREFECT_API_AUTH_STRING")


class ConflictError(OrchestratorError):
    """What was to be changed has changed or gone in the meantime."""


class StoreError(PrefectIntelligentError, RuntimeError):
    """The history store cannot be read or written."""


class TrackerError(PrefectIntelligentError, RuntimeError):
    """The tracking server understood and refused: trying again will not help."""


class TrackerUnavailableError(TrackerError):
    """The tracking server cannot be reached, timed out or answered 5xx: try again later."""


class TrackerAccessDeniedError(TrackerError):
    """The tracking server answered 401 or 403: trying again does not help until somebody changes the credentials.

    Args:
        message: The server's answer.
    """

    ADVICE: Final = "check MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"

    def __init__(self, message: str) -> None:
        super().__init__(f"{message}; {self.ADVICE}")


class QualityError(PrefectIntelligentError, RuntimeError):
    """A quality gate stops what comes after it.

    Args:
        message: What was found.
        result: The gate's result, for the code that handles the error; None if there is none to pass on.
    """

    def __init__(self, message: str, result: object = None) -> None:
        self.result = result
        super().__init__(message)


class DataQualityError(QualityError):
    """The data is bad and may not be used."""


class RetryRunError(QualityError):
    """The data is bad and the run that made it is to run again: let Prefect's retries see this error."""


class CheckerError(QualityError):
    """The checker failed, so nothing is known about the data and it may not be used."""
