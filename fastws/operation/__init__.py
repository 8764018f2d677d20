"""One server as a process: command line, start, reload, drain, signals, privileges, service manager."""
