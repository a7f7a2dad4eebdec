"""The reader study: made, read in a browser, exported. `scanward.reading.mrmc` analyses it and is importable alone.

Research only: pictures of a study may have been modified, and every page says so.
"""
