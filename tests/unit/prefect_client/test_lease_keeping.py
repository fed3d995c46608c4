"""A lease is renewed while a pass takes long, and not for ever where it hangs."""

from __future__ import annotations

import threading

from prefect_intelligent.prefect_client import lease as module
from prefect_intelligent.prefect_client.lease import PrefectLease


class Renewals(PrefectLease):
    """Counts what it would renew."""

    def __init__(self):
        self._name, self._ttl_s, self.count, self.last = "lease", 0.003, 0, threading.Event()

    def renew(self):
        self.count += 1
        if self.count == module._RENEWALS:
            self.last.set()
        return True


def test_a_pass_that_hangs_keeps_it_for_four_times_its_length_and_no_longer():
    lease = Renewals()
    with lease.kept():
        assert lease.last.wait(30)
        keepers = [thread for thread in threading.enumerate() if thread.name == "lease"]
        for keeper in keepers:
            keeper.join(30)
            assert not keeper.is_alive()
        assert lease.count == module._RENEWALS
