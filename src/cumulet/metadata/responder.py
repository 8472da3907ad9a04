"""Answers one request of a guest, by path.  Pure, apart from storing a posted password."""

from collections.abc import Callable
from typing import Any

from cumulet.compute.door import Server
from cumulet.metadata.documents import EC2_VERSIONS, OPENSTACK_VERSIONS, ec2_tree, openstack_files

__all__ = ["PASSWORD_MAX", "answer"]

#: bytes of an encrypted password
PASSWORD_MAX = 1024

Answer = tuple[int, str, bytes]


def _text(status: int, body: str | bytes) -> Answer:
    return status, "text/plain; charset=UTF-8", body.encode() if isinstance(body, str) else body


def answer(method: str, path: str, body: bytes, server: Server, *, set_password: Callable[[str, str], bool]) -> Answer:
    """(status, content type, body) for one request.  set_password(server id, text) is False when there is one already."""
    parts = [part for part in path.split("?", maxsplit=1)[0].split("/") if part]
    if method == "POST" and parts[:1] == ["openstack"] and parts[2:] == ["password"]:
        return _post_password(body, server, set_password)
    if method not in {"GET", "HEAD"}:
        return _text(405, "method not allowed\n")
    if not parts:
        return _text(200, "\n".join([*EC2_VERSIONS[:-1], "latest"]))
    if parts[0] == "openstack":
        return _openstack(parts[1:], server)
    if parts[0] in EC2_VERSIONS:
        return _ec2(parts[1:], server)
    return _text(404, "not found\n")


def _post_password(body: bytes, server: Server, set_password: Callable[[str, str], bool]) -> Answer:
    if len(body) > PASSWORD_MAX:
        return _text(400, "Request is too large.\n")
    try:
        text = body.decode("ascii")
    except UnicodeDecodeError:
        return _text(400, "The password must be ASCII text.\n")
    if "\0" in text:  # not every database takes it
        return _text(400, "The password must be ASCII text.\n")
    return _text(200, "") if set_password(server.id, text) else _text(409, "The password is set already.\n")


def _openstack(parts: list[str], server: Server) -> Answer:
    if not parts:
        return _text(200, "\n".join(OPENSTACK_VERSIONS))
    if parts[0] not in OPENSTACK_VERSIONS:
        return _text(404, "not found\n")
    files = openstack_files(server, server.interfaces)
    if len(parts) == 1:
        return _text(200, "\n".join([*sorted(files), "password"]))
    name = parts[1]
    if len(parts) == 2 and name == "password":
        return _text(200, server.password or "")
    if len(parts) != 2 or name not in files:
        return _text(404, "not found\n")
    kind = "application/json" if name.endswith(".json") else "application/octet-stream"
    return 200, kind, files[name]


def _ec2(parts: list[str], server: Server) -> Answer:
    node: Any = ec2_tree(server, server.interfaces)
    for part in parts:
        if not isinstance(node, dict) or part not in node or part.startswith("_"):
            return _text(404, "not found\n")
        node = node[part]
    if isinstance(node, dict):
        names = []
        for name, value in sorted(node.items()):
            if name.startswith("_"):
                continue
            # EC2 names a key's folder "0=NAME"
            shown = value.get("_name") if isinstance(value, dict) and "_name" in value else None
            names.append(shown or (name + "/" if isinstance(value, dict) and name != "0" else name))
        return _text(200, "\n".join(names))
    return _text(200, node)
