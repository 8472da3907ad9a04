"""What is served beside the APIs: health, the dashboard, the console."""

from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse

if TYPE_CHECKING:
    from cumulet.run.all_in_one import Cloud

__all__ = ["mounts", "root"]


def mounts(cloud: "Cloud") -> dict[str, Any]:
    """ASGI applications by their first path segment."""
    found: dict[str, Any] = {"healthz": _health(cloud)}
    found |= _console(cloud)
    return found


def _health(cloud: "Cloud") -> Any:
    async def health(scope: Any, receive: Any, send: Any) -> None:
        body = {"status": "ok", "hypervisor": cloud.machine.virt_type}
        await JSONResponse(body)(scope, receive, send)

    return health


def _console(cloud: "Cloud") -> dict[str, Any]:
    from cumulet.console.proxy import console_application

    return {
        "console": console_application(cloud.services.compute.validate_console_token, host=cloud.services.compute.host)
    }


def root(cloud: "Cloud") -> Any:
    """The dashboard; without it, a line that says where the APIs are."""
    from cumulet.dashboard.application import dashboard_application

    return dashboard_application(base_url=cloud.config.base_url)
