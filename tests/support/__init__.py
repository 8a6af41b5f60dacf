"""What the tests share: helpers that are no tests. Import them as `from support.clock import Clock`.

pytest puts the folder `tests` on the path, for it is no package itself; `make soak` and processes of tests do too.
"""
