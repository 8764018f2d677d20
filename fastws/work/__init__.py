"""What would hold up a loop: a thread of low priority, and a queue in which addresses take turns."""
