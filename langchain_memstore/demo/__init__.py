"""A conversation with tool calls, and what the store keeps of it: `python -m langchain_memstore.demo`.

The model is scripted, so nothing is downloaded and no key is needed. All else is real: the messages have the shape that
providers give them, the tools are Python, and the model knows nothing but the prompt that it is given.
"""

from langchain_memstore.demo.agent import run_agent
from langchain_memstore.demo.show import main

__all__ = ["main", "run_agent"]
