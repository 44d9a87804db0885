"""Layer-wise decay: which factor each stage of an encoder gets."""

from __future__ import annotations

import pytest
import torch

import nets
from ingest.errors import UserError
from nets.net import find_encoder
from train.optim.layers import distances
from train.optim.optimizers import OptimizerConfig, for_net

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("backbone", "stages", "examples"),
    [
        ("resnet18", 4, {"conv1.weight": 5, "layer1.0.conv1.weight": 4, "layer4.1.bn2.bias": 1}),
        ("convnext_atto", 4, {"stem_0.weight": 5, "stages_0.blocks.0.conv_dw.weight": 4, "stages_3": 1}),
        ("swin_tiny_patch4_window7_224", 4, {"patch_embed": 5, "layers_0.": 4, "layers_3.": 1}),
        ("efficientnet_lite0", 7, {"conv_stem": 8, "blocks.0.": 7, "blocks.6.": 1}),
        ("regnetx_002", 4, {"stem": 5, "s1.": 4, "s4.": 1}),
    ],
)
def test_stages_are_counted_from_the_end(backbone: str, stages: int, examples: dict[str, int]) -> None:
    with torch.device("meta"):
        encoder = __import__("timm").create_model(backbone, features_only=True)
    found = distances(encoder)
    named = list(encoder.named_parameters())
    assert set(found.values()) == set(range(1, stages + 2)) and len(found) == len(named)
    for start, distance in examples.items():
        at = {found[id(parameter)] for name, parameter in named if name.startswith(start)}
        assert at == {distance}, start


def test_each_stage_has_its_learning_rate_and_everything_is_trained_once() -> None:
    net = nets.build("fcn", 3, backbone="resnet18")
    optimizer = for_net(OptimizerConfig("adamw", lr=0.1, backbone_lr_scale=0.5, layer_decay=0.5), net, CPU)
    rates = {group["name"]: group["lr"] for group in optimizer.param_groups}
    assert rates["head/decay"] == 0.1
    expected = {f"backbone{distance}/decay": 0.1 * 0.5 * 0.5**distance for distance in range(1, 6)}
    assert {name: rate for name, rate in rates.items() if name in expected} == pytest.approx(expected)
    trained = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(trained) == sorted(id(p) for p in net.parameters())
    encoder = find_encoder(net)
    assert encoder is not None
    stem = {id(p) for name, p in encoder.named_parameters() if ".conv1" in name and "layer" not in name}
    last = next(group for group in optimizer.param_groups if group["name"] == "backbone5/decay")
    assert stem == {id(p) for p in last["params"]}


@pytest.mark.parametrize(
    ("backbone", "blocks"), [("vit_small_patch14_reg4_dinov2", 12), ("vit_small_patch16_dinov3", 12)]
)
def test_a_plain_vit_counts_blocks_and_its_pyramid_is_head(backbone: str, blocks: int) -> None:
    with torch.device("meta"):
        net = nets.build("upernet", 3, backbone=backbone, channels=8)
    config = OptimizerConfig("adamw", lr=1.0, layer_decay=0.5, weight_decay=0.05)
    at = {id(p): group for group in for_net(config, net, torch.device("meta")).param_groups for p in group["params"]}
    assert len(at) == len(list(net.parameters()))
    for name, parameter in net.named_parameters():
        group = at[id(parameter)]
        if ".vit." not in name:
            assert group["lr"] == 1.0 and group["name"].startswith("head"), name
            continue
        inner = name.split(".vit.")[1]
        # BEiT's and MAE's rule: the last block once, each before it once more, what comes before the blocks most of all
        block = int(inner.split(".")[1]) if inner.startswith("blocks.") else blocks - 1 if "norm." in inner else -1
        assert group["lr"] == pytest.approx(0.5 ** (blocks - block)), name
        is_table = inner.endswith(("pos_embed", "cls_token", "reg_token"))
        assert (group["weight_decay"] == 0) == (parameter.ndim < 2 or is_table), name


def test_off_means_the_groups_of_before() -> None:
    net = nets.build("fcn", 3, backbone="resnet18")
    names = [group["name"] for group in for_net(OptimizerConfig(), net, CPU).param_groups]
    assert names == ["backbone/decay", "backbone/no_decay", "head/decay", "head/no_decay"]


def test_position_tables_do_not_decay() -> None:
    net = nets.build("upernet", 3, backbone="swin_tiny_patch4_window7_224")
    tables = {id(p) for name, p in net.named_parameters() if name.endswith("relative_position_bias_table")}
    groups = for_net(OptimizerConfig("adamw", weight_decay=0.01), net, CPU).param_groups
    assert tables and tables <= {id(p) for group in groups if not group["weight_decay"] for p in group["params"]}


def test_a_net_without_stages_is_refused() -> None:
    with pytest.raises(UserError, match=r"optimizer.layer_decay = 0.9: this net has no encoder"):
        for_net(OptimizerConfig(layer_decay=0.9), nets.build("enet", 3), CPU)
