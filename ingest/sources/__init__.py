"""Where samples come from: folder trees, archives read in place, and the raw (image, label) pairs found there."""
