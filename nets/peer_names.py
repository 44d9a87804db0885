"""Names of tensors in torchvision's and segmentation_models.pytorch's nets, where these agree with ours.

tests/nets/test_peers.py holds these maps against the libraries: the renamed weights give the same logits.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

Rule = tuple[str, str | Callable[[re.Match[str]], str]]
Value = TypeVar("Value")


@dataclass(frozen=True)
class PeerNames:
    """One net of another library."""

    title: str  # whose it is
    net: str  # ours that it agrees with
    telltale: str  # a name that no other has
    rules: tuple[
        Rule, ...
    ]  # (pattern at the start of their name, what it becomes); a name that none matches is dropped

    def rename(self, tensors: Mapping[str, Value]) -> dict[str, Value]:
        """The same tensors by our net's names; those that ours has no place for are left out."""
        found = {}
        for name, value in tensors.items():
            for pattern, ours in self.rules:
                if match := re.match(pattern, name):
                    found[(ours if isinstance(ours, str) else ours(match)) + name[match.end() :]] = value
                    break
        return found


def _numbered(start: str, number: Callable[[int], int] = lambda i: i) -> Callable[[re.Match[str]], str]:
    """`start` and the number in the pattern's first group, changed: parts that we count in another way."""
    return lambda match: f"{start}{number(int(match[1]))}."


_SMP_ENCODER: Rule = (r"encoder\.(?:model\.)?", "encoder.model.")  # with its `tu-` encoders, and with its own resnets

FCN = PeerNames(
    "torchvision's FCN",
    "fcn",  # output_stride 8, no skips
    "classifier.4.weight",
    ((r"backbone\.", "encoder.model."), (r"classifier\.", "score."), (r"aux_classifier\.", "aux_head.")),
)
DEEPLAB = PeerNames(
    "torchvision's DeepLabV3",
    "deeplabv3plus",  # which has its ASPP and a decoder behind it
    "classifier.0.convs.0.0.weight",
    (
        (r"backbone\.", "encoder.model."),
        (
            r"classifier\.0\.convs\.4\.(\d+)\.",
            _numbered("aspp.pool.", lambda i: i - 1),
        ),  # the pooling itself is their 0
        (r"classifier\.0\.convs\.(\d+)\.", _numbered("aspp.branches.")),
        (r"classifier\.0\.project\.", "aspp.project."),
        (r"aux_classifier\.", "aux_head."),
    ),
)
UNET = PeerNames(
    "segmentation_models.pytorch's U-Net",
    "unet",
    "decoder.blocks.0.conv1.0.weight",
    (
        _SMP_ENCODER,
        (r"decoder\.blocks\.(\d+)\.conv1\.", lambda match: f"up.{match[1]}.0."),
        (r"decoder\.blocks\.(\d+)\.conv2\.", lambda match: f"up.{match[1]}.1."),
        (r"segmentation_head\.0\.", "classifier."),
    ),
)
UPERNET = PeerNames(
    "segmentation_models.pytorch's UPerNet",
    "upernet",  # with norms
    "decoder.fpn_lateral_blocks.0.conv_norm_relu.0.weight",
    (
        _SMP_ENCODER,
        (r"decoder\.feature_norms\.", "norms."),
        (r"decoder\.psp\.blocks\.(\d+)\.1\.", _numbered("pyramid.branches.")),
        (r"decoder\.psp\.out_conv\.", "top."),
        # theirs from coarse to fine, ours from fine to coarse
        (r"decoder\.fpn_lateral_blocks\.(\d+)\.conv_norm_relu\.", _numbered("lateral.", lambda i: 2 - i)),
        (r"decoder\.fpn_conv_blocks\.(\d+)\.", _numbered("smooth.", lambda i: 2 - i)),
        (r"decoder\.fusion_block\.", "fuse."),
        (r"segmentation_head\.0\.", "classifier.1."),
    ),
)
PEERS = (DEEPLAB, FCN, UNET, UPERNET)  # a DeepLabV3 has FCN's telltale, too


def recognize(names: Iterable[str], net: str) -> PeerNames | None:
    """Whose names these are; None for none of these. net: ours that is to be filled; of a `smp:NAME` they are kept."""
    present = set(names)
    if net.startswith("smp:") and any(name.startswith("segmentation_head.") for name in present):
        rules: tuple[Rule, ...] = (
            (r"encoder\.(?:model\.)?(?!head\.)", "model.encoder.model."),  # a ViT's classifier is not read
            (r"(?=decoder\.|segmentation_head\.)", "model."),
        )
        return PeerNames("segmentation_models.pytorch's", net, "", rules)
    return next((peer for peer in PEERS if peer.telltale in present), None)
