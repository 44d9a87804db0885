"""The on-disk layouts that scenes can be written in, one file a layout, by name."""

from __future__ import annotations

from ingest.scenes.layouts import folder, voc
from ingest.scenes.layouts.layout import Layout

LAYOUTS: dict[str, Layout] = {layout.name: layout for layout in (folder.LAYOUT, voc.LAYOUT)}
