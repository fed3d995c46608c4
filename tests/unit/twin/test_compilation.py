"""What the compiled twin relies on: the layout of Numba's arrays, and a cache that knows every source."""

import ast
import subprocess
import sys
from pathlib import Path

import numba
import pytest

import prefect_intelligent
from prefect_intelligent.errors import IncompatibleLibraryError, PrefectIntelligentError
from prefect_intelligent.twin.engine import numba_structs
from prefect_intelligent.twin.engine.jit import SOURCES

PACKAGE = Path(prefect_intelligent.__file__).parent

ANOTHER_LAYOUT = """
from numba.core import types
from numba.core.datamodel import models, register_default

@register_default(types.Array)
class ArrayModel(models.StructModel):
    def __init__(self, manager, array):
        members = [
            ("data", types.CPointer(array.dtype)),
            ("meminfo", types.MemInfoPointer(array.dtype)),
            ("parent", types.pyobject),
            ("shape", types.UniTuple(types.intp, array.ndim)),
            ("strides", types.UniTuple(types.intp, array.ndim)),
        ]
        super().__init__(manager, array, members)

import prefect_intelligent.twin.simulator
"""


def test_the_installed_numba_is_accepted():
    numba_structs.check_array_layout()


def test_the_import_of_the_twin_refuses_another_layout():
    done = subprocess.run([sys.executable, "-c", ANOTHER_LAYOUT], capture_output=True, text=True)
    assert done.returncode == 1
    said = done.stderr.strip().splitlines()[-1]
    assert said.startswith("prefect_intelligent.errors.IncompatibleLibraryError: layout of an array in Numba ")
    assert "got (data: pointer, meminfo: pointer" in said
    assert "expected (meminfo: pointer, parent: pointer, nitems: i64" in said
    assert said.endswith("pip install 'prefect-intelligent[twin]'")


def test_a_layout_that_cannot_be_read_is_refused_too(monkeypatch):
    class Opaque:
        def get_value_type(self):
            return None

    monkeypatch.setattr(numba_structs.default_manager, "lookup", lambda _: Opaque())
    with pytest.raises(IncompatibleLibraryError) as caught:
        numba_structs.check_array_layout()
    assert isinstance(caught.value, PrefectIntelligentError)
    assert isinstance(caught.value, ImportError)
    assert (caught.value.library, caught.value.extra) == (f"Numba {numba.__version__}", "twin")


def test_the_digest_of_the_cache_covers_every_file_with_compiled_functions():
    names = {str(path.relative_to(PACKAGE)) for path in SOURCES}
    assert {"twin/batch.py", "twin/model/event_loop.py", "twin/engine/heap.py", "policy/guard_steps.py"} <= names
    for path in PACKAGE.rglob("*.py"):
        marks = {
            getattr(mark, "id", "")
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.FunctionDef)
            for mark in node.decorator_list
        }
        if marks & {"compiled", "inlined"}:
            assert str(path.relative_to(PACKAGE)) in names
