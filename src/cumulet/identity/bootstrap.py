"""The first rows: what every cloud begins with.  Runs at each start and adds only what is missing."""

import itertools
from collections.abc import Mapping
from typing import Any

import msgspec

from cumulet.core.context import Secret
from cumulet.core.db import Tx
from cumulet.identity import passwords
from cumulet.identity.records import SYSTEM, Assignment, Endpoint, Project, Region, Role, Service, User
from cumulet.identity.service.realm import Realm
from cumulet.identity.store import access, rows

__all__ = ["Bootstrapped", "bootstrap"]

DEFAULT_DOMAIN = "default"
SERVICE_USERS = ("nova", "glance", "neutron", "cinder", "placement")
#: type, name, path below the public URL
SERVICES = (
    ("identity", "keystone", "/identity"),
    ("compute", "nova", "/compute/v2.1"),
    ("image", "glance", "/image"),
    ("network", "neutron", "/network"),
    ("block-storage", "cinder", "/volume/v3"),
    ("volumev3", "cinderv3", "/volume/v3"),
    ("placement", "placement", "/placement"),
)
#: each implies the next
CHAIN = ("admin", "manager", "member", "reader")


class Bootstrapped(msgspec.Struct, frozen=True, kw_only=True):
    """What wiring needs to know of the first rows."""

    region: str
    domain_id: str
    admin_user_id: str
    admin_project_id: str
    demo_user_id: str
    demo_project_id: str
    service_project_id: str
    #: user name → the secret it logs in with, good until the next bootstrap
    service_secrets: dict[str, Secret]
    #: whether the domain was made now
    first: bool


class _Hashes(msgspec.Struct, frozen=True):
    admin: str | None
    demo: str | None


def bootstrap(
    realm: Realm,
    *,
    admin_password: Secret,
    demo_password: Secret,
    endpoints: Mapping[str, str] | None = None,
    service_secrets: Mapping[str, Secret] | None = None,
) -> Bootstrapped:
    """Make what is missing; passwords of existing people stay as they are.

    endpoints: service type → URL, where one differs from `$(public_url)s` and its path.  service_secrets: what the
    service users log in with, when several processes must agree on it; without it, new ones at each start.
    """
    hashes = _hash(realm, admin_password, demo_password)
    secrets = dict(service_secrets or {})
    for name in SERVICE_USERS:
        secrets.setdefault(name, Secret(realm.ids.secret(32)))
    with realm.write() as tx:
        first = rows.get(tx, Project, DEFAULT_DOMAIN) is None
        if first:
            rows.add(tx, _project(DEFAULT_DOMAIN, "Default", domain=None, description="The default domain"))
        roles = _roles(realm, tx)
        projects = {name: _ensure_project(realm, tx, name) for name in ("admin", "demo", "service")}
        admin = _ensure_user(realm, tx, "admin", hashes.admin, default_project_id=projects["admin"])
        demo = _ensure_user(realm, tx, "demo", hashes.demo, default_project_id=projects["demo"])
        for actor, target, target_id, role in (
            (admin, "project", projects["admin"], "admin"),
            (admin, "project", projects["demo"], "admin"),
            (admin, "system", SYSTEM, "admin"),
            (demo, "project", projects["demo"], "member"),
        ):
            _grant(tx, actor, target, target_id, roles[role])
        for name in SERVICE_USERS:
            secret_hash = passwords.hash_secret(secrets[name].reveal())
            user_id = _ensure_user(realm, tx, name, secret_hash)
            rows.change(tx, User, user_id, password_hash=secret_hash)
            for role in ("service", "admin"):
                _grant(tx, user_id, "project", projects["service"], roles[role])
        _catalog(realm, tx, dict(endpoints or {}))
    return Bootstrapped(
        region=realm.config.region,
        domain_id=DEFAULT_DOMAIN,
        admin_user_id=admin,
        admin_project_id=projects["admin"],
        demo_user_id=demo,
        demo_project_id=projects["demo"],
        service_project_id=projects["service"],
        service_secrets=secrets,
        first=first,
    )


