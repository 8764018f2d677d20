"""The load client and its files; it shares HTTP's words with the server, and nothing else."""
