"""Shards in, batches out: numpy plans, DALI (and on a CPU one OpenCV call a sample) executes."""
