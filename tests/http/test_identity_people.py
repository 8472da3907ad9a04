"""Users, groups, projects, domains, roles: the reference's shapes and its refusals."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.http.identity_cloud import Cloud


@pytest.fixture
def cloud(tmp_path: Path, database_url: str) -> Iterator[Cloud]:
    """An identity service of the test's own."""
    cloud = Cloud(tmp_path, url=database_url)
    yield cloud
    cloud.close()


def test_a_user_is_made_shown_changed_and_deleted(cloud: Cloud) -> None:
    """Attributes that identity does not know are kept; a password never comes back."""
    admin = cloud.admin
    body = {"name": "ada", "password": "pw", "email": "ada@example.org", "description": "first", "colour": "red"}
    made = admin.post("/v3/users", {"user": body})
    assert made.status == 201
    user = made.json["user"]
    assert user["links"]["self"] == f"http://cloud.test/identity/v3/users/{user['id']}"
    assert (user["domain_id"], user["enabled"], user["options"]) == ("default", True, {})
    assert (user["email"], user["colour"]) == ("ada@example.org", "red")
    assert "password" not in user
    assert "default_project_id" not in user
    assert admin.get(f"/v3/users/{user['id']}").json["user"] == user
    change = {"name": "ada2", "colour": "blue", "default_project_id": cloud.first.demo_project_id}
    changed = admin.patch(f"/v3/users/{user['id']}", {"user": change}).json["user"]
    assert changed == {**user, **change}
    assert admin.delete(f"/v3/users/{user['id']}").status == 204
    assert admin.get(f"/v3/users/{user['id']}").status == 404


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v3/users", {"user": {"name": "demo", "domain_id": "default"}}, 409),
        ("/v3/users", {"user": {"name": "x", "domain_id": "nowhere"}}, 404),
        ("/v3/users", {"user": {"name": " ", "domain_id": "default"}}, 400),
        ("/v3/users", {"user": {"name": "x" * 256}}, 400),
        ("/v3/users", {"user": {"name": "x", "password": "p" * 73}}, 400),
        ("/v3/users", {"user": {"name": "x", "password": "a\0b"}}, 400),
        ("/v3/users", {"user": {"name": "x", "enabled": "yes"}}, 400),
        ("/v3/users", {"user": {"name": "x", "default_project_id": "default"}}, 400),
        ("/v3/users", {}, 400),
        ("/v3/projects", {"project": {"name": "demo", "domain_id": "default"}}, 409),
        ("/v3/projects", {"project": {"name": ""}}, 400),
        ("/v3/projects", {"project": {"name": "x" * 65}}, 400),
        ("/v3/projects", {"project": {"name": "x", "domain_id": "nowhere"}}, 400),
        ("/v3/projects", {"project": {"name": "x", "parent_id": "nowhere"}}, 400),
        ("/v3/projects", {"project": {"name": "x", "tags": ["a,b"]}}, 400),
        ("/v3/domains", {"domain": {"name": "Default"}}, 409),
        ("/v3/domains", {"domain": {}}, 400),
        ("/v3/groups", {"group": {"name": "x", "domain_id": "nowhere"}}, 404),
        ("/v3/roles", {"role": {"name": "admin"}}, 409),
        ("/v3/roles", {"role": {"name": "x", "domain_id": "nowhere"}}, 404),
        ("/v3/endpoints", {"endpoint": {"service_id": "x", "interface": "public", "url": "http://x"}}, 400),
        ("/v3/endpoints", {"endpoint": {"service_id": "x", "interface": "secret", "url": "http://x"}}, 400),
        ("/v3/regions", {"region": {"id": "RegionOne"}}, 409),
        ("/v3/regions", {"region": {"id": "x", "parent_region_id": "nowhere"}}, 404),
        ("/v3/credentials", {"credential": {"user_id": "u", "type": "ec2", "blob": "no json"}}, 400),
    ],
)
def test_bad_input_is_refused_and_writes_nothing(cloud: Cloud, path: str, body: dict[str, Any], status: int) -> None:
    """The status of the reference; the list is as long afterwards as before."""
    admin = cloud.admin
    plural = path.rpartition("/")[2]
    before = len(admin.get(path).json[plural])
    assert admin.post(path, body).status == status
    assert len(admin.get(path).json[plural]) == before


