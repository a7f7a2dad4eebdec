"""The page Now in Chromium: holds appear, the keyboard alone decides them, keys sign in the browser."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from hypothesis import given, settings
from hypothesis import strategies as st
from playwright.sync_api import Browser, Page, expect, sync_playwright

from _console import served_console
from _console_now import SECRET, Room, holding, odd, room, shot
from _guard import ANNA, BERT, CARL, STRANGER, Bench, element
from scanward.commands import Context, LayerName, Source, Told
from scanward.commands.wire import Load
from scanward.guard.control_lines import plain
from scanward.guard.operators import Act, ActKind, message
from scanward.keys import SigningKey

RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
HOSTILE = '"><img src=x onerror=alert(2)><script>alert(1)</script>\u202e'


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("no chromium on this machine (Debian: apt install chromium)")
    with sync_playwright() as made:
        browser = made.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def ct1(tmp_path: Path) -> Iterator[Room]:
    with room(tmp_path, "ct1") as made:
        yield made
        made.close()


def accessible(page: Page) -> None:
    found: Any = Axe().run(page, options=RULES)
    assert found.violations_count == 0, found.generate_report()
    assert len(found.response["passes"]) > 10  # it really looked


def loads(bench: Bench) -> int:
    """How many commands reached the gantry."""
    return sum(isinstance(message, Load) for message in bench.to_gantry)


def key_open(page: Page) -> None:
    expect(page.locator("#key-state")).to_contain_text("Your key is open")


def test_a_hold_appears_and_is_released_with_the_keyboard_alone(ct1: Room, chromium: Browser) -> None:
    for scheme in ("light", "dark"):
        page = ct1.sign_in(chromium, "anna", scheme)
        expect(page.locator("#status")).to_have_text("● Nothing on hold")
        ct1.open_key(page, ANNA)
        key_open(page)
        accessible(page)
        shot(page, f"now-quiet-{scheme}")
        bench = ct1.guards["ct1"].bench
        bench.names.told("e" * 16, {"PatientName": "Doe^Jane", "AccessionNumber": "ACC-1"})
        sent = loads(bench)
        ct1.hold()
        holding(page)
        row = page.locator('tr[data-field="CTDIvol"]')
        expect(row).to_contain_text("61.3 mGy")
        expect(row).to_contain_text("6 to 9 mGy")
        expect(row).to_contain_text("about 1 in")
        expect(page.locator("#countdown")).to_have_text(re.compile(r"^(1:00|0:5\d)$"))
        expect(page.locator("#person")).to_contain_text("Doe^Jane")
        expect(page.locator("#announce")).to_contain_text("Hold at Scanner ct1")
        assert page.title().startswith("▲ HOLD")
        accessible(page)
        shot(page, f"now-hold-{scheme}")
        page.keyboard.press("r")
        page.keyboard.press("Enter")  # no reason yet
        expect(page.locator("#reason-problem")).to_contain_text("A reason is needed")
        accessible(page)
        page.keyboard.type("needed now, checked with the physicist")
        page.keyboard.press("Enter")
        expect(page.locator("#answer")).to_have_text("Released.")
        expect(page.locator("#status")).to_have_text("● Nothing on hold")
        assert loads(bench) == sent + 1
        (act,) = bench.recorded("operator")[-1:]
        assert (act["operator"], act["reason"]) == ("anna", "needed now, checked with the physicist")
        ct1.close()


def test_refusing_and_a_wrong_key_and_one_who_may_not(ct1: Room, chromium: Browser) -> None:
    bench = ct1.guards["ct1"].bench
    page = ct1.sign_in(chromium, "anna")
    ct1.open_key(page, STRANGER, "not the passphrase")
    expect(page.locator("#key-problem")).to_have_text("wrong passphrase")
    ct1.open_key(page, STRANGER)
    key_open(page)
    ct1.hold()
    holding(page)
    page.keyboard.press("r")
    page.keyboard.type("with somebody else's key")
    page.keyboard.press("Enter")
    expect(page.locator("#answer")).to_have_text("The guard refused: the signature does not hold")
    expect(page.locator("#status")).to_have_text("▲ ON HOLD")
    page.locator("#key-forget").click()
    page.locator("#key-discard").click()
    carl = ct1.sign_in(chromium, "carl")
    ct1.open_key(carl, CARL)
    key_open(carl)
    holding(carl)
    carl.keyboard.press("r")
    carl.keyboard.type("I may not")
    carl.keyboard.press("Enter")
    expect(carl.locator("#answer")).to_have_text("The guard refused: carl may not release")
    carl.keyboard.press("c")
    expect(page.locator("#hold-notes")).to_contain_text("carl calls for a second person")
    carl.keyboard.press("n")
    carl.keyboard.press("Enter")  # no reason is needed for that
    expect(carl.locator("#answer")).to_have_text("Refused.")
    expect(page.locator("#status")).to_have_text("● Nothing on hold")
    assert bench.to_gantry == []
    assert not bench.recorded("release")


def test_a_hold_that_nobody_answers_and_a_dialog_over_it(ct1: Room, chromium: Browser) -> None:
    page = ct1.sign_in(chromium, "anna")
    ct1.open_key(page, ANNA)
    key_open(page)
    ct1.hold()
    holding(page)
    page.keyboard.press("r")
    page.keyboard.type("too late")
    guard = ct1.guards["ct1"]
    guard.run(lambda: guard.bench.pass_time(61.0))
    expect(page.locator("#status")).to_have_text("● Nothing on hold")
    expect(page.locator("#reason-dialog")).to_be_hidden()
    page.keyboard.press("Enter")
    assert not guard.bench.recorded("release")
    assert guard.bench.to_gantry == []


def test_a_physicist_looks_and_sees_no_name(ct1: Room, chromium: Browser) -> None:
    ct1.guards["ct1"].bench.names.told("e" * 16, {"PatientName": "Doe^Jane"})
    page = ct1.sign_in(chromium, "petra")
    ct1.hold()
    holding(page)
    assert page.locator("#release").is_hidden()
    assert page.locator("#key-form").count() == 0
    assert "Doe" not in page.content()
    page.keyboard.press("r")
    assert page.locator("#reason-dialog").is_hidden()
    accessible(page)


def test_text_of_a_host_is_only_text(ct1: Room, chromium: Browser) -> None:
    page = ct1.sign_in(chromium, "anna")
    ct1.guards["ct1"].bench.names.told("e" * 16, {"PatientName": HOSTILE, "AccessionNumber": HOSTILE})
    ct1.hold(ProtocolName=HOSTILE, BodyPartExamined=HOSTILE, ConvolutionKernel=HOSTILE)
    holding(page)
    page.locator("summary", has_text="Everything").click()
    expect(page.locator("#everything")).to_contain_text("<script>alert(1)</script>")
    expect(page.locator("#person")).to_contain_text("⟨U+202E⟩")
    assert page.locator("#now img, #now script").count() == 0


def test_what_a_guard_shows_and_does_not_hold_cannot_be_released(ct1: Room, chromium: Browser) -> None:
    guard = ct1.guards["ct1"]
    page = ct1.sign_in(chromium, "anna")
    ct1.open_key(page, ANNA)
    key_open(page)
    held = ct1.hold()
    holding(page)
    expect(page.locator("#release")).to_be_enabled()
    shown: Any = plain(held)
    shown["chain"][0]["command"]["parameters"]["CTDIvol"] = 6.0  # harmless to look at, and not what is held
    guard.run(lambda: guard.bench.desk.told("held", shown))  # and so say its later states
    expect(page.locator("#hold-notes")).to_contain_text("is not what it says it holds")
    expect(page.locator("#release")).to_be_disabled()
    page.keyboard.press("r")
    expect(page.locator("#reason-dialog")).to_be_hidden()
    assert loads(guard.bench) == 0


def test_one_alone_begins_emergency_access_and_gives_the_reason_later(ct1: Room, chromium: Browser) -> None:
    bench = ct1.guards["ct1"].bench
    anna = ct1.sign_in(chromium, "anna")
    petra = ct1.sign_in(chromium, "petra")
    ct1.open_key(anna, ANNA)
    key_open(anna)
    ct1.hold()
    holding(anna)
    anna.keyboard.press("e")
    expect(anna.locator("#reason-dialog")).to_contain_text("hardware and absolute dose caps still hold")
    anna.keyboard.press("Enter")  # a bleeding patient waits for no sentence
    expect(anna.locator("#answer")).to_have_text("Emergency access is on.")
    for page in (anna, petra):  # shown to everybody
        expect(page.locator("#warnings")).to_contain_text("EMERGENCY ACCESS by anna")
    expect(anna.locator("#status")).to_have_text("● Nothing on hold")
    assert loads(bench) == 1
    assert bench.recorded("emergency_begin")


def test_sources_that_disagree_stand_side_by_side(ct1: Room, chromium: Browser) -> None:
    guard = ct1.guards["ct1"]
    page = ct1.sign_in(chromium, "anna")
    told = (Told(7.0, Source.HOST), Told(61.0, Source.WORKLIST))
    made = element(None, CTDIvol=61.3)
    apart = replace(made, command=replace(made.command, context=Context({"PatientAge": told})))

    def load() -> None:
        guard.bench.judge = [odd()]
        guard.bench.load(apart)

    guard.run(load)
    holding(page)
    person = page.locator("#person")
    expect(person).to_contain_text("Sources disagree on Age. Look at the person on the table.")
    for words in ("7", "host", "61", "worklist"):
        expect(person.locator(".apart")).to_contain_text(words, ignore_case=True)
    expect(page.locator("#objections .together")).to_contain_text(
        "about 1 in 2500 of the recorded examinations"
    )
    accessible(page)


def test_two_persons_each_in_a_browser_of_his_own(tmp_path: Path, chromium: Browser) -> None:
    with room(tmp_path, "ct1", two=True) as here:
        bench = here.guards["ct1"].bench
        anna, bert = here.sign_in(chromium, "anna"), here.sign_in(chromium, "bert", "dark")
        here.open_key(anna, ANNA)
        here.open_key(bert, BERT)
        key_open(anna)
        key_open(bert)
        here.hold(said=odd(LayerName.PHYSICS))
        holding(anna)
        expect(anna.locator("#hold-notes")).to_contain_text("Two persons have to release this")
        anna.keyboard.press("r")
        anna.keyboard.type("seen")
        anna.keyboard.press("Enter")
        expect(anna.locator("#answer")).to_contain_text("first of two releases")
        expect(anna.locator("#release")).to_be_disabled()
        expect(bert.locator("#hold-notes")).to_contain_text("Released by anna")
        shot(bert, "now-two-dark")
        accessible(bert)
        assert bench.to_gantry == []
        bert.keyboard.press("r")
        bert.keyboard.type("seen as well")
        bert.keyboard.press("Enter")
        expect(bert.locator("#status")).to_have_text("● Nothing on hold")
        assert len(bench.to_gantry) == 1
        here.close()


def test_three_scanners_a_burst_and_one_that_falls_silent(tmp_path: Path, chromium: Browser) -> None:
    with room(tmp_path, "ct1", "ct2", "ct3") as here:
        page = here.sign_in(chromium, "anna")
        expect(page.locator(".tab")).to_have_count(3)
        here.hold("ct2")
        holding(page)
        expect(page.locator('.tab[aria-current="true"]')).to_contain_text("Scanner ct2")
        here.hold("ct3")
        expect(page.locator(".tab", has_text="ct3")).to_contain_text("HOLD")
        expect(page.locator('.tab[aria-current="true"]')).to_contain_text(
            "Scanner ct2"
        )  # not under his hands
        page.keyboard.press("ArrowRight")
        expect(page.locator('.tab[aria-current="true"]')).to_contain_text("Scanner ct3")
        guard = here.guards["ct1"]

        def burst() -> None:
            for number in range(200):
                guard.server.publish("alert", {"reason": f"odd {number}", "number": number})

        guard.run(burst)
        page.keyboard.press("ArrowRight")
        expect(page.locator("#news")).to_contain_text("odd 199")
        # A guard whose loop stands still says nothing: silent within five seconds.
        import threading

        go_on = threading.Event()
        guard.loop.call_soon_threadsafe(go_on.wait, 20.0)
        expect(page.locator(".tab", has_text="ct1")).to_contain_text("SILENT")
        expect(page.locator("#warnings")).to_contain_text("SILENT")
        shot(page, "now-silent-light")
        go_on.set()
        expect(page.locator(".tab", has_text="ct1")).to_contain_text("ready")
        here.close()


def test_the_guard_goes_and_comes_back(tmp_path: Path, chromium: Browser) -> None:
    from test_guard_control import running

    with room(tmp_path, "ct1") as here:
        page = here.sign_in(chromium, "anna")
        here.hold()
        holding(page)
        import asyncio

        gone = here.guards["ct1"]
        asyncio.run_coroutine_threadsafe(gone.server.close(), gone.loop).result(20)
        expect(page.locator("#warnings")).to_contain_text("Decide at the guard's own terminal")
        with running(tmp_path / "ct1.sock"):
            expect(page.locator("#status")).to_have_text("● Nothing on hold")
        here.close()


def test_the_console_dies_in_mid_hold_and_comes_back(tmp_path: Path, chromium: Browser) -> None:
    with room(tmp_path, "ct1") as here:
        page = here.sign_in(chromium, "anna")
        here.open_key(page, ANNA)
        key_open(page)
        here.hold()
        holding(page)
        here.console.kill()
        here.console.wait()
        expect(page.locator("#alive")).to_be_visible(timeout=10_000)  # nothing heard for five seconds
        bench = here.guards["ct1"].bench
        assert bench.view().hold  # the guard goes on holding
        config = tmp_path / "console.toml"
        port = here.address.rsplit(":", 1)[1]
        config.write_text(config.read_text("utf-8").replace("127.0.0.1:0", f"127.0.0.1:{port}"), "utf-8")
        with served_console(config) as (address, _):
            assert address.rstrip("/") == here.address
            # The sign-in and the key are still there.
            expect(page.locator("#alive")).to_be_hidden(timeout=30_000)
            holding(page)
            page.keyboard.press("r")
            page.keyboard.type("the console was away")
            page.keyboard.press("Enter")
            expect(page.locator("#answer")).to_have_text("Released.", timeout=30_000)
        assert loads(bench) == 1
        here.close()


# --- what is signed


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory, chromium: Browser) -> Iterator[Page]:
    with room(tmp_path_factory.mktemp("modules"), "ct1") as here:
        page = here.sign_in(chromium, "anna")
        page.evaluate(
            """async () => { window.acts = await import('/console/static/now/acts.js');
                             window.keys = await import('/console/static/now/keys.js'); }"""
        )
        yield page


REASONS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@settings(max_examples=60, deadline=None)
@given(reason=REASONS, operator=REASONS, request=st.integers(0, 2**31))
def test_the_browser_signs_what_the_guard_reads(
    modules: Page, reason: str, operator: str, request: int
) -> None:
    act = Act(ActKind.RELEASE, operator, request, "ab" * 32, reason)
    said = {
        "act": "release", "operator": operator, "request": request, "shown": "ab" * 32, "reason": reason,
        "minutes": 0, "mode": "CLINICAL",
    }  # fmt: skip
    found = modules.evaluate("([act]) => [...acts.message(act, 'cd', 'ef')]", [said])
    assert bytes(found) == message(act, "cd", "ef")


@pytest.mark.parametrize("passphrase", ["", SECRET, "pässwörd – 密"])
def test_keys_of_the_command_line_open_in_the_browser(modules: Page, passphrase: str) -> None:
    key = SigningKey.generate()
    pem = key.pem(passphrase.encode() or None).decode()
    signature = modules.evaluate(
        """async ([pem, passphrase]) => {
             const key = await keys.open(pem, passphrase);
             if (key.extractable) throw new Error("it can be taken out");
             const bytes = new TextEncoder().encode("to be signed");
             return [...new Uint8Array(await crypto.subtle.sign({name: "Ed25519"}, key, bytes))]; }""",
        [pem, passphrase],
    )
    assert key.verify_key.verifies(bytes(signature), b"to be signed")


def test_what_is_no_key_is_told_in_words(modules: Page) -> None:
    pem = SigningKey.generate().pem(SECRET.encode()).decode()
    lines = pem.splitlines()
    damaged = "\n".join([lines[0], lines[1][:20] + "AAAA" + lines[1][24:], *lines[2:]])
    for text, passphrase, words in (
        ("nothing", "", "this is not a private key"),
        (ANNA.verify_key.pem().decode(), "", "this is not a private key"),
        (pem, "", "this key has a passphrase"),
        (pem, "wrong", "wrong passphrase"),
        (damaged, SECRET, ""),
        ("x" * 20_000, "", "too long"),
        ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----", "", "no Ed25519 key"),
    ):
        said = modules.evaluate(
            """async ([pem, passphrase]) => { try { await keys.open(pem, passphrase); return "opened"; }
                 catch (error) { if (!(error instanceof keys.KeyProblem)) throw error; return error.message; } }""",
            [text, passphrase],
        )
        assert words in said, (said, words)
        assert said != "opened"
    assert json.dumps(pem) not in modules.content()
