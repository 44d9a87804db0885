"""The report's per-class table and confusion matrix."""

from __future__ import annotations

import base64
import io
from html import escape

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ingest.shards.pictures import WRONG
from train.report.run import RunRecord
from train.report.text import embedded, percent

MOST_NUMBERS = 25  # classes up to which the cells hold numbers
CONFUSIONS = 15  # pairs listed
_NAME_CHARACTERS = 18  # of a class name beside the matrix


def swatch(run: RunRecord, name: str) -> str:
    """The class's color as a small square; nothing where the colors are not known."""
    if name not in run.palette:
        return ""
    return '<i class="swatch" style="background:#{:02x}{:02x}{:02x}"></i>'.format(*run.palette[name])


def class_table(run: RunRecord) -> str:
    """IoU, what else was scored, share of the pixels and the IoU's way, per class. Sorted by a click on a heading."""
    iou = run.validation.get("iou") or _last_ious(run)
    if not iou:
        return "<p>The run has no validation scores.</p>"
    matrix = _matrix(run)
    there = matrix.sum(axis=1) if matrix is not None else None
    guessed = matrix.sum(axis=0) if matrix is not None else None
    others = _others(run)
    headings = ["class", "IoU", *others]
    if matrix is not None:
        headings += ["recall", "precision", "share of pixels"]
    trends = {name: _trend(run, name) for name in iou}
    with_trends = any(trends.values())
    rows = []
    for c, (name, value) in enumerate(iou.items()):
        cells = [f'<th scope="row" data-v="{c}">{swatch(run, name)}{escape(name)}</th>', _share(value, bar=True)]
        cells += [_share(values.get(name)) for values, _ in others.values()]
        if matrix is not None and there is not None and guessed is not None:
            hits = int(matrix[c, c])
            cells += [
                _share(hits / there[c] if there[c] else None),
                _share(hits / guessed[c] if guessed[c] else None),
                _share(there[c] / there.sum() if there.sum() else None),
            ]
        if with_trends:
            cells.append(f"<td>{trends[name]}</td>")
        rows.append(f"<tr>{''.join(cells)}</tr>")
    buttons = "".join(f'<th scope="col"><button type="button">{name}</button></th>' for name in headings)
    buttons += '<th scope="col">IoU over the run</th>' if with_trends else ""
    return (
        f'<div class="scroll"><table class="sortable"><thead><tr>{buttons}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody>{_means(run, matrix is not None, with_trends)}</table></div>"
    )


def _others(run: RunRecord) -> dict[str, tuple[dict[str, float | None], float | None]]:
    """Scores of classes that `train.evaluate` adds: by name, each class's and their mean."""
    found, boundary = run.validation, run.validation.get("boundary") or {}
    scores = {"Dice": (found.get("dice"), found.get("mean_dice"))}
    scores["boundary IoU"] = boundary.get("iou"), boundary.get("mean_iou")
    scores["boundary F"] = boundary.get("f"), boundary.get("mean_f")
    return {name: (values, over) for name, (values, over) in scores.items() if values}


def _means(run: RunRecord, counted: bool, with_trends: bool) -> str:
    """The last row: mIoU, over the classes in labels or predictions, and mean recall, over those in the labels."""
    if not run.validation:
        return ""
    cells = [_share(run.validation["miou"]), *(_share(over) for _, over in _others(run).values())]
    cells += [_share(run.validation["mean_class_accuracy"]), "<td></td>", "<td></td>"] if counted else []
    cells += ["<td></td>"] if with_trends else []
    return f'<tfoot><tr><th scope="row">mean</th>{"".join(cells)}</tr></tfoot>'


def confusion(run: RunRecord) -> str:
    """The matrix, each row in shares of its true class, and the largest confusions in words."""
    matrix = _matrix(run)
    if matrix is None or not matrix.sum():
        return "<p>The run has no confusion matrix.</p>"
    names = list(run.validation["iou"])
    rows = [[[int(p), int(matrix[t, p])] for p in np.flatnonzero(matrix[t])] for t in range(len(names))]
    drawing, facts = _drawing(matrix, names)
    return (
        "<p>Rows are true classes, columns what was predicted; a color is the share of its row "
        '(<span class="scale right"></span> right, <span class="scale wrong"></span> wrong, 0 to 100%, the small '
        "shares spread out). Point at a cell, or use the arrow keys, for the numbers."
        '<button type="button" class="zoom" hidden>full size</button></p>'
        f'<div class="pair"><div class="matrix"><div class="scroll">{drawing}</div>'
        f"<output>&nbsp;</output>{embedded({**facts, 'names': names, 'rows': rows})}</div>"
        f"<div><h3>Largest confusions</h3>{_largest(run, matrix, names)}</div></div>"
    )


