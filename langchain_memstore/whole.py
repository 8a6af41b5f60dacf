"""Whether the data of an entry is a whole message, which needs no validation: a pure function."""

from __future__ import annotations

from typing import Any


def is_whole(kind: str, data: dict[str, Any]) -> bool:
    """Tell whether every field of a message is there and has the type that validation asks for."""
    try:
        content, name, message_id = data["content"], data["name"], data["id"]
        if not (
            (isinstance(content, str) or _are_blocks(content))
            and isinstance(data["additional_kwargs"], dict)
            and isinstance(data["response_metadata"], dict)
            and data["type"] == kind
            and (message_id is None or isinstance(message_id, str))
            and (name is None or isinstance(name, str))
        ):
            return False
        if kind == "ai":
            calls, invalid, usage = data["tool_calls"], data["invalid_tool_calls"], data["usage_metadata"]
            return (
                isinstance(calls, list)
                and isinstance(invalid, list)
                and not (calls and not _are_calls(calls))
                and not (invalid and not _are_calls(invalid))
                and (usage is None or _is_usage(usage))
            )
        if kind == "tool":
            return isinstance(data["tool_call_id"], str) and data["status"] in _STATUS and "artifact" in data
        if kind == "chat":
            return isinstance(data["role"], str)
        return kind != "function" or name is not None
    except (KeyError, TypeError):
        return False


_STATUS = ("success", "error")


def _are_blocks(content: Any) -> bool:
    return isinstance(content, list) and all(isinstance(block, (dict, str)) for block in content)


def _are_calls(calls: list[Any]) -> bool:
    for call in calls:  # a generator would take twice as long
        if not isinstance(call, dict) or "name" not in call or "args" not in call or "id" not in call:
            return False
    return True


def _is_usage(usage: Any) -> bool:
    return isinstance(usage, dict) and "input_tokens" in usage and "output_tokens" in usage and "total_tokens" in usage
