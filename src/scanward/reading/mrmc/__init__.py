"""Multi-reader multi-case analysis of diagnostic accuracy: ratings in, estimates, tests and intervals out.

Needs numpy and SciPy alone (matplotlib for plots); knows nothing of how the ratings were collected.
"""
