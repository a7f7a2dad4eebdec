"""Device: each scanner's links, bundle and policy; how far it drifted; what would have been halted.

Everything works without a script. Reports take a second of work and are kept for some minutes; while one is made, the
page waits and nothing else does.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from scanward.config import DRIFT_BOUNDS, DriftBounds
from scanward.console import history_query
from scanward.console.device_bundle import BundleCopy, Copy
from scanward.console.device_view import alarm_view, bundle_view, drift_view, scanner_view, shadow_view
from scanward.console.drift_chart import curve, index_chart
from scanward.console.drift_report import DriftReport, drift_report
from scanward.console.history import names_of
from scanward.console.history_service import history_of
from scanward.console.history_shown import moment, zone
from scanward.console.shadow_report import ShadowReport, shadow_report
from scanward.console.shared import PHYSICIST, Console, console_of
from scanward.errors import RequestError
from scanward.web.frame import render
from scanward.web.guards import require
from scanward.web.site import Link

LINKS: Sequence[Link] = (Link("Device", "/device", PHYSICIST),)
WEEKS: Final = (1, 4, 13)  # of the drift report
DAYS: Final = (7, 28)  # of the report of what would have been halted
DAY: Final = 86_400.0
_KEPT: Final = __name__


@dataclass
class Device:
    """What the page keeps: copies of bundles and reports. One report is made at a time, and for all who ask."""

    bundles: dict[str, BundleCopy]
    bounds: DriftBounds = DRIFT_BOUNDS
    reports: dict[tuple[str, str, int], tuple[float, str, Any]] = field(default_factory=dict)
    making: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def look(self, scanner: str) -> Copy | None:
        """The copy of a scanner's bundle; None when console.toml names none."""
        found = self.bundles.get(scanner)
        return None if found is None else await asyncio.to_thread(found.look)

    def kept(self, key: tuple[str, str, int], bundle: str, now: float) -> Any:
        """A report that is not too old and of this bundle; None for none."""
        made, of, report = self.reports.get(key, (0.0, "", None))
        return report if of == bundle and 0.0 <= now - made < self.bounds.keep_seconds else None

    def keep(self, key: tuple[str, str, int], bundle: str, now: float, report: Any) -> None:
        """For the next who asks."""
        self.reports.pop(key, None)
        self.reports[key] = (now, bundle, report)
        while len(self.reports) > self.bounds.reports:
            self.reports.pop(next(iter(self.reports)))


@require(PHYSICIST)
async def devices(request: Request) -> Response:
    """GET /device: links, policy and bundle of every scanner."""
    console = console_of(request)
    logs = await _logs(console)
    ids = [one.id for one in console.settings.scanners]
    copies = await asyncio.gather(*(device_of(console).look(one) for one in ids))
    views = [await _view(console, one, copy, logs.get(one)) for one, copy in zip(ids, copies, strict=True)]
    return render(request, "device.html", scanners=views, zone=zone())


@require(PHYSICIST)
async def device(request: Request) -> Response:
    """GET /device/{scanner}: the same of one, with its drift and what would have been halted."""
    console = console_of(request)
    scanner = request.path_params["scanner"]
    console.settings_of(scanner)
    weeks, days = _choice(request, "weeks", WEEKS, 4), _choice(request, "days", DAYS, 7)
    copy = await device_of(console).look(scanner)
    log = (await _logs(console)).get(scanner)
    drift, shadow = await _reports(console, scanner, copy, weeks, days)
    return render(
        request,
        "device_one.html",
        one=await _view(console, scanner, copy, log),
        zone=zone(),
        weeks=weeks,
        days=days,
        spans=[(n, f"/device/{scanner}?weeks={n}&days={days}#drift") for n in WEEKS],
        day_spans=[(n, f"/device/{scanner}?weeks={weeks}&days={n}#halted") for n in DAYS],
        drift=drift_view(drift) if drift else None,
        curve=curve(drift) if drift else None,
        chart=index_chart(drift.fields) if drift else None,
        shadow=shadow_view(shadow, scanner, names_of(console)) if shadow else None,
        logged=console.settings_of(scanner).audit is not None,
    )


ROUTES: Sequence[BaseRoute] = (
    Route("/device", devices, methods=["GET"]),
    Route("/device/{scanner}", device, methods=["GET"]),
)


@asynccontextmanager
async def running(console: Console) -> AsyncIterator[None]:
    """Copies of bundles and reports live as long as the console is served; nothing is read before it is asked for."""
    console.kept[_KEPT] = Device(
        {
            one.id: BundleCopy(one.bundle, one.bundle_keys, console.clock)
            for one in console.settings.scanners
            if one.bundle is not None
        }
    )
    try:
        yield
    finally:
        del console.kept[_KEPT]


def device_of(console: Console) -> Device:
    """What `running` made."""
    found = console.kept[_KEPT]
    assert isinstance(found, Device)
    return found


async def _reports(
    console: Console, scanner: str, copy: Copy | None, weeks: int, days: int
) -> tuple[DriftReport | None, ShadowReport | None]:
    """Both reports of one scanner; None without an audit log, and no drift without a bundle to compare with."""
    if console.settings_of(scanner).audit is None:
        return None, None
    page, history, now = device_of(console), history_of(console), console.clock()
    reference = copy.reference if copy else None
    digest = reference.digest if reference else ""
    async with page.making:
        drift: DriftReport | None = None
        if reference is not None:
            drift = page.kept((scanner, "drift", weeks), digest, now)
            if drift is None:
                drift = await history.ask(drift_report, scanner, reference, weeks, now)
                page.keep((scanner, "drift", weeks), digest, now, drift)
        shadow: ShadowReport | None = page.kept((scanner, "shadow", days), digest, now)
        if shadow is None:
            shadow = await history.ask(shadow_report, scanner, now - days * DAY, now, reference)
            page.keep((scanner, "shadow", days), digest, now, shadow)
        return drift, shadow


async def _logs(console: Console) -> dict[str, dict[str, Any]]:
    """What was last read of each scanner's log."""
    found = await history_of(console).ask(history_query.logs)
    return {log["scanner"]: log for log in reversed(found)}


async def _view(
    console: Console, scanner: str, copy: Copy | None, log: Mapping[str, Any] | None
) -> dict[str, Any]:
    settings, now = console.settings_of(scanner), console.clock()
    alarms: list[dict[str, Any]] = []
    if log is not None:
        alarms = (await history_of(console).ask(history_query.notes, "drift", scanner)).rows
    folder: Path | None = settings.bundle
    return {
        **scanner_view(console.scanner(scanner), settings, now),
        "bundle": bundle_view(folder, copy, log, now),
        "alarms": [alarm_view(one) for one in alarms[: device_of(console).bounds.alarms]],
        "read": moment(log["record_at"]) if log else "",
    }


def _choice(request: Request, name: str, allowed: Sequence[int], default: int) -> int:
    told = request.query_params.get(name, str(default))
    if told not in {str(one) for one in allowed}:
        raise RequestError(f"no such number of {name}", told[:40], f"one of {', '.join(map(str, allowed))}")
    return int(told)
