"""What SECURITY.md promises, a test each."""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ingest.datasets.folder import load_spec
from ingest.errors import UserError
from ingest.sources.trees import Tree
from tests.conftest import ROOT
from tests.faults.ledger import Tally
from tests.train.report.test_report import write_large
from train import config
from train.checkpoints import checkpoint
from train.report import build as report

Start = Callable[[str, str], Tally]
UNSAFE = ["../x.png", "/etc/x.png", "a/../../x.png", "..\\x.png", "C:\\x.png", "a/../../../root/x.png"]


def refused(count: Tally, what: str, work: Callable[[], Any]) -> None:
    """work() must raise a UserError of one line."""
    try:
        work()
        count.lost.append(f"{what}: taken")
    except UserError as error:
        count.refused("\n" not in str(error), f"{what}: {error}")


def test_archives_reach_nothing_outside(tmp_path: Path, tally: Start) -> None:
    count = tally("Security", "names and links in archives that lead outside")
    for number, name in enumerate(UNSAFE):
        for kind in ("zip", "tar"):
            folder = tmp_path / f"{kind}{number}"
            folder.mkdir()
            if kind == "zip":
                with zipfile.ZipFile(folder / "a.zip", "w") as held:
                    held.writestr(name, b"x")
            else:
                with tarfile.open(folder / "a.tar", "w") as held:
                    info = tarfile.TarInfo(name)
                    info.size = 1
                    held.addfile(info, io.BytesIO(b"x"))
            refused(count, f"{kind} {name}", lambda folder=folder: Tree(folder))
    (tmp_path / "secret").write_text("secret")
    for number, (kind, target) in enumerate(
        [(tarfile.SYMTYPE, "../secret"), (tarfile.SYMTYPE, "/etc/passwd"), (tarfile.LNKTYPE, "/etc/passwd")]
    ):
        folder = tmp_path / f"link{number}"
        folder.mkdir()
        with tarfile.open(folder / "a.tar", "w") as held:
            info = tarfile.TarInfo("x.png")
            info.type, info.linkname = kind, target
            held.addfile(info)
        refused(count, f"link to {target}", lambda folder=folder: Tree(folder).source("a.tar/x.png").read())


def test_yaml_runs_nothing(tmp_path: Path, tally: Start) -> None:
    count = tally("Security", "tags in recipes and specs that would run code")
    for tag in (
        f"!!python/object/apply:os.system ['touch {tmp_path}/ran']",
        f"!!python/object/new:os.system ['touch {tmp_path}/ran']",
        "!!python/name:os.system ''",
        "!!python/module:os ''",
    ):
        path = tmp_path / "x.yaml"
        path.write_text(f"name: {tag}\nclasses: [a]\nsplits: {{t: {{images: x}}}}\n")
        refused(count, f"spec {tag}", lambda: load_spec(str(path)))  # noqa: B023
        path.write_text(f"name: {tag}\n")
        refused(count, f"recipe {tag}", lambda: config.load(str(path)))  # noqa: B023
        refused(count, f"override {tag}", lambda: config.load("scenes_enet", [f"name={tag}"]))  # noqa: B023
    assert not (tmp_path / "ran").exists()


class Payload:
    """A pickle that makes a file when it is loaded."""

    def __init__(self, trap: Path) -> None:
        self.trap = trap

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.trap),)


def test_checkpoints_run_nothing(tmp_path: Path, tally: Start) -> None:
    count = tally("Security", "pickles as checkpoints")
    path, payload = tmp_path / "x.pt", Payload(tmp_path / "ran")
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        path.write_bytes(pickle.dumps(payload, protocol))
        refused(count, f"pickle {protocol}", lambda: checkpoint.load_net(path))
        path.write_bytes(pickle.dumps({"format": checkpoint.FORMAT, "model": payload}, protocol))
        refused(count, f"pickle in a mapping {protocol}", lambda: checkpoint.load_net(path))
    for state in (payload, {"format": checkpoint.FORMAT, "model": payload}, [payload]):
        for zipped in (True, False):
            torch.save(state, path, _use_new_zipfile_serialization=zipped)
            refused(count, f"torch {zipped}", lambda: checkpoint.load_net(path))
    assert not (tmp_path / "ran").exists()
    pickle.loads(pickle.dumps(payload))
    assert (tmp_path / "ran").exists(), "the payload works"


