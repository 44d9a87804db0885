"""What yassouali/pytorch-segmentation (commit 33434fa) can be asked for, and what it does unasked: facts, for a walk.

Arguments are those of its constructors beside num_classes; each with a value other than the default.
"""

from __future__ import annotations

from typing import Any

COMMON: dict[str, Any] = {"in_channels": 4, "pretrained": False, "freeze_bn": True, "freeze_backbone": True}
RESNET = {"backbone": "resnet34"}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "FCN8": {key: COMMON[key] for key in ("pretrained", "freeze_bn", "freeze_backbone")},
    "UNet": {"in_channels": 4, "freeze_bn": True, "pretrained": True, "freeze_backbone": True, "backbone": "resnet50"},
    "UNetResnet": COMMON | RESNET,
    "SegNet": COMMON | {"backbone": "vgg19"},
    "SegResNet": COMMON | RESNET,
    "ENet": {"in_channels": 4, "freeze_bn": True, "pretrained": True, "freeze_backbone": True, "backbone": "resnet50"},
    "GCN": COMMON | RESNET | {"use_resnet_gcn": True, "use_deconv": True, "num_filters": 7},
    "DeepLab": COMMON | {"backbone": "resnet101", "output_stride": 8},
    "DeepLab_DUC_HDC": COMMON | {"output_stride": 4},
    "UperNet": COMMON | {"backbone": "resnet50", "use_aux": False, "fpn_out": 128, "output_stride": 8},
    "PSPNet": COMMON | RESNET | {"use_aux": False},
    "PSPDenseNet": COMMON | {"backbone": "densenet121", "use_aux": False},
}
LOADER: dict[str, Any] = {
    "data_dir": "/elsewhere", "batch_size": 20, "split": "odd", "crop_size": 321, "base_size": 333, "scale": False,
    "num_workers": 3, "val": None, "shuffle": None, "flip": None, "rotate": None, "blur": None, "augment": None,
    "val_split": 0.2, "return_id": True,
}  # fmt: skip
"""None: the other of true and false than the walk's config has."""
LOADERS: dict[str, dict[str, Any]] = {
    "VOC": LOADER,
    "CityScapes": LOADER | {"mode": "coarse"},
    "ADE20K": LOADER,
    "COCO": LOADER | {"partition": "CocoStuff10k"},
    "DeepScene": LOADER,
}
SPLITS: dict[str, list[tuple[str, str, dict[str, str]]]] = {
    "VOC": [
        (train, val, {}) for train in ("train", "trainval", "train_aug", "trainval_aug") for val in ("val", "val_aug")
    ],
    "CityScapes": [
        ("train", "val", {}),
        ("train", "val", {"mode": "coarse"}),
        ("train_extra", "val", {"mode": "coarse"}),
    ],
    "ADE20K": [("training", "validation", {})],
    "COCO": [("train2017", "val2017", {})]
    + [(train, "test", {"partition": "CocoStuff10k"}) for train in ("train", "all")],
    "DeepScene": [("training", "validation", {})],
}
# Validation images pass none of these where val_loader.args.val is true: each has no effect there, so none here.
IDLE_IN_VALIDATION = {"base_size", "scale", "flip", "rotate", "blur", "shuffle", "augment"}

LOSSES = ["CrossEntropyLoss2d", "DiceLoss", "FocalLoss", "CE_DiceLoss", "LovaszSoftmax"]
SCHEDULERS: dict[str, dict[str, Any]] = {
    "Poly": {"warmup_epochs": 3, "last_epoch": 5},
    "OneCycle": {"momentums": [0.8, 0.9], "div_factor": 10, "phase1": 0.4, "last_epoch": 5},
}
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "SGD": {"lr": 0.3, "momentum": 0.3, "dampening": 0.1, "weight_decay": 0.3, "nesterov": True},
    "Adam": {"lr": 0.3, "betas": [0.8, 0.99], "eps": 1e-3, "weight_decay": 0.3, "amsgrad": True},
    "AdamW": {"lr": 0.3, "betas": [0.8, 0.99], "eps": 1e-3, "weight_decay": 0.3, "amsgrad": True},
    "RMSprop": {"lr": 0.3, "alpha": 0.9, "eps": 1e-3, "weight_decay": 0.3, "momentum": 0.3, "centered": True},
    "Adagrad": {"lr": 0.3, "lr_decay": 0.1, "weight_decay": 0.3, "initial_accumulator_value": 0.1, "eps": 1e-3},
}
TOP: dict[str, Any] = {
    "name": "other", "n_gpu": 2, "use_synch_bn": True, "ignore_index": -1, "optimizer.differential_lr": False,
    "trainer.epochs": 41, "trainer.save_dir": "elsewhere/", "trainer.save_period": 10, "trainer.monitor": "off",
    "trainer.early_stop": 3, "trainer.tensorboard": False, "trainer.log_dir": "logs", "trainer.log_per_iter": 90,
    "trainer.val": False, "trainer.val_per_epochs": 3,
}  # fmt: skip

# What is done there whatever the config says: where it shows -> words of the line that must name it.
FIXED: dict[tuple[str, str], list[str]] = {
    ("arch", "FCN8"): ["NameError", "fixed to bilinear", "0.0001 and 0.01", "100 pixels", "score of fc7"],
    ("arch", "UNet"): ["half the channels", "no dropout there"],
    ("arch", "UNetResnet"): ["4x4 transposed", "align_corners"],
    ("arch", "SegNet"): ["one more 64-channel convolution"],
    ("arch", "SegResNet"): ["second ResNet-50"],
    ("arch", "ENet"): ["its decoder has ReLU", "in its asymmetric convolutions"],
    ("arch", "GCN"): ["NameError", "1x1 convolution of the scores", "3x3, ours 4x4", "align_corners"],
    ("arch", "DeepLab"): ["align_corners"],
    ("arch", "DeepLab_DUC_HDC"): ["NameError", "ASPP", "x2 and x4", "never negative", "align_corners"],
    ("arch", "UperNet"): [
        "NameError",
        "stride 16",
        "1, 2, 4 and 6",
        "share their weights",
        "sum of all above",
        "align_corners",
    ],
    ("arch", "PSPNet"): ["auxiliary head is as wide", "Dropout2d", "align_corners"],
    ("arch", "PSPDenseNet"): ["three 3x3", "never trained", "auxiliary head is as wide", "align_corners"],
    ("loader", "VOC"): ["0.457 0.433 0.401, 0.240 0.235 0.240"],
    ("loader", "CityScapes"): ["0.287 0.325 0.284, 0.176 0.181 0.178"],
    ("loader", "ADE20K"): ["0.489 0.465 0.429, 0.229 0.229 0.241", "-1 (ignore_index)"],
    ("loader", "COCO"): ["0.439 0.413 0.375, 0.243 0.236 0.234"],
    ("loader", "DeepScene"): ["0.485 0.456 0.406, 0.229 0.224 0.225"],
    ("scheduler", "Poly"): ["Poly: it is one step further"],
    ("scheduler", "OneCycle"): ["OneCycle: it is one step further"],
    ("any", ""): [
        "a class that no image shows counts as 0",
        "of the training crops were measured at each step",
        "smaller batch was trained on",
        "it set none",
        "sampled without averaging",
        "corners from outside the image were class 0",
        "sigmas below 0.61",
    ],
}
