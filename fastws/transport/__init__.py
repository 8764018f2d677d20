"""How bytes come and go: listening, plain sockets, TLS in Python, a proxy's preamble, sendfile."""
