"""``scanward study create`` and ``check``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from scanward.cli.output import note, print_json, print_table, progress

if TYPE_CHECKING:
    from scanward.reading.creating import Made
    from scanward.reading.protocol import Design


@click.command("create", short_help="Make a study: sample, plan, render, freeze.")
@click.option(
    "--genuine",
    required=True,
    type=click.Path(path_type=Path),
    help="Data set of scanward mammo, or a folder of pictures with truth.csv.",
)
@click.option(
    "--modified",
    required=True,
    multiple=True,
    metavar="[ARM=]DIR",
    help="Output of scanward tamper insert or remove, or a folder with truth.csv; repeatable; of one arm, with ARM=.",
)
@click.option("--design", required=True, type=click.Path(path_type=Path), help="The design, design.toml.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder of the study; a new one.")
@click.option(
    "--again",
    type=click.Path(path_type=Path),
    help="Key of an earlier study: take chance from its secret, to make the same one again.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what was made as JSON; no truth is in it.")
def create_command(
    genuine: Path, modified: tuple[str, ...], design: Path, out: Path, again: Path | None, as_json: bool
) -> None:
    """Make a blinded reader study out of genuine pictures and their modified twins, and freeze its protocol.

    OUT gets protocol.json with its hash, key.json (the truth, readable by you alone) and pictures/ (bare grey values).
    Modified pictures must be made with --no-visible-mark: a visible mark gives the truth away. Nothing is changed once
    it is written; see docs/reader-study.md for what a design decides.

    \b
    Example:
      scanward tamper insert phantoms/ --model run/ --out inserted/ --no-visible-mark
      scanward tamper remove phantoms/ --model run/ --out removed/ --no-visible-mark
      scanward study create --genuine phantoms/ --modified inserted/ --modified removed/ \\
          --design examples/reader-study/design.toml --out study/
    """
    from scanward.reading.checking import secret_of
    from scanward.reading.creating import create
    from scanward.reading.design import read_design

    wanted = read_design(design)
    secret = secret_of(again) if again is not None else None
    with progress("rendering", total=None) as step:
        made = create(
            genuine,
            [_folder(text, wanted) for text in modified],
            wanted,
            out,
            secret=secret,
            progress=lambda done, total: step(1, f"rendering ({done}/{total})"),
        )
    if as_json:
        print_json(_told(made, out))
        return
    _print(made, out)


def _folder(text: str, design: Design) -> tuple[str, Path]:
    """``ARM=DIR`` for one arm of the design, else a folder for all."""
    arm, _, folder = text.partition("=")
    if folder and arm in [one.name for one in design.arms]:
        return arm, Path(folder)
    return "", Path(text)


def _told(made: Made, out: Path) -> dict[str, object]:
    """What was made, without truth."""
    import hashlib

    import msgspec

    from scanward.reading.opened import PROTOCOL

    design = made.protocol.design
    return {
        "study": str(out),
        "title": design.title,
        "sha256": hashlib.sha256((out / PROTOCOL).read_bytes()).hexdigest(),
        "created": made.protocol.created,
        "phantom": made.key.phantom,
        "readers": len(made.protocol.readers),
        "women": made.patients,
        "women_with_cancer": made.cancers,
        "pictures": len(made.protocol.pictures),
        "sessions": [len(session.cases) for session in made.protocol.readers[0].sessions],
        "sample_size": msgspec.to_builtins(made.protocol.sample_size),
        "remarks": list(made.remarks),
    }


def _print(made: Made, out: Path) -> None:
    design = made.protocol.design
    told = _told(made, out)
    first = made.protocol.readers[0]
    sizes = ", ".join(f"{len(s.cases)}" for s in first.sessions if s.number) or "none"
    print_table(
        ("what", "value"),
        [
            ("title", design.title),
            ("readers", len(made.protocol.readers)),
            ("women", f"{made.patients}, {made.cancers} of them with cancer"),
            ("pictures of each reader", f"{sizes} by session, {design.practice} for practice"),
            ("days between sessions", design.sessions.washout_days),
            ("arms", ", ".join(_arm(a.name, a.rows, a.columns, a.bits) for a in design.arms)),
            ("protocol sha256", told["sha256"]),
        ],
    )
    if made.plans:
        print_table(
            ("hypothesis", "effect", "readers x cases", "se", "power", "wanted", "needs cases", "or readers"),
            [
                (
                    plan.name,
                    plan.effect,
                    f"{plan.achieved.readers} x {plan.achieved.cases}",
                    plan.achieved.se,
                    plan.achieved.power,
                    plan.wanted,
                    plan.more_cases if plan.more_cases is not None else "none is enough",
                    plan.more_readers if plan.more_readers is not None else "none is enough",
                )
                for plan in made.plans
            ],
            caption="cases of one treatment; variance: " + "; ".join(sorted({p.source for p in made.plans})),
        )
    else:
        note("the design states no hypothesis: whatever is found will be exploratory")
    for plan in made.plans:
        if not plan.enough:
            note(f"{plan.name}: power {plan.achieved.power:.2f} is below the {plan.wanted:.2f} wanted")
    for remark in made.remarks:
        note(remark)
    note(f"keep {out / 'key.json'} where no reader and no server can read it: it is the truth")
    note("research only: some of these pictures are modified, and none of them says which")


def _arm(name: str, rows: int, columns: int, bits: int) -> str:
    return f"{name} {rows} x {columns} px {bits} bit" if rows else f"{name} own size {bits} bit"


@click.command("check", short_help="Check that a study is as it was made.")
@click.argument("study", type=click.Path(path_type=Path))
@click.option(
    "--key", type=click.Path(path_type=Path), help="The key, where it is not in the study's folder."
)
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON.")
def check_command(study: Path, key: Path | None, as_json: bool) -> None:
    """Check a study: hashes of protocol, key and every picture, and that its plan keeps its rules.

    Compare the hash that is printed with the one that was registered before reading began.

    \b
    Example:
      scanward study check study/
      scanward study check study/ --key safe/key.json --json
    """
    from scanward.reading.checking import check

    found = check(study, key)
    if as_json:
        print_json(found)
        return
    print_table(
        ("what", "value"),
        [
            ("title", found.title),
            ("made", found.created),
            ("protocol sha256", found.sha256),
            ("pictures", found.pictures),
            ("readers", found.readers),
            ("sessions", found.sessions),
            ("key", "as it was made" if found.key else "not here, not checked"),
        ],
    )
    note("the study is as it was made")
