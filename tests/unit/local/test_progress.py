"""Signs of life of a long command."""

import io
import threading

from prefect_intelligent.local.progress import Progress


class Out(io.StringIO):
    """Collects what is said, and tells when something was."""

    def __init__(self, terminal=False):
        super().__init__()
        self.said, self._terminal = threading.Event(), terminal

    def isatty(self):
        return self._terminal

    def write(self, text):
        self.said.set()
        return super().write(text)


def test_the_step_and_the_time_are_said_while_it_lasts():
    out = Out()
    with Progress("reading", out=out, every_s=0.01) as progress:
        assert out.said.wait(30)
        progress("fitting")
        out.said.clear()
        assert out.said.wait(30)
        out.said.clear()
        assert out.said.wait(30)
    lines = out.getvalue().splitlines()
    assert lines[0] == "reading (0 s)"
    assert any(line.startswith("fitting (") for line in lines)


def test_a_terminal_is_left_as_it_was():
    out = Out(terminal=True)
    with Progress("reading", out=out, every_s=0.01):
        assert out.said.wait(30)
    assert out.getvalue().endswith("\r\x1b[K")
    assert "\n" not in out.getvalue()


def test_what_is_quick_says_nothing():
    out = Out()
    with Progress("reading", out=out, every_s=3600.0):
        pass
    assert out.getvalue() == ""


def test_nobody_who_listens_is_no_error():
    out = Out()
    out.close()
    with Progress("reading", out=out, every_s=0.0):
        pass
