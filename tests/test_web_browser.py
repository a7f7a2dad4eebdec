"""Sign-in in a real browser: keyboard alone, axe-core in light and dark, nothing against the content policy."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, Playwright, expect, sync_playwright

from _web import accounts_in, certificate_in, served
from scanward.config import WEB_BOUNDS

GOOD = "a long enough passphrase"
NEW = "another passphrase of mine"
RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
LISTENER = """
window.__violations = [];
document.addEventListener("securitypolicyviolation",
  (event) => window.__violations.push(`${event.violatedDirective} ${event.blockedURI}`));
"""


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as made:
        yield made


@pytest.fixture(scope="module")
def chromium(playwright: Playwright) -> Iterator[Browser]:
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("no chromium on this machine (Debian: apt install chromium)")
    browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("browser")
    certificate, key = certificate_in(folder)
    with accounts_in(folder) as accounts:
        for number in range(1, 6):
            accounts.add(f"R0{number}", ["reader"], GOOD)
    with served(folder, "--tls", str(certificate), str(key)) as (address, _):
        yield address.replace("127.0.0.1", "localhost")


class Watched:
    """A page whose trespasses against the content policy, errors and foreign requests are kept."""

    def __init__(self, context: BrowserContext, site: str) -> None:
        context.add_init_script(LISTENER)
        self.page: Page = context.new_page()
        self.site = site
        self.wrong: list[str] = []
        self.page.on(
            "console", lambda message: self.wrong.append(message.text) if message.type == "error" else None
        )
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("request", lambda request: self._ours(request.url))

    def _ours(self, url: str) -> None:
        if not url.startswith((f"{self.site}/", "data:")):
            self.wrong.append(f"a request to {url}")

    def trespasses(self) -> list[str]:
        """What went against the policy on the page that is shown."""
        found: list[str] = self.page.evaluate("window.__violations")
        return found


@pytest.fixture(params=["light", "dark"])
def watched(chromium: Browser, site: str, request: pytest.FixtureRequest) -> Iterator[Watched]:
    context = chromium.new_context(ignore_https_errors=True, color_scheme=request.param)
    context.set_default_timeout(30_000)
    made = Watched(context, site)
    yield made
    context.close()


def accessible(page: Page) -> None:
    found: Any = Axe().run(page, options=RULES)
    assert found.violations_count == 0, found.generate_report()
    assert len(found.response["passes"]) > 10  # it really looked


def focused(page: Page) -> str:
    found: str = page.evaluate("document.activeElement.id || document.activeElement.textContent.trim()")
    return found


def test_signing_in_by_keyboard_alone(watched: Watched) -> None:
    page = watched.page
    page.goto(f"{watched.site}/home")
    assert page.url == f"{watched.site}/sign-in?next=/home"
    page.wait_for_function("document.activeElement.id === 'name'")  # a busy browser focuses after the load
    page.keyboard.press("Shift+Tab")  # back: title, then the skip link, shown once it has the focus
    page.keyboard.press("Shift+Tab")
    assert focused(page) == "Skip to the content"
    assert page.get_by_text("Skip to the content").bounding_box()["y"] >= 0  # type: ignore[index]
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.type("R01")
    page.keyboard.press("Tab")
    assert focused(page) == "password"
    page.keyboard.type("wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("Name or password is wrong.")
    accessible(page)
    assert watched.trespasses() == []
    watched.wrong.clear()  # the browser writes each 401 into its console
    assert page.input_value("#name") == "R01"
    assert page.input_value("#password") == ""
    page.keyboard.press("Tab")
    page.keyboard.type(GOOD)
    page.keyboard.press("Tab")
    assert focused(page) == "Sign in"
    page.keyboard.press("Space")
    expect(page.get_by_role("heading", level=1)).to_have_text("Home of R01")
    assert page.url == f"{watched.site}/home"
    accessible(page)
    for _ in range(10):
        page.keyboard.press("Tab")
        if focused(page) == "Sign out":
            break
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_have_text("You are signed out.")
    accessible(page)
    page.go_back()  # nothing of it is kept
    expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")
    assert watched.trespasses() == []
    assert watched.wrong == []


def test_every_page_is_accessible_and_keeps_the_policy(
    watched: Watched, request: pytest.FixtureRequest
) -> None:
    page = watched.page
    name = "R02" if "light" in request.node.name else "R03"
    page.goto(f"{watched.site}/sign-in")
    accessible(page)
    page.fill("#name", name)
    page.fill("#password", GOOD)
    page.click("form button")
    page.goto(f"{watched.site}/account")
    accessible(page)
    assert watched.trespasses() == []
    assert watched.wrong == []
    page.goto(f"{watched.site}/nothing")
    accessible(page)
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == (
        "rgb(255, 255, 255)" if "light" in request.node.name else "rgb(16, 19, 23)"
    )
    page.goto(f"{watched.site}/account")
    page.fill("#current", GOOD)
    page.fill("#new", NEW)
    page.fill("#again", NEW)
    page.get_by_role("button", name="Change the password").click()
    expect(page.get_by_role("status")).to_contain_text("Your password is changed")
    assert watched.trespasses() == []


def test_the_browser_keeps_our_cookies_to_itself(chromium: Browser, site: str) -> None:
    context = chromium.new_context(ignore_https_errors=True)
    page = context.new_page()
    page.goto(f"{site}/sign-in")
    page.fill("#name", "R04")
    page.fill("#password", GOOD)
    page.click("form button")
    assert page.evaluate("document.cookie") == ""
    cookies = {cookie["name"]: cookie for cookie in context.cookies()}
    assert set(cookies) == {"__Host-scanward-study-session", "__Host-scanward-study-device"}
    for cookie in cookies.values():
        assert cookie["httpOnly"]
        assert cookie["secure"]
        assert cookie["sameSite"] == "Strict"
    context.close()


def test_the_policy_bites_in_the_browser(chromium: Browser, site: str) -> None:
    """What an injected text could do, tried from within: nothing of it happens."""
    context = chromium.new_context(ignore_https_errors=True)
    watched = Watched(context, site)
    page = watched.page
    page.goto(f"{site}/sign-in")
    page.evaluate(
        """() => {
          const add = (tag, set) => { const e = document.createElement(tag); set(e); document.body.append(e); };
          add("script", (e) => { e.textContent = "window.__ran = 1"; });
          add("script", (e) => { e.src = "https://evil.example/x.js"; });
          add("img", (e) => { e.src = "https://evil.example/x.png"; });
          add("div", (e) => { e.setAttribute("style", "color: red"); });
          add("div", (e) => { e.innerHTML = "<img src=x onerror='window.__ran = 2'>"; });
          add("base", (e) => { e.href = "https://evil.example/"; });
          add("iframe", (e) => { e.src = "/sign-in"; });
          fetch("https://evil.example/").catch(() => {});
        }"""
    )
    page.wait_for_function("window.__violations.length >= 7")
    assert page.evaluate("window.__ran") is None
    found = " ".join(watched.trespasses())
    for directive in ("script-src", "img-src", "style-src", "connect-src", "base-uri", "frame-src"):
        assert directive in found, (directive, found)
    context.close()


def test_another_sites_page_cannot_act_for_a_reader(chromium: Browser, site: str) -> None:
    """A page of another origin posts our form and loads our answers with the reader's cookies in the browser."""
    context = chromium.new_context(ignore_https_errors=True)
    page = context.new_page()
    page.goto(f"{site}/sign-in")
    page.fill("#name", "R05")
    page.fill("#password", GOOD)
    page.click("form button")
    expect(page.get_by_role("heading", level=1)).to_have_text("Home of R05")
    evil = context.new_page()
    evil.route(
        "https://evil.example/", lambda route: route.fulfill(body=_EVIL % site, content_type="text/html")
    )
    evil.goto("https://evil.example/")
    evil.wait_for_function("window.__tried !== undefined")
    assert evil.evaluate("window.__tried") == "refused"
    with evil.expect_navigation():
        evil.click("button")
    expect(evil.get_by_role("heading", level=1)).to_have_text("Forbidden")
    page.reload()
    expect(page.get_by_role("heading", level=1)).to_have_text("Home of R05")  # still signed in
    context.close()


