"""Lists of data sets with anything written into them: adapters tell what is odd, or refuse with an error of ours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import _mammo_layouts as layouts
from _mammo_layouts import sorted_out
from scanward.errors import InputError
from scanward.mammography.adapters import bcdr, cbis_ddsm, cmmd, inbreast, mias, mias_copies, vindr
from scanward.mammography.sources import Adapter, Found, Strange


@dataclass
class Set:
    """A data set as it was built, and its lists as they were."""

    folder: Path
    read: Adapter
    lists: dict[Path, bytes]
    records: int


BUILDERS: dict[str, tuple[Adapter, Callable[[Path], Path]]] = {
    "mias": (mias.read, layouts.mias),
    "mias-png": (mias_copies.read, layouts.mias_png),
    "inbreast": (inbreast.read, layouts.inbreast),
    "bcdr": (bcdr.read, layouts.bcdr),
    "cbis-ddsm": (cbis_ddsm.read, lambda folder: layouts.cbis_ddsm(folder, "bare")),
    "vindr": (vindr.read, layouts.vindr),
    "cmmd": (cmmd.read, layouts.cmmd),
}


@pytest.fixture(scope="module", params=sorted(BUILDERS))
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Set:
    read, build = BUILDERS[request.param]
    folder = build(tmp_path_factory.mktemp("set") / "src")
    lists = {
        path: path.read_bytes() for ending in ("*.csv", "*.txt") for path in sorted(folder.rglob(ending))
    }
    return Set(folder, read, lists, books(list(read(folder))))


def books(records: list[Found | Strange]) -> int:
    """Images that were listed or found: what the importer will count."""
    return sum(isinstance(record, Found) or record.fate != "remark" for record in records)


pieces = st.one_of(
    st.binary(max_size=12),
    st.sampled_from(
        [
            b",",
            b";",
            b'"',
            b"\n",
            b"\r\n",
            b"\0",
            b"\xff",
            b"NaN",
            b"-1",
            b"1e99",
            b"../..",
            b"/etc/passwd",
            b"\t",
            b"''",
        ]
    ),
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_anything_written_into_a_list(built: Set, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(sorted(built.lists)), label="list")
    raw = built.lists[path]
    for _ in range(data.draw(st.integers(1, 3), label="changes")):
        at = data.draw(st.integers(0, len(raw)), label="at")
        cut = data.draw(st.sampled_from([0, 0, 1, 3, 40]), label="cut")
        raw = raw[:at] + data.draw(pieces, label="piece") + raw[at + cut :]
    path.write_bytes(raw)
    try:
        sorted_out(built.read, built.folder)
    except InputError:
        pass
    finally:
        path.write_bytes(built.lists[path])


def test_no_image_is_lost_when_a_row_is_dropped(built: Set) -> None:
    """Each row cut out of each list: its picture is still there, so there are not fewer images in all."""
    for path, raw in built.lists.items():
        lines = raw.split(b"\n")
        for row in range(1, len(lines)):
            path.write_bytes(b"\n".join(lines[:row] + lines[row + 1 :]))
            records = list(built.read(built.folder))
            assert books(records) >= built.records, f"{path.name}, row {row}"
        path.write_bytes(raw)


def test_as_built_all_is_well(built: Set) -> None:
    found, strange = sorted_out(built.read, built.folder)
    assert found
    assert not [record for record in strange if record.fate in ("rejected", "missing")]
