"""The load client and its files; it shares HTTP's words and framing with the server, and nothing else."""
