"""OVN and Open vSwitch: six daemons, their databases, and what must be done around each start.

The traps, each met in practice: ovs-vswitchd started before its database server never becomes ready; ovs-vswitchd 3.1.0
aborts in its userspace connection tracking once OVN commits connections with the all-zero SNAT, so that capability is
hidden after every start (vswitchd writes it anew each time) and connections committed meanwhile are flushed;
ovn-controller 23.03 has no --unixctl.
"""

import contextlib
import json
import subprocess
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from cumulet.host.bridge import address_bridges, check_datapath_free, own_datapath_link
from cumulet.host.config import HostConfig
from cumulet.host.daemons import Daemon, log_of
from cumulet.host.errors import DaemonDidNotStart, OvsdbFailed
from cumulet.host.namespace import holding_run_root, run_in_keeper
from cumulet.host.ovsdb import JsonRpc, as_map, call_daemon, insert_if_empty, ovs_map, wait_row

__all__ = [
    "LOCAL_DATABASE",
    "choose_datapath",
    "ovn_daemons",
    "release_chassis",
    "socket_path",
    "take_down_switch",
    "wait_chassis",
]

_READY_S_MAX = 10.0
_ANSWER_S_MAX = 5.0
_SCHEMAS = {
    "nb": "/usr/share/ovn/ovn-nb.ovsschema",
    "sb": "/usr/share/ovn/ovn-sb.ovsschema",
    "ovs": "/usr/share/openvswitch/vswitch.ovsschema",
}
#: database -> where in it further addresses to listen on may be written
_REMOTES = {
    "nb": "db:OVN_Northbound,NB_Global,connections",
    "sb": "db:OVN_Southbound,SB_Global,connections",
    "ovs": "db:Open_vSwitch,Open_vSwitch,manager_options",
}
#: the switch's own, in the OVN folder.  It describes interfaces of this boot only: made anew after a stop or a reboot
LOCAL_DATABASE = "ovs.db"
_LOCAL = "Open_vSwitch"
_UNSAFE_CAPABILITY = "ct_zero_snat"


def socket_path(config: HostConfig, database: str) -> str:
    """Where the server of `nb`, `sb` or `ovs` listens."""
    return f"{config.ovn_dir}/{database}.sock"


def choose_datapath(link_names: Iterable[str]) -> str:
    """The kernel's datapath where its module is loaded and nobody uses it; else the userspace one.

    Two ovs-vswitchd on one kernel datapath remove each other's ports, so a system's own Open vSwitch keeps it for
    itself.
    """
    kernel = Path("/sys/module/openvswitch").is_dir() and "ovs-system" not in link_names
    return "system" if kernel else "netdev"


def ovn_daemons(config: HostConfig, datapath: str) -> list[Daemon]:
    """In the order of starting."""
    nb, sb, ovs = (f"unix:{socket_path(config, database)}" for database in ("nb", "sb", "ovs"))
    return [
        _database(config, "nb", care=lambda: _one_row(config, "nb", "OVN_Northbound", "NB_Global")),
        _database(config, "sb", care=lambda: _one_row(config, "sb", "OVN_Southbound", "SB_Global")),
        _database(config, "ovs", care=lambda: describe_host(config, datapath)),
        _daemon(
            config,
            "northd",
            "ovn-northd",
            [f"--ovnnb-db={nb}", f"--ovnsb-db={sb}", _unixctl(config, "northd")],
            needs=("ovn-nb", "ovn-sb"),
        ),
        _daemon(
            config,
            "vswitchd",
            "ovs-vswitchd",
            [ovs, _unixctl(config, "vswitchd")],
            needs=("ovn-ovs",),
            before=lambda: _answers(config, "ovs"),
            alone=lambda: _alone_with_datapath(config, datapath),
            care=lambda: care_for_switch(config, datapath),
        ),
        # after the switch: it must never see the unsafe capability
        _daemon(config, "controller", "ovn-controller", [ovs], needs=("ovn-vswitchd", "ovn-sb")),
    ]


def _daemon(
    config: HostConfig,
    short_name: str,
    program: str,
    arguments: list[str],
    *,
    needs: tuple[str, ...] = (),
    before: Callable[[], None] | None = None,
    alone: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext,
    care: Callable[[], None] | None = None,
) -> Daemon:
    name = f"ovn-{short_name}"
    pidfile = f"{config.ovn_dir}/{short_name}.pid"
    log = log_of(config, name)
    options = [f"--pidfile={pidfile}", "-vconsole:off", "-vsyslog:off", f"--log-file={log}", "--detach"]

    def launch() -> None:
        if before is not None:
            before()
        with alone():
            run_in_keeper(config, [program, *arguments, *options], log=log, seconds=_READY_S_MAX)

    return Daemon(
        name=name,
        executable=program,
        marker=f"--pidfile={pidfile}",
        pidfile=pidfile,
        needs=("keeper", *needs),
        launch=launch,
        care=care,
    )


