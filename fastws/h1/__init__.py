"""HTTP/1.x on the wire (RFC 9112): why a head is refused, where a body ends, which fields others may give."""
