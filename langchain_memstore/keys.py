"""Where things live in Redis: key layout, hash tags, escaping, and parsing keys back.

A key reads `<prefix>:<kind>:{<name>}`; the name of a session is its id. The braces are literal: they are the hash tag
that keeps the keys of one name in one cluster slot
(https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#hash-tags). In prefix, kind and name the
characters `{`, `}` and `%` are percent-encoded, and in the kind the colon, so a key has exactly one brace of each kind:
no two triples of prefix, kind and name share a key, and every key parses back.
"""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass, field

from typing_extensions import override

_ESCAPES = str.maketrans({"%": "%25", "{": "%7B", "}": "%7D"})
_WILDCARD = re.compile(r"\*|\?|\[!?\]?[^\]]*\]")  # the wildcards of fnmatch
_GLOB_SPECIAL = re.compile(r"([*?\[\]\\^])")  # what a Redis pattern does not take literally


SESSION_KINDS = ("messages", "meta", "turns", "summary", "evicted", "lease")
RESERVED = frozenset((*SESSION_KINDS, "kv", "cache", "limit", "lock", "done"))  # the last is of version 0.1
"""The kinds that are the package's own: no type of a working memory begins with one of them and a slash."""


def _escape(text: str) -> str:
    return text.translate(_ESCAPES)


def _unescape(text: str) -> str:
    return text.replace("%7B", "{").replace("%7D", "}").replace("%25", "%")


def _escape_kind(kind: str) -> str:
    return _escape(kind).replace(":", "%3A")


def _unescape_kind(text: str) -> str:
    return _unescape(text.replace("%3A", ":"))


def check_name(argument: str, value: object) -> str:
    """Check a session id or a key prefix.

    Args:
        argument: The argument's name, for the error.
        value: What the caller passed for it.

    Returns:
        The value.

    Raises:
        ValueError: The value is not a string, is empty, or has no UTF-8 form.
    """
    if not isinstance(value, str) or not value:
        raise ValueError(f"{argument} must be a non-empty string, not {value!r}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{argument} must be text that UTF-8 can encode, not {value!r} (a lone surrogate)") from None
    return value


@dataclass(frozen=True)
class SessionKeys:
    """The keys of one session.

    Args:
        prefix: The first part of every key; it sets one application or tenant apart from the next.
        session_id: Which conversation; any non-empty text.
    """

    prefix: str
    session_id: str

    messages: str = field(init=False, repr=False, compare=False)
    """List of entries, oldest first."""
    meta: str = field(init=False, repr=False, compare=False)
    """Hash: schema version, epoch, total, times, what tells of writes."""
    turns: str = field(init=False, repr=False, compare=False)
    """Integer: the turn counter."""
    summary: str = field(init=False, repr=False, compare=False)
    """String: the rolling summary."""
    evicted: str = field(init=False, repr=False, compare=False)
    """List of the entries that left the window and wait to be summarised."""
    lease: str = field(init=False, repr=False, compare=False)
    """String: who is summarising the session now; expires by itself."""
    popped: str = field(init=False, repr=False, compare=False)
    """Hash: what was popped of late, for a call that is repeated; expires by itself."""
    script_keys: tuple[str, ...] = field(init=False, repr=False, compare=False)
    """What `siblings` returns: the scripts take it without a call."""

    def __post_init__(self) -> None:
        head, tag = _escape(check_name("key_prefix", self.prefix)), _escape(check_name("session_id", self.session_id))
        for kind in SESSION_KINDS:
            object.__setattr__(self, kind, f"{head}:{kind}:{{{tag}}}")
        object.__setattr__(self, "popped", f"{head}:messages/popped:{{{tag}}}")
        object.__setattr__(self, "script_keys", (self.messages, self.meta, self.turns, self.summary, self.evicted))

    def siblings(self) -> tuple[str, ...]:
        """Return the keys that expire together, in the order in which the scripts take them."""
        return self.script_keys


@dataclass(frozen=True)
class Namespace:
    """The keys of one kind of values.

    Args:
        prefix: The first part of every key.
        kind: The second part; any non-empty text.
    """

    prefix: str
    kind: str

    _head: str = field(init=False, repr=False, compare=False)
    _meta: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        prefix, kind = _escape(check_name("key_prefix", self.prefix)), _escape_kind(check_name("kind", self.kind))
        object.__setattr__(self, "_head", f"{prefix}:{kind}:{{")
        object.__setattr__(self, "_meta", meta_key(self._head))

    def key(self, name: str) -> str:
        """Return the key of a value."""
        return f"{self._head}{_escape(name)}}}"

    def keys(self, name: str) -> tuple[str, str]:
        """Return the key of a value, and that of what tells of writes on it; in one cluster slot."""
        tag = _escape(name)
        return f"{self._head}{tag}}}", f"{self._meta}{tag}}}"


