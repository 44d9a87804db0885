"""What pytorch-segmentation's train_loader and val_loader mean in a recipe: datasets, splits, batch, augmentation."""

from __future__ import annotations

from train.convert.draft import Draft, Source

SPLITS = {"training": "train", "validation": "val", "train2017": "train", "val2017": "val"}


def data(source: Source, draft: Draft) -> None:
    """The `data` section, and the commands that make the shards and train."""
    name = source.take("train_loader.type", str)
    folder = source.take("train_loader.args.data_dir", str, "SRC")
    split = source.take("train_loader.args.split", str)
    mode = source.take("train_loader.args.mode", str, "fine")
    partition = source.take("train_loader.args.partition", str, "CocoStuff164k")
    if name == "VOC":
        aug = split.endswith("_aug")
        path, command = ("voc_aug", f"voc {folder} --labels aug") if aug else ("voc", f"voc {folder}")
        if split.startswith("trainval"):
            command += f" --split {split} --split val"
    elif name == "CityScapes":
        coarse = mode == "coarse"
        path = "cityscapes_coarse" if coarse else "cityscapes"
        command = f"cityscapes {folder}" + (" --labels coarse" if coarse else "")
    elif name == "ADE20K":
        path, command = "ade20k", f"ade20k {folder}"
    elif name == "COCO":
        path = "cocostuff10k" if partition == "CocoStuff10k" else "cocostuff"
        command = f"cocostuff {folder} --version {partition.removeprefix('CocoStuff')} --classes 182"
        draft.note(
            "train_loader.type", name, "trained with 182 outputs, of which 11 never occur; without --classes 182, 171"
        )
    else:
        path, command = name.lower(), f"folder {folder} --spec my-dataset.yaml"
        draft.note(
            "train_loader.type", name, "no dataset of its own here; describe it by a spec (ingest/specs/camvid.yaml)"
        )
    draft.commands.append(f"python -m ingest {command} --out shards/{path}")
    draft.set("data.path", f"shards/{path}", "train_loader.type, data_dir")
    draft.set("data.train", SPLITS.get(split, split), "train_loader.args.split")
    _validation(source, draft, name, folder, partition)
    batch, gpus = source.take("train_loader.args.batch_size", int), source.take("n_gpu", int, 1)
    if gpus > 1:
        draft.note("n_gpu", gpus, f"one process a GPU here; torchrun --nproc-per-node {gpus} -m train --cfg ...")
        if batch % gpus:
            draft.note(
                "train_loader.args.batch_size",
                batch,
                f"was shared by {gpus} GPUs, unevenly; now each gets {batch // gpus}",
            )
        else:
            draft.note(
                "train_loader.args.batch_size", batch, f"was for {gpus} GPUs in all; data.batch_size is for each"
            )
        batch = max(1, batch // gpus)
    draft.set("data.batch_size", batch, "train_loader.args.batch_size")
    launcher = f"torchrun --nproc-per-node {gpus} -m train" if gpus > 1 else "python -m train"
    draft.commands.append(f"{launcher} --cfg THIS_FILE")
    for loader in ("train_loader", "val_loader"):
        workers = source.take(f"{loader}.args.num_workers", int, 0)
        if workers:
            draft.note(
                f"{loader}.args.num_workers", workers, "no worker processes here; data.threads=0 takes all cores"
            )
        source.take(f"{loader}.args.return_id", bool, False)
    if not source.take("train_loader.args.shuffle", bool, False):
        draft.note(
            "train_loader.args.shuffle", False, "always shuffled here, by a permutation that follows from the seed"
        )
    share = source.take("train_loader.args.val_split", float, 0.0)
    if share:
        draft.note(
            "train_loader.args.val_split", share, "no random part is held out; make a split of its own at ingest"
        )
    if source.take("train_loader.args.val", bool, False):
        draft.note("train_loader.args.val", True, "trained on resized centre crops; here on random crops, see augment")


def _validation(source: Source, draft: Draft, name: str, folder: str, partition: str) -> None:
    wanted = source.take("trainer.val", bool, True)
    theirs = source.take("val_loader.type", str, name)
    split = source.take("val_loader.args.split", str, "val")
    split = SPLITS.get(split, split)
    draft.set("data.val", split if wanted else "", "val_loader.args.split" if wanted else "trainer.val")
    if theirs != name:
        draft.note("val_loader.type", theirs, f"another dataset than {name}; here both splits come from data.path")
    elsewhere = source.take("val_loader.args.data_dir", str, folder)
    if elsewhere != folder:
        draft.note(
            "val_loader.args.data_dir", elsewhere, f"another folder than {folder}; here both splits come from data.path"
        )
    crop = source.take("val_loader.args.crop_size", int, 0)
    if crop:
        draft.note(
            "val_loader.args.crop_size", crop, "images are scored whole, at their own size: other, comparable numbers"
        )
    batch = source.take("val_loader.args.batch_size", int, 1)
    if batch > 1:
        draft.note(
            "val_loader.args.batch_size", batch, "left at 1; data.val_batch_size may be more where sizes are equal"
        )
    for key in (
        "base_size",
        "mode",
        "partition",
        "augment",
        "shuffle",
        "scale",
        "flip",
        "rotate",
        "blur",
        "val",
        "val_split",
    ):
        kind: type = {"base_size": int, "mode": str, "partition": str, "val_split": float}.get(key, bool)
        source.take(f"val_loader.args.{key}", kind, None)  # none of them changes how validation images are made here


def augment(source: Source, draft: Draft) -> None:
    """The `augment` section."""
    where = "train_loader.args"
    on = source.take(f"{where}.augment", bool, False)
    crop = source.take(f"{where}.crop_size", int, 0)
    base = source.take(f"{where}.base_size", int, 0) if on else 0
    switches = {
        key: source.take(f"{where}.{key}", bool, key == "scale") and on for key in ("scale", "flip", "rotate", "blur")
    }
    if not on:
        source.take(f"{where}.base_size", int, 0)
        draft.note(f"{where}.augment", False, "images went in whole; here crops of augment.crop at a random place")
    if crop:
        draft.note(f"{where}.crop_size", crop, "what lies outside the image was class 0; here it is ignored (255)")
    else:
        draft.note(f"{where}.crop_size", None, "a batch needs one size here; augment.crop is a guess, set it")
    draft.set("augment.crop", [crop or 480] * 2, f"{where}.crop_size")
    draft.set("augment.base_size", base, f"{where}.base_size")
    # there the scale is drawn only where a base_size is given
    draft.set("augment.scale", [0.5, 2.0] if switches["scale"] and base else [1.0, 1.0], f"{where}.scale")
    draft.set("augment.rotate", 10.0 if switches["rotate"] else 0.0, f"{where}.rotate")
    draft.set("augment.flip", 0.5 if switches["flip"] else 0.0, f"{where}.flip")
    draft.set("augment.blur", 1.0 if switches["blur"] else 0.0, f"{where}.blur")
