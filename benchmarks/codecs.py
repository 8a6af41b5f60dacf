"""The codec alone: messages to bytes and back, without a server."""

from __future__ import annotations

import json

from langchain_core.messages import message_to_dict, messages_from_dict

from benchmarks import cheapest
from benchmarks.messages import conversation
from benchmarks.rounds import Comparison, timed
from langchain_memstore import codec
from langchain_memstore.codec.session import decode_entries

PLAIN = "plain LangChain"
MESSAGES = 50


def encoding() -> Comparison:
    """Compare encoding, a message."""
    messages = conversation(MESSAGES)
    blocks = {
        PLAIN: timed(lambda: [json.dumps(message_to_dict(message)) for message in messages]),
        "floor B": timed(lambda: [cheapest.encode(message) for message in messages]),
        "memstore": timed(lambda: codec.encode(messages)),
    }
    return Comparison(blocks, shares=MESSAGES, weight=0.5)


def decoding() -> Comparison:
    """Compare decoding, a message."""
    messages = conversation(MESSAGES)
    plain = [json.dumps(message_to_dict(message)) for message in messages]
    cheap = [cheapest.encode(message) for message in messages]
    ours = codec.encode(messages)
    blocks = {
        PLAIN: timed(lambda: messages_from_dict([json.loads(entry) for entry in plain])),
        "floor B": timed(lambda: [cheapest.decode(entry) for entry in cheap]),
        "memstore": timed(lambda: decode_entries(ours, "session", "raise")),
    }
    return Comparison(blocks, shares=MESSAGES, weight=0.5)
