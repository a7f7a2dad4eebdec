"""The operator's console: what each guard holds, shown in browsers; signed acts carried to it. It forges none.

A process of its own, which the gate never waits for. `app` puts the pages together, `link` watches the guards,
`tickets` carries acts; each page is a module with ``ROUTES``, ``LINKS`` and, where it works in between, ``running``.
"""
