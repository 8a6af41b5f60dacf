"""The garbage collector rests while a large window is decoded, and is left as it was."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
from langchain_core.messages import HumanMessage

from langchain_memstore import MessageDecodeError, codec
from langchain_memstore.codec.session import MANY, SessionCodec, collector_resting
from langchain_memstore.keys import SessionKeys

CODEC = SessionCodec(SessionKeys("conversation", "session"), on_corrupt="raise")


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    assert gc.isenabled()
    yield
    gc.enable()


def collections() -> int:
    return sum(generation["collections"] for generation in gc.get_stats())


def test_no_collection_goes_through_a_large_window() -> None:
    entries = [*codec.encode([HumanMessage("hello")] * 5_000)]
    gc.collect()
    before = collections()
    assert len(CODEC.decode(entries)) == 5_000
    assert collections() - before <= 2  # they are 30,000 objects, and there would be a collection for some 700 of them
    assert gc.isenabled()


@pytest.mark.parametrize("is_on", [True, False])
def test_the_collector_is_left_as_it_was(is_on: bool) -> None:
    (gc.enable if is_on else gc.disable)()
    with collector_resting():
        assert not gc.isenabled()
        with collector_resting():
            assert not gc.isenabled()
    assert gc.isenabled() == is_on


def test_the_collector_is_left_as_it_was_by_an_error() -> None:
    entries = [*codec.encode([HumanMessage("hello")] * MANY), b"{"]
    with pytest.raises(MessageDecodeError, match=f"entry {MANY}"):
        CODEC.decode(entries)
    assert gc.isenabled()
