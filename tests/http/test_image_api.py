"""Images over HTTP: attributes, patches, who sees what, lists and their pages, tags, members, documents."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.http.harness import CALLERS, OTHER_PROJECT, PROJECT, ApiClient
from tests.http.image_cloud import PATCH, ImageCloud

from cumulet.core.context import Context

ID = "33333333-3333-4333-8333-333333333333"


@pytest.fixture
def cloud(tmp_path: Path, database_url: str) -> Iterator[ImageCloud]:
    """A service of its own, on each engine."""
    cloud = ImageCloud(tmp_path, database_url, tags_max=5, properties_max=5, members_max=2)
    yield cloud
    cloud.db.close()


def test_a_new_image_shows_what_was_given_and_what_was_not(cloud: ImageCloud) -> None:
    """Free properties are keys of their own beside the attributes; the rest has its defaults."""
    body = {"name": "cirros", "hw_rng_model": "virtio", "ramdisk_id": ID, "tags": ["b", "a", "b"], "min_ram": 64}
    answer = cloud.member.post("/v2/images", body)
    image = answer.json
    assert answer.status == 201
    assert answer.headers["location"] == f"http://cloud.test/service/v2/images/{image['id']}"
    assert answer.headers["openstack-image-import-methods"] == "glance-direct"
    assert {**image, **body, "tags": ["a", "b"]} == image
    assert (image["status"], image["visibility"], image["owner"], image["size"]) == ("queued", "shared", PROJECT, None)
    assert (image["protected"], image["os_hidden"], image["min_disk"]) == (False, False, 0)
    assert image["file"] == f"/v2/images/{image['id']}/file"
    assert cloud.member.get(f"/v2/images/{image['id']}").json == image


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"disk_format": "wrong"}, 400),
        ({"container_format": "wrong"}, 400),
        ({"visibility": "secret"}, 400),
        ({"id": "not-a-uuid"}, 400),
        ({"id": ID + "\n"}, 400),
        ({"min_disk": -1}, 400),
        ({"name": "x" * 256}, 400),
        ({"name": "nul\0"}, 400),
        ({"hw_x": 5}, 400),
        ({"hw_x": "nul\0"}, 400),
        ({"tags": [""]}, 400),
        ({"status": "active"}, 403),
        ({"checksum": "0"}, 403),
        ({"os_glance_foo": "bar"}, 403),
        ({"locations": []}, 403),
        ({"direct_url": "file:///etc/passwd"}, 403),
        ({"visibility": "public"}, 403),
        ({"owner": OTHER_PROJECT}, 403),
        ({"tags": list("abcdef")}, 413),
        ({f"p{n}": "v" for n in range(6)}, 413),
        ([], 400),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_bad_image_is_refused(cloud: ImageCloud, body: Any, status: int) -> None:
    """Wrong values are 400, what a caller may not set is 403, too many things are 413; nothing is made."""
    assert cloud.member.post("/v2/images", body).status == status
    assert cloud.listed(client=cloud.admin) == []


def test_an_identifier_is_used_once(cloud: ImageCloud) -> None:
    """A chosen id is kept; it is 409 while the image is there and after it was deleted."""
    assert cloud.create(id=ID) == ID
    assert cloud.other.post("/v2/images", {"id": ID}).status == 409
    assert cloud.member.delete(f"/v2/images/{ID}").status == 204
    assert cloud.member.post("/v2/images", {"id": ID}).status == 409


def test_admins_decide_on_public_images_and_owners(cloud: ImageCloud) -> None:
    """Publishing and giving away are for admins; a public image is readable by all and changed by its owner."""
    image_id = cloud.create(cloud.admin, visibility="public", owner=OTHER_PROJECT)
    assert cloud.member.get(f"/v2/images/{image_id}").json["owner"] == OTHER_PROJECT
    assert cloud.member.delete(f"/v2/images/{image_id}").status == 403
    assert cloud.patch(image_id, {"op": "replace", "path": "/name", "value": "mine"}) == 403
    mine = cloud.create()
    assert cloud.patch(mine, {"op": "replace", "path": "/visibility", "value": "public"}) == 403
    assert cloud.patch(mine, {"op": "replace", "path": "/owner", "value": OTHER_PROJECT}) == 403
    assert cloud.patch(mine, {"op": "replace", "path": "/owner", "value": OTHER_PROJECT}, client=cloud.admin) == 200
    assert cloud.member.get(f"/v2/images/{mine}").status == 404


def test_a_private_image_is_its_projects_own(cloud: ImageCloud) -> None:
    """Others get 404 for every verb; readers of the project look and change nothing; no token is 401."""
    image_id = cloud.create()
    where = f"/v2/images/{image_id}"
    assert [cloud.other(verb, where).status for verb in ("GET", "DELETE")] == [404, 404]
    assert cloud.patch(image_id, {"op": "replace", "path": "/name", "value": "x"}, client=cloud.other) == 404
    assert cloud.reader.get(where).status == 200
    assert cloud.reader.delete(where).status == 403
    assert cloud.reader.post("/v2/images", {}).status == 403
    assert cloud.patch(image_id, {"op": "replace", "path": "/name", "value": "x"}, client=cloud.reader) == 403
    assert ApiClient(cloud.app, None).get(where).status == 401


def test_a_patch_changes_attributes_properties_and_tags(cloud: ImageCloud) -> None:
    """Both dialects; steps build on each other; what was not named stays."""
    image_id = cloud.create(hw_a="1", hw_b="2")
    steps = [
        {"op": "replace", "path": "/name", "value": "new"},
        {"op": "add", "path": "/hw_c", "value": "3"},
        {"op": "remove", "path": "/hw_a"},
        {"op": "replace", "path": "/hw_c", "value": "4"},
        {"op": "add", "path": "/with~1slash~0", "value": "odd"},
        {"op": "replace", "path": "/tags", "value": ["t", "t"]},
    ]
    assert cloud.patch(image_id, *steps) == 200
    image = cloud.member.get(f"/v2/images/{image_id}").json
    assert (image["name"], image["hw_b"], image["hw_c"], image["with/slash~"]) == ("new", "2", "4", "odd")
    assert ("hw_a" in image, image["tags"]) == (False, ["t"])
    old = {"content-type": "application/openstack-images-v2.0-json-patch"}
    answer = cloud.member.patch(f"/v2/images/{image_id}", [{"replace": "/min_disk", "value": 7}], headers=old)
    assert (answer.status, answer.json["min_disk"]) == (200, 7)


@pytest.mark.parametrize(
    ("step", "status"),
    [
        ({"op": "replace", "path": "/status", "value": "active"}, 403),
        ({"op": "replace", "path": "/id", "value": ID}, 403),
        ({"op": "replace", "path": "/size", "value": 5}, 403),
        ({"op": "add", "path": "/os_glance_foo", "value": "bar"}, 403),
        ({"op": "add", "path": "/locations/-", "value": {"url": "file:///etc/passwd"}}, 400),
        ({"op": "replace", "path": "/locations", "value": []}, 403),
        ({"op": "remove", "path": "/name"}, 403),
        ({"op": "replace", "path": "/hw_none", "value": "x"}, 409),
        ({"op": "remove", "path": "/hw_none"}, 409),
        ({"op": "add", "path": "/hw_x", "value": 5}, 400),
        ({"op": "replace", "path": "/min_ram", "value": "much"}, 400),
        ({"op": "replace", "path": "name", "value": "x"}, 400),
        ({"op": "replace", "path": "/", "value": "x"}, 400),
        ({"op": "replace", "path": "/a~2", "value": "x"}, 400),
        ({"op": "replace", "path": "/name"}, 400),
        ({"op": "move", "path": "/name", "value": "x"}, 400),
        ({"add": "/a", "remove": "/b", "value": "x"}, 400),
        ({"op": {"no": "word"}, "path": "/name", "value": "x"}, 400),
        ("no step", 400),
    ],
    ids=str,
)
def test_a_bad_patch_is_refused(cloud: ImageCloud, step: Any, status: int) -> None:
    """Read-only and reserved attributes are 403, absent properties 409, everything malformed 400; nothing changes."""
    image_id = cloud.create()
    before = cloud.member.get(f"/v2/images/{image_id}").json
    assert cloud.patch(image_id, {"op": "replace", "path": "/name", "value": "changed"}, step) == status
    assert cloud.member.get(f"/v2/images/{image_id}").json == before


def test_a_patch_is_of_its_own_media_type(cloud: ImageCloud) -> None:
    """Plain JSON, or no type at all, is 415."""
    where = f"/v2/images/{cloud.create()}"
    step = [{"op": "replace", "path": "/name", "value": "x"}]
    assert cloud.member.patch(where, step, headers={"content-type": "application/json"}).status == 415
    assert cloud.member.patch(where, {"op": "replace"}, headers=dict(PATCH)).status == 400


def test_formats_are_fixed_once_there_is_data(cloud: ImageCloud) -> None:
    """Before data they may change, afterwards 403."""
    image_id = cloud.create(disk_format="iso")
    assert cloud.patch(image_id, {"op": "replace", "path": "/disk_format", "value": "raw"}) == 200
    assert cloud.put(image_id, b"x") == 204
    assert cloud.patch(image_id, {"op": "replace", "path": "/disk_format", "value": "iso"}) == 403


def test_a_protected_image_stays(cloud: ImageCloud) -> None:
    """Deleting it is 403 until the protection is taken off; then row and bytes are gone, and a second delete is 404."""
    image_id = cloud.active(protected=True)
    assert cloud.member.delete(f"/v2/images/{image_id}").status == 403
    assert cloud.patch(image_id, {"op": "replace", "path": "/protected", "value": False}) == 200
    assert cloud.member.delete(f"/v2/images/{image_id}").status == 204
    assert cloud.left() == []
    assert cloud.member.delete(f"/v2/images/{image_id}").status == 404


@pytest.mark.parametrize("path", ["/v2/images/", "/v2/images/nothing", f"/v2/images/{ID}", f"/v2/images/{ID}%0A"])
def test_what_is_not_there_is_404(cloud: ImageCloud, path: str) -> None:
    """Also an image without a name, which is not the list."""
    assert [cloud.member(verb, path).status for verb in ("GET", "DELETE")] == [404, 404]


def test_lists_are_filtered(cloud: ImageCloud) -> None:
    """Each filter keeps what it names: attributes, lists of words, sizes, tags, properties, times, hidden ones."""
    small = cloud.active(b"1", name="small", tags=["x", "y"], hw_a="1")
    large = cloud.active(b"12345", name="large, too", tags=["x"], min_ram=5, disk_format="ami", container_format="ami")
    hidden = cloud.create(os_hidden=True, name="hidden")
    both = [large, small]
    checksum = cloud.member.get(f"/v2/images/{small}").json["checksum"]
    created = cloud.member.get(f"/v2/images/{small}").json["created_at"]
    expected = {
        "": both,
        "name=small": [small],
        'name=in:small,"large, too"': both,
        "name=in:": [],
        "status=active": both,
        "status=in:saving,active": both,
        "status=queued": [],
        "size_min=2": [large],
        "size_max=1": [small],
        "size=5": [large],
        "disk_format=in:ami,iso": [large],
        "container_format=bare": [small],
        f"checksum={checksum}": [small],
        f"id=in:{small},{hidden}": [small],
        f"owner={PROJECT}": both,
        f"owner={OTHER_PROJECT}": [],
        "min_ram=5": [large],
        "protected=true": [],
        "protected=False": both,
        "tag=x": both,
        "tag=x&tag=y": [small],
        "hw_a=1": [small],
        "hw_a=2": [],
        "os_hidden=true": [hidden],
        "os_hidden=false": both,
        "visibility=private": both,
        "visibility=public": [],
        "visibility=all": both,
        f"created_at=gte:{created}": both,
        f"created_at=lt:{created}": [],
        "updated_at=lt:2020-01-01T00:00:00Z": [],
        "updated_at=gt:2020-01-01T00:00:00+02:00": both,
    }
    assert {query: cloud.listed(query.replace("+", "%2B")) for query in expected} == expected


@pytest.mark.parametrize(
    "query",
    [
        "limit=-1",
        "limit=x",
        "marker=nothing",
        f"marker={ID}",
        "sort_key=color",
        "sort_dir=up",
        "sort=name:up",
        "sort=name&sort_key=name",
        "sort_key=name&sort_dir=asc&sort_dir=desc",
        "size_min=-1",
        "size_max=lots",
        "min_ram=1.5",
        f"size={'9' * 30}",
        "visibility=odd",
        "status=odd",
        "member_status=odd",
        "protected=perhaps",
        "created_at=yesterday",
        'name=in:"open',
        "name=%00",
    ],
)
def test_a_bad_query_is_400(cloud: ImageCloud, query: str) -> None:
    """Values that cannot be meant are refused, not ignored."""
    assert cloud.member.get(f"/v2/images?{query}").status == 400


def test_lists_are_sorted(cloud: ImageCloud) -> None:
    """By one key or several, both syntaxes; newest first without any."""
    one, two, three = (cloud.active(b"x" * size, name=name) for name, size in (("b", 1), ("a", 2), ("b", 3)))
    assert cloud.listed() == [three, two, one]
    assert cloud.listed("sort_dir=asc") == [one, two, three]
    assert cloud.listed("sort_key=name&sort_dir=asc&sort_key=size&sort_dir=desc") == [two, three, one]
    assert cloud.listed("sort=name:asc,size:asc") == [two, one, three]
    assert cloud.listed("sort=size") == [three, two, one]


@pytest.mark.parametrize(
    "order", ["", "sort=name:asc", "sort=size:asc,name:desc", "sort_key=disk_format&sort_dir=desc"]
)
def test_pages_follow_each_other(cloud: ImageCloud, order: str) -> None:
    """Following `next` meets every image once, in order, also where values are missing, until there is no `next`."""
    for number in range(4):
        cloud.active(b"x" * number, name=f"n{number % 2}")
        cloud.create(name=None, disk_format=None)
    whole = cloud.listed(order)
    met: list[str] = []
    where = f"/v2/images?limit=3&{order}"
    for _ in range(3):
        page = cloud.member.get(where).json
        assert page["first"].startswith("/v2/images?limit=3")
        met += [image["id"] for image in page["images"]]
        where = page.get("next", "")
    assert (met, where, len(whole)) == (whole, "", 8)
    assert cloud.listed("limit=0") == []


def test_community_images_are_listed_when_asked_for(cloud: ImageCloud) -> None:
    """Whoever knows the id may use one; it clutters nobody's list."""
    image_id = cloud.create(visibility="community")
    assert cloud.other.get(f"/v2/images/{image_id}").status == 200
    assert cloud.listed(client=cloud.other) == []
    assert (
        cloud.listed("visibility=community", cloud.other) == cloud.listed("visibility=all", cloud.other) == [image_id]
    )
    assert cloud.listed() == [image_id]


