"""Programs beside the files: what is mounted where, how it is called (PEP 3333), how its answer comes back."""