def test_a_password_of_72_bytes_is_the_longest(cloud: Cloud) -> None:
    """One more is refused when it is set, and no password at a login."""
    longest = "p" * 72
    assert cloud.admin.post("/v3/users", {"user": {"name": "long", "password": longest}}).status == 201
    assert cloud.log_in("long", longest).status == 201
    assert cloud.log_in("long", longest + "p").status == 401


def test_users_change_their_own_password_with_the_old_one(cloud: Cloud) -> None:
    """No token is needed, a wrong old password is 401, and nobody else's is changed."""
    user = cloud.person("ada")
    path = f"/v3/users/{user}/password"
    assert cloud.anyone.post(path, {"user": {"original_password": "wrong", "password": "new"}}).status == 401
    assert cloud.anyone.post(path, {"user": {"original_password": "password", "password": "n" * 73}}).status == 400
    assert cloud.anyone.post(path, {"user": {"original_password": "password", "password": "new"}}).status == 204
    assert cloud.log_in("ada", "password").status == 401
    assert cloud.log_in("ada", "new").status == 201
    nobody = f"/v3/users/{'0' * 32}/password"
    assert cloud.anyone.post(nobody, {"user": {"original_password": "a", "password": "b"}}).status == 401


def test_a_user_sees_itself_and_nobody_else(cloud: Cloud) -> None:
    """What it is, its groups, its projects; somebody else, or one who is not there: 403 alike."""
    demo, own = cloud.demo, cloud.first.demo_user_id
    for path in ("", "/groups", "/projects"):
        assert demo.get(f"/v3/users/{own}{path}").status == 200
        assert demo.get(f"/v3/users/{cloud.first.admin_user_id}{path}").status == 403
        assert demo.get(f"/v3/users/{'0' * 32}{path}").status == 403
    assert demo.get("/v3/users").status == 403
    unscoped = cloud.as_(cloud.token("demo", "demo-secret", "unscoped"))
    assert unscoped.get(f"/v3/users/{own}").status == 200
    assert [p["name"] for p in unscoped.get(f"/v3/users/{own}/projects").json["projects"]] == ["demo"]


def test_a_groups_members_have_its_roles(cloud: Cloud) -> None:
    """Membership is put, looked at and taken; 404 where it is not."""
    admin = cloud.admin
    group = admin.post("/v3/groups", {"group": {"name": "staff", "domain_id": "default"}}).json["group"]
    user = cloud.person("ada")
    member = f"/v3/groups/{group['id']}/users/{user}"
    assert admin("HEAD", member).status == 404
    assert admin.put(member).status == admin.put(member).status == 204
    assert admin("HEAD", member).status == admin.get(member).status == 204
    assert [u["name"] for u in admin.get(f"/v3/groups/{group['id']}/users").json["users"]] == ["ada"]
    assert [g["name"] for g in admin.get(f"/v3/users/{user}/groups").json["groups"]] == ["staff"]
    assert admin.delete(member).status == 204
    assert admin.delete(member).status == 404


def test_projects_form_a_tree(cloud: Cloud) -> None:
    """A child is in its parent's domain; a branch is disabled from its leaves up, deleted likewise, and not too deep."""
    admin = cloud.admin
    top = cloud.project("top")
    middle = cloud.project("middle", parent_id=top)
    leaf = cloud.project("leaf", parent_id=middle)
    shown = admin.get(f"/v3/projects/{leaf}").json["project"]
    assert (shown["parent_id"], shown["domain_id"], shown["is_domain"]) == (middle, "default", False)
    assert admin.get(f"/v3/projects/{top}").json["project"]["parent_id"] == "default"
    tree = admin.get(f"/v3/projects/{middle}?parents_as_ids&subtree_as_ids").json["project"]
    assert tree["parents"] == {top: {"default": None}}
    assert tree["subtree"] == {leaf: None}
    assert admin.patch(f"/v3/projects/{middle}", {"project": {"enabled": False}}).status == 403
    assert admin.delete(f"/v3/projects/{middle}").status == 403
    assert admin.patch(f"/v3/projects/{leaf}", {"project": {"enabled": False}}).status == 200
    assert admin.patch(f"/v3/projects/{middle}", {"project": {"enabled": False}}).status == 200
    assert admin.patch(f"/v3/projects/{leaf}", {"project": {"enabled": True}}).status == 403
    child = {"project": {"name": "x", "parent_id": middle}}
    assert admin.post("/v3/projects", child).status == 400
    assert admin.patch(f"/v3/projects/{leaf}", {"project": {"parent_id": top}}).status == 403
    assert admin.patch(f"/v3/projects/{leaf}", {"project": {"domain_id": "x"}}).status == 400
    parent = top
    for depth in range(3):
        parent = cloud.project(f"deep{depth}", parent_id=parent)
    too_deep = {"project": {"name": "too-deep", "parent_id": parent}}
    assert admin.post("/v3/projects", too_deep).status == 403


