"""Values that JSON loses or refuses come back as they were, or are refused."""

from __future__ import annotations

import enum
import io
import re
import struct
from collections import deque
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import orjson
import pytest
from hypothesis import given
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, HumanMessage
from pydantic import BaseModel

from langchain_memstore.codec.tagged import MARK, pack, unpack
from langchain_memstore.errors import MessageEncodeError
from support.strategies import Point, any_values, canonical


def through_json(value: Any) -> Any:
    return unpack(orjson.loads(orjson.dumps(pack(value, "value"))))


@given(any_values)
def test_what_goes_in_comes_out(value: Any) -> None:
    assert canonical(through_json(value)) == canonical(value)


def test_what_json_keeps_stays_as_it_is() -> None:
    value = {"a": [1, -0.5, True, None, "é\u2028\x00"], "b": {"": {}}, "lc": 1}
    assert pack(value, "value") == value


@pytest.mark.parametrize(
    "value",
    [
        {MARK: ["bytes", "AA=="]},
        {MARK: ["nope", 1]},
        {MARK: 1, "other": 2},
        {"a": [{MARK: []}]},
        {MARK: {MARK: ["tuple", []]}},
    ],
)
def test_a_dictionary_that_looks_like_a_mark_is_no_mark(value: Any) -> None:
    assert through_json(value) == value


class Colour(enum.Enum):
    RED = 1


class Word(str, enum.Enum):
    HI = "hi"


class Number(enum.IntEnum):
    BIG = 2**70


class Real(float):
    pass


class Moment(datetime):
    pass


class Nanoseconds(datetime):
    """As pandas' Timestamp: a datetime that is more than one."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Nanoseconds)

    __hash__ = datetime.__hash__


class NotATime(datetime):
    """As pandas' NaT: a datetime that is none."""

    def isoformat(self, *_: Any) -> str:
        return "NaT"


class Rows(list):
    pass


class Page(Document):
    pass


class Form(BaseModel):
    x: int = 1


@dataclass
class Record:
    x: int = 1


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (Word.HI, "hi"),
        ({Word.HI: 1}, {"hi": 1}),
        (AIMessage("text").text, "text"),
        (Number.BIG, 2**70),
        (Real("inf"), float("inf")),
        (Real(1.5), 1.5),
        (Rows([1, (2,)]), [1, (2,)]),
        (Point(1, b"2"), (1, b"2")),
        (Point(float("nan"), 1), (float("nan"), 1)),
        (Moment(2024, 5, 6, fold=1), datetime(2024, 5, 6, fold=1)),
    ],
    ids=repr,
)
def test_a_value_of_a_subclass_becomes_the_plain_one_that_equals_it(value: Any, plain: Any) -> None:
    assert canonical(through_json(value)) == canonical(plain)


changed = Document(page_content="text")
changed.metadata = None  # type: ignore[assignment]
endless: list[Any] = []
endless.append(endless)


@pytest.mark.parametrize(
    "value",
    [
        object(),
        len,
        lambda: None,
        int,
        Colour.RED,
        Form(),
        Record(),
        HumanMessage("message"),
        Page(page_content="text"),
        changed,
        Nanoseconds(2024, 5, 6),
        NotATime(2024, 5, 6),
        1 + 2j,
        Fraction(1, 3),
        bytearray(b"x"),
        memoryview(b"x"),
        range(3),
        deque([1]),
        iter([]),
        ValueError("x"),
        re.compile("x"),
        Path("x"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_cannot_be_kept_is_refused_with_its_path(value: Any) -> None:
    with pytest.raises(MessageEncodeError, match=re.escape("value.a[1] is of ") + r".*\.\w+, which cannot be stored"):
        pack({"a": ["fine", value]}, "value")


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (object(), "value"),
        ([[object()]], "value[0][0]"),
        ({"a": {"b": object()}}, "value.a.b"),
        ((1, object()), "value[1]"),
        ({object()}, "value[0]"),
        ({1: object()}, "value[1]"),
        ({"\ud800": object()}, "value['\\ud800']"),
        ({(1, object()): 1}, "value (key)[1]"),
        (Document(page_content="text", metadata={"when": [object()]}), "value.metadata.when[0]"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_path_leads_to_the_value(value: Any, path: str) -> None:
    with pytest.raises(MessageEncodeError) as caught:
        pack(value, "value")
    assert str(caught.value).startswith(f"{path} is of builtins.object,")


def test_a_zone_that_cannot_be_found_by_its_key_becomes_its_offset() -> None:
    """Such are the zones of the `tzlocal` package, whose key may be `local`."""
    hour_east = b"TZif" + bytes(16) + struct.pack(">6llbb4s", 0, 0, 0, 0, 1, 4, 3600, 0, 0, b"XST")
    for key in ("local", "/etc/localtime", None):
        moment = datetime(2024, 5, 6, 7, tzinfo=ZoneInfo.from_file(io.BytesIO(hour_east), key=key))
        assert through_json(moment) == moment
        assert through_json(moment).utcoffset() == timedelta(hours=1)


def test_a_date_and_a_datetime_are_told_apart() -> None:
    days = [date(2024, 5, 6), datetime(2024, 5, 6)]
    assert [type(day) for day in through_json(days)] == [date, datetime]
