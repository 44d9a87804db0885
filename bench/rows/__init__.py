"""One row of a bench's table, each measured in a process of its own."""
