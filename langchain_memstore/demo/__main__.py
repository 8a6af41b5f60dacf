"""`python -m langchain_memstore.demo`."""

from langchain_memstore.demo import main

main()
