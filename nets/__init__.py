"""Segmentation nets: `nets.build(name, num_classes=..., backbone=...)`."""
