"""Opens the checkpoint and the split, and serves the page until it is interrupted."""

from __future__ import annotations

import secrets
import socket
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import torch

from ingest.errors import UserError
from ingest.shards.reader import ShardSet
from ingest.shards.wording import count
from train import backends, config, model
from train.checkpoints import checkpoint
from train.distributed import joined
from train.predict.raw import Reader
from train.predict.scene import Labeler
from train.predict.windows import Inference
from train.view.gallery import Gallery


def serve(path: str, data: str | None, split: str, device: str, address: tuple[str, int]) -> None:
    """Serves until it is interrupted. UserError where the checkpoint and the split do not fit, or the port is taken."""
    uvicorn = _need("uvicorn")
    app = _need("train.view.app").app
    with joined(device) as ranks:
        if ranks.count > 1:
            raise UserError("train.view is one process: start it without torchrun")
        gallery = open_gallery(path, data, split, ranks.device)
        host, token = address[0], secrets.token_urlsafe(24)
        with _listening(address) as listening:
            shown = f"[{host}]" if ":" in host else host
            click.echo(
                f"{count(len(gallery.shards), 'image')} of {split}: http://{shown}:{listening.getsockname()[1]}/?token={token}"
            )
            click.echo("Ctrl-C ends it")
            gallery.start()
            server = uvicorn.Server(uvicorn.Config(app(gallery, token, host), log_level="warning", access_log=False))
            try:
                server.run(sockets=[listening])
            finally:
                gallery.stop()


def open_gallery(path: str, data: str | None, split: str, device: torch.device) -> Gallery:
    """Of a checkpoint, or of a run folder's best one."""
    state = checkpoint.load_net(checkpoint.in_folder(Path(path)), device)
    recipe, facts = config.parse(state["config"]), state["dataset"]
    validated_on = recipe.data.val_path if split == recipe.data.val else ""
    shards = ShardSet(data or validated_on or recipe.data.folders[0].path, split)
    model.check_classes(facts, shards.manifest)
    backends.set_tf32(recipe.train.tf32, device)
    net = model.from_checkpoint(state).to(device).to(memory_format=torch.channels_last)
    how = Inference(model.scoring_amp(recipe.train.amp, device), recipe.data.val_size, recipe.data.val_side)
    labeler = Labeler(net, device, how, recipe.augment.crop, len(facts["classes"]), path)
    return Gallery(shards, labeler, Reader.of(facts), {**facts, "run": recipe.name, "step": state["step"]})


def _listening(address: tuple[str, int]) -> socket.socket:
    host, port = address
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise UserError(
            f"--host {host} --port {port} cannot be served on ({error.strerror}): choose another"
        ) from error


def _need(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise UserError("train.view needs fastapi and uvicorn: pip install 'segrail[view]'") from error
