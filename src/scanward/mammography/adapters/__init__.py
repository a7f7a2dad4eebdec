"""Adapters to published data sets: each reads a source's lists and annotations, never its pixels.

Every module hands out ``read(src) -> Iterator[Found | Strange]``; `scanward.mammography.kinds` names them.
"""
