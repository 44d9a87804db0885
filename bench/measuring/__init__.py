"""How a bench measures: processes of their own, their CPU time and memory, clocks, a look at the threads."""
