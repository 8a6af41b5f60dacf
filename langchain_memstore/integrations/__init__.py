"""Adapters to agent frameworks; each is an extra, and imported by its own name."""
