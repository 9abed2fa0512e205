"""What a router is told: where traffic goes, which release each slot has, who may ask. Whole maps, so that whoever was
not there when something changed needs no history."""

from __future__ import annotations

from configs.slots import SLOTS
from infra.haproxy.router import Router
from infra.haproxy.runtime_api import Admin, read_map_file
from infra.haproxy.servers import Servers

STANDBYS = "standbys"
# In the order in which they are told: traffic goes to a slot whose release is known.
FILES = ("keys.map", "spent.map", "releases.map", "traffic.map")
Maps = dict[str, dict[str, str]]  # by name, STANDBYS among them (a slot: "yes")


def maps_in_files(admin: Admin, servers: Servers) -> Maps:
    """As they were last set; what was never set is not in it."""
    found = {name: read_map_file(admin.folder / name) for name in FILES if (admin.folder / name).exists()}
    return found | ({STANDBYS: standbys_of(servers)} if servers.standby_file.exists() else {})


def maps_that_run(router: Router) -> Maps:
    """As HAProxy itself says. Raises ExternalError where none runs."""
    return {name: router.admin.read_map(name) for name in FILES} | {STANDBYS: standbys_of(router.servers)}


def standbys_of(servers: Servers) -> dict[str, str]:
    return dict.fromkeys(sorted(servers.standbys()), "yes")


def tell(router: Router, wanted: Maps) -> None:
    """Idempotent. Raises ExternalError where HAProxy does not take it."""
    for name in FILES:
        if name in wanted and wanted[name] != maps_of(router.admin, name):
            router.admin.write_map(name, wanted[name])
    if STANDBYS in wanted and wanted[STANDBYS] != standbys_of(router.servers):
        router.set_standbys({slot for slot in SLOTS if slot in wanted[STANDBYS]})


def maps_of(admin: Admin, name: str) -> dict[str, str] | None:
    """None where the file and the running process differ."""
    in_file = read_map_file(admin.folder / name) if (admin.folder / name).exists() else None
    return in_file if not admin.is_running() or admin.read_map(name) == in_file else None
