"""The report of an analysis: complete, escaped, self-contained, marked where simulated, in every form."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from _export import as_csv, export_rows
from scanward.errors import InputError, SettingsError
from scanward.reading import report_blocks
from scanward.reading.analysing import Request, analyse
from scanward.reading.findings import Result
from scanward.reading.mrmc.results import Covariance, Random
from scanward.reading.mrmc.table import parse_table
from scanward.reading.report import write_report
from scanward.reading.report_blocks import (
    Block,
    Drawing,
    Heading,
    Paragraph,
    Table,
    blocks,
    degrees,
    number,
    probability,
)
from scanward.reading.report_pdf import _lines, _pages

PROTOCOL = "5e" * 32
QUICK = {"methods": ("OR",), "covariances": (Covariance.JACKKNIFE,)}


def plain(names: tuple[str, ...] = ("R1", "R2", "R3"), treatments: tuple[str, ...] = ("old", "new")) -> bytes:
    generator = np.random.default_rng(2)
    lines = ["reader\ttreatment\tcase\ttruth\trating"]
    for reader in names:
        for t, treatment in enumerate(treatments):
            for case in range(30):
                truth = case % 3 == 0
                rating = int(np.clip(2 + truth * (1 + t) + generator.normal(0, 0.8), 1, 5))
                lines.append(f"{reader}\t{treatment}\tc{case}\t{int(truth)}\t{rating}")
    return "\n".join(lines).encode()


@pytest.fixture(scope="module")
def simulated() -> Result:
    table = parse_table(
        as_csv(list(export_rows(women=16, readers=2, arms=("low",))), simulated=True), source="export.csv"
    )
    return analyse(table, Request(**QUICK, randoms=(Random.BOTH,), merits=("empirical",)))


@pytest.fixture(scope="module")
def simulated_blocks(simulated: Result) -> list[Block]:
    return list(blocks(simulated))


@pytest.fixture(scope="module")
def honest_blocks(honest: Result) -> list[Block]:
    return list(blocks(honest, PROTOCOL))


@pytest.fixture(scope="module")
def honest() -> Result:
    table = parse_table(plain(), source="ratings.tsv")
    request = Request(
        **QUICK, randoms=(Random.BOTH, Random.CASES), merits=("empirical", "binormal"), margin=0.05
    )
    return analyse(table, request)


@pytest.fixture(scope="module")
def honest_page(honest: Result, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "out.html"
    assert write_report(honest, path, PROTOCOL) == (path,)
    return path


class Page(HTMLParser):
    """Tags, their attributes and the text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)


# --- what is in it


def text_of(found: list[Block]) -> str:
    parts: list[str] = []
    for one in found:
        if isinstance(one, Table):
            parts += [one.caption, *one.columns, *(cell for row in one.rows for cell in row)]
        else:
            parts.append(one.text)
    return "\n".join(parts)


def test_everything_the_analysis_found_is_in_the_report(honest: Result, honest_blocks: list[Block]) -> None:
    text = text_of(honest_blocks)
    assert honest.sha256 in text
    assert PROTOCOL in text
    assert honest.version in text
    assert honest.decisions
    for decision in honest.decisions:
        assert decision.words in text
    for finding in honest.findings:
        for measured in finding.measured:
            assert all(number(cell.value) in text for cell in measured.cells)
            for analysis in measured.analyses:
                assert analysis.overall is not None
                assert {number(analysis.overall.value), probability(analysis.overall.p)} <= set(
                    text.split("\n")
                )
                for one in (*analysis.differences, *analysis.treatments, *analysis.by_reader):
                    assert f"{number(one.low)} to {number(one.high)}" in text
                assert all(f"{value:.7g}" in text for value in analysis.components.values())
                assert all(warning in text for warning in analysis.warnings)
    assert all(warning in text for finding in honest.findings for warning in finding.warnings)


def test_the_methods_name_what_was_used_and_nothing_else(
    honest_blocks: list[Block], simulated_blocks: list[Block]
) -> None:
    text = text_of(honest_blocks)
    for used in (
        "Obuchowski and Rockette",
        "Dorfman and Alf",
        "leave out one patient",
        "readers and cases random:",
    ):
        assert used in text
    for unused in ("DBM:", "DeLong covariances", "one-shot", "Sensitivity is"):
        assert unused not in text
    assert "Dorfman and Alf" not in text_of(simulated_blocks)
    assert "two one-sided tests" in text_of(simulated_blocks)  # equivalence of the published study


