"""What ``scanward train`` ends with: the same facts as a table and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scanward.bundle import Manifest
from scanward.cli.output import note, print_table
from scanward.commands import RULE_LAYERS, LayerName
from scanward.recordings import Recording

METHODS: Mapping[LayerName, str] = {
    LayerName.FORM: "ranges and values recorded per device and acquisition type",
    LayerName.PHYSICS: "identities, with constants learned per device",
    LayerName.LIMITS: "NEMA XR-25 values, device maxima",
    LayerName.PROTOCOL_BOOK: "the site's approved protocols",
    LayerName.CONTEXT_FREE: "per-field conditionals, neighbours, masked network",
    LayerName.CONTEXT_SENSITIVE: "classifiers of the context, regressions of dose and current",
    LayerName.PROCEDURE: "recurrent network over the examination",
}


def report_of(
    report: Mapping[str, Any],
    recording: Recording,
    manifest: Manifest,
    *,
    model: Path,
    key_file: str,
    seed: int,
) -> dict[str, Any]:
    """Every fact of the closing table, as ``--json`` prints it."""
    quality = report.get("quality", {})
    objections = report.get("clean_objections_per_1000_commands", {})
    methods = {**{name.value: text for name, text in METHODS.items()}, **report.get("methods", {})}
    return {
        "model": str(model),
        "version": manifest.version,
        "created": manifest.facts.created,
        "digest": manifest.digest,
        "key": key_file,
        "key_id": manifest.key_id,
        "seed": seed,
        "recordings": recording.books(),
        "notes": list(recording.notes),
        "devices": [
            {"manufacturer": d.manufacturer, "model": d.model, "serial": d.serial}
            for d in manifest.facts.devices
        ],
        "role": manifest.facts.role,
        "examinations": report.get("examinations"),
        "calibration_examinations": report.get("calibration_examinations"),
        "commands": report.get("commands"),
        "fields": [field.name for field in manifest.facts.fields],
        "budget": report.get("budget"),
        "layers": [
            {
                "layer": name,
                "method": methods[name],
                "auroc": quality.get(name),
                # What a learned layer objects to by itself alerts nobody: their one number does.
                "clean_objections_per_1000_commands": objections.get(name, 0.0)
                if name in RULE_LAYERS
                else None,
            }
            for name in (layer.value for layer in LayerName)
        ],
        "combined_auroc": quality.get("combined"),
        "expected_alerts_per_1000_commands": report.get("expected_alerts_per_1000_commands"),
        "observed_alerts_per_1000_commands": report.get("observed_alerts_per_1000_commands"),
        "expected_alerts_per_day": report.get("expected_alerts_per_day"),
        "details": dict(report),
    }


def show(facts: Mapping[str, Any]) -> None:
    """The closing tables, for people."""
    books = facts["recordings"]
    print_table(
        ("files", "read", "commands", "duplicates", "rejected"),
        [[books[name] for name in ("files", "read", "commands", "duplicates", "rejected")]],
        title="Recordings (read = commands + duplicates + rejected)",
    )
    print_table(
        ("manufacturer", "model", "serial (hashed)"),
        [(d["manufacturer"] or "(not named)", d["model"], d["serial"]) for d in facts["devices"]],
        title="Devices",
    )
    print_table(
        ("what", "value"),
        [
            ("role", facts["role"]),
            ("examinations learned from", facts["examinations"]),
            ("of these kept for calibration alone", facts["calibration_examinations"]),
            ("commands learned from", facts["commands"]),
            ("fields used", len(facts["fields"])),
        ],
        title="Learned from (QA and service left out unless asked for)",
        caption=_wrapped(facts["fields"]),
    )
    layers = [
        (one["layer"], one["method"], _auroc(one["auroc"]), one["clean_objections_per_1000_commands"])
        for one in facts["layers"]
    ]
    layers.append(
        ("combined", "boosted trees over the three learned layers", _auroc(facts["combined_auroc"]), None)
    )
    print_table(
        ("layer", "method", "AUROC", "clean objections per 1,000"),
        layers,
        title="Layers, on the held-back part",
        caption="AUROC: clean commands against spoilt ones. Rule layers object, learned ones score.",
    )
    print_table(
        ("budget", "expected per 1,000 commands", "expected per day", "observed per 1,000 commands"),
        [
            (
                facts["budget"],
                facts["expected_alerts_per_1000_commands"],
                facts["expected_alerts_per_day"],
                facts["observed_alerts_per_1000_commands"],
            )
        ],
        title="Alerts on clean commands",
        caption="Expected: of the learned layers, by the budget. Observed: all layers, held-back part.",
    )
    for text in facts["notes"]:
        note(f"note: {text}")
    for text in facts["details"].get("raised_limits", []):
        note(f"read before signing: {text}")
    dropped = facts["details"].get("dropped_identities", [])
    if dropped:
        note(
            f"note: {len(dropped)} physical identities do not hold on these recordings and are not judged by"
        )


def _auroc(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _wrapped(names: list[str], width: int = 100) -> str:
    """Names on one line, shortened where there are many: ``--json`` has them all."""
    text = ", ".join(names)
    return text if len(text) <= 3 * width else text[: 3 * width].rpartition(",")[0] + ", ..."
