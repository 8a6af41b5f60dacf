"""The `memstore` command as `python -m langchain_memstore.cli`."""

from langchain_memstore.cli import main

main()
