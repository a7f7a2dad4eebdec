"""The command line: thin, one file per group, every error in one shape.

`main` is the entry point; what commands print goes through `scanward.cli.output`.
"""

from scanward.cli.main import main

__all__ = ["main"]
