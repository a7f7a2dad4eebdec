"""The device page in the application itself: links, policy, bundle, drift, what would have been halted; for whom."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from _audit import KEY as LOG_KEY
from _console import Browser, Desk, until
from _console_device import DAY, KEY, bundle_in, insert, rows_of, world
from _console_history import EPOCH, Log, Scanner
from _guard import answer, element, policy
from scanward.commands import LayerName, Severity
from scanward.config import DRIFT_BOUNDS
from scanward.console.device import device_of
from scanward.console.device_view import age_of, bundle_view, percent, scanner_view
from scanward.console.history_service import history_of
from scanward.console.settings import ControlAddress, ScannerSettings
from scanward.console.state import Reach, ScannerState
from test_guard_control import running

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>{{7*7}}'
TURNED = "safe\u202etxt.exe"
ODD = answer({LayerName.CONTEXT_FREE: (Severity.ALERT, "CTDIvol")}, within=False)
BAD = answer({LayerName.PHYSICS: (Severity.HALT, "DLP")})
ADDRESSES = ("/device", "/device/ct1", "/device/ct1?weeks=13&days=28")
SETTINGS = ScannerSettings("ct1", "CT 1", ControlAddress(socket=Path("run/control.sock")))


def digest_of(folder: Path) -> str:
    """Of the bundle there, as verdicts name it."""
    return hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()


@contextmanager
def opened(folder: Path, *, other: bool = False, **top: str) -> Iterator[tuple[Desk, Log]]:
    """A console with a copy of a bundle, and the log of a guard that judged with it (``other``: with another one).

    Five commands of a day ago: three released by themselves, one that would be held, one that would be halted.
    """
    model = bundle_in(folder / "model")
    log = Log(folder / "audit")
    log.seconds = time.time() - EPOCH - DAY
    scanner = Scanner(log, policy(**top))
    log.write(
        "judge_ready", {"bundle": "b" * 64 if other else digest_of(model), "version": 7, "budget": 0.05}
    )
    for n, (judged, name) in enumerate([(answer(), "Head")] * 3 + [(ODD, HOSTILE), (BAD, TURNED)]):
        scanner.judge = [judged]
        scanner.load(element(50.0, ProtocolName=name), examination=f"{n:016x}")
        scanner.pass_time(10_000.0)
    log.write(
        "drift", {"kind": "dose", "where": "head", "reason": f"the dose of protocol {HOSTILE} is 1.3 times"}
    )
    log.checkpoint()
    (folder / "audit.pub").write_bytes(LOG_KEY.verify_key.pem())
    (folder / "site.pub").write_bytes(KEY.verify_key.pem())
    more = 'audit = "audit"\naudit_keys = ["audit.pub"]\nbundle = "model"\nbundle_keys = ["site.pub"]\n'
    try:
        with Desk(folder, {"ct1": folder / "nobody.sock"}, more) as desk:
            importer = history_of(desk.console).importers["ct1"]
            until(lambda: importer.standing.looked and not importer.standing.behind)
            yield desk, log
    finally:
        log.close()


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """For tests that change nothing."""
    with opened(tmp_path_factory.mktemp("console"), unsafe_shadow="true") as (made, _):
        yield made


@pytest.fixture(scope="module")
def page(desk: Desk) -> Browser:
    return desk.browser("petra", "physicist")


def text_of(browser: Browser, path: str) -> str:
    found = browser.get(path)
    assert found.status_code == 200, found.text[:2000]
    return str(found.text)


def words(html: str) -> str:
    """What is read on a page."""
    return " ".join(re.sub(r"<[^>]*>", " ", html).split())


# --- for whom


@pytest.mark.parametrize("path", ADDRESSES)
def test_for_physicists_alone(desk: Desk, path: str) -> None:
    assert desk.stranger().get(path).status_code == 303
    for role in ("operator", "administrator"):
        assert desk.browser(role, role).get(path).status_code == 403
    assert desk.browser("petra", "physicist").get(path).status_code == 200


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/device/ct9", 404),
        ("/device/ct1?weeks=2", 400),
        ("/device/ct1?weeks=99999999999999999999", 400),
        ("/device/ct1?days=x", 400),
        ("/device/ct1?days=", 400),
    ],
)
def test_what_is_not_there(page: Browser, path: str, status: int) -> None:
    assert page.get(path).status_code == status


# --- what it shows


def test_links_policy_and_bundle(page: Browser, desk: Desk) -> None:
    shown = words(text_of(page, "/device"))
    assert "NOT REACHED" in shown
    assert "not known: the guard has told nothing yet" in shown
    assert "Signature and files hold, and it is the one that judges." in shown
    assert "300 examinations" in shown
    assert f"{KEY.verify_key.fingerprint}, a trusted key" in shown
    assert "budget 5 %" in shown
    assert "days ago" in shown


def test_the_overview_tells_of_a_guard_that_spoke(page: Browser, desk: Desk) -> None:
    state = desk.console.scanners["ct1"]
    kept = state.reach, state.why
    told = {
        "policy": {"name": HOSTILE, "version": 4, "digest": "d" * 64, "weakenings": ["unsafe_shadow"]},
        "gate": {"phase": "BEAM", "mode": "CLINICAL", "log": "full", "host": 3, "gantry": True},
        "watch": {"examinations": 812, "alerted": 9},
    }
    try:
        state.snapshot(told, time.time())
        state.reached(Reach.UP)
        state.heard(time.time())
        html = text_of(page, "/device")
    finally:
        state.snapshot({}, time.time())
        state.reached(*kept)
    assert "<script>alert" not in html
    shown = words(html)
    assert "The policy is weakened: unsafe_shadow" in shown
    assert "The guard's audit log is not well" in shown
    assert "Host connected" in shown
    assert "Gantry connected" in shown
    assert "812 examinations since its start, 9 alerted" in shown


def test_a_real_guard_is_shown_as_it_is(tmp_path: Path) -> None:
    with running(tmp_path / "ct1.sock") as guard, Desk(tmp_path, {"ct1": guard.path}) as desk:
        page = desk.browser("petra", "physicist")
        until(lambda: desk.console.scanners["ct1"].reach is Reach.UP)
        until(lambda: "Host connected" in words(text_of(page, "/device")))
        shown = words(text_of(page, "/device"))
    assert re.search(r"Guard connected ; last heard \d+ s ago", shown)
    assert "Gantry connected" in shown
    assert "Phase IDLE Mode CLINICAL Audit log ok" in shown
    assert "0 examinations since its start, 0 alerted" in shown
    site = policy()
    assert f"Name {site.name} Version {site.version} Digest {site.digest}" in shown
    assert "by nothing" in shown


def test_what_would_have_been_halted(page: Browser) -> None:
    html = text_of(page, "/device/ct1")
    shown = words(html)
    assert "Of 5 examinations (5 CLINICAL commands)" in shown
    assert "■ 1 commands HALT, ▲ 1 commands ALERT" in shown
    assert "2 of them were passed on because of shadow mode alone" in shown
    assert html.count("/history/commands/") == 2
    for layer in ("physics", "context_free"):
        found = re.search(rf'href="(/history\?scanner=ct1&amp;since=[-0-9]+&amp;layer={layer})"', html)
        assert found
        assert "1 found" in words(text_of(page, found[1].replace("&amp;", "&")))


def test_without_shadow_mode_nothing_was_passed_on_because_of_it(tmp_path: Path) -> None:
    with opened(tmp_path) as (desk, _):
        shown = words(text_of(desk.browser("petra", "physicist"), "/device/ct1"))
    assert "■ 1 commands HALT, ▲ 1 commands ALERT" in shown
    assert "shadow mode alone" not in shown


@pytest.mark.parametrize("path", ADDRESSES)
def test_nothing_that_a_host_wrote_is_markup(page: Browser, path: str) -> None:
    html = text_of(page, path)
    assert "<script>alert" not in html
    assert "<img src=x" not in html
    assert "{{7*7}}" in html
    assert "\u202e" not in html
    assert "times</bdi>" in html  # the watch's alarm, with the hostile name in it
    if path != "/device":
        assert "⟨U+202E⟩" in html


def test_drift_of_many_examinations_is_shown_and_kept_for_a_while(tmp_path: Path) -> None:
    with opened(tmp_path) as (desk, _):
        page, now = desk.browser("petra", "physicist"), time.time()
        store = history_of(desk.console).store
        digest = digest_of(tmp_path / "model")
        rows = rows_of(world().later, now - 27 * DAY, now - 2 * DAY, bundle=digest)
        # every p-value within the budget: 160 of 160 alert
        insert(store, [row | {"p_value": 0.005, "log_id": f"own{n}"} for n, row in enumerate(rows)])
        html = text_of(page, "/device/ct1")
        shown = words(html)
        assert "NOT like the calibration" in shown
        assert "examinations look stranger" in shown
        assert "MORE beyond the budget than it promises: 160 examinations beyond 5 %, 8 expected" in shown
        assert html.count("<polyline") == 3
        assert "Population stability index" in shown
        insert(store, [row | {"examination": "x"} for row in rows[:50]])
        assert words(text_of(page, "/device/ct1")) == shown  # kept
        kept = device_of(desk.console)
        kept.bounds = replace(DRIFT_BOUNDS, keep_seconds=0.0)
        assert words(text_of(page, "/device/ct1")) != shown
        text_of(page, "/device/ct1?weeks=1&days=28")
        made = {("drift", 4), ("drift", 1), ("shadow", 7), ("shadow", 28)}
        assert {(kind, span) for _, kind, span in kept.reports} == made


def test_another_bundle_is_another_report(tmp_path: Path) -> None:
    with opened(tmp_path) as (desk, _):
        page, kept = desk.browser("petra", "physicist"), device_of(desk.console)
        text_of(page, "/device/ct1")
        first = kept.reports["ct1", "drift", 4][1]
        bundle_in(tmp_path / "model", version=8)
        shown = words(text_of(page, "/device/ct1"))
        assert kept.reports["ct1", "drift", 4][1] != first
        assert "The bundle that judges is not the one that this console has a copy of" in shown
        assert "5 examinations are left out: another bundle judged them" in shown


def test_reports_kept_are_bounded(tmp_path: Path) -> None:
    with opened(tmp_path) as (desk, _):
        kept = device_of(desk.console)
        for n in range(3 * DRIFT_BOUNDS.reports):
            kept.keep(("ct1", "drift", n), "b", 0.0, n)
        assert len(kept.reports) == DRIFT_BOUNDS.reports


def test_a_judge_with_another_bundle_is_told(tmp_path: Path) -> None:
    with opened(tmp_path, other=True) as (desk, _):
        shown = words(text_of(desk.browser("petra", "physicist"), "/device"))
        assert "The bundle that judges is not the one that this console has a copy of" in shown
        assert "b" * 64 in shown


def test_a_bundle_that_is_refused_leaves_the_rest(tmp_path: Path) -> None:
    with opened(tmp_path) as (desk, _):
        (tmp_path / "model" / "arrays.safetensors").write_bytes(b"")
        page = desk.browser("petra", "physicist")
        shown = words(text_of(page, "/device/ct1"))
        assert "The console's copy of the bundle is refused" in shown
        assert "Nothing to compare with" in shown
        assert "■ 1 commands HALT" in shown


def test_without_log_and_bundle_the_page_says_so(tmp_path: Path) -> None:
    with Desk(tmp_path, {"ct1": tmp_path / "a.sock", "ct2": tmp_path / "b.sock"}) as desk:
        page = desk.browser("petra", "physicist")
        assert words(text_of(page, "/device")).count("No copy of the bundle is given in console.toml") == 2
        shown = words(text_of(page, "/device/ct2"))
        assert "No audit log is given in console.toml" in shown
        assert "not told by any log" in shown


# --- whatever a guard says

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
_STATE = st.fixed_dictionaries(
    {},
    optional={
        name: st.dictionaries(
            st.sampled_from(
                ["name", "version", "weakenings", "phase", "log", "host", "gantry", "examinations"]
            ),
            _JSON,
        )
        | _JSON
        for name in ("policy", "gate", "watch")
    },
)


@given(_STATE)
def test_any_state_of_a_guard_has_a_view(told: dict[str, Any]) -> None:
    state = ScannerState("ct1", "CT 1")
    state.snapshot(told, 5.0)
    view = scanner_view(state, SETTINGS, 10.0)
    assert all(isinstance(one, str) for one in view["weakenings"])
    assert view["host"] in ("connected", "not connected")
    assert isinstance(view["watch"], str)


def test_a_gantry_is_connected_only_when_the_guard_says_true() -> None:
    state = ScannerState("ct1", "CT 1")
    for said, shown in ((True, "connected"), ("yes", "not connected"), (None, "not connected")):
        state.snapshot({"gate": {"gantry": said, "log": "ok"}}, 5.0)
        assert scanner_view(state, SETTINGS, 10.0)["gantry"] == shown


def test_ages() -> None:
    assert age_of(100.0, 100.0 + 3600.0) == "less than a day ago"
    assert age_of(0.0, 40 * DAY) == "40 days ago"
    assert age_of(0.0, 1100 * DAY) == "3.0 years ago"
    assert age_of(10.0, 5.0) == "which is in the future"


@pytest.mark.parametrize(
    ("share", "shown"),
    [(0.0, "0"), (0.00123, "0.12"), (0.05, "5"), (0.0994, "9.9"), (0.0999, "10"), (0.999, "100")],
)
def test_shares(share: float, shown: str) -> None:
    assert percent(share) == shown


def test_no_bundle_has_a_view() -> None:
    assert bundle_view(None, None, None, 0.0)["state"] == "none"
