"""One drawn scene, written as each annotation tool writes it (their documentation and examples say how)."""

from __future__ import annotations

import base64
import io
import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import cv2
import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

CLASSES = ["background", "car", "tree", "dog"]
HEIGHT, WIDTH = 60, 80
Points = list[list[int]]


@dataclass(frozen=True)
class Thing:
    """An object: its class, its parts, and a hole in the first of them."""

    category: str
    parts: list[Points]
    hole: Points | None = None

    def mask(self) -> np.ndarray:
        """uint8 [H, W], by plain cv2.fillPoly on whole pixels."""
        out = np.zeros((HEIGHT, WIDTH), np.uint8)
        for part in self.parts:
            cv2.fillPoly(out, [np.array(part, np.int32)], 1)
        if self.hole:
            cv2.fillPoly(out, [np.array(self.hole, np.int32)], 0)
        return out


# Larger before smaller, so that tools which stack by order and those which stack by size agree.
SCENES: dict[str, list[Thing]] = {
    "one": [
        Thing("car", [[[3, 4], [45, 2], [49, 37], [21, 41], [5, 30]]], [[12, 10], [30, 12], [26, 30], [14, 26]]),
        Thing("tree", [[[52, 20], [79, 14], [79, 59], [60, 55]]]),
        Thing("dog", [[[56, 30], [70, 28], [66, 40]], [[20, 45], [34, 46], [31, 57], [22, 55]]]),
    ],
    "two": [Thing("tree", [[[0, 0], [40, 0], [22, 33]]]), Thing("car", [[[10, 4], [25, 5], [21, 22]]])],
    "empty": [],
}


def truth(scene: list[Thing]) -> np.ndarray:
    """Train ids uint8 [H, W]."""
    out = np.zeros((HEIGHT, WIDTH), np.uint8)
    for thing in scene:
        out[thing.mask() > 0] = CLASSES.index(thing.category)
    return out


def write_images(folder: Path, suffix: str = ".jpg") -> None:
    """A picture of noise a scene, in images/."""
    (folder / "images").mkdir(parents=True)
    for number, stem in enumerate(SCENES):
        pixels = np.random.default_rng(number).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{stem}{suffix}")


def _flat(points: Points) -> list[int]:
    return [value for point in points for value in point]


def _counts(mask: np.ndarray) -> list[int]:
    """COCO's uncompressed run lengths: column by column, zeros first."""
    flat = mask.T.ravel()
    edges = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    return runs if not flat[0] else [0, *runs]


def coco(folder: Path, compressed: bool = True) -> str:
    """Ids with gaps, as COCO's own; the holed object as run lengths, the others as polygons."""
    ids = {"dog": 18, "car": 3, "tree": 64}
    images, annotations = [], []
    for number, (stem, scene) in enumerate(SCENES.items()):
        images.append({"id": 100 + number, "file_name": f"{stem}.jpg", "height": HEIGHT, "width": WIDTH, "license": 1})
        for thing in reversed(scene):  # the order says nothing in COCO
            if not thing.hole:
                segmentation: Any = [_flat(part) for part in thing.parts]
            elif compressed:
                packed = coco_mask.encode(np.asfortranarray(thing.mask()))
                segmentation = {"size": [HEIGHT, WIDTH], "counts": packed["counts"].decode()}
            else:
                segmentation = {"size": [HEIGHT, WIDTH], "counts": _counts(thing.mask())}
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": 100 + number,
                    "category_id": ids[thing.category],
                    "segmentation": segmentation,
                    "area": float(thing.mask().sum()),
                    "bbox": [0, 0, 1, 1],
                    "iscrowd": 0,
                }
            )
    categories = [{"id": number, "name": name, "supercategory": "thing"} for name, number in ids.items()]
    held = {"info": {"year": 2017}, "licenses": [], "images": images, "annotations": annotations}
    (folder / "instances.json").write_text(json.dumps(held | {"categories": categories}))
    return "{form: coco, files: instances.json}"