def _hash(realm: Realm, admin_password: Secret, demo_password: Secret) -> _Hashes:
    """Hashes for the people that are not there: slow, so before the transaction."""
    with realm.db.read() as tx:
        there = {user.name for user in rows.find(tx, User, domain_id=DEFAULT_DOMAIN, name=["admin", "demo"])}
    rounds = realm.config.bcrypt_rounds
    return _Hashes(
        None if "admin" in there else passwords.hash_password(admin_password.reveal(), rounds),
        None if "demo" in there else passwords.hash_password(demo_password.reveal(), rounds),
    )


def _project(project_id: str, name: str, *, domain: str | None, description: str) -> Project:
    return Project(
        id=project_id,
        name=name,
        domain_id=domain or "",
        parent_id=domain or "",
        is_domain=domain is None,
        enabled=True,
        description=description,
        tags=[],
        options={},
        extra={},
    )


def _ensure_project(realm: Realm, tx: Tx, name: str) -> str:
    found = rows.find(tx, Project, domain_id=DEFAULT_DOMAIN, name=name)
    if found:
        return found[0].id
    project = _project(realm.ids.hex(), name, domain=DEFAULT_DOMAIN, description=f"The {name} project")
    rows.add(tx, project)
    return project.id


def _ensure_user(realm: Realm, tx: Tx, name: str, password_hash: str | None, **more: Any) -> str:
    found = rows.find(tx, User, domain_id=DEFAULT_DOMAIN, name=name)
    if found:
        return found[0].id
    now = realm.clock.now()
    user = User(
        id=realm.ids.hex(),
        name=name,
        domain_id=DEFAULT_DOMAIN,
        enabled=True,
        default_project_id=more.get("default_project_id"),
        password_hash=password_hash,
        password_expires_at=None,
        tokens_since="",
        created_at=now,
        options={},
        extra={},
    )
    rows.add(tx, user)
    return user.id


def _roles(realm: Realm, tx: Tx) -> dict[str, str]:
    """The roles by name; what implies what is laid down only with the roles themselves, so that an operator may
    change it.
    """
    there = {role.name: role.id for role in rows.find(tx, Role, domain_id="")}
    made = set()
    for name in (*CHAIN, "service"):
        if name not in there:
            there[name] = realm.ids.hex()
            made.add(name)
            rows.add(
                tx,
                Role(id=there[name], name=name, domain_id="", description=None, options={"immutable": True}, extra={}),
            )
    for prior, implied in itertools.pairwise(CHAIN):
        if prior in made or implied in made:
            access.add_implication(tx, there[prior], there[implied])
    return there


def _grant(tx: Tx, actor_id: str, target: str, target_id: str, role_id: str) -> None:
    access.assign(
        tx,
        Assignment(
            actor="user", actor_id=actor_id, target=target, target_id=target_id, role_id=role_id, inherited=False
        ),
    )


def _catalog(realm: Realm, tx: Tx, urls: Mapping[str, str]) -> None:
    region = realm.config.region
    if rows.get(tx, Region, region) is None:
        rows.add(tx, Region(id=region, description="", parent_region_id=None, extra={}))
    there = {service.type for service in rows.find(tx, Service)}
    for kind, name, path in SERVICES:
        if kind in there:
            continue
        service = Service(id=realm.ids.hex(), type=kind, name=name, enabled=True, extra={})
        rows.add(tx, service)
        for interface in ("public", "internal", "admin"):
            rows.add(
                tx,
                Endpoint(
                    id=realm.ids.hex(),
                    service_id=service.id,
                    region_id=region,
                    interface=interface,
                    url=urls.get(kind, "$(public_url)s" + path),
                    enabled=True,
                    extra={},
                ),
            )
