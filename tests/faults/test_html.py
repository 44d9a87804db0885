"""Class, file and run names that try to be HTML, in every page that is written or served: they stay text."""

from __future__ import annotations

import html
import io
import itertools
import json
import socket
import threading
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from tests.faults.ledger import Tally
from tests.train.report.test_report import log_line, start
from tests.train.view.test_view import CHROMIUM
from train.report import build as report

Start = Callable[[str, str], Tally]
Many = Callable[[int, int], int]

RUN = "window.pwned=1"
BREAKS = ["", '"', "'", ">", '">', "'>", "-->", "</title>", "</script>", "</style>", "</pre>", "</text></svg>", "]]>",
          "</td></table>", "`", "\\", "&quot;>", "</option></select>", "\\u0022>"]  # fmt: skip
BODIES = [
    f"<script>{RUN}</script>", f"<img src=x onerror={RUN}>", f"<svg onload={RUN}>", f"<svg><script>{RUN}</script>",
    f"<body onload={RUN}>", f"<iframe srcdoc='<script>parent.{RUN}</script>'>", f"<iframe src=javascript:{RUN}>",
    f"<a href=javascript:{RUN}>x</a>", f"<details open ontoggle={RUN}>", f"<input autofocus onfocus={RUN}>",
    f"<video><source onerror={RUN}>", f"<object data=javascript:{RUN}>", "<link rel=stylesheet href=//evil.example/x>",
    "<meta http-equiv=refresh content='0;url=//evil.example'>", "<base href=//evil.example>",
    f" onmouseover={RUN} x=", f"javascript:{RUN}", f"${{{RUN}}}",
]  # fmt: skip
DISGUISES: list[Callable[[str], str]] = [
    str, str.upper, lambda text: text.replace("<", "<\n", 1), lambda text: text.replace("<", "<\0", 1), html.escape,
    lambda text: text.replace("=", "\t=\n"), lambda text: text.replace("<", "<<", 1),
    lambda text: text.replace("<", "\\u003c"), lambda text: text.replace(" ", "/"),
]  # fmt: skip
PAYLOADS = list(dict.fromkeys(hide(close + body) for close, body, hide in itertools.product(BREAKS, BODIES, DISGUISES)))
"""2,766 of them and more, each once."""


class Structure(HTMLParser):
    """The page's elements with their attributes' names, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, ...]] = []
        self.text: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, *(name for name, _ in attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def write_run(folder: Path, names: list[str]) -> str:
    """A run folder in which all that is a name is one of these; its report."""
    folder.mkdir()
    (folder / "config.yaml").write_text(json.dumps({"name": names[0], "data": {"path": "/nowhere"}}))
    lines = [start(0), *(log_line("train", step, loss=1.0 / step, **{names[1]: 1.0}) for step in range(1, 6))]
    lines.append(log_line("val", 5, miou=0.3, **{f"iou/{name}": 0.3 for name in names}))
    lines += [log_line("event", 5, what=name, error=name) for name in names[:9]]
    (folder / "log.jsonl").write_text("".join(lines))
    count = len(names)
    matrix = [[(row * 7 + column * 3) % 11 for column in range(count)] for row in range(count)]
    scores = {"miou": 0.3, "pixel_accuracy": 0.5, "mean_class_accuracy": None, "loss": None}
    facts = {
        "step": 5,
        "split": names[2],
        "iou": dict.fromkeys(names, 0.25),
        "confusion": matrix,
        "images": 9,
        **scores,
    }
    (folder / "validation.json").write_text(json.dumps(facts))
    images = [
        {"key": name, "miou": 0.1, "kind": "best", "picture": "gone.png", "columns": [], "iou": {name: 0.1}}
        for name in names
    ]
    (folder / "extremes").mkdir()
    (folder / "extremes" / "extremes.json").write_text(
        json.dumps({"classes": names, "palette": [[9, 9, 9]] * count, "images": images})
    )
    return report.write(folder).read_text()


def test_in_the_report(tmp_path: Path, tally: Start, many: Many) -> None:
    """The page's elements are those of the same run under harmless names, and every name is to be read in it."""
    count = tally("Security", "HTML through class, file and run names into the report")
    chunks = [PAYLOADS[first : first + 150] for first in range(0, len(PAYLOADS), 150)][: many(2, 1000)]
    for number, names in enumerate(chunks):
        page = Structure(write_run(tmp_path / f"{number}", names))
        plain = Structure(write_run(tmp_path / f"{number}-plain", [f"name {i}" for i in range(len(names))]))
        assert page.elements == plain.elements, f"{number}: a name became an element or an attribute"
        text = "".join(page.text)
        for name in names:
            count.check(name.replace("\0", "") in text.replace("\0", "").replace("\ufffd", ""), repr(name))