def test_tags_come_and_go(cloud: ImageCloud) -> None:
    """Adding twice is fine, removing twice is 404; too many are 413; strangers get 404."""
    where = f"/v2/images/{cloud.create()}/tags"
    assert [cloud.member.put(f"{where}/a%20b").status for _ in range(2)] == [204, 204]
    assert cloud.member.get(where.removesuffix("/tags")).json["tags"] == ["a b"]
    assert cloud.other.put(f"{where}/x").status == 404
    assert [cloud.member.delete(f"{where}/a%20b").status for _ in range(2)] == [204, 404]
    assert [cloud.member.put(f"{where}/{tag}").status for tag in "abcdef"] == [204] * 5 + [413]
    assert cloud.member.put(f"{where}/{'x' * 256}").status == 400


def test_a_shared_image_is_accepted_by_its_member(cloud: ImageCloud) -> None:
    """Offered: the member sees it by id; accepted: in its list; rejected or withdrawn: no more."""
    image_id = cloud.create(visibility="shared")
    members = f"/v2/images/{image_id}/members"
    assert cloud.other.get(f"/v2/images/{image_id}").status == 404
    offered = cloud.member.post(members, {"member": OTHER_PROJECT})
    assert (offered.status, offered.json["status"], offered.json["image_id"]) == (200, "pending", image_id)
    assert cloud.member.post(members, {"member": OTHER_PROJECT}).status == 409
    assert cloud.other.get(f"/v2/images/{image_id}").status == 200
    assert cloud.listed(client=cloud.other) == []
    assert (
        cloud.listed("member_status=pending", cloud.other)
        == cloud.listed("member_status=all", cloud.other)
        == [image_id]
    )
    mine = f"{members}/{OTHER_PROJECT}"
    assert cloud.member.put(mine, {"status": "accepted"}).status == 403
    assert cloud.other.put(mine, {"status": "odd"}).status == 400
    assert cloud.other.put(mine, {"status": "accepted"}).json["status"] == "accepted"
    assert cloud.listed(client=cloud.other) == cloud.listed("visibility=shared", cloud.other) == [image_id]
    assert cloud.other.delete(f"/v2/images/{image_id}").status == 403
    assert cloud.other.delete(mine).status == 403
    cloud.other.put(mine, {"status": "rejected"})
    assert cloud.listed(client=cloud.other) == []
    assert [cloud.member.delete(mine).status for _ in range(2)] == [204, 404]
    assert cloud.other.get(f"/v2/images/{image_id}").status == 404


