"""Transports: sockets, TLS, buses. Bytes only; what they mean is known to codecs alone.

``tcp`` has lines over TCP and TLS 1.3; import each transport from its own module.
"""
