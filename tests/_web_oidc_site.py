"""A site with a provider, in a process of its own: ``python _web_oidc_site.py FOLDER PORT ISSUER``."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from _oidc import CLIENT, SECRET
from _web import accounts_in
from scanward.web.frame import render
from scanward.web.guards import require
from scanward.web.oidc import Provider, SingleSignOn
from scanward.web.serving import serve
from scanward.web.site import Site, build


@require()
async def home(request: Request) -> Response:
    return render(request, "home.html")


def main() -> None:
    folder, port, issuer = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    (folder / "home.html").write_text(
        '{% extends "frame.html" %}{% block title %}Home{% endblock %}'
        "{% block main %}<h1>Home of {{ account.name }}</h1>{% endblock %}"
    )
    single = SingleSignOn(Provider(issuer, CLIENT, SECRET, f"http://localhost:{port}"))
    with accounts_in(folder) as accounts:
        site = Site(
            "study",
            accounts,
            templates=[folder],
            routes=[Route("/home", home), Route("/other", home)],
            home="/home",
            single_sign_on=single,
        )
        serve(build(site), "127.0.0.1", port, on_ready=lambda address: print(address, flush=True))


if __name__ == "__main__":
    main()