def test_a_domain_is_disabled_before_it_is_deleted_with_everything_in_it(cloud: Cloud) -> None:
    """Its users, groups, projects and roles are gone; other domains' are not."""
    admin = cloud.admin
    domain = cloud.domain("shop")
    user = cloud.person("ada", domain=domain)
    project = cloud.project("till", domain_id=domain)
    cloud.grant(user, "member", project)
    role = admin.post("/v3/roles", {"role": {"name": "clerk", "domain_id": domain}}).json["role"]["id"]
    group = admin.post("/v3/groups", {"group": {"name": "g", "domain_id": domain}}).json["group"]["id"]
    assert admin.delete(f"/v3/domains/{domain}").status == 403
    assert admin.patch(f"/v3/domains/{domain}", {"domain": {"enabled": False}}).json["domain"]["enabled"] is False
    assert admin.delete(f"/v3/domains/{domain}").status == 204
    for path in (f"users/{user}", f"projects/{project}", f"roles/{role}", f"groups/{group}", f"domains/{domain}"):
        assert admin.get(f"/v3/{path}").status == 404
    assert admin.get(f"/v3/role_assignments?user.id={user}").json["role_assignments"] == []
    assert admin.patch("/v3/domains/default", {"domain": {"enabled": True}}).status == 200


def test_a_domain_is_a_project_too_but_no_project_is_a_domain(cloud: Cloud) -> None:
    """`GET /v3/domains/{id}` of a project is 404; a domain shows as a project that is one."""
    assert cloud.admin.get(f"/v3/domains/{cloud.first.demo_project_id}").status == 404
    shown = cloud.admin.get("/v3/projects/default").json["project"]
    assert (shown["is_domain"], shown["domain_id"], shown["parent_id"]) == (True, None, None)
    made = cloud.admin.post("/v3/projects", {"project": {"name": "acting", "is_domain": True}}).json["project"]
    assert cloud.admin.get(f"/v3/domains/{made['id']}").json["domain"]["name"] == "acting"


def test_project_tags(cloud: Cloud) -> None:
    """Set, added, taken, and filtered by."""
    admin = cloud.admin
    red, both = cloud.project("red", tags=["red"]), cloud.project("both", tags=["red", "blue"])
    path = f"/v3/projects/{red}/tags"
    assert admin.get(path).json["tags"] == ["red"]
    assert admin.put(f"{path}/green").status == 201
    assert admin("HEAD", f"{path}/green").status == 204
    assert admin.get(f"{path}/yellow").status == 404
    assert admin.delete(f"{path}/green").status == 204
    assert admin.put(path, {"tags": ["red", "white"]}).json["tags"] == ["red", "white"]
    assert admin.put(path, {"tags": ["x" * 256]}).status == 400

    def named(query: str) -> set[str]:
        return {project["id"] for project in admin.get(f"/v3/projects?{query}").json["projects"]} & {red, both}

    assert named("tags=red,blue") == {both}
    assert named("tags-any=white,blue") == {red, both}
    assert named("not-tags=red,blue") == {red}
    assert named("not-tags-any=white") == {both}
    assert admin.delete(path).status == 204
    assert admin.get(path).json["tags"] == []


def test_roles_imply_roles(cloud: Cloud) -> None:
    """Rules are put, listed and taken; admin is never implied, and no circle is closed."""
    admin = cloud.admin
    one, two = (admin.post("/v3/roles", {"role": {"name": n}}).json["role"]["id"] for n in ("one", "two"))
    rule = f"/v3/roles/{one}/implies/{two}"
    made = admin.put(rule)
    assert made.status == 201
    assert made.json["role_inference"]["implies"]["name"] == "two"
    assert admin("HEAD", rule).status == 204
    assert admin.get(rule).status == 200
    assert admin.put(f"/v3/roles/{two}/implies/{one}").status == 403
    assert admin.put(f"/v3/roles/{one}/implies/{cloud.role('admin')}").status == 403
    implied = admin.get(f"/v3/roles/{one}/implies").json["role_inference"]["implies"]
    assert [role["id"] for role in implied] == [two]
    inferences = admin.get("/v3/role_inferences").json["role_inferences"]
    chain = {i["prior_role"]["name"]: [role["name"] for role in i["implies"]] for i in inferences}
    assert chain == {"admin": ["manager"], "manager": ["member"], "member": ["reader"], "one": ["two"]}
    assert admin.delete(rule).status == 204
    assert admin.get(rule).status == 404


