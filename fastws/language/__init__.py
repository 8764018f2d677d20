"""What Python's own library has too, where that is too dear for a start."""
