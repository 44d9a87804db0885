"""pytorch-segmentation's train_loader and val_loader in a recipe: datasets, splits, batch; and how to ingest them."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from train.convert.draft import Draft, Source

SPLITS = {"training": "train", "validation": "val", "train2017": "train", "val2017": "val"}
# each loader's constants: mean and std per channel
STATISTICS = {
    "VOC": "0.457 0.433 0.401, 0.240 0.235 0.240",
    "CityScapes": "0.287 0.325 0.284, 0.176 0.181 0.178",
    "ADE20K": "0.489 0.465 0.429, 0.229 0.229 0.241",
    "COCO": "0.439 0.413 0.375, 0.243 0.236 0.234",
    "DeepScene": "0.485 0.456 0.406, 0.229 0.224 0.225",
}
# of val_loader: none of them changed how validation images were made where `val` is true, as it is in its configs
VALIDATION_IDLE = {"base_size": int, "scale": bool, "flip": bool, "rotate": bool, "blur": bool, "shuffle": bool}


@dataclass(frozen=True)
class Loader:
    """What one of the two loaders reads."""

    type: str
    folder: str
    split: str
    mode: str
    """CityScapes: fine | coarse."""
    partition: str
    """COCO: CocoStuff164k | CocoStuff10k."""

    @property
    def shards(self) -> str:
        """Our folder for it, below shards/."""
        if self.type == "VOC":
            return "voc_aug" if self.split.endswith("_aug") else "voc"
        if self.type == "CityScapes":
            return "cityscapes_coarse" if self.mode == "coarse" else "cityscapes"
        if self.type == "COCO":
            return "cocostuff10k" if self.partition == "CocoStuff10k" else "cocostuff"
        return self.type.lower()

    def command(self, shards: str, splits: list[str]) -> str:
        """What ingests these splits of it."""
        folder = shlex.quote(self.folder)
        if self.type == "VOC":
            words = f"voc {folder}" + (" --labels aug" if shards.startswith("voc_aug") else "")
        elif self.type == "CityScapes":
            words = f"cityscapes {folder} --labels {self.mode}"
        elif self.type == "ADE20K":
            words = f"ade20k {folder}"
        elif self.type == "COCO":
            words = f"cocostuff {folder} --version {self.partition.removeprefix('CocoStuff')} --classes 182"
        else:
            words = f"folder {folder} --spec my-dataset.yaml"
        chosen = "".join(f" --split {split}" for split in splits)
        return f"python -m ingest {words}{chosen} --out shards/{shards}"


def data(source: Source, draft: Draft) -> int:
    """The `data` section, and the commands that make the shards and train. The batch there, of all GPUs together."""
    trains = _loader(source, "train_loader", None)
    validates = _loader(source, "val_loader", trains)
    if not source.take("trainer.val", bool, True):
        _shards(draft, trains, None)
        draft.set("data.val", "", "trainer.val")
    else:
        _shards(draft, trains, _same_dataset(draft, trains, validates))
        draft.set("data.val", SPLITS.get(validates.split, validates.split), "val_loader.args.split")
        if validates.split.startswith("test") and validates.type == "VOC":
            draft.note("val_loader.args.split", validates.split, "VOC's test labels are not public; set data.val=val")
    _dataset_notes(draft, trains)
    batch = _batch(source, draft)
    _idle(source, draft)
    _validation(source, draft)
    return batch


def _loader(source: Source, section: str, other: Loader | None) -> Loader:
    """other: the one whose type and folder hold where this names none."""
    split = (
        source.take(f"{section}.args.split", str) if other is None else source.take(f"{section}.args.split", str, "val")
    )
    return Loader(
        source.take(f"{section}.type", str) if other is None else source.take(f"{section}.type", str, other.type),
        source.take(f"{section}.args.data_dir", str, "SRC" if other is None else other.folder),
        split,
        source.take(f"{section}.args.mode", str, "fine"),
        # the default there, where splits of these names would be refused
        source.take(f"{section}.args.partition", str, "CocoStuff164k" if split.endswith("2017") else "CocoStuff10k"),
    )


def _same_dataset(draft: Draft, trains: Loader, validates: Loader) -> Loader:
    """The validation loader, of the training one's dataset."""
    if validates.type == trains.type:
        return validates
    draft.note(
        "val_loader.type", validates.type, f"another dataset than {trains.type}; here both have the same classes"
    )
    return Loader(trains.type, trains.folder, validates.split, trains.mode, trains.partition)


