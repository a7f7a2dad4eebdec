"""Alerts that leave the room: by syslog, DICOM audit message, webhook and mail; folded, counted, none silently lost.

`telling` and `doses` make alerts, `desk` keeps them (`spool`), a `courier` for each route (`rules`) carries them out
(`senders`, `messages`); `page` is the part of the console.
"""
