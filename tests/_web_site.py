"""A site in a process of its own: ``python _web_site.py FOLDER PORT [--tls CERTIFICATE KEY]``. Prints its address.

FOLDER holds ``accounts.sqlite``. Beside sign-in it has a slow endpoint, a large one and one that fails.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from _web import accounts_in
from scanward.web.frame import render
from scanward.web.guards import public, require
from scanward.web.serving import certificate_hosts, serve
from scanward.web.site import LOOPBACK, Link, Site, build


@require()
async def home(request: Request) -> Response:
    return render(request, "home.html")


@public
async def slow(request: Request) -> Response:
    await asyncio.sleep(1.0)
    return PlainTextResponse("done")


@public
async def large(request: Request) -> Response:
    return Response(b"x" * (8 << 20), media_type="application/octet-stream")


@public
async def fail(request: Request) -> Response:
    raise ValueError("a bug")


@public
async def where(request: Request) -> Response:
    return PlainTextResponse(f"{request.client.host if request.client else ''} {request.url.scheme}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tls", nargs=2, type=Path)
    parser.add_argument("--behind-proxy", action="store_true")
    options = parser.parse_args()
    certificate, key = options.tls or (None, None)
    templates = options.folder / "templates"
    templates.mkdir(exist_ok=True)
    (templates / "home.html").write_text(
        '{% extends "frame.html" %}{% block title %}Home{% endblock %}'
        '{% block main %}<h1>Home of {{ account.name }}</h1><p><a href="/account">Your account</a></p>{% endblock %}'
    )
    with accounts_in(options.folder) as accounts:
        site = Site(
            "study",
            accounts,
            templates=[templates],
            routes=[
                Route("/home", home),
                Route("/slow", slow),
                Route("/large", large),
                Route("/fail", fail),
                Route("/where", where),
            ],
            title="Reader study",
            home="/home",
            navigation=[Link("Home", "/home")],
            hosts=[*LOOPBACK, *(certificate_hosts(certificate) if certificate else ())],
            tls=certificate is not None or options.behind_proxy,
        )
        serve(
            build(site),
            "127.0.0.1",
            0,
            certificate,
            key,
            behind_proxy=options.behind_proxy,
            on_ready=lambda address: print(address, flush=True),
        )
    print("stopped", flush=True)


if __name__ == "__main__":
    main()
