"""Sign-in at a provider of another site, in a real browser: our Strict cookies must survive the way back."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect, sync_playwright

from _oidc import provider
from _receivers import free_port
from _web import accounts_in

PATIENCE_MS = 60_000  # against hanging; nothing is measured with it


def test_somebody_signs_in_at_the_provider_and_lands_where_he_was_going(tmp_path: Path) -> None:
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("no chromium on this machine (Debian: apt install chromium)")
    with accounts_in(tmp_path) as accounts:
        accounts.add("anna", ["operator"])
    port, script = free_port(), Path(__file__).with_name("_web_oidc_site.py")
    with provider() as idp:
        arguments = [sys.executable, str(script), str(tmp_path), str(port), idp.issuer]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as site:
            try:
                assert site.stdout is not None
                assert site.stdout.readline()
                _walk(path, f"http://localhost:{port}")
            finally:
                site.kill()


def _walk(path: str, site: str) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        context = browser.new_context()
        context.set_default_timeout(PATIENCE_MS)
        page = context.new_page()
        try:
            page.goto(f"{site}/other")
            link = page.get_by_role("link", name="Sign in with your hospital account")
            expect(link).to_be_visible(timeout=PATIENCE_MS)
            assert Axe().run(page).violations_count == 0
            link.click()
            page.locator("#yes").click()  # at the provider, which is another site: 127.0.0.1
            expect(page.get_by_role("heading", name="Home of anna")).to_be_visible(timeout=PATIENCE_MS)
            assert page.url == f"{site}/other"
            cookies = {one["name"]: one for one in context.cookies()}
            assert cookies["scanward-study-session"]["sameSite"] == "Strict"
            assert "scanward-study-oidc" not in cookies
        finally:
            browser.close()
