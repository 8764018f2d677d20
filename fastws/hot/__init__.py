"""The compiled loop: receive, judge, send, record, without the GIL."""