def test_simulated_stands_on_every_table_plot_and_page(
    simulated_blocks: list[Block], honest_blocks: list[Block]
) -> None:
    found = simulated_blocks
    tables = [one for one in found if isinstance(one, Table)]
    drawings = [one for one in found if isinstance(one, Drawing)]
    assert len(tables) > 5
    assert len(drawings) > 5
    assert all(one.caption.endswith("SIMULATED") for one in tables)
    for one in drawings:
        assert "SIMULATED" in one.figure.get_suptitle()
        assert all(
            "SIMULATED" in [t.get_text() for t in axes.texts] for axes in one.figure.axes if axes.axison
        )
    assert isinstance(found[0], Heading)
    assert "SIMULATED" in found[0].text
    assert "SIMULATED" not in text_of(honest_blocks)


def test_plots_have_names_of_their_own_and_words_for_who_cannot_see_them(
    simulated_blocks: list[Block],
) -> None:
    drawings = [one for one in simulated_blocks if isinstance(one, Drawing)]
    names = [one.name for one in drawings]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z0-9-]+", name) for name in names)
    assert all(len(one.text) > 15 for one in drawings)


def test_too_many_treatments_are_said_not_drawn(monkeypatch: pytest.MonkeyPatch, honest: Result) -> None:
    monkeypatch.setattr(report_blocks, "_CURVES", 1)
    found = list(blocks(honest))
    assert not any(isinstance(one, Drawing) and "curves" in one.name for one in found)
    assert any(isinstance(one, Paragraph) and "not drawn" in one.text for one in found)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.91234567, "0.9123"), (0.0, "0.0000"), (-0.04380032, "-0.0438"), (0.0000123, "1.2e-05"),
        (float("nan"), "-"), (float("inf"), "\N{INFINITY}"), (-float("inf"), "-\N{INFINITY}"), (5.475953, "5.4760"),
    ],
)  # fmt: skip
def test_numbers(value: float, text: str) -> None:
    assert number(value) == text


def test_probabilities_and_degrees_of_freedom() -> None:
    assert [probability(p) for p in (0.05174, 0.00009, 0.0, 1.0, float("nan"))] == [
        "0.0517", "< 0.0001", "< 0.0001", "1.0000", "-",
    ]  # fmt: skip
    assert [degrees(df) for df in (4.0, 15.2597, float("inf"))] == ["4", "15.26", "\N{INFINITY}"]


# --- HTML


def test_html_holds_everything_and_fetches_nothing(
    honest: Result, honest_blocks: list[Block], honest_page: Path
) -> None:
    text = honest_page.read_text(encoding="utf-8")
    page = Page(text)
    assert not {"script", "link", "iframe", "object", "embed", "base", "form", "a"} & {
        tag for tag, _ in page.tags
    }
    for tag, attributes in page.tags:
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
        if tag == "img":
            assert (attributes["src"] or "").startswith("data:image/svg+xml;base64,")
            assert attributes["alt"]
    drawings = sum(isinstance(one, Drawing) for one in honest_blocks)
    assert sum(tag == "img" for tag, _ in page.tags) == drawings > 5
    policy = [a for tag, a in page.tags if tag == "meta" and a.get("http-equiv") == "Content-Security-Policy"]
    assert "default-src 'none'" in (policy[0]["content"] or "")
    words = "".join(page.words)
    assert all(decision.words in words for decision in honest.decisions)
    assert PROTOCOL in words


def test_names_from_outside_are_only_text(tmp_path: Path) -> None:
    evil = ("<script>alert(1)</script>", "x\"><img src=x onerror='x'>", "--><script>", "$\\frac{$", "_r")
    table = parse_table(plain(evil, ("<b>old</b>", "new & $old$")), source="<svg onload=x>.tsv")
    result = analyse(table, Request(**QUICK, randoms=(Random.CASES,), margin=0.1))
    result = replace(result, title="</title><script>x</script>")
    out = tmp_path / "evil.html"
    write_report(result, out)
    page = Page(out.read_text(encoding="utf-8"))
    assert "script" not in {tag for tag, _ in page.tags}
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert {a["src"][:10] for tag, a in page.tags if tag == "img" and a["src"]} == {"data:image"}
    for _, attributes in (one for one in page.tags if one[0] == "img"):
        svg = base64.b64decode((attributes["src"] or "").partition(",")[2]).decode()
        drawn = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)  # matplotlib repeats each text in a comment
        assert not re.search(r"<script|<img|onload=|onerror=", drawn)
    assert evil[0] in "".join(page.words)


