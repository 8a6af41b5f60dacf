"""The operations: frozen values, each with its Redis meaning and its Python meaning side by side."""