def _largest(run: RunRecord, matrix: NDArray[np.int64], names: list[str]) -> str:
    off = matrix.copy()
    np.fill_diagonal(off, 0)
    order = np.argsort(-off, axis=None, kind="stable")[:CONFUSIONS]
    there = matrix.sum(axis=1)
    rows = []
    for t, p in zip(*np.unravel_index(order, matrix.shape), strict=True):
        if not off[t, p]:
            break
        rows.append(
            f'<tr><th scope="row">{swatch(run, names[t])}{escape(names[t])}</th>'
            f"<td class=name>{swatch(run, names[p])}{escape(names[p])}</td>"
            f'<td data-v="{off[t, p]}">{off[t, p]:,}</td>{_share(off[t, p] / there[t])}</tr>'
        )
    if not rows:
        return "<p>None: every pixel is right.</p>"
    headings = ("true class", "predicted as", "pixels", "share of true class")
    buttons = "".join(f'<th scope="col"><button type="button">{name}</button></th>' for name in headings)
    return (
        f'<div class="scroll"><table class="sortable"><thead><tr>{buttons}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _drawing(matrix: NDArray[np.int64], names: list[str]) -> tuple[str, dict[str, float]]:
    """The matrix as one small picture, a pixel a cell, with its labels around it: few bytes for 171 classes too."""
    classes = len(names)
    cell = 37 if classes <= 12 else 28 if classes <= MOST_NUMBERS else 14 if classes <= 60 else 9
    font = 11 if cell > 12 else 8
    labels = [name if len(name) <= _NAME_CHARACTERS else name[: _NAME_CHARACTERS - 1] + "…" for name in names]
    margin = 14 + max(len(label) for label in labels) * font * 0.58 + 22
    side, size = cell * classes, cell * classes + margin + 8
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    picture = (
        f'<image x="{margin:.0f}" y="{margin:.0f}" width="{side}" height="{side}" href="{_heat(matrix, shares)}" '
        'preserveAspectRatio="none" style="image-rendering:pixelated"/>'
        f'<path class="frame" d="M{margin:.0f} {margin:.0f}h{side}v{side}h-{side}z"/>'
    )
    texts = []
    for c, label in enumerate(labels):
        at = margin + (c + 0.5) * cell
        texts.append(f'<text x="{margin - 6:.0f}" y="{at + font * 0.35:.1f}" text-anchor="end">{escape(label)}</text>')
        texts.append(
            f'<text transform="translate({at + font * 0.35:.1f} {margin - 6:.0f}) rotate(-90)">{escape(label)}</text>'
        )
    if classes <= MOST_NUMBERS:
        for t, p in zip(*np.nonzero(shares >= 0.005), strict=True):
            ink = "light" if shares[t, p] > (0.35 if t == p else 0.5) else "dark"
            x, y = margin + (p + 0.5) * cell, margin + (t + 0.5) * cell + 4
            texts.append(
                f'<text class="{ink}" x="{x:.1f}" y="{y:.1f}" text-anchor="middle">{100 * shares[t, p]:.0f}</text>'
            )
    middle = margin + side / 2
    titles = (
        f'<text class="title" x="{middle:.0f}" y="12" text-anchor="middle">predicted class</text>'
        f'<text class="title" transform="translate(12 {middle:.0f}) rotate(-90)" text-anchor="middle">true class</text>'
    )
    marks = '<rect class="cross row"/><rect class="cross column"/><rect class="cell"/>'
    described = f"Confusion matrix of {classes} classes; the largest confusions are listed below it."
    drawing = (
        f'<svg viewBox="0 0 {size:.0f} {size:.0f}" style="--natural:{size:.0f}px;font-size:{font}px" role="img" '
        f'tabindex="0" aria-label="{described}">{picture}{"".join(texts)}{titles}{marks}</svg>'
    )
    return drawing, {"cell": cell, "margin": round(margin)}


def _heat(matrix: NDArray[np.int64], shares: NDArray[np.float64]) -> str:
    """Shares as colors: white to blue where right, white to red where wrong, gray in rows without a pixel."""
    # A root: confusions of a few percent are what one looks for.
    depth = np.sqrt(shares)[:, :, None]
    right, wrong = np.array([16.0, 78.0, 150.0]), np.array(WRONG, float)
    inks = np.where(np.eye(len(matrix), dtype=bool)[:, :, None], right, wrong)
    colors = 255 + (inks - 255) * depth
    colors[matrix.sum(axis=1) == 0] = 236
    return data_uri(Image.fromarray(colors.round().astype(np.uint8)), "PNG")


def data_uri(picture: Image.Image, kind: str) -> str:
    """A picture inside the page. kind: PNG | JPEG."""
    buffer = io.BytesIO()
    picture.save(buffer, kind, optimize=True, quality=85)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _matrix(run: RunRecord) -> NDArray[np.int64] | None:
    counts = run.validation.get("confusion")
    return np.array(counts, dtype=np.int64) if counts else None


def _last_ious(run: RunRecord) -> dict[str, float | None]:
    """Of the log, where the run did not come to write validation.json."""
    named = {name.removeprefix("iou/"): points for name, points in run.curves["val"].items() if name[:4] == "iou/"}
    return {name: next(reversed(points.values()), None) for name, points in named.items()}


def _share(value: float | None, bar: bool = False) -> str:
    if value is None:
        return '<td data-v="">–</td>'
    style = f' class="bar" style="--v:{100 * value:.1f}%"' if bar else ""
    return f'<td data-v="{value:.6f}"{style}>{percent(value)}</td>'


def _trend(run: RunRecord, name: str) -> str:
    """A line of the class's IoU over the validations, 0 to 100% high."""
    points = [(step, value) for step, value in run.curve("val", f"iou/{name}").items() if value is not None]
    if len(points) < 2:
        return ""
    points = points[::-1][:: -(-len(points) // 40)][::-1]  # from the end: the last one stays
    last = max(1, points[-1][0])
    places = " ".join(f"{78 * step / last + 1:.0f},{17 - 16 * value:.1f}" for step, value in points)
    return f'<svg class="trend" viewBox="0 0 80 18" aria-hidden="true"><polyline points="{places}"/></svg>'
