"""C without Python: headers that the twins include and ``fuzz/`` compiles alone."""
