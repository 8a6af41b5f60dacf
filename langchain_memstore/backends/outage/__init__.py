"""Serving from memory while the store is unreachable, and replaying writes when it recovers."""
