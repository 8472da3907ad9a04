"""A guest's screen in a browser: noVNC's page, and a proxy from its websocket to QEMU's VNC server."""