def test_the_comparison_can_fail() -> None:
    plain = "<p title=a>b</p>"
    for other in ("<p title=a>b<img></p>", "<p title=a onclick=x>b</p>", "<b title=a>b</b>"):
        assert Structure(other).elements != Structure(plain).elements
    assert len(PAYLOADS) >= 2766 and Structure(html.escape(PAYLOADS[0])).elements == []


class Hostile:
    """A gallery of samples and classes of such names; its pictures are one pixel."""

    def __init__(self, keys: list[str], classes: list[str]) -> None:
        self.shards = SimpleNamespace(labeled=True, split=classes[0])
        self.facts = {"name": classes[1], "run": classes[2], "step": 3, "classes": classes}
        self.facts["palette"] = [[9, 9, 9]] * len(classes)
        self._keys, self._classes = keys, len(classes)

    def samples(self) -> list[dict[str, Any]]:
        count = self._classes
        return [
            {"i": i, "key": key, "miou": 0.5, "iou": {i % count: 0.5}, "pairs": [[i % count, (i + 1) % count, 3]]}
            for i, key in enumerate(self._keys)
        ]

    def picture(self, sample: int, kind: str) -> bytes:
        buffer = io.BytesIO()
        Image.new("RGB", (1, 1)).save(buffer, "PNG")
        return buffer.getvalue()

    def segment(self, data: bytes) -> tuple[bytes, bytes, list[float]]:
        return self.picture(0, ""), self.picture(0, ""), [1 / self._classes] * self._classes


@pytest.fixture
def served() -> Any:
    """served(gallery): its link, on a free port of this machine."""
    pytest.importorskip("fastapi", reason="the gallery needs the extra `view`")
    uvicorn = pytest.importorskip("uvicorn")
    from train.view.app import app

    begun = []

    def begin(gallery: Any) -> str:
        listening = socket.create_server(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app(gallery, "token", "127.0.0.1"), log_level="error"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        begun.append((server, thread))
        return f"http://127.0.0.1:{listening.getsockname()[1]}/?token=token"

    yield begin
    for server, thread in begun:
        server.should_exit = True
        thread.join(30)


@pytest.mark.skipif(CHROMIUM is None, reason="needs a browser: chromium, chromium-browser or google-chrome on PATH")
def test_in_the_gallery(served: Any, tally: Start, many: Many) -> None:
    """In a browser: no script of a name runs, no element is made of one, and every name is to be read."""
    if not many(0, 1):
        pytest.skip("in the long part: make faults")
    driver = pytest.importorskip("playwright.sync_api")
    count = tally("Security", "HTML through class, file and run names into the gallery, in a browser")
    asked: list[str] = []
    with driver.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for first in range(0, len(PAYLOADS), 250):
            names = PAYLOADS[first : first + 250]
            page = browser.new_page()
            page.on("request", lambda request: asked.append(request.url))
            page.goto(served(Hostile(names, names)))
            page.wait_for_selector("html[data-ready=all]")
            shown = page.eval_on_selector_all(
                "#list button", "all => all.map(b => b.querySelector('span').firstChild.data)"
            )
            options = page.eval_on_selector_all("#class option", "all => all.slice(1).map(o => o.textContent)")
            inside = page.eval_on_selector_all(
                "#list button, select, header, #title",
                "all => all.map(b => [...b.querySelectorAll('*')].map(e => e.tagName))",
            )
            for number in range(0, len(names), 25):
                page.locator("#list button").nth(number).click()
                assert page.text_content("#key") == names[number]
            page.set_input_files("#file", {"name": names[3].replace("/", "_"), "mimeType": "image/png", "buffer": b"x"})
            driver.expect(page.locator(".frame img")).to_have_count(2)
            allowed = {"IMG", "SPAN", "SMALL", "OPTION", "SELECT", "LABEL", "BUTTON", "INPUT", "H1", "B"}
            assert page.evaluate("window.pwned") is None and page.evaluate("document.scripts.length") == 1
            assert {tag for tags in inside for tag in tags} <= allowed
            for number, name in enumerate(names):
                count.check(shown[number] == name and options[number] == name, repr(name))
            if first == 0:
                page.evaluate(f"document.body.innerHTML = {json.dumps(BODIES[1])}")
                page.wait_for_function("window.pwned === 1", timeout=5000)  # a script that came through would be seen
            page.close()
        browser.close()
    assert all(url.startswith(("http://127.0.0.1:", "data:")) for url in asked), "something was asked for elsewhere"