def test_the_report_loads_nothing(tmp_path: Path, tally: Start) -> None:
    """Names that try to be HTML are in test_html.py."""
    count = tally("Security", "the report: one script, a policy that lets nothing else be loaded")
    write_large(tmp_path, 8)
    page = report.write(tmp_path).read_text()
    count.check(page.count("<script>") == 1, "a script came through")
    count.check("Content-Security-Policy" in page and "default-src 'none'" in page, "no policy")


def test_the_gallery_is_closed(tally: Start) -> None:
    """The options bind to this machine; without the token or under another host's name nothing is answered."""
    pytest.importorskip("fastapi", reason="the gallery needs the extra `view`")
    from starlette.testclient import TestClient

    from train.view.app import app
    from train.view.command import command

    count = tally("Security", "the gallery: token, host name, origin, loopback")
    default = next(option.default for option in command.params if option.name == "host")
    count.check(default == "127.0.0.1", f"bound to {default}")
    served = app(None, "right", "127.0.0.1")  # type: ignore[arg-type]  # nothing of it is reached
    client = TestClient(served, base_url="http://127.0.0.1", raise_server_exceptions=False)
    for path in ("/", "/facts", "/samples", "/picture/0/image"):
        for token in ("", "?token=", "?token=wrong", "?token=righ", "?token=right%00", "?token=é"):
            answer = client.get(f"{path}{token}")
            count.refused(answer.status_code == 403, f"{path}{token}: {answer.status_code}")
        answer = client.get(f"{path}?token=right", headers={"Host": "evil.example"})
        count.refused(answer.status_code == 400, f"{path} as evil.example: {answer.status_code}")
        for origin in ("http://evil.example", "null", "http://127.0.0.1:1", "http://127.0.0.1.evil.example"):
            answer = client.get(f"{path}?token=right", headers={"Origin": origin})
            count.refused(answer.status_code == 403, f"{path} from {origin}: {answer.status_code}")
            answer = client.options(f"{path}?token=right", headers={"Origin": origin})
            open_to = [name for name in answer.headers if name.lower().startswith("access-control")]
            count.refused(answer.status_code in (403, 405) and not open_to, f"{path} asked by {origin}: {open_to}")
    answer = client.get("/?token=right", headers={"Origin": "http://127.0.0.1"})
    count.check(answer.status_code == 200, f"its own page: {answer.status_code}")


def test_the_page_says_what_is_promised() -> None:
    text = (ROOT / "SECURITY.md").read_text()
    for word in ("archive", "pickle", "YAML", "token", "bomb", "report"):
        assert word in text


def test_a_line_feed_in_a_file_name_stays_in_its_line(trained: Path, tmp_path: Path, tally: Start) -> None:
    """The list of files that prediction could not read: one line each, whatever their names hold."""
    count = tally("Security", "control characters in file names, in prediction's list of failed files")
    (tmp_path / "images").mkdir()
    for name in ("a\nb.png", "c\x1b[31md.png", "e\rf.png"):
        (tmp_path / "images" / name).write_bytes(b"no image")
    words = ["--checkpoint", trained, "--images", tmp_path / "images", "--out", tmp_path / "out", "--device", "cpu"]
    done = subprocess.run(
        [sys.executable, "-m", "train.predict", *map(str, words)], capture_output=True, cwd=ROOT, timeout=120
    )
    lines = [line for line in done.stderr.split(b"\n") if b"cannot be decoded" in line]
    for name in (b"a\\nb.png", b"c\\x1b[31md.png", b"e\\rf.png"):
        count.refused(done.returncode == 1 and any(name in line for line in lines), done.stderr.decode()[-400:])
    assert b"\x1b" not in done.stderr and len(lines) == 3
