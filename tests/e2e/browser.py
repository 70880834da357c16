"""Debian's Chromium, driven by Playwright, as a person uses the console."""

import json
import os
import re
import subprocess
from pathlib import Path

from playwright.sync_api import Locator, Page, expect, sync_playwright

ROOT = Path(__file__).parents[2]
AXE = ROOT / "console/node_modules/axe-core/axe.min.js"
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
LOCALES = {"en": "en-US", "ja": "ja-JP"}

expect.set_options(timeout=60_000)


def catalogue(language: str) -> dict[str, str]:
    """What the console says in a language, by key."""
    text = (ROOT / f"console/src/i18n/{language}.ts").read_text()
    return {key: json.loads(value) for key, value in re.findall(r'^  "([\w.]+)": (".*"),$', text, re.MULTILINE)}


class Chromium:
    """One browser; each visitor has a profile of their own."""

    def __enter__(self):
        self._playwright = sync_playwright().start()
        self._browser = self._playwright.chromium.launch(executable_path="/usr/bin/chromium", args=ARGUMENTS)
        return self

    def __exit__(self, *_):
        self._browser.close()
        self._playwright.stop()

    def visit(self, phalanx, language: str, *, dark: bool = False) -> "Visitor":
        context = self._browser.new_context(
            locale=LOCALES[language],
            timezone_id="UTC",
            color_scheme="dark" if dark else "light",
            reduced_motion="reduce",  # colours in the midst of a transition are nobody's choice
            viewport={"width": 1280, "height": 900},
            accept_downloads=True,
        )
        return Visitor(context.new_page(), phalanx, language)


class Visitor:
    """Somebody at the console who reads one language. Whatever the browser complains of is kept in `complaints`."""

    def __init__(self, page: Page, phalanx, language: str) -> None:
        self.page = page
        self.phalanx = phalanx
        self.read(language)
        self.complaints: list[str] = []
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", self._said)
        page.on("request", self._asked)

    def read(self, language: str) -> None:
        """From now on the console is expected to speak a language."""
        self.language = language
        self.words = catalogue(language)

    def _said(self, message) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def _asked(self, request) -> None:
        # A download from S3 is a way out of the page, as a link is; the page itself speaks to its own origin alone.
        if request.is_navigation_request() and request.url.startswith(self.phalanx.env["AWS_ENDPOINT_URL_S3"]):
            return
        if not request.url.startswith((self.phalanx.env["AWS_ENDPOINT_URL"], "blob:", "data:")):
            self.complaints.append(f"a request went elsewhere: {request.url}")

    def __call__(self, key: str, **values) -> str:
        """The words of a key."""
        return re.sub(r"\{(\w+)\}", lambda hole: str(values[hole[1]]), self.words[key])

    def open(self, path: str = "") -> None:
        self.page.goto(f"{self.phalanx.env['AWS_ENDPOINT_URL']}/console/{path}")

    def sign_in(self) -> None:
        self.page.get_by_label(self("signIn.accessKeyId")).fill(self.phalanx.env["AWS_ACCESS_KEY_ID"])
        self.page.get_by_label(self("signIn.secret")).fill(self.phalanx.env["AWS_SECRET_ACCESS_KEY"])
        self.page.get_by_role("button", name=self("signIn.submit")).click()

    def button(self, key: str, **values) -> None:
        self.page.get_by_role("button", name=self(key, **values), exact=True).last.click()

    def fill(self, label: str, text: str) -> None:
        self.page.get_by_label(label, exact=True).fill(text)

    def choose(self, label: str, option: str) -> None:
        """Open the list with a label, choose the option that holds a text, and see that it is chosen."""
        listbox = self.page.get_by_role("listbox")
        for _ in range(3):
            self.page.get_by_role("button", name=re.compile(f"^{re.escape(label)}")).last.click()
            self.page.get_by_role("option").filter(has_text=option).last.click()
            if listbox.count() > 0:
                self.page.keyboard.press("Escape")
            expect(listbox).to_have_count(0)
            # The list may have been made anew under the pointer, as under anybody's.
            if self.page.get_by_text(option).count() > 0:
                return
        raise AssertionError(f"{option} cannot be chosen for {label}")

    def sees(self, text: str) -> None:
        expect(self.page.get_by_text(text).first).to_be_visible()

    def show(self, part: Locator) -> None:
        """Scroll so that a part of the page is right below the bar at the top."""
        self.page.mouse.move(0, 0)
        part.evaluate("part => window.scrollTo(0, part.getBoundingClientRect().top + window.scrollY - 90)")

    def check_accessibility(self) -> None:
        """Nothing serious or critical for axe."""
        self.page.evaluate(AXE.read_text())
        found = self.page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
        grave = [violation for violation in found if violation["impact"] in ("serious", "critical")]
        assert grave == [], [
            (violation["id"], violation["help"], [node["html"][:200] for node in violation["nodes"][:3]]) for violation in grave
        ]

    def picture(self, name: str) -> None:
        """Look at the page: it must be fit for everybody. With PHALANX_SCREENSHOTS set, keep it in docs/images."""
        self.check_accessibility()
        if os.environ.get("PHALANX_SCREENSHOTS"):
            self.page.mouse.move(0, 0)
            path = ROOT / f"docs/images/console-{name}.{self.language}.png"
            self.page.screenshot(path=path, animations="disabled")
            # 64 colours are as good to the eye, in a third of the bytes.
            subprocess.run(["pngquant", "--force", "--strip", "--speed", "1", "--output", path, "64", path], check=True)
