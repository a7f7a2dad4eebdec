"""Pages: Jinja2 templates, escaped always, in one frame with a research notice. No script or style within a page.

A template extends ``frame.html`` and fills the blocks ``title``, ``head`` and ``main``; a page that needs the room may
empty ``header`` and ``footer``; the notice stays in ``notice``; ``body_class`` is the class of the body. Every template
knows ``site``, ``account`` (or None), ``csrf_token`` (also in ``<meta name="csrf-token">``) and ``navigation``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import jinja2
from starlette.requests import Request
from starlette.responses import HTMLResponse

from scanward.web.guards import visit_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scanward.web.site import Site

TEMPLATES: Final = Path(__file__).parent / "templates"
STATIC: Final = Path(__file__).parent / "static"


def environment(folders: Sequence[Path]) -> jinja2.Environment:
    """Templates of this room first, so that nobody replaces the frame unawares, then those of ``folders``."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader([TEMPLATES, *folders], followlinks=False),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )


def render(request: Request, template: str, status: int = 200, **context: Any) -> HTMLResponse:
    """A page out of a template and what it shows. jinja2.TemplateError when the template is wrong: a bug of ours."""
    site: Site = request.app.state.site
    visit = visit_of(request)
    account = visit.session.account if visit.session else None
    page = request.app.state.templates.get_template(template)
    text = page.render(
        site=site,
        account=account,
        csrf_token=visit.csrf_token,
        navigation=[
            link
            for link in site.navigation
            if account and (not link.role or account.roles.intersection(link.role.split()))
        ],
        here=request.scope["path"],
        **context,
    )
    return HTMLResponse(text, status)
