"""The index of Imaging Data Commons, one row a series, as ``idc-index-data`` installs it or as a file of that kind.

Nothing here believes the file: columns are asked for by name, values by kind, numbers and addresses within bounds.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scanward.codecs.image_headers import CT_IMAGE, ENHANCED_CT_IMAGE
from scanward.config import IDC_BOUNDS
from scanward.errors import DecodeError, InputError

INSTALL = "install it with: pip install 'scanward[idc]'"
_URL = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,62}/[0-9A-Za-z-]{1,64}/\*")
_COLUMNS = {
    "collection_id": str,
    "analysis_result_id": str,
    "SeriesInstanceUID": str,
    "StudyInstanceUID": str,
    "Modality": str,
    "SOPClassUID": str,
    "instanceCount": int,
    "series_size_MB": float,
    "series_aws_url": str,
    "license_short_name": str,
    "source_DOI": str,
}


@dataclass(frozen=True, slots=True)
class Series:
    """One CT series of the index. UIDs are the public ones of the collection; commands never carry them."""

    collection: str
    study: str
    series: str
    images: int
    megabytes: float
    url: str
    licence: str
    doi: str


def query(
    collection: str, *, licences: Collection[str] | None = None, index: Path | None = None
) -> tuple[Series, ...]:
    """The CT series of a collection, ordered by study and series; results of others' analyses are left out.

    Parameters
    ----------
    collection : name as the index writes it, ``lidc_idri``
    licences : only these (``CC BY 4.0``, ...); None: whatever the licence
    index : a Parquet file in place of the installed one

    Raises
    ------
    InputError
        When no index is installed, or the collection is unknown or has no CT series (of these licences).
    DecodeError
        When the index is damaged, or lacks a column.
    """
    if not collection or len(collection) > IDC_BOUNDS.collection_chars:
        raise InputError(
            "this is no name of a collection", "Imaging Data Commons", "give one, like lidc_idri"
        )
    path = index or installed_index()
    rows = read_rows(path, _COLUMNS, [("collection_id", "==", collection), ("Modality", "==", "CT")])
    found = []
    for row in rows:
        if row["SOPClassUID"] not in (CT_IMAGE, ENHANCED_CT_IMAGE) or row["analysis_result_id"]:
            continue
        if licences is not None and row["license_short_name"] not in licences:
            continue
        found.append(_series(row, str(path)))
    if not found:
        raise _nothing(collection, licences, bool(rows), path)
    return tuple(sorted(found, key=lambda s: (s.study, s.series)))


def _series(row: dict[str, Any], where: str) -> Series:
    images, megabytes, url = row["instanceCount"], row["series_size_MB"], row["series_aws_url"]
    sound = all(row[name] for name in ("SeriesInstanceUID", "StudyInstanceUID")) and _URL.fullmatch(url)
    if not sound or not 1 <= images <= IDC_BOUNDS.images or not 0 <= megabytes < math.inf:
        raise DecodeError("a row of the index cannot be true", where, "install idc-index-data again")
    return Series(
        row["collection_id"], row["StudyInstanceUID"], row["SeriesInstanceUID"], images, megabytes, url,
        row["license_short_name"], row["source_DOI"],
    )  # fmt: skip


def _nothing(collection: str, licences: Collection[str] | None, known: bool, path: Path) -> InputError:
    if known:
        which = f" under {', '.join(sorted(licences))}" if licences else ""
        return InputError(f"no CT series{which}", collection, "ask for another collection or licence")
    names = {r["collection_id"] for r in read_rows(path, {"collection_id": str, "Modality": str})}
    near = difflib.get_close_matches(collection, names, 3)
    todo = (
        f"perhaps {', '.join(near)}"
        if near
        else "look it up at https://portal.imaging.datacommons.cancer.gov"
    )
    return InputError("no such collection, or none with CT", collection, todo)


# --- the index


def installed_index() -> Path:
    """The index that idc-index installed. InputError when it is not there."""
    try:
        from idc_index_data import IDC_INDEX_PARQUET_FILEPATH as path
    except (ImportError, FileNotFoundError) as error:
        raise InputError("Imaging Data Commons needs idc-index", "its index", INSTALL) from error
    if path is None:
        raise InputError("the index of Imaging Data Commons is not there", "idc-index-data", INSTALL)
    return Path(path)


def read_rows(
    path: Path, columns: dict[str, type], filters: Sequence[tuple[str, str, str | set[str]]] = ()
) -> list[dict[str, Any]]:
    """Rows of a Parquet index: texts (empty when absent), whole numbers, numbers (NaN when absent), or lists of texts.

    Raises
    ------
    DecodeError
        Damaged, without one of the columns, too many rows, or a value of another kind.
    """
    where = str(path)
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise InputError("the index of Imaging Data Commons needs pyarrow", where, INSTALL) from error
    try:
        with pq.ParquetFile(path) as file:
            missing = sorted(set(columns) - set(file.schema_arrow.names))
            if missing:
                raise DecodeError(
                    f"the index has no column {missing[0]}", where, "give an index of this kind"
                )
            if file.metadata.num_rows > IDC_BOUNDS.index_rows:
                raise DecodeError(
                    f"{file.metadata.num_rows} rows are too many", where, "give a genuine index"
                )
        table = pq.read_table(path, columns=list(columns), filters=list(filters) or None)
        if table.num_rows > IDC_BOUNDS.series and filters:
            raise DecodeError(f"{table.num_rows} series are too many", where, "give a smaller collection")
        told = {name: table.column(name).to_pylist() for name in columns}
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise DecodeError("the index cannot be read", where, "install idc-index-data again") from error
    clean = {name: [_as(v, columns[name], name, where) for v in values] for name, values in told.items()}
    return [dict(zip(clean, row, strict=True)) for row in zip(*clean.values(), strict=True)]


def _as(value: object, kind: type, name: str, where: str) -> Any:
    if value is None:
        return {str: "", int: 0, float: math.nan, list: []}[kind]
    if kind is list and isinstance(value, str):
        return [value[: IDC_BOUNDS.text_chars]]
    if kind is list and isinstance(value, list) and all(isinstance(v, str | None) for v in value):
        return [v[: IDC_BOUNDS.text_chars] for v in value if v]
    if kind is str and isinstance(value, str):
        return value.strip()[: IDC_BOUNDS.text_chars]
    if kind in (int, float) and isinstance(value, int | float) and not isinstance(value, bool):
        whole = kind is int and value == value and abs(value) < 1 << 53
        return int(value) if whole else float(value)
    raise DecodeError(f"{name} has values of another kind", where, "give an index of this kind")
