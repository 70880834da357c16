"""Fuzzes the XFRM server's parser and tables with libFuzzer's coverage guidance, through atheris (PyPI; not a dependency):

python -m pip install --target DIRECTORY atheris
PYTHONPATH=DIRECTORY:tests python native/fuzz/messages.py -runs=1000000 [CORPUS]
"""

import contextlib
import sys

import atheris

with atheris.instrument_imports(include=["phalanx.ipsec.engine"]):
    from ipsec.engine.requests import Instance, alloc_spi, new_sa, policy, policy_id, sa_id
    from phalanx.ipsec.engine.messages import Direction, Refused, Type

SEEDS = (
    new_sa(0xC0000001),
    new_sa(0xC0000001, kind=Type.UPDSA),
    alloc_spi(),
    policy(Direction.OUT, 5),
    policy(Direction.IN, action=1, templates=[]),
    sa_id(Type.DELSA, 0xC0000001),
    sa_id(Type.GETSA, 0xC0000001),
    sa_id(Type.GETAE, 0xC0000001),
    policy_id(Type.DELPOLICY, Direction.OUT),
    policy_id(Type.GETPOLICY, Direction.OUT, flags=0x301),
)


class Target:
    """Tables that live for some requests, so that one meets what another has left."""

    def __init__(self) -> None:
        self._instance = Instance()
        self._left = 0

    def __call__(self, data: bytes) -> None:
        """One request."""
        if self._left == 0:
            self._instance.dispatcher.release("charon")
            self._instance.core.close()
            self._instance, self._left = Instance(), 1000
        self._left -= 1
        # One byte names a sound request, whose bytes the rest changes; 255 means that the rest is the request.
        if len(data) > 1 and data[0] != 255:
            message = bytearray(SEEDS[data[0] % len(SEEDS)])
            for at in range(1, len(data) - 2, 3):
                message[int.from_bytes(data[at : at + 2], "big") % len(message)] = data[at + 2]
        else:
            message = bytearray(data[1:])
        with contextlib.suppress(Refused):
            self._instance.dispatcher.handle(memoryview(message), "charon", 0.0)
        self._instance.dispatcher.refusals.clear()


if __name__ == "__main__":
    atheris.Setup(sys.argv, Target())
    atheris.Fuzz()
