"""What is written down: log files, access lines, counts, and the clock that dates them."""
