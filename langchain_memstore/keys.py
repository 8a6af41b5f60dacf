"""Where a session lives in Redis: key layout, hash tags, escaping, and parsing keys back.

A key reads `<prefix>:<kind>:{<session id>}`. The braces are literal: they are the hash tag that keeps the keys of one
session in one cluster slot (https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#hash-tags). In
the prefix and in the id the characters `{`, `}` and `%` are percent-encoded, so a key has exactly one brace of each
kind: no two pairs of prefix and id share a key, and every key parses back.
"""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass, field

_ESCAPES = str.maketrans({"%": "%25", "{": "%7B", "}": "%7D"})
_WILDCARD = re.compile(r"\*|\?|\[!?\]?[^\]]*\]")  # the wildcards of fnmatch
_GLOB_SPECIAL = re.compile(r"([*?\[\]\\^])")  # what a Redis pattern does not take literally


def _escape(text: str) -> str:
    return text.translate(_ESCAPES)


def _unescape(text: str) -> str:
    return text.replace("%7B", "{").replace("%7D", "}").replace("%25", "%")


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
    """Hash: schema version, epoch, total, times, recent batch ids."""
    turns: str = field(init=False, repr=False, compare=False)
    """Integer: the turn counter."""
    summary: str = field(init=False, repr=False, compare=False)
    """String: the rolling summary."""
    evicted: str = field(init=False, repr=False, compare=False)
    """List of the entries that left the window and wait to be summarised."""
    lease: str = field(init=False, repr=False, compare=False)
    """String: who is summarising the session now; expires by itself."""

    def __post_init__(self) -> None:
        head, tag = _escape(check_name("key_prefix", self.prefix)), _escape(check_name("session_id", self.session_id))
        for kind in ("messages", "meta", "turns", "summary", "evicted", "lease"):
            object.__setattr__(self, kind, f"{head}:{kind}:{{{tag}}}")

    def siblings(self) -> tuple[str, ...]:
        """Return the keys that expire together, in the order in which the scripts take them."""
        return (self.messages, self.meta, self.turns, self.summary, self.evicted)


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

    def scan_pattern(self) -> str:
        """Return the Redis pattern that finds the `meta` key of every matching session, and of few others.

        Wildcards other than `*` become `*`: Redis matches bytes of the escaped id where a caller means characters of
        the id. `session_id` tells which of the found keys match.
        """
        parts: list[str] = []
        end = 0
        for wildcard in _WILDCARD.finditer(self.match):
            parts += glob_literal(_escape(self.match[end : wildcard.start()])), "*"
            end = wildcard.end()
        parts.append(glob_literal(_escape(self.match[end:])))
        return f"{glob_literal(_escape(self.prefix))}:meta:{{{''.join(parts)}}}"

    def session_id(self, meta_key: str) -> str | None:
        """Parse the session id out of a found `meta` key.

        Args:
            meta_key: A key that `scan_pattern` found.

        Returns:
            The id, or None where the key is not a matching session's.
        """
        head = f"{_escape(self.prefix)}:meta:{{"
        if not meta_key.startswith(head) or not meta_key.endswith("}"):
            return None
        session_id = _unescape(meta_key[len(head) : -1])
        return session_id if self.matches(session_id) else None

    def matches(self, session_id: str) -> bool:
        """Tell whether the pattern wants a session."""
        return self.match == "*" or fnmatch.fnmatchcase(session_id, self.match)


def glob_literal(text: str) -> str:
    """Return the Redis pattern that matches just this text."""
    return _GLOB_SPECIAL.sub(r"\\\1", text)
