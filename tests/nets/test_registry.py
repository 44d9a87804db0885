"""Names and options: what is known is built, what is not is refused in one line with the nearest right thing."""

from __future__ import annotations

import pytest

import nets


def test_list_is_sorted_lower_case() -> None:
    names = nets.list_nets()
    assert names == sorted(names)
    assert all(name == name.lower() for name in names)
    assert {"deeplabv3plus", "enet", "unet"} <= set(names)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("enet", {"pretrained": True}, ["enet has no option 'pretrained'", "no encoder to choose: leave it out"]),
        ("unett", {}, ["'unett'", "did you mean 'unet'", "enet"]),
        ("unet", {"backbon": "resnet18"}, ["'backbon'", "did you mean 'backbone'"]),
        ("enet", {"backbone": "resnet18"}, ["enet", "'backbone'", "in_channels"]),
        ("enet", {"aux": True}, ["enet", "'aux'"]),
        ("unet", {"pretrained": True}, ["backbone"]),
        ("unet", {"backbone": "resnet181"}, ["'resnet181'", "resnet18"]),
        ("deeplabv3plus", {"output_stride": 4}, ["output_stride 4", "8, 16, 32"]),
        ("deeplabv3plus", {"backbone": "pvt_v2_b0", "output_stride": 8}, ["pvt_v2_b0", "usable are 32"]),
        ("deeplabv3plus", {"backbone": "beit_base_patch16_224"}, ["beit_base_patch16_224", "any size"]),
        (
            "fcn",
            {"backbone": "vit_tiny_patch16_224", "output_stride": 8},
            ["plain ViT", "leave output_stride"],
        ),
        ("unet", {"form": "mmseg"}, ["unet has no form 'mmseg'", "did you mean 'mmsegmentation'"]),
        ("unet", {"form": "mmsegmentation", "backbone": "resnet18"}, ["form", "without a backbone"]),
        ("fcn", {"form": "mmsegmentation"}, ["form", "add a backbone"]),
        ("deeplabv3plus", {"form": "authors"}, ["deeplabv3plus has no form 'authors'", "mmsegmentation"]),
        ("unet", {"backbone": "resnet18", "backbone_weights": "/nowhere.pth"}, ["/nowhere.pth", "no file"]),
        ("unet", {"in_channels": 0, "backbone": "resnet18"}, ["in_channels is 0"]),
    ],
)
def test_mistakes_are_one_line_with_the_remedy(name: str, options: dict, words: list[str]) -> None:
    with pytest.raises(nets.NetError) as caught:
        nets.build(name, 3, **options)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_no_classes_is_refused() -> None:
    with pytest.raises(nets.NetError, match="num_classes is 0"):
        nets.build("enet", 0)


def test_checkpoints_record_every_own_option() -> None:
    assert nets.all_options("enet", {}) == {"form": "paper", "decoder": True}
    assert nets.all_options("duc", {"hdc": "rf"}) == {"hdc": "rf", "aspp": True}


def test_unrecorded_options_are_those_of_before_they_existed() -> None:
    assert nets.recorded_options("duc", {"hdc": "rf"}) == {"hdc": "rf", "aspp": False}
    assert nets.recorded_options("duc", nets.all_options("duc", {}))["aspp"] is True
    assert nets.recorded_options("unet", {}) == {}
    for name in nets.list_nets():
        assert set(nets.recorded_options(name, {})) <= set(nets.options(name))


@pytest.mark.parametrize(
    ("name", "option", "value", "expected"),
    [
        ("enet", "form", {"a": 1}, "text, such as 'paper'"),
        ("enet", "form", ["paper"], "text, such as 'paper'"),
        ("enet", "decoder", "no", "true or false, such as True"),
        ("gcn", "kernel_size", "7", "a whole number, such as 15"),
        ("fcn", "skips", True, "a whole number, such as 2"),
    ],
)
def test_options_of_another_kind_are_refused(name: str, option: str, value: object, expected: str) -> None:
    with pytest.raises(nets.NetError, match=rf"{name}'s option {option} = .*: expected {expected}"):
        nets.build(name, 3, **{option: value})
