"""How fast langchain-memstore is: ratios against floors and peers, on a real Redis server."""
