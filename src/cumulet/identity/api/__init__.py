"""Identity on the web: one file per resource, each with its rows (`ROUTES`) and thin handlers."""

from cumulet.identity.api.application import application

__all__ = ["application"]
