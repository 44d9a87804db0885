"""The GPU device: DALI decodes and warps; and the way of batches from the CPU to a GPU."""
