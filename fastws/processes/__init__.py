"""Applications in processes of their own: which gets a request, what comes back, which is replaced and why."""