def _png(mask: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(mask * 255).convert("1").save(out, "PNG")
    return out.getvalue()


def _box(mask: np.ndarray) -> tuple[int, int, np.ndarray]:
    """(left, top, the mask within its box)."""
    ys, xs = np.nonzero(mask)
    return int(xs.min()), int(ys.min()), mask[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]


def labelme(folder: Path, masks: bool = False) -> str:
    """Holes painted over with `_background_`, or (`masks`, version 5.3 on) the object as a PNG in its box."""

    def shape(label: str, points: Points, kind: str = "polygon", **more: Any) -> dict[str, Any]:
        common = {
            "label": label,
            "points": points,
            "group_id": None,
            "description": "",
            "shape_type": kind,
            "flags": {},
        }
        return common | more

    for stem, scene in SCENES.items():
        shapes = []
        for thing in scene:
            if thing.hole and masks:
                left, top, inside = _box(thing.mask())
                corners = [[left, top], [left + inside.shape[1] - 1, top + inside.shape[0] - 1]]
                shapes.append(shape(thing.category, corners, "mask", mask=base64.b64encode(_png(inside)).decode()))
                continue
            shapes += [shape(thing.category, part, group_id=7) for part in thing.parts]
            if thing.hole:
                shapes.append(shape("_background_", thing.hole))
        held = {"version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": f"{stem}.jpg", "imageData": None}
        text = json.dumps(held | {"imageHeight": HEIGHT, "imageWidth": WIDTH}, indent=2)
        (folder / "images" / f"{stem}.json").write_text(text)
    return '{form: labelme, files: "images/*.json"}'


def yolo(folder: Path) -> str:
    """Parts and holes joined into one line, by bridges there and back; no file for an image without an object."""
    (folder / "labels").mkdir()
    for stem, scene in SCENES.items():
        lines = []
        for thing in scene:
            loops = [*thing.parts, *([thing.hole] if thing.hole else [])]
            ring = [*loops[0], loops[0][0]]
            for loop in loops[1:]:
                ring += [*loop, loop[0], loops[0][0]]
            ring = loops[0] if len(loops) == 1 else ring
            shares = [f"{x / WIDTH:.6f} {y / HEIGHT:.6f}" for x, y in ring]
            lines.append(f"{CLASSES[1:].index(thing.category)} {' '.join(shares)}")
        if lines:
            (folder / "labels" / f"{stem}.txt").write_text("\n".join(lines) + "\n")
    names = dict(enumerate(CLASSES[1:]))
    (folder / "data.yaml").write_text(f"path: ../datasets/x\ntrain: images\nval: images\nnames: {names}\n")
    return '{form: yolo, files: "labels/*.txt"}'


def cvat(folder: Path) -> str:
    """The holed object as a mask; shapes in the wrong order, which z_order sets right."""
    rows = []
    for number, (stem, scene) in enumerate(SCENES.items()):
        shapes = []
        for z, thing in enumerate(scene):
            common = f'label={quoteattr(thing.category)} source="manual" occluded="0" z_order="{z}"'
            if thing.hole:
                left, top, inside = _box(thing.mask())
                flat = inside.ravel()
                edges = [0, *(np.flatnonzero(np.diff(flat)) + 1).tolist(), flat.size]
                runs = [0] * int(flat[0]) + np.diff(edges).tolist()
                place = f'left="{left}" top="{top}" width="{inside.shape[1]}" height="{inside.shape[0]}"'
                shapes.append(f'<mask {common} rle="{", ".join(map(str, runs))}" {place}></mask>')
                continue
            for part in thing.parts:
                points = ";".join(f"{x:.2f},{y:.2f}" for x, y in part)
                shapes.append(f'<polygon {common} points="{points}"><attribute name="a">b</attribute></polygon>')
        body = "\n".join(reversed(shapes))
        rows.append(f'<image id="{number}" name="{stem}.jpg" width="{WIDTH}" height="{HEIGHT}">\n{body}\n</image>')
    labels = "".join(f"<label><name>{name}</name><color>#20{n:02x}40</color></label>" for n, name in enumerate(CLASSES))
    meta = f"<meta><task><id>1</id><mode>annotation</mode><labels>{labels}</labels></task></meta>"
    body = "\n".join(rows)
    text = (
        f'<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n{meta}\n{body}\n</annotations>'
    )
    (folder / "annotations.xml").write_text(text)
    return "{form: cvat, files: annotations.xml}"


def supervisely(folder: Path) -> str:
    """`ann/one.jpg.json`: an interior for the hole, one class as bitmaps; a meta.json beside."""
    (folder / "ann").mkdir()
    for stem, scene in SCENES.items():
        objects: list[dict[str, Any]] = []
        for thing in scene:
            common = {"id": 5000 + len(objects), "classTitle": thing.category, "tags": [], "description": ""}
            if thing.category == "tree":
                left, top, inside = _box(thing.mask())
                data = base64.b64encode(zlib.compress(_png(inside))).decode()
                objects.append(common | {"geometryType": "bitmap", "bitmap": {"data": data, "origin": [left, top]}})
                continue
            for number, part in enumerate(thing.parts):
                points = {"exterior": part, "interior": [thing.hole] if thing.hole and not number else []}
                objects.append(common | {"geometryType": "polygon", "points": points})
        held = {"description": "", "tags": [], "size": {"height": HEIGHT, "width": WIDTH}, "objects": objects}
        (folder / "ann" / f"{stem}.jpg.json").write_text(json.dumps(held))
    classes = [{"title": name, "shape": "any", "color": f"#20{n:02X}40"} for n, name in enumerate(CLASSES[1:])]
    (folder / "meta.json").write_text(json.dumps({"classes": classes, "tags": []}))
    return '{form: supervisely, files: "ann/*.json"}'


def pack_brush(mask: np.ndarray) -> list[int]:
    """Label Studio's brush: RGBA under its run-length code, runs up to 2^3, 2^4, 2^8 and 2^16 values."""
    values = np.repeat((mask > 0).astype(np.uint8).ravel() * 255, 4).tolist()
    widths = [3, 4, 8, 16]
    bits = f"{len(values):032b}{7:05b}" + "".join(f"{width - 1:04b}" for width in widths)
    at = 0
    while at < len(values):
        end = at + 1
        while end < len(values) and values[end] == values[at] and end - at < 1 << 16:
            end += 1
        repeated = end - at > 3
        end = end if repeated else min(len(values), at + 5)  # a few values as they are
        kind = next(k for k, width in enumerate(widths) if end - at <= 1 << width)
        bits += f"{int(repeated)}{kind:02b}{end - at - 1:0{widths[kind]}b}"
        bits += "".join(f"{value:08b}" for value in (values[at : at + 1] if repeated else values[at:end]))
        at = end
    bits += "0" * (-len(bits) % 8)
    return [int(bits[at : at + 8], 2) for at in range(0, len(bits), 8)]


def label_studio(folder: Path) -> str:
    """Percent, uploaded names with a prefix, the holed object by brush; an older annotation that was withdrawn."""
    tasks = []
    for number, (stem, scene) in enumerate(SCENES.items()):
        regions: list[dict[str, Any]] = []
        for thing in scene:
            common = {"original_width": WIDTH, "original_height": HEIGHT, "image_rotation": 0, "to_name": "image"}
            if thing.hole:
                value: dict[str, Any] = {"format": "rle", "rle": pack_brush(thing.mask())}
                value["brushlabels"] = [thing.category]
                regions.append(common | {"id": "b", "from_name": "brush", "type": "brushlabels", "value": value})
                continue
            for part in thing.parts:
                points = [[100 * x / WIDTH, 100 * y / HEIGHT] for x, y in part]
                value = {"points": points, "closed": True, "polygonlabels": [thing.category]}
                regions.append(common | {"id": "p", "from_name": "poly", "type": "polygonlabels", "value": value})
        wrong = {"id": 1, "was_cancelled": True, "result": [{"type": "polygonlabels", "value": {}}]}
        good = {"id": 2, "was_cancelled": False, "ground_truth": False, "result": regions}
        upload = f"1f2e3d4c-{stem}.jpg"
        data = {"image": f"/data/upload/3/{upload}"}
        tasks.append({"id": 10 + number, "annotations": [good, wrong], "file_upload": upload, "data": data})
    (folder / "project-3.json").write_text(json.dumps(tasks))
    return "{form: label_studio, files: project-3.json}"


def via(folder: Path, project: bool = False) -> str:
    """An export of annotations, or the project; holes painted over."""
    images = {}
    for stem, scene in SCENES.items():
        regions = []
        for thing in scene:
            loops = [(thing.category, part) for part in thing.parts]
            loops += [("background", thing.hole)] if thing.hole else []
            for category, points in loops:
                shape = {
                    "name": "polygon",
                    "all_points_x": [p[0] for p in points],
                    "all_points_y": [p[1] for p in points],
                }
                kind = {"kind": {category: True} if project else category}
                regions.append({"shape_attributes": shape, "region_attributes": kind})
        size = (folder / "images" / f"{stem}.jpg").stat().st_size
        entry = {"filename": f"{stem}.jpg", "size": size, "regions": regions, "file_attributes": {}}
        images[f"{stem}.jpg{size}"] = entry
    held = {"_via_settings": {}, "_via_img_metadata": images, "_via_attributes": {}} if project else images
    (folder / "via.json").write_text(json.dumps(held))
    return "{form: via, files: via.json}"


def cityscapes(folder: Path) -> str:
    """`one_gtFine_polygons.json` of `one_leftImg8bit.jpg`; holes painted over, a deleted object."""
    (folder / "gt").mkdir()
    for stem, scene in SCENES.items():
        (folder / "images" / f"{stem}.jpg").rename(folder / "images" / f"{stem}_leftImg8bit.jpg")
        objects: list[dict[str, Any]] = []
        for thing in scene:
            objects += [{"label": thing.category, "polygon": part} for part in thing.parts]
            objects += [{"label": "background", "polygon": thing.hole}] if thing.hole else []
        objects.append({"label": "tree", "polygon": [[0, 0], [79, 0], [79, 59]], "deleted": 1})
        held = {"imgHeight": HEIGHT, "imgWidth": WIDTH, "objects": objects}
        (folder / "gt" / f"{stem}_gtFine_polygons.json").write_text(json.dumps(held))
    return '{form: cityscapes, files: "gt/*_polygons.json"}'


EXPORTS: dict[str, Callable[[Path], str]] = {
    "coco": coco,
    "coco uncompressed": lambda folder: coco(folder, compressed=False),
    "labelme": labelme,
    "labelme masks": lambda folder: labelme(folder, masks=True),
    "yolo": yolo,
    "cvat": cvat,
    "supervisely": supervisely,
    "label studio": label_studio,
    "via": via,
    "via project": lambda folder: via(folder, project=True),
    "cityscapes": cityscapes,
}
