"""Adapters to other packages; each is imported by its own name, and those to agent frameworks are extras."""
