"""Keys: no two sessions share one, each parses back, and patterns find what they should."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from langchain_memstore.keys import SessionKeys, SessionPattern

pieces = st.one_of(
    st.text(min_size=1, max_size=8),
    st.text("{}%:*?[]\\^!-257BbDd\0\n é", min_size=1, max_size=8),
)
KINDS = ("messages", "meta", "turns", "summary", "evicted", "lease")
like_keys = st.one_of(
    st.builds(lambda head, kind, tag: f"{head}:{kind}:{{{tag}}}", pieces, st.sampled_from(KINDS), pieces),
    st.builds(lambda head, kind: f"{head}:{kind}", pieces, st.sampled_from(KINDS)),
    st.builds(lambda head, tag: f"{head}:{{{tag}", pieces, pieces),
)
names = st.one_of(pieces, like_keys, st.builds(lambda name: name * 2500, pieces))
"""Hostile ids and prefixes: special characters, what looks like a key or a part of one, and very long ones."""
patterns = st.one_of(pieces, like_keys, st.text("ab*?[]!-{}%\\^", min_size=1, max_size=8))
HOSTILE = [
    "{}",
    "}{",
    "{{",
    "%7B",
    "%257B",
    "%",
    "*",
    "[a]",
    "\\",
    "a\0b",
    "a\nb",
    "\r\n",
    "ü🔑",
    " ",
    ":meta:",
    "x" * 10_000,
]


def redis_glob(pattern: str) -> re.Pattern[bytes]:
    """Redis's own matching, of bytes (`stringmatchlen` in its util.c), as a regular expression."""
    parts = []
    for token in re.findall(rb"\\.|\*+|\?|\[.*?\]|.", pattern.encode(), re.DOTALL):
        assert not token.startswith(b"[")  # these patterns have no character classes
        parts.append({b"*": b".*", b"?": b"."}.get(token[:1]) or re.escape(token[-1:]))
    return re.compile(b"".join(parts), re.DOTALL)


@given(st.lists(st.tuples(names, names), min_size=2, max_size=5, unique=True))
@example([("a", "b:c"), ("a:messages", "c")])
@example([("a{b", "c"), ("a%7Bb", "c"), ("a", "{b"), ("a", "%7Bb"), ("a", "%257Bb")])
def test_sessions_share_no_key(sessions: list[tuple[str, str]]) -> None:
    keys = [getattr(SessionKeys(*session), kind) for session in sessions for kind in KINDS]
    assert len(set(keys)) == 6 * len(sessions)


@given(pieces, names, st.data())
def test_prefixes_that_begin_alike_are_apart(prefix: str, session_id: str, data: st.DataObject) -> None:
    longer = prefix + data.draw(st.sampled_from([":", "*", "{", "}", "%", "\0", ":meta", ":meta:", ":meta:{", *"ab?"]))
    keys = {getattr(SessionKeys(each, session_id), kind) for each in (prefix, longer) for kind in KINDS}
    assert len(keys) == 12
    for one, other in ((prefix, longer), (longer, prefix)):
        assert not redis_glob(SessionPattern(one).scan_pattern()).fullmatch(
            SessionKeys(other, session_id).meta.encode()
        )
        assert SessionPattern(one).name(SessionKeys(other, session_id).meta) is None


@given(names, names)
def test_a_key_parses_back(prefix: str, session_id: str) -> None:
    keys = SessionKeys(prefix, session_id)
    assert SessionPattern(prefix).name(keys.meta) == session_id
    for other in {*keys.siblings(), keys.lease} - {keys.meta}:
        assert SessionPattern(prefix).name(other) is None
    assert SessionPattern(prefix + "x").name(keys.meta) is None


@given(names, names)
def test_the_braces_are_the_hash_tag(prefix: str, session_id: str) -> None:
    tags = set()
    for kind in KINDS:
        key = getattr(SessionKeys(prefix, session_id), kind)
        assert (key.count("{"), key.count("}")) == (1, 1)
        assert key.endswith("}")
        tags.add(key[key.index("{") + 1 : -1])
    (tag,) = tags
    assert tag


