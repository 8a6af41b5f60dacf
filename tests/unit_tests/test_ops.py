"""What operations declare about themselves: wrappers, journals and the Lua halves rely on it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields
from importlib.resources import files
from inspect import isabstract
from typing import Any, get_args

import pytest

from langchain_memstore import ops
from langchain_memstore.ops.base import JOURNALED, InOutage, MirrorEffect, Op

ops.load_operations()

JOURNAL_NAMES = [
    "Append",
    "Clear",
    "Delete",
    "Expire",
    "Increment",
    "Pop",
    "RegisterTurn",
    "Set",
    "SetSummary",
    "Touch",
    "Unlink",
    "UpdateRecord",
]
"""The journal names of version 0.1. They are stored: none of them ever changes."""

SHARED = {"common", "values", "writes"}
"""The Lua files that scripts follow on."""


def concrete(base: type[Op[Any]] = Op) -> Iterator[type[Op[Any]]]:
    for cls in base.__subclasses__():
        if cls.__module__.startswith("langchain_memstore.") and not isabstract(cls):
            yield cls
        yield from concrete(cls)


OPS = sorted(set(concrete()), key=lambda op: op.__name__)
SOURCES = {file.name.removesuffix(".lua"): file.read_text() for file in (files("langchain_memstore") / "lua").iterdir()}

every_op = pytest.mark.parametrize("op", OPS, ids=lambda op: op.__name__)


def test_all_operations_are_found() -> None:
    assert {op.__name__ for op in OPS} >= {"Append", "Read", "SetCached", "UpdateRecord", "Hit", "Dump", "Ask"}
    assert len({op.__name__ for op in OPS}) == len(OPS)


@every_op
def test_an_operation_says_what_becomes_of_it_in_an_outage(op: type[Op[Any]]) -> None:
    assert op.in_outage in get_args(InOutage)
    assert (op.in_outage == "journal") == (op.journal_name is not None)


def test_journal_names_are_those_of_the_first_version() -> None:
    journaled = {op: op.journal_name for op in OPS if op.journal_name is not None}
    assert sorted(journaled.values()) == JOURNAL_NAMES
    assert {name: op for op, name in journaled.items()} == JOURNALED


@every_op
def test_what_is_journaled_writes(op: type[Op[Any]]) -> None:
    assert op.writes or op.journal_name is None


@every_op
def test_a_session_mirror_repeats_writes_and_keeps_views_of_reads(op: type[Op[Any]]) -> None:
    assert op.mirror in get_args(MirrorEffect)
    assert op.mirror == "none" or op.writes == (op.mirror != "view")
    assert op.mirror == "none" or "keys" in {field.name for field in fields(op)}


@every_op
def test_a_scan_goes_on_from_a_cursor(op: type[Op[Any]]) -> None:
    assert op.scans == ("cursor" in {field.name for field in fields(op)})


@every_op
def test_an_operation_is_one_script_or_a_pipeline_of_commands(op: type[Op[Any]]) -> None:
    is_script = op.script is not None
    assert (op.arguments is not Op.arguments, op.commands is not Op.commands) == (is_script, not is_script)


def test_the_lua_half_and_the_python_half_of_an_operation_name_each_other() -> None:
    halves = {}
    for name, source in SOURCES.items():
        header = re.match(r"(--.*\n)+", source)
        named = re.findall(r"^-- Python half: (\w+) in ops/(\w+)\.py$", header[0] if header else "", re.MULTILINE)
        assert len(named) == (name not in SHARED), f"lua/{name}.lua"
        if named:
            halves[name] = named[0]
    scripts = {op.script.name: (op.__name__, op.__module__.rpartition(".")[2]) for op in OPS if op.script is not None}
    assert halves == scripts
    assert len(scripts) == sum(op.script is not None for op in OPS)