def _shards(draft: Draft, trains: Loader, validates: Loader | None) -> None:
    """Paths and ingest commands: one folder for both splits where they come from the same files, else two."""
    split = SPLITS.get(trains.split, trains.split)
    val_split = SPLITS.get(validates.split, validates.split) if validates else ""
    same = validates is None or (trains.folder, trains.mode, trains.partition) == (
        validates.folder,
        validates.mode,
        validates.partition,
    )
    name = validates.shards if same and validates and validates.shards == "voc_aug" else trains.shards
    splits = [split] if not same or not val_split or val_split == split else [split, val_split]
    draft.commands.append(trains.command(name, splits))
    draft.set("data.path", f"shards/{name}", "train_loader.type, data_dir")
    draft.set("data.train", split, "train_loader.args.split")
    if validates and not same:
        other = validates.shards if validates.shards != name else f"{name}_val"
        draft.commands.append(validates.command(other, [val_split]))
        draft.set("data.val_path", f"shards/{other}", "val_loader.args.data_dir, mode, partition")


def _dataset_notes(draft: Draft, trains: Loader) -> None:
    if trains.type == "COCO":
        draft.note(
            "train_loader.type", "COCO", "trained with 182 outputs, of which 11 never occur; without --classes 182, 171"
        )
        if trains.partition == "CocoStuff10k":
            draft.fixed.append(
                "COCO: images and labels of the 10k set were warped to 513x513; here they keep their shape"
            )
    if trains.type not in ("VOC", "CityScapes", "ADE20K", "COCO"):
        draft.note(
            "train_loader.type",
            trains.type,
            "no dataset of its own here; describe it by a spec (ingest/specs/camvid.yaml)",
        )
    if trains.type == "ADE20K":
        draft.fixed.append("ADE20K: its label of what is ignored is -1 (ignore_index); shards hold 255")
    constants = STATISTICS.get(trains.type, "its own")
    draft.fixed.append(
        f"statistics: images were normalized by the loader's constants ({constants}); here by those of the encoder's "
        "ImageNet weights, or without such weights by those measured at ingest"
    )


def _batch(source: Source, draft: Draft) -> int:
    batch, gpus = source.take("train_loader.args.batch_size", int), source.take("n_gpu", int, 1)
    each = max(1, batch // gpus) if gpus > 1 else batch
    if gpus > 1:
        draft.note("n_gpu", gpus, f"one process a GPU here; torchrun --nproc-per-node {gpus} -m train --cfg ...")
        how = (
            f"was shared by {gpus} GPUs, unevenly; now each gets {each}"
            if batch % gpus
            else f"was for {gpus} GPUs in all; data.batch_size is for each"
        )
        draft.note("train_loader.args.batch_size", batch, how)
    draft.set("data.batch_size", each, "train_loader.args.batch_size")
    launcher = f"torchrun --nproc-per-node {gpus} -m train" if gpus > 1 else "python -m train"
    draft.commands.append(f"{launcher} --cfg THIS_FILE")
    return max(1, batch)


def _idle(source: Source, draft: Draft) -> None:
    """Keys that mean nothing here."""
    for loader in ("train_loader", "val_loader"):
        workers = source.take(f"{loader}.args.num_workers", int, 0)
        if workers:
            draft.note(
                f"{loader}.args.num_workers", workers, "no worker processes here; data.threads=0 takes all cores"
            )
        if source.take(f"{loader}.args.return_id", bool, False):
            draft.note(f"{loader}.args.return_id", True, "batches always know their samples' names here")
        share = source.take(f"{loader}.args.val_split", float, 0.0)
        if share:
            draft.note(
                f"{loader}.args.val_split", share, "no random part is held out; make a split of its own at ingest"
            )
    if not source.take("train_loader.args.shuffle", bool, False):
        draft.note(
            "train_loader.args.shuffle", False, "always shuffled here, by a permutation that follows from the seed"
        )
    if source.take("train_loader.args.val", bool, False):
        draft.note("train_loader.args.val", True, "trained on resized center crops; here on random crops, see augment")


def _validation(source: Source, draft: Draft) -> None:
    """How validation images were made."""
    crop = source.take("val_loader.args.crop_size", int, 0)
    if crop:
        draft.note(
            "val_loader.args.crop_size",
            crop,
            "images were scaled until their shorter side was that, and cropped at the center; here they are scored "
            "whole, at their own size: other, comparable numbers",
        )
    batch = source.take("val_loader.args.batch_size", int, 1)
    if batch > 1:
        draft.note(
            "val_loader.args.batch_size", batch, "left at 1; data.val_batch_size may be more where sizes are equal"
        )
    resized, augmented = (
        source.take("val_loader.args.val", bool, False),
        source.take("val_loader.args.augment", bool, False),
    )
    if augmented and not resized:
        draft.note("val_loader.args.augment", True, "scores were taken on augmented crops; here on whole images")
    for key, kind in VALIDATION_IDLE.items():
        source.take(f"val_loader.args.{key}", kind, None)
