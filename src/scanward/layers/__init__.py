"""The seven layers: judging only, small and pure. What they know is learned elsewhere and comes in a bundle.

Outside in: form, physics, limits, protocol_book (rules), context_free, context_sensitive, procedure (learned).
"""
