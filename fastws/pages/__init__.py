"""HTML and JSON that the server writes itself."""
