"""`prefect-intelligent --install-completion` and `--show-completion`: commands and options completed by the shell."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from prefect_intelligent.errors import InvalidInputError

Shell = Literal["bash", "zsh", "fish", "powershell"]


def install(
    *,
    shell: Annotated[Shell | None, Parameter(help="shell to complete in (default: the one that runs this)")] = None,
    output: Annotated[
        Path | None,
        Parameter(name=["--output", "-o"], metavar="FILE", help="where to write it (default: where the shell looks)"),
    ] = None,
) -> int:
    """Write the script and have the shell load it."""
    from prefect_intelligent.cli.parsing import application

    path = application().install_completion(shell=shell or _current_shell(), output=output)
    print(f"wrote {path}; a new shell completes commands and options")
    return 0


def show(
    *, shell: Annotated[Shell | None, Parameter(help="shell to complete in (default: the one that runs this)")] = None
) -> int:
    """Print the script."""
    from prefect_intelligent.cli.parsing import application

    print(application().generate_completion(shell=shell or _current_shell()))
    return 0


def _current_shell() -> Shell:
    from cyclopts.completion import ShellDetectionError, detect_shell

    try:
        return detect_shell()
    except ShellDetectionError as error:
        raise InvalidInputError(
            "--shell", None, "this shell cannot be told; name bash, zsh, fish or powershell"
        ) from error