def test_the_first_roles_cannot_be_changed_by_mistake(cloud: Cloud) -> None:
    """They are immutable until somebody says otherwise."""
    path = f"/v3/roles/{cloud.role('member')}"
    assert cloud.admin.delete(path).status == 403
    assert cloud.admin.patch(path, {"role": {"name": "x"}}).status == 403
    assert cloud.admin.patch(path, {"role": {"options": {"immutable": False}}}).status == 200
    assert cloud.admin.patch(path, {"role": {"description": "x"}}).status == 200


def test_assignments_are_listed_as_written_and_as_they_take_effect(cloud: Cloud) -> None:
    """A group's role on a domain, inherited by its projects, comes to each member on each project, with what it implies."""
    admin = cloud.admin
    domain = cloud.domain("shop")
    user = cloud.person("ada", domain=domain)
    project = cloud.project("till", domain_id=domain)
    child = cloud.project("drawer", domain_id=domain, parent_id=project)
    group = admin.post("/v3/groups", {"group": {"name": "g", "domain_id": domain}}).json["group"]["id"]
    admin.put(f"/v3/groups/{group}/users/{user}")
    member, reader = cloud.role("member"), cloud.role("reader")
    grant = f"/v3/OS-INHERIT/domains/{domain}/groups/{group}/roles/{member}/inherited_to_projects"
    assert admin.put(grant).status == 204
    assert admin("HEAD", grant).status == 204
    listed = admin.get(f"/v3/OS-INHERIT/domains/{domain}/groups/{group}/roles/inherited_to_projects").json["roles"]
    assert [role["id"] for role in listed] == [member]

    written = admin.get(f"/v3/role_assignments?group.id={group}&include_names").json["role_assignments"]
    assert len(written) == 1
    assert written[0]["scope"] == {"domain": {"id": domain, "name": "shop"}, "OS-INHERIT:inherited_to": "projects"}
    assert written[0]["group"] == {"id": group, "name": "g", "domain": {"id": domain, "name": "shop"}}
    assert written[0]["links"]["assignment"] == f"http://cloud.test/identity{grant}"

    effective = admin.get(f"/v3/role_assignments?effective&user.id={user}").json["role_assignments"]
    assert {(a["scope"]["project"]["id"], a["role"]["id"]) for a in effective} == {
        (place, role) for place in (project, child) for role in (member, reader)
    }
    assert all(a["user"] == {"id": user} and "membership" in a["links"] for a in effective)
    only = admin.get(f"/v3/role_assignments?effective&scope.project.id={child}&role.id={reader}")
    assert [a["user"]["id"] for a in only.json["role_assignments"]] == [user]
    tree = admin.get(f"/v3/role_assignments?effective&include_subtree&scope.project.id={project}").json
    assert {a["scope"]["project"]["id"] for a in tree["role_assignments"]} == {project, child}
    assert cloud.log_in("ada", "password", {"project": {"id": child}}, domain=domain).status == 201
    assert cloud.log_in("ada", "password", {"domain": {"id": domain}}, domain=domain).status == 401
    names = {p["name"] for p in admin.get(f"/v3/users/{user}/projects").json["projects"]}
    assert names == {"till", "drawer"}


@pytest.mark.parametrize(
    "query",
    [
        "scope.project.id=a&scope.domain.id=b",
        "user.id=a&group.id=b",
        "effective&group.id=a",
        "effective&scope.domain.id=a&scope.OS-INHERIT:inherited_to=projects",
        "include_subtree",
    ],
)
def test_filters_of_assignments_that_make_no_sense_are_400(cloud: Cloud, query: str) -> None:
    """Combinations that could only give an empty list."""
    assert cloud.admin.get(f"/v3/role_assignments?{query}").status == 400


