"""Opens the doors that ``[control]`` asks for: the socket of this machine, and TLS for consoles elsewhere."""

from __future__ import annotations

from scanward import keys
from scanward.guard.config import ControlConfig
from scanward.guard.control import ControlServer
from scanward.transport.tls import server_context


async def open_control(server: ControlServer, control: ControlConfig) -> int:
    """Listen; the port of the second door, 0 when there is none.

    Raises
    ------
    LinkError
        Path, address or certificate cannot be used.
    """
    control.socket.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    await server.listen_locally(control.socket)
    if control.listen is None or control.tls is None:
        return 0
    context = server_context(control.tls, keys.passphrase_from_environment())
    return await server.listen_tls(*control.listen, context, control.pins)
