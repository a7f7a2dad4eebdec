"""Sign-in, sessions, roles and the page frame under a strict content policy: shared by every page of Scanward.

Runs in a process of its own, never the guard's. `site` puts a site together, `serving` serves it, `guards` keeps it.
"""
