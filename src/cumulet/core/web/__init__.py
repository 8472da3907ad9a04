"""The web: a route is a row, a resource is a declaration, one application per service.

Read `route.py` (what a row says), `resource.py` (what a field says), `app.py` (what happens to a request), in this order.  The same
application answers a socket (`edge.py`) and a door of another service in the same process (`client.py`): validation, token check and
policy are the same code on both ways.
"""

from cumulet.core.web.app import App, Call
from cumulet.core.web.http import FileBody, Request, Response
from cumulet.core.web.resource import ALL, CREATE, LIST, SHOW, UPDATE, WRITE, Field, Resource
from cumulet.core.web.route import ANYONE, PUBLIC, Action, Delete, Get, Head, Patch, Post, Put, Route
from cumulet.core.web.versions import Microversions, Version

__all__ = [
    "ALL",
    "ANYONE",
    "CREATE",
    "LIST",
    "PUBLIC",
    "SHOW",
    "UPDATE",
    "WRITE",
    "Action",
    "App",
    "Call",
    "Delete",
    "Field",
    "FileBody",
    "Get",
    "Head",
    "Microversions",
    "Patch",
    "Post",
    "Put",
    "Request",
    "Resource",
    "Response",
    "Route",
    "Version",
]