_EVIL = """<!doctype html><form method="post" action="%s/sign-out"><button>win a prize</button></form>
<script>
const site = document.forms[0].action.replace("/sign-out", "");
fetch(`${site}/api/session`, {credentials: "include"}).then(() => { window.__tried = "read"; },
  () => { window.__tried = "refused"; });
</script>"""


def test_pages_fit_a_narrow_window(chromium: Browser, site: str) -> None:
    """WCAG 1.4.10: 320 px wide, nothing scrolls sideways; 2.5.8: nothing to press is under 24 px."""
    context = chromium.new_context(ignore_https_errors=True, viewport={"width": 320, "height": 640})
    page = context.new_page()
    page.goto(f"{site}/sign-in")
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    sizes = page.evaluate(
        """[...document.querySelectorAll("button, input:not([type=hidden])")]
             .map((e) => { const b = e.getBoundingClientRect(); return [b.width, b.height]; })"""
    )
    assert len(sizes) == 3
    assert all(side >= 24 for size in sizes for side in size)
    assert WEB_BOUNDS.name_chars == int(page.get_attribute("#name", "maxlength") or 0)
    context.close()


_COLOUR = re.compile(r"--([\w-]+): #([0-9a-f]{6});")
_PAIRS = [
    *((text, ground, 4.5) for text in ("text", "faint", "accent") for ground in ("page", "raised")),
    *((f"on-{ground}", ground, 4.5) for ground in ("accent", "notice", "problem", "good")),
    *((mark, ground, 3.0) for mark in ("line", "focus", "accent") for ground in ("page", "raised")),
]


def _luminance(colour: str) -> float:
    """Relative luminance, WCAG 2.2."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(("text", "ground", "least"), _PAIRS)
def test_colours_have_contrast_enough(
    repository: Path, scheme: int, text: str, ground: str, least: float
) -> None:
    css = (repository / "src/scanward/web/static/frame.css").read_text("utf-8")
    colours = dict(_COLOUR.findall(css.split("@media (prefers-color-scheme: dark)")[scheme]))
    one, other = sorted((_luminance(colours[text]), _luminance(colours[ground])), reverse=True)
    assert (one + 0.05) / (other + 0.05) >= least
