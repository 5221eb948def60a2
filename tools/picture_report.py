"""Writes a picture of the top of a report page, as a headless Chromium shows it.

facsnet experiment docs/examples/losses.toml --out losses-report
python tools/picture_report.py losses-report/report.html docs/images/experiment.png
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
from pathlib import Path

from PIL import Image

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
WIDTH = 1180


def screenshot(page: Path, height: int) -> Image.Image:
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        raise SystemExit(f"none of {', '.join(BROWSERS)} is installed")
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder, "page.png")
        options = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            f"--user-data-dir={folder}/profile",
        ]
        size = [f"--screenshot={picture}", f"--window-size={WIDTH},{height}"]
        subprocess.run([browser, *options, *size, page.resolve().as_uri()], check=True, capture_output=True)
        with Image.open(picture) as image:
            return image.convert("RGB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("page", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--top", type=int, default=0, help="first row of pixels of the page")
    parser.add_argument("--height", type=int, default=1900)
    options = parser.parse_args()
    whole = screenshot(options.page, options.top + options.height)
    part = whole.crop((0, options.top, WIDTH, options.top + options.height))
    part.save(options.out, optimize=True)


if __name__ == "__main__":
    main()
