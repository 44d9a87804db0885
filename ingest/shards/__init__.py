"""The shard format, which every package may import: manifest, tar writer, index, reader, PNG packing, URLs."""