def _database(config: HostConfig, name: str, *, care: Callable[[], None]) -> Daemon:
    path = f"{config.ovn_dir}/{name}.db"
    arguments = [
        path,
        f"--remote=punix:{socket_path(config, name)}",
        f"--remote={_REMOTES[name]}",
        _unixctl(config, name),
    ]
    return _daemon(
        config, name, "ovsdb-server", arguments, before=lambda: make_database(path, _SCHEMAS[name]), care=care
    )


def _unixctl(config: HostConfig, short_name: str) -> str:
    return f"--unixctl={config.ovn_dir}/{short_name}.ctl"


def make_database(path: str, schema: str) -> None:
    """A database file of the installed schema: made if there is none, converted if a package brought a newer schema."""
    if not Path(path).exists():
        _ovsdb_tool("create", f"{path}.new", schema)
        Path(f"{path}.new").replace(path)
    elif _schema_version(path) != _schema_version(schema):
        _ovsdb_tool("convert", path, schema)


def _schema_version(path: str) -> str | None:
    """Of a schema file, or of a database file, which begins with its schema."""
    with Path(path).open("rb") as file:
        first = file.readline()
        text = file.read(int(first.split()[2])) if first.startswith(b"OVSDB JSON") else first + file.read()
    version: str | None = json.loads(text).get("version")
    return version


def _ovsdb_tool(*arguments: str) -> None:
    try:
        subprocess.run(["ovsdb-tool", *arguments], capture_output=True, timeout=_READY_S_MAX, check=True)
    except subprocess.CalledProcessError as error:
        raise DaemonDidNotStart(
            f"ovsdb-tool {arguments[0]}: {error.stderr.decode(errors='replace').strip()}"
        ) from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DaemonDidNotStart(f"ovsdb-tool {arguments[0]}: {error}") from error


def _one_row(config: HostConfig, name: str, database: str, table: str) -> None:
    insert_if_empty(socket_path(config, name), database, table, seconds=_ANSWER_S_MAX)


def _answers(config: HostConfig, name: str) -> None:
    with JsonRpc(socket_path(config, name), seconds=_ANSWER_S_MAX) as rpc:
        rpc.call("list_dbs", [])


@contextlib.contextmanager
def _alone_with_datapath(config: HostConfig, datapath: str) -> Iterator[None]:
    """No two clouds start a switch at the same moment: each first makes an interface of the same name."""
    with holding_run_root():
        if datapath == "netdev":
            check_datapath_free()
        yield
        _own_datapath_link(config)


def _own_datapath_link(config: HostConfig) -> None:
    own_datapath_link(config, int(Path(config.ovn_dir, "vswitchd.pid").read_text(encoding="ascii")))


def describe_host(config: HostConfig, datapath: str) -> None:
    """Tell the local database who this host is and which bridges it has, before the switch reads it."""
    identity = {
        "system-id": config.system_id,
        "hostname": config.hostname,
        "ovn-remote": f"unix:{socket_path(config, 'sb')}",
        "ovn-encap-type": "geneve",
        "ovn-encap-ip": config.encap_ip,
        "ovn-bridge": config.bridge_int,
        "ovn-bridge-datapath-type": datapath,
        "ovn-bridge-mappings": f"{config.physical_network}:{config.bridge_ex}",
        "ovn-monitor-all": "true",
        "ovn-openflow-probe-interval": "0",
    }
    with JsonRpc(socket_path(config, "ovs"), seconds=_ANSWER_S_MAX) as rpc:
        rows = rpc.transact(_LOCAL, _select("Open_vSwitch", "external_ids"))[0]["rows"]
        if not rows:
            rpc.transact(_LOCAL, *_first_rows(config, datapath, identity))
            return
        known = as_map(rows[0]["external_ids"])
        if known | identity != known:
            row = {"external_ids": ovs_map(known | identity)}
            rpc.transact(_LOCAL, {"op": "update", "table": "Open_vSwitch", "where": [], "row": row})


