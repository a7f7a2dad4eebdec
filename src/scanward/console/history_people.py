# ruff: noqa: S608 - statements are put together out of this module's texts; what a record tells is bound
"""Operators' acts, emergency access, doses, and what the guard tells of itself."""

from __future__ import annotations

from typing import Final

from scanward.console.history_values import OF_LOG, RecordBase, Told, flag, mapping, number, whole

DECIDED: Final = {"called": "call", "one_of_two": "release"}  # kinds of records told beside "operator"


class PeopleRecords(RecordBase):
    """Acts, grants, doses, modes, bundles."""

    def _operator(self, said: Told) -> None:
        self._each(self._of_request(said), "operator = :operator", operator=self._text(said.get("operator")))
        self._write_act(said, self._text(said.get("decision")))

    def _decided(self, said: Told) -> None:
        self._write_act(said, DECIDED[self._text(said.get("kind"))])

    def _write_act(self, said: Told, kind: str) -> None:
        self._run(
            "INSERT INTO acts (scanner, log_id, seq, at, life, kind, operator, request, done, reason, refused, digest, "
            "peer, user, local) VALUES (:scanner, :log, :seq, :at, :life, :kind, :operator, :request, :done, :reason, "
            ":refused, :digest, :peer, :user, :local)",
            kind=kind,
            operator=self._text(said.get("operator")),
            request=whole(said.get("request")),
            done=int(said.get("done", True) is True),
            reason=self._text(said.get("reason")),
            refused=self._text(said.get("refused")),
            digest=self._text(said.get("digest")),
            peer=self._text(said.get("peer")),
            user=self._text(said.get("user")),
            local=int(said["local"]) if isinstance(said.get("local"), bool) else None,
        )

    def _act(self, said: Told) -> None:
        """Which way an act came: of one that was told already, or of one that changed nothing at the gate."""
        kind, done = self._text(said.get("act")), said.get("done") is True
        if done:
            merged = self._run(
                "UPDATE acts SET peer = :peer, user = :user, local = :local WHERE id = (SELECT id FROM acts WHERE "
                f"{OF_LOG} AND life = :life AND kind = :kind AND operator = :operator AND request = :request "
                "AND local IS NULL ORDER BY id DESC LIMIT 1)",
                kind=kind,
                operator=self._text(said.get("operator")),
                request=whole(said.get("request")),
                peer=self._text(said.get("peer")),
                user=self._text(said.get("user")),
                local=int(said.get("local") is True),
            )
            if merged.rowcount:
                return
        self._write_act({**said, "local": said.get("local") is True}, kind)

    def _emergency_begin(self, said: Told) -> None:
        reason = self._text(said.get("reason"))
        self._run(
            "INSERT INTO emergencies (scanner, log_id, seq, life, number, operator, begun, minutes, request, reason, "
            "explained, explained_by) VALUES (:scanner, :log, :seq, :life, :number, :operator, :at, :minutes, "
            ":request, :reason, :explained, :by)",
            number=whole(said.get("grant")),
            operator=self._text(said.get("operator")),
            minutes=number(said.get("minutes")),
            request=whole(said.get("held")),
            reason=reason,
            explained=self._entry.at if reason else None,
            by=self._text(said.get("operator")) if reason else "",
        )

    def _emergency_end(self, said: Told) -> None:
        self._run(
            "UPDATE emergencies SET ended = :at, ended_why = :why, loads = :loads WHERE id = :id",
            id=self._grant(whole(said.get("grant"))),
            why=self._text(said.get("why")),
            loads=whole(said.get("loads")),
        )

    def _emergency_reason(self, said: Told) -> None:
        self._run(
            "UPDATE emergencies SET reason = :reason, explained = :at, explained_by = :by WHERE id = :id",
            id=self._grant(whole(said.get("grant"))),
            reason=self._text(said.get("reason")),
            by=self._text(said.get("operator")),
        )

    def _dose(self, said: Told) -> None:
        dose = mapping(said.get("dose"))
        self._run(
            "INSERT INTO doses (scanner, log_id, seq, at, kind, load, element, examination, patient, phantom, ctdivol, "
            "dlp, acknowledged, aborted) VALUES (:scanner, :log, :seq, :at, :kind, :load, :element, :examination, "
            ":patient, :phantom, :ctdivol, :dlp, :acknowledged, :aborted)",
            kind=self._text(said.get("kind")),
            load=self._text(said.get("load")),
            element=whole(said["element"]) if "element" in said else None,
            examination=self._text(said.get("examination")),
            patient=self._text(said.get("patient")),
            phantom=whole(dose.get("phantom")),
            ctdivol=number(dose.get("ctdivol")),
            dlp=number(dose.get("dlp")),
            acknowledged=flag(said.get("acknowledged")),
            aborted=flag(said.get("aborted")),
        )

    def _mode(self, said: Told) -> None:
        self.course.mode = self._text(said.get("mode")) or self.course.mode
        self._note(said)

    def _judge_ready(self, said: Told) -> None:
        self.course.budget, self.course.bundle = number(said.get("budget")), self._text(said.get("bundle"))
        self._note(said)
