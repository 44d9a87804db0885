"""Every dataset's adapter on a twin in its official layout: as folders, as the official archives, and with mistakes."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ingest import writer
from ingest.datasets import ade20k, cityscapes, cocostuff, voc
from ingest.errors import UserError
from ingest.pixels.matfile import label_of
from ingest.scenes import write as draw
from ingest.shards.manifest import load
from ingest.shards.tar import read_samples
from ingest.sources.raw import RawDataset
from ingest.sources.trees import Tree
from ingest.verify import verify

LAYOUTS = {
    "voc": (lambda src: voc.find(src), {"train": 8, "val": 6, "test": 1}),
    "voc_aug": (lambda src: voc.find(src, labels="aug"), {"train": 2, "val": 2, "extra": 3}),
    "voc_sbd": (lambda src: voc.find(src, labels="sbd"), {"train": 2, "val": 2, "extra": 3}),
    "cityscapes": (lambda src: cityscapes.find(src), {"train": 3, "val": 2, "test": 1}),
    "cityscapes_coarse": (lambda src: cityscapes.find(src), {"train": 2, "val": 1, "extra": 3}),
    "ade20k": (lambda src: ade20k.find(src), {"train": 7, "val": 1, "test": 1}),
    "cocostuff164k": (lambda src: cocostuff.find(src), {"train": 7, "val": 1, "test": 1}),
    "cocostuff10k": (lambda src: cocostuff.find(src), {"train": 7, "test": 2}),
}


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory):
    """twin(layout, archives): drawn once a module."""
    base, made = tmp_path_factory.mktemp("twins"), {}

    def get(layout: str, archives: bool = False) -> Path:
        if (layout, archives) not in made:
            folder = base / f"{layout}-{archives}"
            counts = LAYOUTS[layout][1]
            made[layout, archives] = draw(folder, layout, counts, (64, 96), workers=1, archives=archives)
        return made[layout, archives]

    return get


def ingest(raw: RawDataset, out: Path) -> dict[str, dict[str, bytes]]:
    writer.write(raw, out, writer.Settings(shard_size=10**9, seed=0, command="", options={}))
    return {key: files for tar in sorted(out.glob("*.tar")) for key, files in read_samples(tar)}


def label(files: dict[str, bytes]) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(files["seg.png"])))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_folders_and_archives_give_the_same_shards(layout: str, twin, tmp_path: Path):
    find, counts = LAYOUTS[layout]
    loose = ingest(find(twin(layout)), tmp_path / "loose")
    packed = ingest(find(twin(layout, True)), tmp_path / "packed")
    assert loose == packed
    facts = verify(tmp_path / "loose", deep=True)
    found = {split: part.samples for split, part in facts.splits.items()}
    names = {"extra": "train_extra"}
    expected = {names.get(split, split): count for split, count in counts.items()}
    if layout in ("voc_aug", "voc_sbd"):
        expected = {"train_aug": counts["train"] + counts["extra"], "val": counts["val"]}
    assert found == expected
    assert all(part.labeled == (split != "test" or "10k" in layout) for split, part in facts.splits.items())


def test_voc_masks_are_the_palette_indices(twin, tmp_path: Path):
    src = twin("voc")
    for key, files in ingest(voc.find(src, ["train"]), tmp_path / "out").items():
        source = Image.open(src / f"VOCdevkit/VOC2012/SegmentationClass/{key}.png")
        assert source.mode == "P"
        np.testing.assert_array_equal(label(files), np.asarray(source))


def test_sbd_masks_fill_in_for_voc(twin, tmp_path: Path):
    src = twin("voc_sbd")
    own = {path.stem for path in src.rglob("SegmentationClass/*.png")}
    samples = ingest(voc.find(src, ["train_aug"], "sbd"), tmp_path / "out")
    extra = [key for key in samples if key not in own]
    assert extra
    for key in extra:
        mat = next(src.rglob(f"cls/{key}.mat"))
        np.testing.assert_array_equal(label(samples[key]), label_of(mat.read_bytes(), str(mat)))


def test_sbd_never_trains_on_voc_val(twin, tmp_path: Path):
    """Without a train_aug list, train_aug is SBD less VOC's val."""
    src = tmp_path / "src"
    for path in twin("voc_sbd").rglob("*"):
        if path.is_file() and path.name != "train_aug.txt":
            copy = src / path.relative_to(twin("voc_sbd"))
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    raw = voc.find(src, ["train_aug", "val"], "sbd")
    stems = {split: {Path(pair.image.name).stem for pair in pairs} for split, pairs in raw.splits.items()}
    assert stems["train_aug"] and not stems["train_aug"] & stems["val"]


