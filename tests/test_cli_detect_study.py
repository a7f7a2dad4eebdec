"""``scanward detect --study``: a whole study examined out of Orthanc, however it is fetched."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

pytest.importorskip("pynetdicom", reason="the extra scanward[dicom] is not installed")

import numpy as np

from _archive import LOCAL, PLUGIN, archive, free_port, sent
from _dicom import Orthanc
from _tamper_dicom import mammogram_file
from scanward.cli.main import cli
from scanward.forensics.making import Making, train
from scanward.mammography.phantom_sets import write_phantoms
from scanward.transport.dicom import Peer

STUDY = "2.25.880088"
TITLE = "SCANWARD"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    write_phantoms(folder / "women", patients=14, rows=48, columns=48, seed=93, prevalence=0.5)
    train(folder / "women", {}, Making(epochs=1, classical=1)).save(folder / "detector")
    return folder / "detector"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two mammograms of one study as files."""
    folder = tmp_path_factory.mktemp("study")
    noise = np.random.default_rng(3).integers(-40, 40, (200, 160))
    down, right = np.indices((200, 160))
    for number, strong in ((1, 1500), (2, 2100)):
        grey = np.where(np.hypot(down - 100, right) < 90, strong + noise, 0).astype(np.uint16)
        mammogram_file(
            folder / f"{number}.dcm",
            grey,
            StudyInstanceUID=STUDY,
            SOPInstanceUID=f"{STUDY}.{number}",
            InstanceNumber=number,
        )
    return folder


@pytest.fixture(scope="module")
def stocked(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Orthanc, int]]:
    port = free_port()
    with archive(tmp_path_factory.mktemp("archive"), web=PLUGIN.exists(), **{TITLE: port}) as orthanc:
        for path in sorted(study.iterdir()):
            reply = sent(Peer(LOCAL, orthanc.dicom, "ORTHANC"), path.read_bytes()).reply
            assert reply is not None
            assert reply.status == 0
        yield orthanc, port


@pytest.mark.parametrize("how", ["get", "move", "web"])
def test_a_study_of_the_archive_is_examined_as_its_files_are(
    stocked: tuple[Orthanc, int], study: Path, model: Path, tmp_path: Path, how: str
) -> None:
    orthanc, port = stocked
    if how == "web" and not PLUGIN.exists():
        pytest.skip(f"no {PLUGIN} (Debian package orthanc-dicomweb)")
    peer = f"ORTHANC@{LOCAL}:{orthanc.dicom}"
    ways = {
        "get": ["--from", peer],
        "move": ["--from", peer, "--move", f"{LOCAL}:{port}", "--title", TITLE],
        "web": ["--from", f"http://{LOCAL}:{orthanc.http}/dicom-web/"],
    }
    common = ["--model", str(model), "--false-alarms", "0.4", "--json"]
    out = tmp_path / "found"
    fetched = CliRunner().invoke(
        cli, ["detect", "--study", STUDY, *ways[how], *common, "--out", str(out), "--dicom"]
    )
    assert fetched.exit_code == 0, fetched.output
    told = json.loads(fetched.stdout)
    beside = json.loads(CliRunner().invoke(cli, ["detect", str(study), *common]).stdout)
    assert told["examined"] == 2
    assert not told["failed"]
    kept = ("alarm", "p_value", "likelihood_ratio", "words")
    assert sorted([str({k: row[k] for k in kept}) for row in told["images"]]) == sorted(
        [str({k: row[k] for k in kept}) for row in beside["images"]]
    )
    assert len(list((out / "dicom").glob("*-report.dcm"))) == 2
    assert len(list((out / "heat").glob("*.png"))) == 2


def test_a_study_that_the_archive_lacks_is_told(stocked: tuple[Orthanc, int], model: Path) -> None:
    orthanc, _ = stocked
    result = CliRunner().invoke(
        cli,
        [
            *("detect", "--study", "2.25.1", "--from", f"ORTHANC@{LOCAL}:{orthanc.dicom}"),
            *("--model", str(model), "--false-alarms", "0.4"),
        ],
    )
    assert result.exit_code != 0
    assert "2.25.1" in result.stderr
    assert "Traceback" not in result.output
