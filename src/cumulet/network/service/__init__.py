"""What the network service does: one class per kind of thing, and `NetworkService`, which holds them together."""

from cumulet.network.service.network_service import NetworkService

__all__ = ["NetworkService"]
