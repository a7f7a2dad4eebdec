"""Scanward: judges what a CT scanner is told to do, before it does it.

Not a medical device; not to be connected to a clinical scanner outside an approved study.
"""

__version__ = "0.1.0"
