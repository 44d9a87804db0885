"""The page of train.view, started as a user does: guarded by its token, and clicked through in a browser."""

from __future__ import annotations

import io
import json
import re
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ingest.errors import UserError
from ingest.shards import pictures
from tests.conftest import ROOT
from tests.shard_folder import COLORS, smooth_scene
from train.predict import scene
from train.view.command import command

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
serving = pytest.importorskip("train.view.serving")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def link(trained: Path) -> Iterator[str]:
    """The printed link of a running server."""
    server = subprocess.Popen(
        [sys.executable, "-m", "train.view", str(trained), "--device", "cpu"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # A test run in the background of a shell ignores Ctrl-C, and its children would, too.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert server.stdout is not None
    line = server.stdout.readline()
    found = re.search(r"^5 images of val: (http://127\.0\.0\.1:\d+/\?token=\S{32})$", line)
    assert found, line + server.stdout.read()
    yield found[1]
    server.send_signal(signal.SIGINT)
    rest = server.communicate(timeout=30)[0]
    assert "Traceback" not in rest and server.returncode == 130


def ask(url: str, data: bytes | None = None, **headers: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers)) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def at(link: str, path: str) -> str:
    return link.replace("/?", f"{path}?")


def test_nothing_is_answered_without_the_token_or_under_another_name(link: str) -> None:
    for path in ("/", "/facts", "/samples", "/picture/0/image"):
        assert ask(at(link, path))[0] == 200
        assert ask(at(link, path).partition("?")[0])[0] == 403
        assert ask(at(link, path)[:-1] + ("a" if link[-1] != "a" else "b"))[0] == 403
        assert ask(at(link, path), Host="evil.example")[0] == 400
    assert ask(at(link, "/segment").partition("?")[0], b"x")[0] == 403
    assert ask(at(link, "/docs"))[0] == 404 and ask(at(link, "/picture/0/../../page.html"))[0] == 404
    assert ask(at(link, "/picture/99/image"))[0] == 404 and ask(at(link, "/picture/0/etc"))[0] == 404


def test_pictures_are_those_of_the_split(link: str) -> None:
    image, label = smooth_scene(40, 56, seed=100)
    shown = {
        kind: np.asarray(Image.open(io.BytesIO(ask(at(link, f"/picture/0/{kind}"))[1])))
        for kind in ("image", "label", "prediction", "error")
    }
    assert (shown["image"] == image).all() and (shown["label"] == pictures.colorize(label, COLORS)).all()
    wrong = (shown["prediction"] != shown["label"]).any(2) & (label != 255)
    assert ((shown["error"] == pictures.WRONG).all(2) == wrong).all()
    (first, *_) = json.loads(ask(at(link, "/samples"))[1])
    assert first["key"] == "val-0" and 0 <= first["miou"] <= 1
    assert sum(count for _, _, count in first["pairs"]) <= wrong.sum()


def test_pictures_of_the_list_are_small_and_do_not_wait_for_the_net(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gallery = serving.open_gallery(str(trained), None, "val", torch.device("cpu"))
    monkeypatch.setattr(scene, "whole", lambda *given: pytest.fail("the net was asked"))
    monkeypatch.setattr("train.view.gallery._SMALL", (20, 20))
    for kind, size in (("small", (20, 14)), ("image", (56, 40)), ("label", (56, 40))):
        assert Image.open(io.BytesIO(gallery.picture(0, kind))).size == size
    assert gallery.samples()[0] == {"i": 0, "key": "val-0"}


def test_a_file_is_labeled_and_junk_is_refused(link: str) -> None:
    buffer = io.BytesIO()
    Image.fromarray(smooth_scene(40, 56, seed=7)[0]).save(buffer, "PNG")
    status, answer = ask(at(link, "/segment"), buffer.getvalue())
    assert status == 200 and sum(json.loads(answer)["shares"]) == pytest.approx(1)
    status, answer = ask(at(link, "/segment"), b"junk")
    assert status == 422 and b"the file cannot be decoded" in answer and b"segrail-view" not in answer


@pytest.mark.skipif(CHROMIUM is None, reason="needs a browser: chromium, chromium-browser or google-chrome on PATH")
def test_clicked_through_in_a_browser(link: str, tmp_path: Path) -> None:
    driver = pytest.importorskip("playwright.sync_api")
    Image.fromarray(smooth_scene(40, 56, seed=7)[0]).save(tmp_path / "mine.png")
    (tmp_path / "junk.png").write_bytes(b"junk")
    said: list[str] = []
    with driver.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: said.append(request.url) if "127.0.0.1" not in request.url else None)
        page.goto(link)
        page.wait_for_selector("html[data-ready=all]")
        keys = page.locator("#list button span")
        assert page.locator("#list button").count() == 5 and page.inner_text("#progress") == "5 of 5 shown"
        page.select_option("#sort", "worst")
        scores = [float(re.search(r"mIoU ([\d.]+)%", text)[1]) for text in keys.all_inner_texts()]  # type: ignore[index]
        assert scores == sorted(scores)
        page.click("#list button:nth-child(2)")
        assert page.inner_text("#key") == keys.nth(1).inner_text().splitlines()[0]
        assert page.locator(".frame img").count() == 4
        page.keyboard.press("ArrowDown")
        assert page.inner_text("#key") == keys.nth(2).inner_text().splitlines()[0]
        page.hover(".frame >> nth=2")
        page.mouse.wheel(0, -400)
        zoomed = re.compile(r"scale\(2\.7")
        driver.expect(page.locator(".frame img").first).to_have_attribute("style", zoomed)
        moved = page.locator(".frame img").evaluate_all("images => images.map(image => image.style.transform)")
        assert len(set(moved)) == 1 and len(moved) == 4, "all panels are zoomed together"
        page.click("#reset")
        assert "scale(1)" in page.locator(".frame img").first.get_attribute("style")
        page.select_option("#pair", index=1)
        confused = [int(text.split("\n")[1].split()[0].replace(",", "")) for text in keys.all_inner_texts()]
        assert 1 <= len(confused) <= 5 and min(confused) > 0 and confused == sorted(confused, reverse=True)
        page.select_option("#below", "0.1")  # of the image's mIoU, also where a confusion is chosen
        assert page.locator("#list button").count() <= sum(score < 10 for score in scores)
        page.select_option("#pair", "")
        assert page.locator("#list button").count() == sum(score < 10 for score in scores)
        page.select_option("#below", "")
        page.select_option("#class", index=1)
        name = page.locator("#class option").nth(1).inner_text()
        listed = [re.search(rf"^{name} IoU ([\d.]+)%$", text, re.M) for text in keys.all_inner_texts()]
        ious = [float(match[1]) for match in listed if match]
        assert ious and len(ious) == len(listed) and ious == sorted(ious), "the list shows what it is sorted by"
        page.select_option("#class", "")
        page.locator("#list button").first.click()
        opened = page.inner_text("#key")
        page.set_input_files("#file", tmp_path / "junk.png")
        driver.expect(page.locator("#said")).to_contain_text("junk.png: the file cannot be decoded")
        assert page.inner_text("#key") == opened and page.locator(".frame img").count() == 4, "the image stays open"
        page.set_input_files("#file", tmp_path / "mine.png")
        driver.expect(page.locator(".frame img")).to_have_count(2)
        assert page.inner_text("#key") == "mine.png" and "class" in page.inner_text("#scores")
        browser.close()
    assert [text for text in said if "422" not in text] == [], "no error, and no request to anywhere else"


def test_mistakes(trained: Path, tmp_path: Path) -> None:
    from click.testing import CliRunner

    for arguments, message in (
        ([str(tmp_path)], "is a folder without best.pt or last.pt"),
        ([str(trained), "--split", "vall"], "did you mean 'val'"),
        ([str(trained), "--host", "1.2.3.4", "--port", "9"], "cannot be served on"),
    ):
        result = CliRunner().invoke(command, [*arguments, "--device", "cpu"])
        assert isinstance(result.exception, UserError) and message in str(result.exception)
