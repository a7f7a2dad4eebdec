"""The other end of the links, emulated: gantry, room (patient, injector), host, and attacks on all of it.

Everything here is simulated and says so in its first word; attacks refuse whatever does not.
"""
