"""What the tests share: helpers that are no tests. Import them as `from support.clock import Clock`.

pytest puts the folder `tests` on the path, as it has no `__init__.py`; so does `make soak`.
"""