def _first_rows(config: HostConfig, datapath: str, identity: dict[str, str]) -> list[dict[str, Any]]:
    operations = []
    for index, bridge in enumerate((config.bridge_int, config.bridge_ex)):
        private = bridge == config.bridge_int
        operations += [
            _insert("Interface", f"interface{index}", {"name": bridge, "type": "internal"}),
            _insert("Port", f"port{index}", {"name": bridge, "interfaces": ["named-uuid", f"interface{index}"]}),
            _insert(
                "Bridge",
                f"bridge{index}",
                {
                    "name": bridge,
                    "ports": ["named-uuid", f"port{index}"],
                    "datapath_type": datapath,
                    # nothing passes until OVN has said what may
                    "fail_mode": "secure" if private else ["set", []],
                    "other_config": ovs_map({"disable-in-band": "true"} if private else {}),
                },
            ),
        ]
    bridges = ["set", [["named-uuid", "bridge0"], ["named-uuid", "bridge1"]]]
    # the row that the switch fills with capabilities: made now, so that we can correct it before OVN looks
    operations.append(_insert("Datapath", "datapath", {"datapath_version": ""}))
    whole = {
        "external_ids": ovs_map(identity),
        "bridges": bridges,
        "datapaths": ["map", [[datapath, ["named-uuid", "datapath"]]]],
    }
    return [*operations, {"op": "insert", "table": "Open_vSwitch", "row": whole}]


def care_for_switch(config: HostConfig, datapath: str) -> None:
    """After each start of the switch: hide the unsafe capability, wait until the bridges stand, give the external one
    its address."""
    with JsonRpc(socket_path(config, "ovs"), seconds=_ANSWER_S_MAX) as rpc:
        changed = datapath == "netdev" and _hide_unsafe_capability(rpc)
        bump = {"op": "mutate", "table": "Open_vSwitch", "where": [], "mutations": [["next_cfg", "+=", 1]]}
        wanted: int = rpc.transact(_LOCAL, bump, _select("Open_vSwitch", "next_cfg"))[1]["rows"][0]["next_cfg"]
        rpc.watch(_LOCAL, "Open_vSwitch", ["cur_cfg"], lambda row: bool(row["cur_cfg"] >= wanted))
    if changed:
        call_daemon(f"{config.ovn_dir}/vswitchd.ctl", "dpctl/flush-conntrack", [], seconds=_ANSWER_S_MAX)
    _own_datapath_link(config)
    address_bridges(config)


def _hide_unsafe_capability(rpc: JsonRpc) -> bool:
    """Whether it was visible."""
    rows = rpc.transact(_LOCAL, _select("Datapath", "_uuid", "capabilities"))[0]["rows"]
    visible = [row for row in rows if as_map(row["capabilities"]).get(_UNSAFE_CAPABILITY) != "false"]
    for row in visible:
        mutations = [
            ["capabilities", "delete", ["set", [_UNSAFE_CAPABILITY]]],
            ["capabilities", "insert", ovs_map({_UNSAFE_CAPABILITY: "false"})],
        ]
        rpc.transact(
            _LOCAL,
            {"op": "mutate", "table": "Datapath", "where": [["_uuid", "==", row["_uuid"]]], "mutations": mutations},
        )
    return bool(visible)


def wait_chassis(config: HostConfig) -> None:
    """Return when OVN knows this host."""
    wait_row(
        socket_path(config, "sb"),
        "OVN_Southbound",
        "Chassis",
        ["name"],
        lambda row: bool(row["name"] == config.system_id),
        seconds=_READY_S_MAX,
    )


def release_chassis(config: HostConfig, controller_pid: int) -> None:
    """Have ovn-controller give up its ports and leave, so that no port is still called up at the next start."""
    # by pid, not by pattern: a killed controller leaves its socket behind
    _ask_to_exit(f"{config.ovn_dir}/ovn-controller.{controller_pid}.ctl", [])


def take_down_switch(config: HostConfig) -> None:
    """Have ovs-vswitchd remove its bridges from the kernel and leave."""
    _ask_to_exit(f"{config.ovn_dir}/vswitchd.ctl", ["--cleanup"])


def _ask_to_exit(control: str, arguments: list[str]) -> None:
    try:
        call_daemon(control, "exit", arguments, seconds=_ANSWER_S_MAX)
    except OvsdbFailed:
        return  # dead, hung, or gone before it answered: the caller ends it by its pid


def _select(table: str, *columns: str) -> dict[str, Any]:
    return {"op": "select", "table": table, "where": [], "columns": list(columns)}


def _insert(table: str, name: str, row: dict[str, Any]) -> dict[str, Any]:
    return {"op": "insert", "table": table, "uuid-name": name, "row": row}
