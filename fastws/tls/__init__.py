"""TLS as configured: which certificate for which name, and what is wrong with a pair of files."""
