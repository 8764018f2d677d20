"""How bytes come and go: listening, plain sockets, sendfile."""
