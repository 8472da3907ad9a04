"""What identity does, one part per file; `identity.py` wires them."""

from cumulet.identity.service.identity import IdentityService

__all__ = ["IdentityService"]
