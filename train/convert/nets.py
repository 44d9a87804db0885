"""pytorch-segmentation's architectures: which of our nets each is, and what it does that no key of a config says."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ingest.errors import nearest
from train.convert.draft import Draft, Source


@dataclass(frozen=True)
class Arch:
    """One class of its `models`."""

    net: str
    """Ours."""
    backbone: str | None = None
    """Its encoder where the config names none; None: its own layers, or VGG16 (fcn, segnet)."""
    choice: bool = False
    """Whether arch.args.backbone is read."""
    pretrained: bool = False
    """Whether it starts from ImageNet weights where the config does not say."""
    deep_stem: bool = False
    """Its ResNets of 50 layers and more begin with three 3x3 convolutions (64, 64, 128), the others with one 7x7."""
    backbone_lr: bool = True
    """Whether optimizer.differential_lr finds an encoder to slow down."""
    freezes: bool = True
    """Whether freeze_backbone finds something to freeze."""
    options: dict[str, Any] = field(default_factory=dict)
    """net.options that its layers ask for."""
    fixed: tuple[str, ...] = ()
    """What it does whatever the config says, and ours does otherwise."""


_NAME_ERROR = "in its last version it stops with a NameError (freeze_backbone) before it trains; here it trains"
_CORNERS = "features are upsampled with align_corners=True there, without here"

ARCHITECTURES: dict[str, Arch] = {
    "FCN8": Arch(
        "fcn",
        pretrained=True,
        options={"skips": 2},
        fixed=(
            _NAME_ERROR,
            "all three upsamplings are fixed to bilinear there; here the two inner ones start bilinear and are trained",
            "pool3 and pool4 are multiplied by 0.0001 and 0.01 before they are scored there, here they are not",
            "the image is padded by 100 pixels there; here fc6 is padded, and nothing is cropped",
            "with differential_lr the score of fc7 has the backbone's learning rate there, here the head's",
        ),
    ),
    "UNet": Arch(
        "unet",
        backbone_lr=False,
        freezes=False,
        fixed=(
            "the first convolution of each pair has half the channels there; here both are as wide as the paper's",
            "no dropout there; here 0.5 at the end of the contracting path, as in the paper",
        ),
    ),
    "UNetResnet": Arch(
        "unet",
        "resnet50",
        choice=True,
        pretrained=True,
        deep_stem=True,
        fixed=(
            "its decoder has single convolutions and 4x4 transposed ones (192 to 32 channels), without norms and "
            "activations; ours two convolutions with batch norm a step (256 to 16 channels) and the skip at stride 2",
            _CORNERS,
        ),
    ),
    "SegNet": Arch(
        "segnet",
        pretrained=True,
        backbone_lr=False,
        fixed=("one more 64-channel convolution before the classifier there (29.49 M parameters, ours 29.45 M)",),
    ),
    "SegResNet": Arch(
        "segnet",
        "resnet50",
        pretrained=True,
        fixed=("its decoder is a second ResNet-50 (53.56 M parameters); ours two convolutions a step (38.72 M)",),
    ),
    "ENet": Arch(
        "enet",
        backbone_lr=False,
        freezes=False,
        options={"form": "paper"},
        fixed=(
            "its decoder has ReLU, here PReLU as in the encoder, with a slope a channel where its have one a layer",
            "a norm, a PReLU and biases lie in its asymmetric convolutions; here none",
        ),
    ),
    "GCN": Arch(
        "gcn",
        "resnet50",
        choice=True,
        pretrained=True,
        fixed=(
            _NAME_ERROR,
            "a 1x1 convolution of the scores comes last there, here the last refinement",
            "with use_deconv its transposed convolutions are 3x3, ours 4x4 and start as bilinear",
            _CORNERS,
        ),
    ),
    "DeepLab": Arch("deeplabv3plus", "xception", choice=True, pretrained=True, fixed=(_CORNERS,)),
    "DeepLab_DUC_HDC": Arch(
        "duc",
        "resnet101",
        pretrained=True,
        options={"hdc": "rf"},
        fixed=(
            _NAME_ERROR,
            "an ASPP (1x1, rates 6, 12, 18, 24, 36 and pooled) and a DeepLabV3+ decoder with skips at stride 4 stand "
            "before its upsampling, which goes x2 and x4; here the authors' four rates (6, 12, 18, 24) are summed and "
            "upsampled x8 at once",
            "its scores end in batch norm and ReLU, so are never negative; ours end in the convolution",
            _CORNERS,
        ),
    ),
    "UperNet": Arch(
        "upernet",
        "resnet101",
        choice=True,
        pretrained=True,
        fixed=(
            _NAME_ERROR,
            "its encoder is dilated to stride 16, ours goes to 32 as the paper's",
            "its pyramid pools to 1, 2, 4 and 6 cells (ours, as the paper's, to 1, 2, 3 and 6) and keeps the encoder's "
            "width",
            "its three 3x3 convolutions of the feature pyramid share their weights, ours do not",
            "each level of its feature pyramid adds the encoder's level above alone, ours the sum of all above; its "
            "levels have no norms, its lowest no convolution, and its classifier is 3x3, ours 1x1 after dropout",
            _CORNERS,
        ),
    ),
    "PSPNet": Arch(
        "pspnet",
        "resnet152",
        choice=True,
        pretrained=True,
        deep_stem=True,
        fixed=(
            "its auxiliary head is as wide as the main one (512), ours has 256 channels as the paper's",
            "whole channels are dropped there (Dropout2d 0.1), here single values",
            _CORNERS,
        ),
    ),
    "PSPDenseNet": Arch(
        "pspnet",
        "densenet201",
        choice=True,
        pretrained=True,
        freezes=False,
        fixed=(
            "without ImageNet weights its stem is three 3x3 convolutions, ours one of 7x7",
            "with differential_lr its last dense block is in no group of the optimizer, so never trained; here it is",
            "its auxiliary head is as wide as the main one, ours has 256 channels",
            _CORNERS,
        ),
    ),
}
STRIDES = {"deeplabv3plus": (8, 16), "duc": (8,)}  # that both have


def net(source: Source, draft: Draft) -> Arch:
    """The `net` section."""
    name = source.take("arch.type", str)
    if name not in ARCHITECTURES:
        raise source.error("arch.type", name, f"no such net there{nearest(name, ARCHITECTURES)}")
    arch = ARCHITECTURES[name]
    draft.set("net.name", arch.net, "arch.type")
    _encoder(source, draft, name, arch)
    stride = source.take("arch.args.output_stride", int, None)
    if stride is not None:
        if stride in STRIDES.get(arch.net, ()):
            draft.set("net.output_stride", stride, "arch.args.output_stride")
        else:
            draft.note(
                "arch.args.output_stride", stride, f"{arch.net} is left at its own; see python -m nets {arch.net}"
            )
    _auxiliary(source, draft, name)
    options = arch.options | _options(source, draft, arch.net)
    if options:
        draft.set("net.options", options, "arch.type, arch.args")
    _frozen(source, draft, name, arch)
    channels = source.take("arch.args.in_channels", int, 3)
    if channels != 3:
        draft.note(
            "arch.args.in_channels", channels, "the dataset says how many channels there are (bands in its spec)"
        )
    draft.fixed += [f"{name}: {text}" for text in arch.fixed]
    return arch


def _encoder(source: Source, draft: Draft, name: str, arch: Arch) -> None:
    given = source.take("arch.args.backbone", str, None)
    if given is not None and not arch.choice:
        if given != arch.backbone:
            draft.note("arch.args.backbone", given, f"{name} never read it; set net.backbone for another encoder")
        given = None
    backbone = given or arch.backbone
    if backbone is not None:
        if name == "DeepLab" and "resnet" not in backbone:
            draft.note("arch.args.backbone", backbone, "timm's aligned Xception-65 is the nearest")
            backbone = "xception65"
        tagged = _tagged(backbone, arch.deep_stem)
        draft.set("net.backbone", tagged, "arch.args.backbone" if given else "arch.type")
    pretrained = source.take("arch.args.pretrained", bool, arch.pretrained)
    if pretrained and not arch.pretrained:
        draft.note("arch.args.pretrained", True, f"{name} has no pretrained part, here as there")
        pretrained = False
    if name == "SegNet" and not pretrained:
        draft.note("arch.args.pretrained", False, "SegNet never read it: its VGG16 always starts from ImageNet weights")
        pretrained = True
    draft.set("net.pretrained", pretrained, "arch.args.pretrained")


def _tagged(backbone: str, deep_stem: bool) -> str:
    """timm's name, with the tag of the weights that were used there, or of the nearest that timm has."""
    if backbone in ("resnet50", "resnet101", "resnet152") and deep_stem:
        return f"{backbone}s.gluon_in1k"
    if backbone == "xception65":
        return "xception65.tf_in1k"
    known = backbone in ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
    return f"{backbone}.tv_in1k" if known or backbone.startswith("densenet") else backbone