def meta_key(key: str) -> str:
    """Return the key of what tells of writes on a value, given that of the value."""
    head, brace, name = key.partition(":{")
    prefix, _, kind = head.rpartition(":")
    return f"{prefix}:meta/{kind}{brace}{name}"


@dataclass(frozen=True)
class SessionPattern:
    """Which sessions of a prefix a listing wants.

    Args:
        prefix: The key prefix.
        match: A pattern over session ids, with the wildcards of `fnmatch.fnmatchcase`: `*`, `?`, `[seq]`, `[!seq]`.
    """

    prefix: str
    match: str = "*"

    def __post_init__(self) -> None:
        check_name("key_prefix", self.prefix)
        check_name("match", self.match)

    def _head(self) -> str:
        return f"{_escape(self.prefix)}:meta:{{"

    def scan_pattern(self) -> str:
        """Return the Redis pattern that finds the key of every name that matches, and few others; of a session, `meta`.

        Wildcards other than `*` become `*`: Redis matches bytes of the escaped name where a caller means characters of
        the name. `name` tells which of the found keys match.
        """
        parts: list[str] = []
        end = 0
        for wildcard in _WILDCARD.finditer(self.match):
            parts += glob_literal(_escape(self.match[end : wildcard.start()])), "*"
            end = wildcard.end()
        parts.append(glob_literal(_escape(self.match[end:])))
        return f"{glob_literal(self._head())}{''.join(parts)}}}"

    def name(self, key: str) -> str | None:
        """Parse the name out of a key that `scan_pattern` found.

        Args:
            key: The key.

        Returns:
            The name, or None where the key is not of one that matches.
        """
        head = self._head()
        if not key.startswith(head) or not key.endswith("}"):
            return None
        name = _unescape(key[len(head) : -1])
        return name if self.matches(name) else None

    def matches(self, name: str) -> bool:
        """Tell whether the pattern wants a name."""
        return self.match == "*" or fnmatch.fnmatchcase(name, self.match)


@dataclass(frozen=True)
class ValuePattern(SessionPattern):
    """Which values of a namespace a listing wants.

    Args:
        prefix: The key prefix.
        match: A pattern over names; see `SessionPattern`.
        kind: The kind of the values.
    """

    kind: str = "kv"

    @override
    def _head(self) -> str:
        return f"{_escape(self.prefix)}:{_escape_kind(self.kind)}:{{"


@dataclass(frozen=True)
class RecordPattern(SessionPattern):
    """Which records of a working memory a listing wants, by the keys themselves.

    Args:
        prefix: The key prefix.
        conversation_id: Of which conversation; None: of all.
        memory_type: Of which type; None: of all.
    """

    conversation_id: str | None = None
    memory_type: str | None = None

    @override
    def scan_pattern(self) -> str:
        """Return the Redis pattern that finds every key of such a record, and few others."""
        kind = "*" if self.memory_type is None else glob_literal(_escape_kind(self.memory_type))
        name = "*" if self.conversation_id is None else glob_literal(_escape(self.conversation_id))
        return f"{glob_literal(_escape(self.prefix))}:{kind}:{{{name}}}"

    @override
    def name(self, key: str) -> str | None:
        """Return a key that `scan_pattern` found, or None where it is not of such a record."""
        if (found := self.parse(key)) is None:
            return None
        wanted = (self.conversation_id, self.memory_type)
        return key if all(want in (None, each) for want, each in zip(wanted, found, strict=True)) else None

    def parse(self, key: str) -> tuple[str, str] | None:
        """Parse the conversation's id and the type out of a key; None where it is no record's of this prefix."""
        head = f"{_escape(self.prefix)}:"
        kind, brace, name = key[len(head) :].partition(":{")
        if not (key.startswith(head) and brace and name.endswith("}")) or ":" in kind or is_reserved(kind):
            return None
        return _unescape(name[:-1]), _unescape_kind(kind)


def is_reserved(kind: str) -> bool:
    """Tell whether a kind is one of the package's own."""
    return kind.partition("/")[0] in RESERVED


def glob_literal(text: str) -> str:
    """Return the Redis pattern that matches just this text."""
    return _GLOB_SPECIAL.sub(r"\\\1", text)