def test_a_domains_own_role_counts_by_what_it_implies(cloud: Cloud) -> None:
    """It is given in its domain only, is in no token, and a role of all does not imply it."""
    admin = cloud.admin
    domain = cloud.domain("shop")
    role = admin.post("/v3/roles", {"role": {"name": "clerk", "domain_id": domain}}).json["role"]["id"]
    user = cloud.person("ada")
    project = cloud.project("till", domain_id=domain)
    assert admin.put(f"/v3/projects/{cloud.first.demo_project_id}/users/{user}/roles/{role}").status == 403
    assert admin.put(f"/v3/projects/{project}/users/{user}/roles/{role}").status == 204
    assert cloud.log_in("ada", "password", {"project": {"id": project}}).status == 401
    assert admin.put(f"/v3/roles/{cloud.role('service')}/implies/{role}").status == 403
    assert admin.put(f"/v3/roles/{role}/implies/{cloud.role('reader')}").status == 201
    token = cloud.log_in("ada", "password", {"project": {"id": project}}).json["token"]
    assert [r["name"] for r in token["roles"]] == ["reader"]
    assert role not in {r["id"] for r in admin.get("/v3/roles").json["roles"]}
    assert [r["id"] for r in admin.get(f"/v3/roles?domain_id={domain}").json["roles"]] == [role]


@pytest.mark.parametrize("kind", ["users", "groups", "projects", "domains", "services", "endpoints", "regions"])
def test_lists_come_in_pages(cloud: Cloud, kind: str) -> None:
    """Following `next` with any limit shows each thing once; a limit that is no number is 400."""
    for number in range(3):
        cloud.person(f"u{number}")
        cloud.project(f"p{number}")
        cloud.domain(f"d{number}")
        cloud.admin.post("/v3/groups", {"group": {"name": f"g{number}", "domain_id": "default"}})
        cloud.admin.post("/v3/regions", {"region": {"id": f"r{number}"}})
    admin = cloud.admin
    whole = [thing["id"] for thing in admin.get(f"/v3/{kind}").json[kind]]
    found: list[str] = []
    path: str | None = f"/v3/{kind}?limit=2"
    while path:
        answer = admin.get(path).json
        assert len(answer[kind]) <= 2
        found += [thing["id"] for thing in answer[kind]]
        following = answer["links"]["next"]
        path = following and following.removeprefix("http://cloud.test/identity")
    assert found == whole
    assert len(found) == len(set(found)) >= 3
    assert admin.get(f"/v3/{kind}?limit=x").status == 400


def test_lists_are_filtered(cloud: Cloud) -> None:
    """By attribute, and by parts of a name."""
    admin = cloud.admin
    cloud.person("Web-1")
    cloud.person("web-2")
    off = admin.post("/v3/users", {"user": {"name": "off", "enabled": False}}).json["user"]["id"]

    def named(query: str) -> set[str]:
        return {user["name"] for user in admin.get(f"/v3/users?{query}").json["users"]}

    assert named("name=web-2") == {"web-2"}
    assert named("name__contains=eb-") == {"Web-1", "web-2"}
    assert named("name__startswith=web") == {"web-2"}
    assert named("name__istartswith=web") == {"Web-1", "web-2"}
    assert named("name__endswith=-1&limit=1") == {"Web-1"}
    assert named("enabled=false") == named("enabled=0") == {"off"}
    assert "off" not in named("enabled=true")
    assert named("domain_id=nowhere") == set()
    assert admin.get("/v3/projects?name=demo").json["projects"][0]["id"] == cloud.first.demo_project_id
    assert {e["interface"] for e in admin.get("/v3/endpoints?interface=public").json["endpoints"]} == {"public"}
    assert admin.get(f"/v3/users/{off}").json["user"]["enabled"] is False


