"""Where sessions are kept: each backend executes operations, and a wrapper is a backend that holds a backend."""