def test_html_opens_offline_in_a_browser(honest_page: Path) -> None:
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("no chromium on this machine")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as p:
        chromium = p.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        try:
            context = chromium.new_context(offline=True)
            page = context.new_page()
            troubles: list[str] = []
            page.on("console", lambda message: troubles.append(message.text))
            page.on("requestfailed", lambda request: troubles.append(request.url[:80]))
            page.goto(honest_page.as_uri())
            widths = page.evaluate("[...document.images].map(i => i.complete ? i.naturalWidth : 0)")
            folded = page.locator("details").first
            assert not folded.locator("table").is_visible()
            folded.locator("summary").press("Enter")
            assert folded.locator("table").is_visible()
            overflow = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        finally:
            chromium.close()
    assert troubles == []
    assert len(widths) > 5
    assert min(widths) > 200
    assert overflow <= 0


# --- PDF, SVG, folder


def test_pdf(honest: Result, honest_blocks: list[Block], tmp_path: Path) -> None:
    out = tmp_path / "deep" / "report.PDF"
    assert write_report(honest, out, PROTOCOL) == (out,)
    content = out.read_bytes()
    assert content.startswith(b"%PDF-")
    assert content.rstrip().endswith(b"%%EOF")
    plots = sum(isinstance(one, Drawing) for one in honest_blocks)
    pages = len(re.findall(rb"/Type /Page\b", content))
    assert pages > plots
    assert b"/JavaScript" not in content


def test_pages_lose_no_line_and_leave_no_heading_alone(honest_blocks: list[Block]) -> None:
    lines = [line for one in honest_blocks if not isinstance(one, Drawing) for line in _lines(one)]
    pages = list(_pages(lines))
    assert len(pages) > 2
    assert [line for page in pages for line in page] == lines
    assert not any(page[-1].head for page in pages)
    height = 72 * (11.69 - 1.2)
    assert all(sum(line.size * 1.35 for line in page) <= height for page in pages)


def test_wide_tables_are_folded_into_the_page() -> None:
    table = Table("wide", ("a", "b"), (("x" * 300, "y y " * 100), ("1", "2")))
    texts = [line.text for line in _lines(table) if line.mono]
    assert max(map(len, texts)) <= 130
    assert "".join(texts).count("x") == 300
    assert "".join(texts).count("y") == 200


def test_svg_is_the_first_plot_and_the_others_beside_it(
    honest: Result, honest_blocks: list[Block], tmp_path: Path
) -> None:
    written = write_report(honest, tmp_path / "plot.svg")
    assert written[0] == tmp_path / "plot.svg"
    assert len(written) == sum(isinstance(one, Drawing) for one in honest_blocks)
    assert sorted(tmp_path.iterdir()) == sorted(written)
    assert all(path.read_text(encoding="utf-8").startswith("<?xml") for path in written)


def test_a_folder_holds_all_forms_and_the_figures_at_full_precision(honest: Result, tmp_path: Path) -> None:
    out = tmp_path / "report"
    out.mkdir()
    (out / "report.html").write_text("of an earlier analysis", encoding="utf-8")
    written = write_report(honest, out, PROTOCOL)
    assert {path.relative_to(out).as_posix() for path in written} >= {
        "report.html",
        "report.pdf",
        "result.json",
    }
    assert sorted(path for path in out.rglob("*") if path.is_file()) == sorted(written)
    assert json.loads((out / "result.json").read_text(encoding="utf-8")) == json.loads(
        json.dumps(honest.as_json())
    )
    assert (out / "report.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    plots = [path for path in written if path.suffix == ".svg"]
    assert {path.parent.name for path in plots} == {"plots"}


def test_what_cannot_be_written_is_refused(honest: Result, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"\.html, \.pdf, \.svg"):
        write_report(honest, tmp_path / "report.docx")
    file = tmp_path / "file"
    file.write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match="a file where a folder"):
        write_report(honest, file)
    with pytest.raises(InputError, match="cannot be written"):
        write_report(honest, file / "report.html")
    assert file.read_text(encoding="utf-8") == "mine"


def test_an_endpoint_of_one_class_is_reported_without_plots(tmp_path: Path, honest: Result) -> None:
    finding = replace(honest.findings[0], measured=(), warnings=("no negative cases",))
    bare = replace(honest, findings=(finding,), decisions=(), decided_by="")
    assert "no negative cases" in text_of(list(blocks(bare)))
    write_report(bare, tmp_path / "bare.html")
    with pytest.raises(InputError, match="nothing to draw"):
        write_report(bare, tmp_path / "bare.svg")


def test_drawing_libraries_load_only_when_a_report_is_written() -> None:
    code = (
        "import sys; import scanward.reading.report, scanward.reading.mrmc.partial, scanward.reading.mrmc.bands; "
        "print('matplotlib' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip() == "False"
