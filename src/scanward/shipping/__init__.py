"""Records out of the house: RFC 5424 syslog over TLS, DICOM audit messages (ATNA), FHIR AuditEvents, webhooks.

Everything here reads the audit log as anybody else does; nothing of it runs in the relay or the writer.
"""

from scanward.shipping.atna import audit_message
from scanward.shipping.events import Event, Source, event_of
from scanward.shipping.fhir import audit_event, batch, ndjson_line
from scanward.shipping.http import Poster
from scanward.shipping.syslog import SyslogSender, SyslogWitness, dicom_message, record_message
from scanward.shipping.webhook import body_of, deliver

__all__ = [
    "Event",
    "Poster",
    "Source",
    "SyslogSender",
    "SyslogWitness",
    "audit_event",
    "audit_message",
    "batch",
    "body_of",
    "deliver",
    "dicom_message",
    "event_of",
    "ndjson_line",
    "record_message",
]
