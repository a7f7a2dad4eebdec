# ruff: noqa: S608 - statements are put together out of this module's texts; what a record tells is bound
"""Loads and motions: from being taken in, by way of the verdict, to what became of them."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, Final

from scanward.console.history_values import (
    OF_LOG,
    RecordBase,
    Told,
    WrongRecordError,
    json_text,
    mapping,
    number,
    said_of,
    whole,
)

_TAKEN: Final = (  # what is known of an element when its load is taken in
    "scanner, log_id, seq, at, life, load, kind, digest, examination, patient, element, elements, mode, protocol, "
    "body_part, age, parameters, context"
)
_SHADOW: Final = "shadow mode"  # how the gate's note on such a release begins
_EMERGENCY: Final = "emergency access"
_GONE: Final = "the guard ended before it was decided"
_UNTOLD: Final = "the log does not say what became of it; another of that name came"
_UNKNOWN: Final = "the guard ended before it said that this was sent: it may have reached the gantry"


class LoadRecords(RecordBase):
    """What the gate does with what a host sends."""

    def _start(self, said: Told) -> None:
        """A relay begins its life: nothing of the one before waits any more, and everything is counted anew."""
        course = self.course
        self._settle()
        self._run(
            f"UPDATE emergencies SET ended = :at, ended_why = 'the guard started anew' WHERE {OF_LOG} AND ended IS NULL"
        )
        course.life, course.mode, course.recent = self._entry.seq, "CLINICAL", []
        weakenings = said.get("weakenings")
        told = ", ".join(self._text(w) for w in weakenings) if isinstance(weakenings, list) else ""
        self._write_note("start", f"weakened: {told}" if told else "nothing weakened", said)

    def _end(self, said: Told) -> None:
        """A relay ends, and says so."""
        self._settle()
        self._note(said)

    def _settle(self) -> None:
        """What a relay left behind: not released, or nobody knows whether it was sent."""
        gone = f"WHERE {OF_LOG} AND outcome = 'pending'"
        self._run(
            f"UPDATE judged SET outcome = 'unknown', why = :why {gone} AND token IS NOT NULL", why=_UNKNOWN
        )
        self._run(f"UPDATE judged SET outcome = 'refused', why = :why {gone}", why=_GONE)

    def _load(self, said: Told) -> None:
        chain = said.get("chain")
        if not isinstance(chain, list) or not chain:
            raise WrongRecordError("a load without elements")
        commands = [e.get("command") if isinstance(e, dict) else None for e in chain]
        self._insert(said, "command", [c if isinstance(c, dict) else {} for c in commands])

    def _motion(self, said: Told) -> None:
        motion = said.get("motion")
        told = {k: v for k, v in motion.items() if k != "id"} if isinstance(motion, dict) else {}
        self._insert(said, "motion", [{"parameters": told}])

    def _insert(self, said: Told, kind: str, commands: Sequence[Told]) -> None:
        load, course = self._text(said.get("id")), self.course
        self._run(
            f"UPDATE judged SET outcome = 'refused', why = :why WHERE {OF_LOG} AND load = :load "
            "AND outcome = 'pending'",
            load=load,
            why=_UNTOLD,
        )
        rows = []
        for element, command in enumerate(commands):
            parameters, context = mapping(command.get("parameters")), mapping(command.get("context"))
            rows.append(
                (
                    course.scanner,
                    course.log,
                    self._entry.seq,
                    self._entry.at,
                    course.life,
                    load,
                    kind,
                    self._text(said.get("digest")),
                    self._text(said.get("examination")),
                    self._text(said.get("patient")),
                    element,
                    len(commands),
                    course.mode,
                    self._text(said_of("ProtocolName", parameters, context)),
                    self._text(said_of("BodyPartExamined", parameters, context)),
                    number(said_of("PatientAge", parameters, context)),
                    json_text(parameters),
                    json_text(context),
                )
            )
        self.db.executemany(
            f"INSERT INTO judged ({_TAKEN}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
            rows,
        )

    def _verdict(self, said: Told) -> None:
        load, request = self._text(said.get("id")), whole(said.get("request"))
        told_p = said.get("p_values")
        p_values: list[Any] = told_p if isinstance(told_p, list) else []
        rows = self._open(load) or self._reopened(load, self._text(said.get("digest")))
        if not rows:  # its load is in a part of the log that is not there any more
            self._insert(said, "command", [{}] * max(1, len(p_values)))
            rows = self._open(load)
        elif any(row["request"] for row in rows):
            rows = self._again(rows)
        apart = said.get("elements") if isinstance(said.get("elements"), list) else None
        for row in rows:
            own = _own(apart, row["element"])
            told = said if own is None else own
            fields = told.get("fields")
            named = [self._text(f) for f in fields if isinstance(f, str)] if isinstance(fields, list) else []
            objected = list(dict.fromkeys(named))
            element = row["element"]
            self._run(
                "UPDATE judged SET request = :request, verdict = :verdict, layer = :layer, fields = :fields, "
                "reason = :reason, p_value = :p_value, score = :score, bundle = :bundle WHERE id = :id",
                request=request,
                verdict=self._text(told.get("verdict")),
                layer=self._text(told.get("layer")),
                fields=json_text(objected),
                reason=self._text(told.get("reason")),
                p_value=number(p_values[element]) if element < len(p_values) else None,
                score=number(told.get("score")),
                bundle=self._text(said.get("bundle")),
                id=row["id"],
            )
            self.db.executemany(
                "INSERT OR IGNORE INTO objected VALUES (?, ?)", [(name, row["id"]) for name in objected]
            )

    def _again(self, rows: Sequence[sqlite3.Row]) -> list[sqlite3.Row]:
        """New rows for a load that is judged again; the old ones are superseded."""
        for row in rows:
            self._run(
                f"INSERT INTO judged ({_TAKEN}) "
                f"SELECT {_TAKEN.replace('seq, at', ':seq, :at')} FROM judged WHERE id = :id",
                id=row["id"],
            )
        ids = [row["id"] for row in rows]
        load = self.db.execute("SELECT load FROM judged WHERE id = ?", (ids[0],)).fetchone()["load"]
        self.db.executemany("UPDATE judged SET outcome = 'superseded' WHERE id = ?", [(i,) for i in ids])
        return self._open(load)

    def _reopened(self, load: str, digest: str) -> list[sqlite3.Row]:
        """Rows of a load that looked refused, for a trigger that bore its name was; undecided again."""
        newest = f"SELECT max(seq) FROM judged WHERE {OF_LOG} AND life = :life AND load = :load AND digest = :digest"
        self._run(
            f"UPDATE judged SET outcome = 'pending', why = '' WHERE {OF_LOG} AND life = :life AND load = :load "
            f"AND outcome = 'refused' AND seq = ({newest})",
            load=load,
            digest=digest,
        )
        return self._open(load)

    def _hold(self, said: Told) -> None:
        self._each(self._of_request(said), "held = :at, outcome = 'pending'")

    def _release(self, said: Told) -> None:
        note = self._text(said.get("note"))
        grant = self._grant(None) if note.startswith(_EMERGENCY) else None
        self._each(
            self._of_request(said),
            # "pending" again: a trigger that bore the name of this load may have been refused meanwhile
            "token = :token, outcome = 'pending', why = :why, mode = :mode, emergency = :grant, request = :request",
            token=whole(said.get("record")),
            why=note,
            mode=self._text(said.get("mode")) or self.course.mode,
            grant=grant,
            request=whole(said.get("request")),
        )

    def _sent(self, said: Told) -> None:
        if "load" in said:
            self._carried(said)
            return
        token = whole(said.get("token"))
        if token:
            self._run(
                f"UPDATE judged SET outcome = CASE WHEN substr(why, 1, {len(_SHADOW)}) = '{_SHADOW}' "
                f"THEN 'shadow' ELSE 'released' END WHERE {OF_LOG} AND outcome = 'pending' AND life = :life "
                "AND token = :token",
                token=token,
            )

    def _carried(self, said: Told) -> None:
        self._run(
            "UPDATE judged SET carried = coalesce(carried, :at), shots = shots + 1, fired = :fired WHERE id = "
            f"(SELECT id FROM judged WHERE load = :load AND {OF_LOG} AND life = :life AND element = :element "
            "AND outcome IN ('released', 'shadow') ORDER BY id DESC LIMIT 1)",
            load=self._text(said.get("load")),
            element=whole(said.get("element")),
            fired=self._text(said.get("id")),
        )

    def _withdrawn(self, said: Told) -> None:
        self._run(
            f"UPDATE judged SET token = NULL, why = :why WHERE {OF_LOG} AND outcome = 'pending' AND life = :life "
            "AND token = :token",
            token=whole(said.get("token")),
            why=self._text(said.get("reason")),
        )

    def _refuse(self, said: Told) -> None:
        rows = [row["id"] for row in self._open(self._text(said.get("id")))]
        self._each(
            rows,
            "outcome = CASE verdict WHEN 'HALT' THEN 'halted' ELSE 'refused' END, why = :why, "
            "layer = CASE verdict WHEN '' THEN :layer ELSE layer END",
            why=self._text(said.get("reason")),
            layer=self._text(said.get("layer")),
        )
        if not rows:
            self._note(said)  # a trigger, or what was not even taken in

    def _declined(self, said: Told) -> None:
        name, why = self._text(said.get("id")), f"the gantry declined: {self._text(said.get('reason'))}"
        newest = f"SELECT id FROM judged WHERE {OF_LOG} ORDER BY id DESC LIMIT 500"
        self._run(
            f"UPDATE judged SET shots = shots - 1, why = :why, carried = CASE shots WHEN 1 THEN NULL ELSE carried END "
            f"WHERE id IN ({newest}) AND life = :life AND fired = :name AND shots > 0",
            name=name,
            why=why,
        )
        self._run(
            f"UPDATE judged SET why = :why WHERE id IN ({newest}) AND life = :life AND load = :name "
            "AND carried IS NULL AND outcome IN ('released', 'shadow')",
            name=name,
            why=why,
        )
        self._note(said)


def _own(apart: Sequence[Any] | None, element: int) -> Told | None:
    """What the log tells of one element; what it does not name was let pass. None: it tells of the load alone."""
    if apart is None:
        return None
    for one in apart:
        if isinstance(one, dict) and one.get("element") == element:
            return one
    return {"verdict": "RELEASE"}
