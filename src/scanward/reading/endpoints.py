"""The endpoints of a study: each a named table of ratings, out of the export table or of any other."""

from __future__ import annotations

from dataclasses import dataclass

from scanward.reading.mrmc.ratings import Ratings


@dataclass(frozen=True, eq=False)
class Endpoint:
    """One table of ratings, and what it asks.

    Parameters
    ----------
    name : str
        "lesion, low", "lesion insertion, low", "manipulation", or "ratings" for a plain table.
    question : str
        lesion, manipulation, another question's identifier, or "" for a plain table.
    arm : str
        The arm it belongs to, "" where the arms are its treatments or there are none.
    part : str
        "", "insertion" or "removal".
    ratings : Ratings
    positive : str
        What the truth of a positive case says, in words: for tables and axes.
    """

    name: str
    question: str
    arm: str
    part: str
    ratings: Ratings
    positive: str
