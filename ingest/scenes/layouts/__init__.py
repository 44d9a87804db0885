"""The on-disk layouts that scenes can be written in, by name."""

from __future__ import annotations

from ingest.scenes.layouts import ade20k, cityscapes, cocostuff, folder, voc, voc_aug
from ingest.scenes.layouts.layout import Layout

LAYOUTS: dict[str, Layout] = {
    layout.name: layout
    for layout in (
        folder.LAYOUT,
        voc.LAYOUT,
        voc_aug.AUG,
        voc_aug.SBD_LAYOUT,
        cityscapes.FINE,
        cityscapes.COARSE,
        ade20k.LAYOUT,
        cocostuff.LAYOUT_164K,
        cocostuff.LAYOUT_10K,
    )
}
