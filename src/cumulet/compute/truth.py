"""What clients write for yes and no, in bodies of the compute API."""

from typing import Any

__all__ = ["BOOLEAN", "TRUE"]

_YES = (True, "True", "true", "TRUE", "1", "on", "ON", "yes", "YES", "y", "t")
_NO = (False, "False", "false", "FALSE", "0", "off", "OFF", "no", "NO", "n", "f")
TRUE = frozenset(_YES)
BOOLEAN: dict[str, Any] = {"enum": [*_YES, *_NO]}
