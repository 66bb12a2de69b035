"""Make the pictures of a page in docs/images again, from the page of the committed article run."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import browsing
from committed import CHECKOUT, execbench, run_of
from PIL import Image

PICTURES = {"page-wide.png": (1280, 1480), "page-phone.png": (360, 1900)}  # name → width and height
COLOURS = 256  # a palette makes smaller files


def make() -> None:
    """Take each picture of the page's top, in light colours."""
    with tempfile.TemporaryDirectory() as parent, browsing.chromium() as browser:
        folder = Path(shutil.copytree(run_of("article"), Path(parent) / run_of("article").name))
        execbench("report", str(folder))
        for name, (width, height) in PICTURES.items():
            path = CHECKOUT / "docs" / "images" / name
            with browsing.opened(browser, folder / "report.html", width) as (page, _):
                clip = {"x": 0, "y": 0, "width": width, "height": height}
                page.screenshot(path=path, clip=clip, full_page=True)
            with Image.open(path) as picture:
                picture.quantize(COLOURS).save(path, optimize=True)


if __name__ == "__main__":
    make()
