"""Pictures of viewer and report for README and docs, as Chromium shows them: python docs/screenshots.py RESULTS FOLDER."""

import io
import shutil
import subprocess
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

QUALITY = 82
PAGES = {
    "view_cohort.jpg": "/?sort=prob&down=1",
    "view_slide.jpg": "/slides/demo_05#side=1&truth=1",
    "view_nuclei.jpg": "/slides/demo_05#method=sparse_inversion&x=3456&y=3360&w=900&opacity=45&truth=1",
}
REPORT = {"report_summary.jpg": "tumour.html#summary", "report_slide.jpg": "tumour.html#slide-demo_05"}


def main(results: str, folder: str) -> None:
    command = [sys.executable, "-m", "wsi_mil", "view", results, "--port=8950"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server, sync_playwright() as playwright:
        try:
            assert server.stdout is not None
            address = next(word for word in server.stdout.readline().split() if word.startswith("http")).rstrip("/")
            args = ["--no-sandbox", "--disable-background-networking"]
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=args)
            for name, path in PAGES.items():
                take(browser, address + path, Path(folder, name), "main:not([aria-busy=true])")
            report = Path(results, "report").resolve().as_uri()
            for name, place in REPORT.items():
                take(browser, f"{report}/{place}", Path(folder, name), "body")
            browser.close()
        finally:
            server.terminate()


def take(browser: Browser, address: str, path: Path, ready: str) -> None:
    """Save what the window shows of an address once an element that matches `ready` is there."""
    page = browser.new_page(viewport={"width": 1280, "height": 800}, reduced_motion="reduce")
    page.goto(address)
    page.wait_for_timeout(800)
    page.wait_for_selector(ready)
    page.wait_for_timeout(500)
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    picture.save(path, quality=QUALITY, optimize=True)
    print(path)


if __name__ == "__main__":
    main(*sys.argv[1:])
