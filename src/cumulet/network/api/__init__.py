"""The network API on the web: routes, handlers, and what they share."""

from cumulet.network.api.application import ROUTES, application

__all__ = ["ROUTES", "application"]
