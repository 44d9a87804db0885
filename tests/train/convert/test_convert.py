"""Configs of pytorch-segmentation as recipes: every key is taken over, or named with what to do instead."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

import nets
from ingest.errors import UserError
from train import config
from train.convert.command import convert
from train.convert.draft import Draft
from train.convert.nets import ARCHITECTURES
from train.convert.optimizer import LOSSES
from train.convert.translate import convert_config, render

CONFIG: dict[str, Any] = {
    "name": "mine",
    "n_gpu": 1,
    "use_synch_bn": False,
    "arch": {"type": "PSPNet", "args": {"backbone": "resnet50", "freeze_bn": False, "freeze_backbone": False}},
    "train_loader": {
        "type": "VOC",
        "args": {
            "data_dir": "/data/voc",
            "batch_size": 12,
            "base_size": 500,
            "crop_size": 384,
            "augment": True,
            "shuffle": True,
            "scale": True,
            "flip": True,
            "rotate": False,
            "blur": True,
            "split": "train_aug",
        },
    },
    "val_loader": {"type": "VOC", "args": {"data_dir": "/data/voc", "split": "val", "val": True}},
    "optimizer": {
        "type": "SGD",
        "differential_lr": True,
        "args": {"lr": 0.02, "weight_decay": 0.0005, "momentum": 0.8, "nesterov": True},
    },
    "loss": "CrossEntropyLoss2d",
    "ignore_index": 255,
    "lr_scheduler": {"type": "Poly", "args": {}},
    "trainer": {
        "epochs": 40,
        "save_dir": "runs/",
        "monitor": "max Mean_IoU",
        "early_stop": 0,
        "tensorboard": True,
        "log_per_iter": 50,
        "val": True,
        "val_per_epochs": 2,
    },
}


def changed(**dotted: Any) -> dict[str, Any]:
    """CONFIG with keys given as `a__b__c=value`."""
    raw = copy.deepcopy(CONFIG)
    for key, value in dotted.items():
        *sections, last = key.split("__")
        place = raw
        for section in sections:
            place = place.setdefault(section, {})
        place[last] = value
    return raw


def converted(**dotted: Any) -> Draft:
    return convert_config(changed(**dotted), "c.json")


def recipe_of(draft: Draft) -> config.Recipe:
    return config.parse(yaml.safe_load(render(draft, "c.json")))


def test_every_value_arrives() -> None:
    draft = converted()
    recipe = recipe_of(draft)
    assert (recipe.name, recipe.output) == ("mine", "runs")
    data = recipe.data
    assert (data.path, data.train, data.val, data.batch_size) == ("shards/voc_aug", "train_aug", "val", 12)
    augment = recipe.augment
    assert (augment.crop, augment.base_size, augment.scale) == ((384, 384), 500, (0.5, 2.0))
    assert (augment.flip, augment.rotate, augment.blur) == (0.5, 0, 1)
    net = recipe.net
    assert (net.name, net.backbone, net.pretrained, net.aux) == ("pspnet", "resnet50s.gluon_in1k", True, True)
    assert recipe.loss.terms() == {"ce": 1.0} and recipe.loss.aux_weight == 0.4
    optimizer = recipe.optimizer
    assert (optimizer.name, optimizer.lr, optimizer.momentum, optimizer.nesterov) == ("sgd", 0.02, 0.8, True)
    assert (optimizer.weight_decay, optimizer.backbone_lr_scale, optimizer.decay_norm_and_bias) == (0.0005, 0.1, True)
    assert (recipe.schedule.name, recipe.schedule.power) == ("poly", 0.9)
    train = recipe.train
    assert (train.epochs, train.val_every_epochs, train.log_every, train.sync_bn) == (40, 2, 5, False)  # 50 / 12 + 1
    assert (train.monitor, train.patience) == ("miou", 0)
    assert [note.split(" = ")[0] for note in draft.notes] == ["train_loader.args.crop_size"]
    assert draft.commands[0] == (
        "python -m ingest voc /data/voc --labels aug --split train_aug --split val --out shards/voc_aug"
    )


@pytest.mark.parametrize(
    ("loader", "args", "path", "splits", "command"),
    [
        ("VOC", {"split": "train"}, "voc", ("train", "val"), "ingest voc D "),
        ("VOC", {"split": "trainval_aug"}, "voc_aug", ("trainval_aug", "val"), "--split trainval_aug --split val"),
        ("CityScapes", {"split": "train"}, "cityscapes", ("train", "val"), "ingest cityscapes D "),
        (
            "CityScapes",
            {"split": "train_extra", "mode": "coarse"},
            "cityscapes_coarse",
            ("train_extra", "val"),
            "coarse",
        ),
        ("ADE20K", {"split": "training"}, "ade20k", ("train", "val"), "ingest ade20k D "),
        ("COCO", {"split": "train2017"}, "cocostuff", ("train", "val"), "--version 164k --classes 182"),
        ("COCO", {"split": "train", "partition": "CocoStuff10k"}, "cocostuff10k", ("train", "test"), "--version 10k"),
    ],
)
def test_each_dataset(loader: str, args: dict[str, str], path: str, splits: tuple[str, str], command: str) -> None:
    theirs = {"val": {"training": "validation", "train2017": "val2017"}.get(args["split"], "val"), "test": "test"}
    draft = converted(
        train_loader__type=loader,
        train_loader__args=CONFIG["train_loader"]["args"] | {"data_dir": "D"} | args,
        val_loader={"type": loader, "args": {"data_dir": "D", "split": theirs[splits[1]]}},
    )
    data = recipe_of(draft).data
    assert (data.path, data.train, data.val) == (f"shards/{path}", *splits)
    assert command in draft.commands[0]
    assert any("182" in note for note in draft.notes) == (loader == "COCO")


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_each_net_can_be_built(arch: str) -> None:
    args: dict[str, Any] = {"pretrained": False}
    # the smallest of each family: what is tested is that the recipe's options are the net's
    args |= {"backbone": "resnet18"} if arch in ("UNetResnet", "GCN", "DeepLab", "UperNet", "PSPNet") else {}
    args |= {"backbone": "densenet121"} if arch == "PSPDenseNet" else {}
    net = recipe_of(converted(arch={"type": arch, "args": args})).net
    known = nets.options(net.name)
    assert set(net.options) <= set(known)
    assert net.backbone is None or "backbone" in known
    assert not net.aux or "aux" in known
    assert net.aux == arch.startswith("PSP")


@pytest.mark.parametrize(
    ("arch", "expected"),
    [
        ({"type": "PSPNet"}, {"backbone": "resnet152s.gluon_in1k", "pretrained": True, "aux": True}),
        ({"type": "PSPNet", "args": {"use_aux": False}}, {"aux": False}),
        ({"type": "DeepLab"}, {"backbone": "xception65.tf_in1k"}),
        ({"type": "DeepLab", "args": {"output_stride": 8}}, {"output_stride": 8}),
        ({"type": "GCN"}, {"options": {"kernel_size": 11, "deconvolution": False}}),
        ({"type": "UperNet", "args": {"fpn_out": 128}}, {"options": {"channels": 128}}),
        ({"type": "PSPNet", "args": {"backbone": "resnet34"}}, {"backbone": "resnet34.tv_in1k"}),
        ({"type": "UNetResnet"}, {"name": "unet", "backbone": "resnet50s.gluon_in1k"}),
        ({"type": "DeepLab", "args": {"backbone": "resnet50"}}, {"backbone": "resnet50.tv_in1k"}),
        ({"type": "PSPDenseNet"}, {"backbone": "densenet201.tv_in1k"}),
        ({"type": "DeepLab_DUC_HDC"}, {"name": "duc", "options": {"hdc": "rf"}}),
        ({"type": "SegNet", "args": {"pretrained": False}}, {"pretrained": True}),
        ({"type": "SegResNet"}, {"name": "segnet", "backbone": "resnet50.tv_in1k"}),
        ({"type": "ENet"}, {"backbone": None, "pretrained": False}),
        ({"type": "FCN8", "args": {"pretrained": True, "freeze_bn": True}}, {"pretrained": True, "freeze_bn": "all"}),
        ({"type": "SegNet", "args": {"freeze_backbone": True}}, {"freeze_backbone": True}),
    ],
)
def test_options_of_nets(arch: dict[str, Any], expected: dict[str, Any]) -> None:
    net = recipe_of(converted(arch=arch)).net
    assert {key: getattr(net, key) for key in expected} == expected


@pytest.mark.parametrize(("loss", "terms"), LOSSES.items())
def test_each_loss(loss: str, terms: dict[str, float]) -> None:
    assert recipe_of(converted(loss=loss)).loss.terms() == terms


def test_one_cycle_keeps_its_numbers() -> None:
    schedule = recipe_of(converted(lr_scheduler={"type": "OneCycle", "args": {}})).schedule
    assert (schedule.onecycle_start, schedule.onecycle_rise, schedule.onecycle_end) == (25, 0.3, 250000)
    assert schedule.onecycle_momentum == [0.95, 0.85]
    adam = converted(
        lr_scheduler={"type": "OneCycle"}, optimizer={"type": "Adam", "args": {"lr": 1e-3, "betas": [0.8, 0.99]}}
    )
    recipe = recipe_of(adam)
    assert recipe.schedule.onecycle_momentum == [] and recipe.optimizer.betas == [0.8, 0.99]
    assert recipe.optimizer.name == "adam" and recipe.optimizer.weight_decay == 0


def test_several_gpus_share_the_batch() -> None:
    draft = converted(n_gpu=4, use_synch_bn=True)
    recipe = recipe_of(draft)
    assert recipe.data.batch_size == 3 and recipe.train.sync_bn
    assert draft.commands[1].startswith("torchrun --nproc-per-node 4 -m train")
    assert any(note.startswith("n_gpu = 4: ") for note in draft.notes)


@pytest.mark.parametrize(
    ("keys", "key", "remedy"),
    [
        ({"ignore_index": -1}, "ignore_index = -1", "255"),
        ({"trainer__save_period": 10}, "trainer.save_period = 10", "train.keep_every_steps"),
        ({"trainer__log_dir": "saved/runs"}, 'trainer.log_dir = "saved/runs"', "tensorboard --logdir runs"),
        ({"trainer__tensorboard": False}, "trainer.tensorboard = false", "always written"),
        ({"train_loader__args__val_split": 0.1}, "train_loader.args.val_split = 0.1", "at ingest"),
        ({"train_loader__args__shuffle": False}, "train_loader.args.shuffle = false", "always shuffled"),
        ({"train_loader__args__num_workers": 8}, "train_loader.args.num_workers = 8", "data.threads"),
        ({"val_loader__args__crop_size": 480}, "val_loader.args.crop_size = 480", "whole"),
        ({"val_loader__args__batch_size": 8}, "val_loader.args.batch_size = 8", "data.val_batch_size"),
        ({"lr_scheduler__args": {"warmup_epochs": 3}}, "lr_scheduler.args.warmup_epochs = 3", "schedule.warmup_steps"),
        ({"optimizer__args__dampening": 0.1}, "optimizer.args.dampening = 0.1", "no equivalent"),
        ({"arch__args__in_channels": 4}, "arch.args.in_channels = 4", "dataset"),
        ({"extra": {"a": [1]}}, "extra.a = [1]", "no equivalent"),
        ({"loss": "DiceLoss"}, 'loss = "DiceLoss"', "per class"),
        ({"name": "my run/1"}, 'name = "my run/1"', "my-run-1"),
        ({"optimizer__type": "NAdam"}, 'optimizer.type = "NAdam"', "optimizer.name"),
        ({"arch__args__freeze_backbone": True}, "arch.args.freeze_backbone = true", "statistics"),
        ({"val_loader__type": "ADE20K"}, 'val_loader.type = "ADE20K"', "same classes"),
        ({"val_loader__args": {"augment": True, "split": "val"}}, "val_loader.args.augment = true", "whole images"),
        ({"trainer__val": False}, 'trainer.monitor = "max Mean_IoU"', "nothing does"),
        ({"train_loader__type": "DeepScene"}, 'train_loader.type = "DeepScene"', "spec"),
    ],
)
def test_what_does_not_carry_over_is_named_with_a_remedy(keys: dict[str, Any], key: str, remedy: str) -> None:
    notes = [note for note in converted(**keys).notes if note.startswith(f"{key}: ")]
    assert len(notes) == 1 and remedy in notes[0]


def test_segnet_keeps_its_encoder_at_the_full_rate() -> None:
    for arch, scale in (("SegNet", 1.0), ("UNet", 1.0), ("PSPNet", 0.1), ("SegResNet", 0.1)):
        assert recipe_of(converted(arch={"type": arch})).optimizer.backbone_lr_scale == scale, arch


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ({"type": "Adam", "args": {"eps": 1e-4}}, {"name": "adam", "lr": 0.001, "eps": 1e-4}),
        ({"type": "RMSprop"}, {"name": "rmsprop", "lr": 0.01, "momentum": 0.0, "weight_decay": 0.0}),
        ({"type": "RMSprop", "args": {"alpha": 0.9, "momentum": 0.5}}, {"smoothing": 0.9, "momentum": 0.5}),
        ({"type": "Adagrad", "args": {"lr": 0.02, "weight_decay": 0.1}}, {"name": "adagrad", "lr": 0.02}),
        ({"type": "AdamW"}, {"name": "adamw", "weight_decay": 0.01}),
    ],
)
def test_optimizers_of_torch(theirs: dict[str, Any], ours: dict[str, Any]) -> None:
    optimizer = recipe_of(converted(optimizer=theirs)).optimizer
    assert {key: getattr(optimizer, key) for key in ours} == ours


def test_training_on_coarse_labels_is_validated_on_fine_ones() -> None:
    draft = converted(
        train_loader__type="CityScapes",
        train_loader__args=CONFIG["train_loader"]["args"] | {"data_dir": "D", "split": "train_extra", "mode": "coarse"},
        val_loader={"type": "CityScapes", "args": {"data_dir": "D", "split": "val", "val": True}},
    )
    data = recipe_of(draft).data
    assert (data.path, data.val_path, data.val) == ("shards/cityscapes_coarse", "shards/cityscapes", "val")
    assert draft.commands[:2] == [
        "python -m ingest cityscapes D --labels coarse --split train_extra --out shards/cityscapes_coarse",
        "python -m ingest cityscapes D --labels fine --split val --out shards/cityscapes",
    ]


def test_validation_in_another_folder_and_folders_with_blanks() -> None:
    draft = converted(val_loader__args__data_dir="/my data")
    data = recipe_of(draft).data
    assert (data.path, data.val_path) == ("shards/voc_aug", "shards/voc")
    assert draft.commands[1] == "python -m ingest voc '/my data' --split val --out shards/voc"


def test_without_augment_nothing_is_random_but_the_crop() -> None:
    augment = recipe_of(converted(train_loader__args__augment=False)).augment
    assert (augment.base_size, augment.scale, augment.rotate, augment.flip, augment.blur) == (0, (1, 1), 0, 0, 0)


def test_early_stop_and_monitor() -> None:
    train = recipe_of(converted(trainer__early_stop=10, trainer__monitor="min val_loss")).train
    assert (train.monitor, train.patience) == ("loss", 11)
    train = recipe_of(converted(trainer__early_stop=10, trainer__monitor="off")).train
    assert (train.monitor, train.patience) == ("miou", 0)
    recipe = recipe_of(converted(trainer__val=False, trainer__early_stop=10))
    assert (recipe.data.val, recipe.train.patience) == ("", 0)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"arch__type": "PSPnet"}, "c.json: arch.type = \"PSPnet\": no such net there; did you mean 'PSPNet'"),
        ({"arch__type": None}, "c.json: arch.type is missing"),
        ({"arch": 3}, "c.json: arch = 3: expected a section"),
        ({"loss": "CE"}, 'c.json: loss = "CE": no such loss'),
        (
            {"optimizer__type": "RMSProp"},
            'optimizer.type = "RMSProp": torch.optim has none of that name; did you mean \'RM',
        ),
        ({"optimizer__args__lr": "fast"}, 'optimizer.args.lr = "fast": expected a number'),
        (
            {"optimizer__args__lr": -1.0},
            "c.json: optimizer.args.lr gives a recipe that cannot be: optimizer.lr = -1.0",
        ),
        ({"train_loader__args__batch_size": True}, "train_loader.args.batch_size = true: expected a whole number"),
        ({"trainer__monitor": "min Mean_IoU"}, 'trainer.monitor = "min Mean_IoU": no equivalent'),
        ({"lr_scheduler__type": "StepLR"}, 'lr_scheduler.type = "StepLR": no such schedule'),
    ],
)
def test_mistakes_name_file_key_and_value(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        converted(**keys)
    assert message in str(caught.value)


def test_the_command_writes_a_recipe_and_says_on_stderr_what_differs(tmp_path: Path) -> None:
    file, out = tmp_path / "config.json", tmp_path / "mine.yaml"
    file.write_text(json.dumps(CONFIG | {"extra": 1}))
    result = CliRunner().invoke(convert, [str(file), "--out", str(out)])
    assert result.exit_code == 0, result.output
    recipe = config.load(str(out))
    assert recipe.name == "mine"
    assert "extra = 1: not read" in result.stderr and "extra = 1: not read" in out.read_text()
    assert "seed: it set none" in result.stderr and "seed: it set none" in out.read_text()
    assert "lr: 0.02" in out.read_text() and "# optimizer.args.lr" in out.read_text()
    again = CliRunner().invoke(convert, [str(file), "--out", str(out)])
    assert isinstance(again.exception, UserError) and "exists" in str(again.exception)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "does not exist"),
        ("{", "is not JSON"),
        ('{"a": 1} // x', "JSON has no comments"),
        ("[1]", "holds list"),
        ("[" * 100_000, "too deep in each other"),
        ("{}", "name"),
    ],
)
def test_files_that_are_no_configs(text: str | None, message: str, tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    if text is not None:
        file.write_text(text)
    result = CliRunner().invoke(convert, [str(file)])
    assert isinstance(result.exception, UserError)
    assert str(file) in str(result.exception)
    assert message in str(result.exception) or "is missing" in str(result.exception)
