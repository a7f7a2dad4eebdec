"""A study as a site: its protocol, its answers, its accounts and its pages, ready to be served.

The key is no part of it: a study is served from a machine that has none as well as from one that has.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from scanward.errors import SettingsError
from scanward.reading.answering import Desk
from scanward.reading.api import LEAD, routes
from scanward.reading.opened import Study, open_study
from scanward.reading.store import Store
from scanward.web.accounts import Accounts
from scanward.web.front import LOOPBACK
from scanward.web.site import Link, Site

HERE = Path(__file__).parent
TEMPLATES = HERE / "templates"
STATIC = HERE / "static"
NOTICE = "Reader study for research: images may have been modified. Not for diagnosis."


def now_utc() -> datetime:
    """The server's clock."""
    return datetime.now(UTC)


def washout_of(study: Study, *, no_washout: bool = False) -> timedelta:
    """The time between two sessions of one reader; none where it is switched off, which only a rehearsal may be.

    Raises
    ------
    SettingsError
        Switched off in a study that is read by people.
    """
    design = study.protocol.design
    if no_washout and not design.simulated:
        raise SettingsError(
            "washout belongs to the frozen protocol of a study that people read",
            "--no-washout",
            "leave it out; only a design with simulated = true may do without",
        )
    return timedelta(0) if no_washout else timedelta(days=design.sessions.washout_days)


def open_desk(folder: Path, *, no_washout: bool = False, clock: Callable[[], datetime] = now_utc) -> Desk:
    """The study in ``folder`` and its answers; the caller closes ``desk.store``.

    Raises
    ------
    InputError
        No study, a changed protocol, a missing picture, answers of another protocol.
    SettingsError
        ``no_washout`` in a study of people.
    """
    study = open_study(folder)
    washout = washout_of(study, no_washout=no_washout)
    return Desk(study, Store(study.answers, study.sha256), clock, washout)


def study_site(desk: Desk, accounts: Accounts, *, hosts: Sequence[str] = LOOPBACK, tls: bool = False) -> Site:
    """The site of a study: `scanward.web.site.build` makes an application of it.

    ``accounts`` are those in the study's folder. They and the answers are closed when the application ends.
    """
    study, store = desk.study, desk.store

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        try:
            yield
        finally:
            store.close()
            accounts.close()

    return Site(
        f"study-{study.sha256[:8]}",  # cookies know no ports: two studies on one machine need two names
        accounts,
        templates=[TEMPLATES],
        static={"/study/static": STATIC},
        routes=routes(desk),
        title=study.protocol.design.title,
        notice=NOTICE,
        home="/study/",
        navigation=[Link("Study", "/study/"), Link("Overview", "/study/lead", LEAD)],
        hosts=hosts,
        tls=tls,
        clock=lambda: desk.clock().timestamp(),
        lifespan=lifespan,
    )
