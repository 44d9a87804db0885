"""pytorch-segmentation's augmentation, keys of its train_loader, as the `augment` section."""

from __future__ import annotations

from train.convert.draft import Draft, Source

WHERE = "train_loader.args"


def augment(source: Source, draft: Draft) -> None:
    """The `augment` section."""
    on = source.take(f"{WHERE}.augment", bool, False)
    crop = source.take(f"{WHERE}.crop_size", int, 0)
    base = source.take(f"{WHERE}.base_size", int, 0)
    defaults = {"scale": True, "flip": False, "rotate": False, "blur": False}
    given = {key: source.take(f"{WHERE}.{key}", bool, default) for key, default in defaults.items()}
    switches = {key: value and on for key, value in given.items()}
    if not on:
        draft.note(f"{WHERE}.augment", False, "images went in whole; here crops of augment.crop at a random place")
        for key, value in {"base_size": base, **given}.items():
            if value and (key, value) != ("scale", True):
                draft.note(f"{WHERE}.{key}", value, "without augment it did nothing; left out")
        base = 0
    if crop:
        draft.note(
            f"{WHERE}.crop_size",
            crop,
            "what lies outside the image was black and class 0; here it is the mean color and ignored (255); a "
            "smaller image lay in the crop's upper left corner, here it lies anywhere in it",
        )
    else:
        draft.note(f"{WHERE}.crop_size", None, "a batch needs one size here; augment.crop is a guess, set it")
    draft.set("augment.crop", [crop or 480] * 2, f"{WHERE}.crop_size")
    draft.set("augment.base_size", base, f"{WHERE}.base_size")
    # there the scale is drawn only where a base_size is given
    draft.set("augment.scale", [0.5, 2.0] if switches["scale"] and base else [1.0, 1.0], f"{WHERE}.scale")
    draft.set("augment.rotate", 10.0 if switches["rotate"] else 0.0, f"{WHERE}.rotate")
    draft.set("augment.flip", 0.5 if switches["flip"] else 0.0, f"{WHERE}.flip")
    draft.set("augment.blur", 1.0 if switches["blur"] else 0.0, f"{WHERE}.blur")
    if switches["scale"] and base:
        draft.fixed.append("scale: images scaled down were sampled without averaging (augment.antialias=false does so)")
    if switches["rotate"]:
        draft.fixed.append("rotate: by whole degrees, and corners from outside the image were class 0, not ignored")
    if switches["blur"]:
        draft.fixed.append("blur: sigmas below 0.61 did nothing there (a window of one pixel); here from 0.25 on")
