"""The rolling summary: who makes it, and when."""
