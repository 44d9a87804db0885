"""Shard folders behind URLs: written there, and brought into a bounded local cache, whole or as they are read."""
