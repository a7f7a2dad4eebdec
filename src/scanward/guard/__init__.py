"""The guard: stands between host and gantry and holds each command until it is judged.

``gate`` decides (pure), ``policy`` turns opinions into verdicts, ``relay`` and its processes carry it out.
"""
