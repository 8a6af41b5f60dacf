"""Messages, summaries and values to bytes and back."""

from langchain_memstore.codec.messages import MESSAGE_CLASSES, RESULTS, TURN_STARTS, decode, encode

__all__ = ["MESSAGE_CLASSES", "RESULTS", "TURN_STARTS", "decode", "encode"]
