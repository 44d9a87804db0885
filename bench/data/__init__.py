"""What a bench measures on: a folder that is given, or one that it makes."""