def test_members_see_themselves_only(cloud: ImageCloud) -> None:
    """The owner lists all, a member finds itself only; only shared images have members, and not too many."""
    image_id = cloud.create(visibility="shared")
    members = f"/v2/images/{image_id}/members"
    for project in (OTHER_PROJECT, "7" * 32):
        assert cloud.member.post(members, {"member": project}).status == 200
    assert cloud.member.post(members, {"member": "6" * 32}).status == 413
    assert len(cloud.reader.get(members).json["members"]) == 2
    assert [member["member_id"] for member in cloud.other.get(members).json["members"]] == [OTHER_PROJECT]
    assert cloud.other.get(f"{members}/{OTHER_PROJECT}").status == 200
    assert cloud.other.get(f"{members}/{'7' * 32}").status == 404
    assert cloud.other.put(f"{members}/{'7' * 32}", {"status": "accepted"}).status == 404
    assert cloud.reader.post(members, {"member": "x"}).status == 403
    assert cloud.member.post(members, {}).status == 400
    assert cloud.member.post(f"/v2/images/{cloud.create()}/members", {"member": "x"}).status == 403


def test_what_belongs_to_nobody_is_no_callers_own(cloud: ImageCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token without a project neither changes a public image without an owner nor makes images."""
    system = Context(user_id="f" * 32, system_scope="all", roles=frozenset({"admin", "member", "reader"}))
    domain = Context(user_id="f" * 32, domain_id="default", roles=frozenset({"member", "reader"}))
    monkeypatch.setitem(CALLERS, "system", system)
    monkeypatch.setitem(CALLERS, "domain", domain)
    image_id = cloud.create(ApiClient(cloud.app, "system"), visibility="public")
    nobody = ApiClient(cloud.app, "domain")
    assert (nobody.get(f"/v2/images/{image_id}").status, nobody.get(f"/v2/images/{image_id}").json["owner"]) == (
        200,
        None,
    )
    assert nobody.delete(f"/v2/images/{image_id}").status == 403
    assert cloud.patch(image_id, {"op": "replace", "path": "/name", "value": "x"}, client=nobody) == 403
    assert nobody.post("/v2/images", {}).status == 403


def test_version_documents_are_open(cloud: ImageCloud) -> None:
    """300 at the root, 200 at /versions, one current version, links to the caller's own address; no token."""
    anybody = ApiClient(cloud.app, None)
    assert (anybody.get("/").status, anybody.get("/versions").status) == (300, 200)
    versions = anybody.get("/").json["versions"]
    assert [version["id"] for version in versions if version["status"] == "CURRENT"] == ["v2.16"]
    assert versions[0]["links"] == [{"rel": "self", "href": "http://cloud.test/service/v2/"}]


@pytest.mark.parametrize("name", ["image", "images", "member", "members"])
def test_schemas_are_shown(cloud: ImageCloud, name: str) -> None:
    """Each carries its own name; an image's has every key that an image shows."""
    schema = cloud.reader.get(f"/v2/schemas/{name}").json
    assert schema["name"] == name
    if name == "image":
        assert set(cloud.member.get(f"/v2/images/{cloud.create()}").json) <= set(schema["properties"])