def _auxiliary(source: Source, draft: Draft, name: str) -> None:
    use_aux = source.take("arch.args.use_aux", bool, True)
    if name.startswith("PSP"):
        draft.set("net.aux", use_aux, "arch.args.use_aux")
        if not use_aux:
            draft.note(
                "arch.args.use_aux", False, f"{name} cannot be trained without there: the loss takes two outputs"
            )
    elif not use_aux:
        draft.note("arch.args.use_aux", False, f"{name} has no auxiliary head there; none here, either")


def _options(source: Source, draft: Draft, net_name: str) -> dict[str, Any]:
    if net_name == "upernet":
        return {"channels": source.take("arch.args.fpn_out", int, 256)}
    if net_name != "gcn":
        return {}
    if source.take("arch.args.use_resnet_gcn", bool, False):
        draft.note("arch.args.use_resnet_gcn", True, "no ResNet of large kernels here; a plain one is used")
    return {
        "kernel_size": source.take("arch.args.num_filters", int, 11),
        "deconvolution": source.take("arch.args.use_deconv", bool, False),
    }


def _frozen(source: Source, draft: Draft, name: str, arch: Arch) -> None:
    if source.take("arch.args.freeze_bn", bool, False):
        draft.set("net.freeze_bn", "all", "arch.args.freeze_bn")
        draft.note("arch.args.freeze_bn", True, "here scale and shift are frozen too, not only the statistics")
    if not source.take("arch.args.freeze_backbone", bool, False):
        return
    if not arch.freezes:
        what = "has no encoder to freeze" if arch.backbone is None else "never read it"
        draft.note("arch.args.freeze_backbone", True, f"{name} {what}; left out")
        return
    draft.set("net.freeze_backbone", True, "arch.args.freeze_backbone")
    draft.note(
        "arch.args.freeze_backbone",
        True,
        "the encoder's batch norms went on to average their statistics there; here those are frozen, too",
    )
