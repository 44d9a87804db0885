"""Raw bytes to what a shard stores: images, labels, multi-band rasters, MATLAB files."""