def test_a_domains_manager_manages_its_domain_only(cloud: Cloud) -> None:
    """Users, projects, groups and the roles up to manager in the own domain; 403 for everything elsewhere."""
    own, other = cloud.domain("own"), cloud.domain("other")
    manager = cloud.domain_persona("boss", "manager", own)
    user = manager.post("/v3/users", {"user": {"name": "ada", "domain_id": own, "password": "x"}})
    assert user.status == 201
    user_id = user.json["user"]["id"]
    project = manager.post("/v3/projects", {"project": {"name": "p", "domain_id": own}})
    assert project.status == 201
    project_id = project.json["project"]["id"]
    grant = f"/v3/projects/{project_id}/users/{user_id}/roles/"
    assert manager.put(grant + cloud.role("member")).status == 204
    assert manager.put(grant + cloud.role("admin")).status == 403
    assert manager.put(grant + cloud.role("service")).status == 403
    assert manager.post("/v3/users", {"user": {"name": "x", "domain_id": other}}).status == 403
    assert manager.post("/v3/projects", {"project": {"name": "x", "domain_id": other}}).status == 403
    assert manager.patch(f"/v3/users/{cloud.first.demo_user_id}", {"user": {"password": "x"}}).status == 403
    assert manager.delete(f"/v3/projects/{cloud.first.demo_project_id}").status == 403
    elsewhere = f"/v3/projects/{cloud.first.demo_project_id}/users/{user_id}/roles/{cloud.role('member')}"
    assert manager.put(elsewhere).status == 403
    assert manager.put(f"/v3/system/users/{user_id}/roles/{cloud.role('member')}").status == 403
    assert {u["domain_id"] for u in manager.get("/v3/users").json["users"]} == {own}
    assert manager.get(f"/v3/users?domain_id={other}").json["users"] == []
    assert {p["domain_id"] for p in manager.get("/v3/projects").json["projects"]} == {own}
    assert {r["name"] for r in manager.get("/v3/roles").json["roles"]} == {"manager", "member", "reader"}


def test_credentials_are_kept_encrypted_and_their_owner_stays(cloud: Cloud) -> None:
    """The blob in the database is not the secret; the owner of a credential cannot be changed."""
    demo, user = cloud.demo, cloud.first.demo_user_id
    body = {"user_id": user, "type": "cert", "blob": "very secret words"}
    made = demo.post("/v3/credentials", {"credential": body})
    assert made.status == 201
    path = f"/v3/credentials/{made.json['credential']['id']}"
    assert demo.get(path).json["credential"]["blob"] == "very secret words"
    stored = [row.blob for row in cloud.service.realm.find(type(_credential(cloud)))]
    assert all("very secret" not in blob for blob in stored)
    owner = {"credential": {"user_id": cloud.first.admin_user_id}}
    assert demo.patch(path, owner).status == 403
    assert cloud.admin.patch(path, owner).status == 403
    assert demo.patch(path, {"credential": {"blob": "other"}}).json["credential"]["blob"] == "other"
    other = {"credential": {**body, "user_id": cloud.first.admin_user_id}}
    assert demo.post("/v3/credentials", other).status == 403
    cloud.admin.post("/v3/credentials", other)
    assert {c["user_id"] for c in demo.get("/v3/credentials").json["credentials"]} == {user}
    assert demo.delete(path).status == 204


def _credential(cloud: Cloud) -> Any:
    from cumulet.identity.records import Credential

    return cloud.service.realm.find(Credential)[0]


def test_limits_are_registered_and_overridden(cloud: Cloud) -> None:
    """A limit needs a registered one, which stays while it is used; a project sees its own."""
    admin = cloud.admin
    service = admin.get("/v3/services?type=compute").json["services"][0]["id"]
    registered = {"service_id": service, "resource_name": "servers", "default_limit": 10}
    made = admin.post("/v3/registered_limits", {"registered_limits": [registered]})
    assert made.status == 201
    limit_id = made.json["registered_limits"][0]["id"]
    assert admin.post("/v3/registered_limits", {"registered_limits": [registered]}).status == 409
    project = cloud.first.demo_project_id
    limit = {"service_id": service, "resource_name": "servers", "resource_limit": 5, "project_id": project}
    assert admin.post("/v3/limits", {"limits": [{**limit, "resource_name": "moons"}]}).status == 400
    own = admin.post("/v3/limits", {"limits": [limit]}).json["limits"][0]
    assert own["resource_name"] == "servers"
    assert admin.delete(f"/v3/registered_limits/{limit_id}").status == 403
    assert [item["id"] for item in cloud.demo.get("/v3/limits").json["limits"]] == [own["id"]]
    assert cloud.demo.get(f"/v3/limits/{own['id']}").status == 200
    assert cloud.demo.patch(f"/v3/limits/{own['id']}", {"limit": {"resource_limit": 9}}).status == 403
    changed = admin.patch(f"/v3/limits/{own['id']}", {"limit": {"resource_limit": 9}}).json["limit"]
    assert changed["resource_limit"] == 9
    assert admin.delete(f"/v3/limits/{own['id']}").status == 204
    assert admin.delete(f"/v3/registered_limits/{limit_id}").status == 204
    assert cloud.demo.get("/v3/limits/model").json["model"]["name"] == "flat"
