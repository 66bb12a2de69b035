"""A real browser that opens pages from files, with the network off and scripts switched off."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
WIDTHS = (360, 1280)
SMALLEST_TEXT_PX = 10
LEAST_CONTRAST = 4.5

# in the page: what its pictures lack, one line for each fault
_FAULTS = """
() => {
  const faults = [];
  const ids = [...document.querySelectorAll('[id]')].map(one => one.id);
  const twice = ids.filter((id, place) => ids.indexOf(id) !== place);
  if (twice.length) faults.push('ids used twice: ' + twice.slice(0, 3));
  for (const chart of document.querySelectorAll('figure')) {
    const title = chart.querySelector('figcaption').textContent;
    const image = chart.querySelector('[role=img]');
    if (!(image && image.getAttribute('aria-label').length > 20)) faults.push('no alt text: ' + title);
    if (!chart.querySelectorAll('table tbody td').length) faults.push('no table: ' + title);
    if (!(image && image.querySelector('svg'))) faults.push('no drawing: ' + title);
  }
  const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  if (wide > 0) faults.push('wider than the screen by ' + wide + ' px');
  if (document.querySelectorAll('script').length) faults.push('has a script');
  for (const link of document.querySelectorAll('a, link, img, use')) {
    const href = link.getAttribute('href') || link.getAttribute('src') || '';
    if (/^[a-z]+:/i.test(href) && !href.startsWith('data:')) faults.push('leads away: ' + href);
  }
  return faults;
}
"""

# in the page: texts of charts that are smaller than so many pixels on the screen
_SMALL_TEXTS = """
(least) => [...document.querySelectorAll('.panel svg text')].map(text => {
  const svg = text.ownerSVGElement;
  const scale = svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
  return [parseFloat(getComputedStyle(text).fontSize) * scale, text.textContent];
}).filter(([size]) => size < least).map(([size, text]) => size.toFixed(1) + ' px: ' + text)
"""

# in the page: visible texts whose contrast with what is behind them is too low (WCAG 2.2, 1.4.3)
_PALE_TEXTS = """
(least) => {
  const channels = colour => (colour.match(/[\\d.]+/g) || []).map(Number);
  const light = colour => {
    const [r, g, b] = channels(colour).slice(0, 3).map(c => {
      c /= 255;
      return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = element => {
    for (let one = element; one; one = one.parentElement) {
      const colour = getComputedStyle(one).backgroundColor;
      if ((channels(colour)[3] ?? 1) > 0) return colour;
    }
    return 'rgb(255, 255, 255)';
  };
  const faults = [];
  for (const details of document.querySelectorAll('details')) details.open = true;
  for (const element of document.querySelectorAll('body *')) {
    const own = [...element.childNodes].some(node => node.nodeType === 3 && node.textContent.trim());
    if (!own || element.closest('style')) continue;
    const style = getComputedStyle(element);
    const ink = element.ownerSVGElement ? style.fill : style.color;
    const [a, b] = [light(ink), light(behind(element))].sort((x, y) => y - x);
    const contrast = (a + 0.05) / (b + 0.05);
    if (contrast < least) faults.push(contrast.toFixed(2) + ': ' + element.textContent.trim().slice(0, 40));
  }
  return faults;
}
"""


@contextlib.contextmanager
def chromium() -> Iterator[Any]:
    """Chromium of the system. Skips the test if it, or the package that drives it, is not installed."""
    driver = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if path is None:
        # no Python package: a bare machine lacks it, so `.ci/run` installs it; test_page.py holds the markup
        pytest.skip("chromium is not installed")
    with driver.sync_playwright() as playwright:
        # tests may run as root, for whom chromium has no sandbox
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextlib.contextmanager
def opened(browser: Any, path: Path, width: int, *, scheme: str = "light") -> Iterator[tuple[Any, list[str]]]:
    """The page in a window of that width, and what the browser complains of or asks for."""
    told: list[str] = []
    context = browser.new_context(
        viewport={"width": width, "height": 800},
        color_scheme=scheme,
        offline=True,
        java_script_enabled=False,
    )
    try:
        page = context.new_page()
        page.on("console", lambda message: told.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: told.append(f"error: {error}"))
        page.on("request", lambda request: told.append(f"request: {request.url}"))
        page.goto(path.as_uri())
        told.remove(f"request: {path.as_uri()}")
        yield page, told
    finally:
        context.close()


def faults_of(browser: Any, path: Path) -> list[str]:
    """What is wrong with a page: on a phone and on a desk, in light and in dark; empty for a good page."""
    found = []
    for width in WIDTHS:
        with opened(browser, path, width) as (page, told):
            found += told + page.evaluate(_FAULTS)
            if width == min(WIDTHS):
                found += page.evaluate(_SMALL_TEXTS, SMALLEST_TEXT_PX)
    with opened(browser, path, max(WIDTHS), scheme="dark") as (page, told):
        found += told + page.evaluate(_PALE_TEXTS, LEAST_CONTRAST)
    return found