def test_cityscapes_ids_become_train_ids(twin, tmp_path: Path):
    src = twin("cityscapes")
    official = dict(zip((7, 8, 11, 12, 13, 17, *range(19, 29), 31, 32, 33), range(19), strict=True))
    table = np.array([official.get(value, 255) for value in range(256)], np.uint8)
    for key, files in ingest(cityscapes.find(src, ["val"]), tmp_path / "out").items():
        city, stem = key.split("_")[0], key.removesuffix("_leftImg8bit")
        raw = np.asarray(Image.open(src / f"gtFine/val/{city}/{stem}_gtFine_labelIds.png"))
        np.testing.assert_array_equal(label(files), table[raw])


def test_ade20k_shifts_by_one(twin, tmp_path: Path):
    src = twin("ade20k")
    for key, files in ingest(ade20k.find(src, ["train"]), tmp_path / "out").items():
        raw = np.asarray(Image.open(next(src.rglob(f"annotations/training/{key}.png"))))
        np.testing.assert_array_equal(label(files), raw - np.uint8(1))  # 0 wraps to 255


def test_cocostuff_171_and_182_name_the_same_pixels(twin, tmp_path: Path):
    for classes in (171, 182):
        ingest(cocostuff.find(twin("cocostuff164k"), ["train"], classes=classes), tmp_path / str(classes))
    small, large = (load(tmp_path / str(classes)) for classes in (171, 182))
    for name, pixels in zip(small.classes, small.splits["train"].class_pixels, strict=True):
        assert large.splits["train"].class_pixels[large.classes.index(name)] == pixels
    assert sum(large.splits["train"].class_pixels) == sum(small.splits["train"].class_pixels) > 0


def test_cocostuff_10k_and_164k_agree_on_names(twin, tmp_path: Path):
    """The same scenes in both releases: other ids on disk, the same train ids in the shards."""
    ten = ingest(cocostuff.find(twin("cocostuff10k"), ["train"]), tmp_path / "10k")
    big = ingest(cocostuff.find(twin("cocostuff164k"), ["train"]), tmp_path / "164k")
    assert len(ten) == len(big) == 7
    for key, files in big.items():
        np.testing.assert_array_equal(label(files), label(ten[f"COCO_train2014_{key}"]))


@pytest.mark.parametrize(("adapter", "layout"), [(voc, "cityscapes"), (cityscapes, "ade20k"), (ade20k, "voc")])
def test_the_wrong_dataset_is_told_by_name(adapter, layout: str, twin):
    with pytest.raises(UserError) as error:
        adapter.find(twin(layout))
    message = str(error.value)
    assert "looked for" in message and f"looks like {layout}" in message and f"ingest {layout}" in message


def test_train_id_masks_are_refused(twin, tmp_path: Path):
    for kind, name in (("images", "1.jpg"), ("annotations", "1_labelTrainIds.png")):
        path = tmp_path / kind / "train2017" / name
        path.parent.mkdir(parents=True)
        path.write_bytes(b"-")
    with pytest.raises(UserError, match="another tool"):
        cocostuff.find(tmp_path)


@pytest.mark.parametrize("member", ["../../evil.png", "/etc/evil.png", "a/../../evil.png", "C:\\evil.png"])
def test_members_outside_the_archive_are_refused(member: str, tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as held:
        held.writestr(member, b"-")
    with pytest.raises(UserError, match="unsafe member"):
        Tree(tmp_path)


def test_damaged_archives_are_named(twin, tmp_path: Path):
    whole = next(twin("ade20k", True).glob("*.zip")).read_bytes()
    (tmp_path / "cut.zip").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"cut\.zip is not a whole archive"):
        Tree(tmp_path)
    (tmp_path / "cut.zip").unlink()
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as held:
        held.writestr("x.txt", b"hello hello hello")
    data = (tmp_path / "b.zip").read_bytes()
    (tmp_path / "b.zip").write_bytes(data.replace(b"hello hello", b"hellO hello", 1))
    with pytest.raises(UserError, match="CRC"):
        Tree(tmp_path).source("b.zip/x.txt").read()


def test_a_missing_official_count_is_a_warning(twin, tmp_path: Path):
    from ingest.report import summary

    raw = ade20k.find(twin("ade20k"), ["train"])
    facts = writer.write(raw, tmp_path / "o", writer.Settings(shard_size=10**9, seed=0, command="", options={}))
    assert "officially 20,210 (-20,203)" in summary(facts, raw.expected)
