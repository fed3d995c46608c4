"""`control run`: the controller as a process."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from prefect_intelligent.cli.options import Config, Int, Json, read_settings
from prefect_intelligent.errors import InvalidInputError, OrchestratorError

if TYPE_CHECKING:
    from prefect_intelligent.cli.control_pools import PoolRunner
    from prefect_intelligent.prefect_client.api import PrefectApi
    from prefect_intelligent.settings import Settings

_SLICE_S = 0.5
_STOP_S = 20.0  # what a pass may take to end; a pool that hangs longer ends with the process


def command(
    *,
    pool: Annotated[
        tuple[str, ...],
        Parameter(metavar="NAME", help="work pool; repeat it to steer several; without it the setting `pool`"),
    ] = (),
    all_pools: Annotated[
        bool,
        Parameter(help="steer every work pool of the server; deleted ones leave, later ones wait for `control on`"),
    ] = False,
    tag: Annotated[
        str | None, Parameter(metavar="TAG", help="with --all-pools, only pools with a deployment that has this tag")
    ] = None,
    config: Config = None,
    policy: Annotated[
        str | None,
        Parameter(metavar="NAME|BUNDLE", help="a rule such as atc+lookahead+share, or a bundle's folder"),
    ] = None,
    mode: Annotated[
        Literal["shadow", "advise", "auto"] | None, Parameter(help="record; also tell; or do (default: auto)")
    ] = None,
    interval_s: Annotated[
        float | None, Parameter(name="--interval", metavar="S", help="longest time between decisions")
    ] = None,
    ship: Annotated[
        list[str] | None,
        Parameter(
            consume_multiple=(0, 1), metavar="[URI]", help="also run `ship` beside, to MLflow at URI or its default"
        ),
    ] = None,
    metrics_port: Annotated[
        Int | None, Parameter(metavar="PORT", help="answer GET /metrics for Prometheus there")
    ] = None,
    once: Annotated[bool, Parameter(help="make one decision and end")] = False,
    restore_on_exit: Annotated[bool, Parameter(help="put the original settings back at the end")] = False,
    as_json: Json = False,
) -> int:
    """Steer until SIGTERM or SIGINT; the last good settings stay in force and the leases are given up."""
    from prefect_intelligent.cli.control_pools import PoolRunner
    from prefect_intelligent.prefect_client.api import PrefectApi
    from prefect_intelligent.wiring.pipelines import open_event_relay
    from prefect_intelligent.wiring.pool_group import open_shared_parts
    from prefect_intelligent.wiring.steering import check_pool, controller_config, open_controller

    settings = read_settings(config, policy=policy, mode=mode, interval_s=interval_s).settings
    names = _named(settings, pool, all_pools=all_pools, tag=tag)
    # Before anything is opened: what is wrong with what was typed ends the command.
    if len(names) != 1:
        controller_config(settings, "", "")
        for name in names:
            check_pool(name)
    alone = open_controller(settings, names[0]) if len(names) == 1 else None
    with contextlib.ExitStack() as stack:
        shared = None if alone else stack.enter_context(open_shared_parts(settings, listen=settings.react and not once))
        opened = [alone] if alone else [open_controller(settings, name, shared=shared) for name in names]
        runner = PoolRunner(
            settings, shared, opened, metrics_port, once=once, restore_on_exit=restore_on_exit, as_json=as_json
        )
        api = alone.api if alone else PrefectApi()
        stack.enter_context(_shipper(ship, config))
        if not once:
            stack.enter_context(open_event_relay(settings, api))
        stop = stack.enter_context(_Stop())
        if alone:
            runner.run(alone, stop.asked)
        else:
            _steer_several(runner, settings, api, names if not all_pools else None, tag, stop.asked)
    return 1 if once and runner.failed else 0


def _named(settings: Settings, pools: Sequence[str], *, all_pools: bool, tag: str | None) -> tuple[str, ...]:
    """The pools that were named, once each; none if all are meant."""
    if all_pools:
        if pools:
            raise InvalidInputError("--pool", pools[0], "--all-pools steers it too; give one of the two")
        return ()
    if tag is not None:
        raise InvalidInputError("--tag", tag, "chooses among the pools of --all-pools; give that too")
    if "" in pools:
        raise InvalidInputError("--pool", "", "must be the name of a work pool")
    if not pools and settings.pool is None:
        raise InvalidInputError("--pool", None, "name a work pool with --pool or the setting `pool`")
    return tuple(dict.fromkeys(pools)) or (str(settings.pool),)


def _steer_several(
    runner: PoolRunner,
    settings: Settings,
    api: PrefectApi,
    named: Sequence[str] | None,
    tag: str | None,
    stopped: Callable[[], bool],
) -> None:
    """Steer the named pools, or those that the server has from interval to interval."""
    import time

    from prefect_intelligent.steering.pool_group import PoolGroup
    from prefect_intelligent.wiring.pool_group import find_pools

    group = PoolGroup(runner.run_named, runner.tell_broken, spread_s=0.0 if runner.once else settings.interval_s / 2)
    while not stopped():
        try:
            found = named if named is not None else find_pools(api, tag)
            if named is None and tag is None:  # a tag is a person's word for a pool, that it exists is not
                runner.meant = frozenset(found if runner.meant is None else runner.meant & {*found})
            runner.tell_members(*group.follow(found))
        except OrchestratorError as error:  # the pools that are steered go on
            runner.tell_unknown(error)
            if runner.once:
                break
        runner.pools = len(group.pools)
        if runner.once:
            group.wait()
            break
        until = time.monotonic() + settings.interval_s
        while not stopped() and time.monotonic() < until:
            time.sleep(_SLICE_S)
    group.stop(_STOP_S)


@contextlib.contextmanager
def _shipper(uri: list[str] | None, config: str | None) -> Iterator[None]:
    """A shipper as a process of its own, so that a slow MLflow never slows a decision; ended with the controller."""
    if uri is None:
        yield
        return
    options = [*(f"--tracking-uri={one}" for one in uri), *(["--config", config] if config else [])]
    # A session of its own: Ctrl-C is for the controller, which ends the shipper when it is done itself.
    process = subprocess.Popen([sys.executable, "-m", "prefect_intelligent", "ship", *options], start_new_session=True)
    try:
        yield
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        process.kill()
        process.wait()


class _Stop:
    """Set by SIGTERM and SIGINT while entered; a second SIGINT interrupts at once."""

    def __init__(self) -> None:
        self._asked = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> _Stop:
        self._before = {number: signal.signal(number, self._ask) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def asked(self) -> bool:
        return self._asked

    def _ask(self, number: int, _: Any) -> None:
        if self._asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._asked = True
