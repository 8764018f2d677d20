"""HTTP's words and rules as pure functions (RFC 9110): no socket, no file, no configuration."""