@pytest.mark.parametrize("name", HOSTILE, ids=lambda name: repr(name[:9]))
def test_any_text_is_an_id_and_a_prefix(name: str) -> None:
    assert SessionPattern(name).name(SessionKeys(name, name).meta) == name
    assert len({SessionKeys(prefix, name).meta for prefix in HOSTILE}) == len(HOSTILE)


def test_the_layout_is_the_contract() -> None:
    assert SessionKeys("conversation", "user-7/a").siblings() == (
        "conversation:messages:{user-7/a}",
        "conversation:meta:{user-7/a}",
        "conversation:turns:{user-7/a}",
        "conversation:summary:{user-7/a}",
        "conversation:evicted:{user-7/a}",
    )
    assert SessionKeys("conversation", "user-7/a").lease == "conversation:lease:{user-7/a}"
    assert SessionKeys("a:b", "1{2}3%").meta == "a:b:meta:{1%7B2%7D3%25}"


def test_keys_are_values() -> None:
    assert SessionKeys("a", "b") == SessionKeys("a", "b") != SessionKeys("b", "a")
    assert len({SessionKeys("a", "b"), SessionKeys("a", "b")}) == 1
    assert repr(SessionKeys("a", "b")) == "SessionKeys(prefix='a', session_id='b')"


@given(names, names, patterns)
@example("p", "[]a", "[]a")
@example("p", "]", "[]]")
@example("p", "a", "[!]]")
@example("p", "{", "[{]")
@example("p", "é", "?")
@example("p", "a\\b", "a\\b")
@example("p", "^", "^")
def test_the_scan_finds_what_fnmatch_matches(prefix: str, session_id: str, match: str) -> None:
    pattern, key = SessionPattern(prefix, match), SessionKeys(prefix, session_id).meta
    if fnmatchcase(session_id, match):
        assert redis_glob(pattern.scan_pattern()).fullmatch(key.encode())
        assert pattern.name(key) == session_id
        assert pattern.matches(session_id)
    else:
        assert pattern.name(key) is None
        assert not pattern.matches(session_id)


@given(names, names, names)
def test_the_scan_finds_an_id_by_itself_and_nothing_of_another_prefix(prefix: str, other: str, session_id: str) -> None:
    found = redis_glob(SessionPattern(prefix).scan_pattern()).fullmatch
    assert bool(found(SessionKeys(other, session_id).meta.encode())) is (prefix == other)
    literal = "".join(f"[{character}]" if character in "*?[" else character for character in session_id)
    assert SessionPattern(prefix, literal).name(SessionKeys(prefix, session_id).meta) == session_id


def test_a_scan_of_plain_text_finds_that_key_alone() -> None:
    assert SessionPattern("p*", "user-7{").scan_pattern() == "p\\*:meta:{user-7%7B}"
    assert SessionPattern("p", "user-?[ab]/*").scan_pattern() == "p:meta:{user-**/*}"


@pytest.mark.parametrize(
    "key", ["p:meta:", "p:meta:{", "p:meta:x", "q:meta:{x}", "p:messages:{x}", "", "{x}", "p:meta:{x}y"]
)
def test_a_key_of_something_else_is_no_session(key: str) -> None:
    assert SessionPattern("p").name(key) is None


@pytest.mark.parametrize("wrong", [None, "", 5, b"bytes", ["a"], "\ud800"], ids=repr)
@pytest.mark.parametrize(
    ("make", "argument"),
    [
        (lambda value: SessionKeys("p", value), "session_id"),
        (lambda value: SessionKeys(value, "s"), "key_prefix"),
        (lambda value: SessionPattern(value), "key_prefix"),
        (lambda value: SessionPattern("p", value), "match"),
    ],
    ids=["id", "prefix", "pattern's prefix", "match"],
)
def test_what_is_no_name_is_refused(make: Any, argument: str, wrong: Any) -> None:
    with pytest.raises(ValueError, match=f"^{argument} must be "):
        make(wrong)
