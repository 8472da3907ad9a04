"""The dashboard over a made-up API: who gets in, what is shown, what is sent."""

import base64
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from tests.http.dashboard_cloud import (
    BASE,
    FLOATING,
    HOSTILE,
    IMAGE,
    NETWORK,
    PORT,
    PUBLIC,
    SERVER,
    TOKEN,
    DashboardCloud,
    event,
    server,
    token,
)

PAGES = [
    "/servers",
    "/servers/table",
    "/servers/new",
    f"/servers/{SERVER}",
    f"/servers/{SERVER}/live",
    "/keypairs",
    "/images",
    "/volumes",
    "/networks",
]
FORMS = [
    "/servers",
    f"/servers/{SERVER}/action",
    f"/servers/{SERVER}/console",
    f"/servers/{SERVER}/floating-ips",
    f"/servers/{SERVER}/floating-ips/release",
    "/keypairs",
    "/keypairs/delete",
    "/networks",
    "/logout",
]
SERVER_PATH = f"/compute/v2.1/servers/{SERVER}"


@pytest.fixture
def cloud() -> Iterator[DashboardCloud]:
    """A dashboard nobody has logged in to."""
    cloud = DashboardCloud()
    yield cloud
    cloud.web.close()


@pytest.fixture
def other() -> Iterator[DashboardCloud]:
    """The dashboard of another cloud."""
    cloud = DashboardCloud(seed=8)
    yield cloud
    cloud.web.close()


@pytest.fixture
def inside(cloud: DashboardCloud) -> DashboardCloud:
    """One that somebody has."""
    assert cloud.log_in().status_code == 303
    return cloud


# --- who gets in -----------------------------------------------------------------------------------------------------


def test_a_login_leaves_only_an_opaque_name_in_the_browser(cloud: DashboardCloud) -> None:
    """The session cookie is out of reach of scripts and other sites, and neither it nor a page holds the token."""
    answer = cloud.log_in()
    assert (answer.status_code, answer.headers["location"]) == (303, "/servers")
    cookie = next(one for one in answer.headers.get_list("set-cookie") if one.startswith("cumulet-8780="))
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert TOKEN not in cookie
    assert TOKEN not in cloud.web.get("/servers").text
    asked = cloud.body("POST", "/identity/v3/auth/tokens")["auth"]
    assert asked["scope"] == {"project": {"name": "demo", "domain": {"name": "Default"}}}
    assert asked["identity"]["password"]["user"]["password"] == "secret"
    assert cloud.asked[-1].headers["x-auth-token"] == TOKEN


def test_over_tls_the_cookie_stays_on_tls(cloud: DashboardCloud) -> None:
    """What was set by https is never sent by http."""
    cloud.web.over_tls()
    answer = cloud.log_in()
    assert all("Secure" in one for one in answer.headers.get_list("set-cookie") if "Max-Age=0" not in one)


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_a_failed_login_says_one_thing(cloud: DashboardCloud, status: int) -> None:
    """Whatever was wrong, the words are the same; no session begins, and what was typed stays but for the password."""
    cloud.answers["POST", "/identity/v3/auth/tokens"] = (status, {"error": {"message": "inner words"}})
    answer = cloud.log_in(user=HOSTILE, password="hush")
    assert answer.status_code == 401
    assert "User, password or project is wrong." in answer.text
    assert "inner words" not in answer.text
    assert "hush" not in answer.text
    assert "<script>alert" not in answer.text
    assert cloud.web.get("/servers").headers["location"] == "/login"


def test_a_login_form_of_another_site_is_refused(cloud: DashboardCloud, other: DashboardCloud) -> None:
    """Without the mark of a login page that this browser was shown, identity is not even asked."""
    for mark in ("", "0" * 64, other.mark("/login")):
        answer = cloud.web.post("/login", data={"user": "demo", "password": "x", "mark": mark})
        assert answer.status_code == 403
    mark = cloud.mark("/login")
    answer = cloud.web.post("/login", data={"mark": mark}, headers={"origin": "https://evil.example"})
    assert answer.status_code == 403
    assert cloud.asked == []


def test_a_user_without_a_default_project_enters_the_first_one(cloud: DashboardCloud) -> None:
    """An unscoped token is exchanged for one of a project the user may enter."""
    issued = [token(project=None), token()]
    cloud.answers["POST", "/identity/v3/auth/tokens"] = lambda _: (201, issued.pop(0), {"X-Subject-Token": TOKEN})
    cloud.answers["GET", "/identity/v3/auth/projects"] = (200, {"projects": [{"id": "p9"}]})
    assert cloud.log_in(project="").status_code == 303
    assert cloud.body("POST", "/identity/v3/auth/tokens")["auth"] == {
        "identity": {"methods": ["token"], "token": {"id": TOKEN}},
        "scope": {"project": {"id": "p9"}},
    }


@pytest.mark.parametrize("path", PAGES)
def test_no_page_without_a_session(cloud: DashboardCloud, other: DashboardCloud, path: str) -> None:
    """A stranger is led to the login page, a forged or foreign cookie changes nothing, and the API is not asked."""
    assert other.log_in().status_code == 303
    for value in (None, "x.y", "", other.web.cookies["cumulet-8780"]):
        headers = {} if value is None else {"cookie": f"cumulet-8780={value}"}
        answer = cloud.web.get(path, headers=headers)
        assert (answer.status_code, answer.headers["location"]) == (303, "/login")
    assert cloud.web.get(path, headers={"x-fragment": "1"}).status_code == 401
    assert cloud.asked == []


@pytest.mark.parametrize("path", FORMS)
def test_no_form_without_the_mark_of_the_session(inside: DashboardCloud, path: str) -> None:
    """A form without the mark, with a wrong one, or from another origin is refused and nothing is sent to the API."""
    mark = inside.mark()
    before = len(inside.asked)
    assert inside.web.post(path, data={"name": "x"}).status_code == 403
    assert inside.web.post(path, data={"mark": "0" * 64}).status_code == 403
    for headers in (
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ):
        assert inside.web.post(path, data={"mark": mark}, headers=headers).status_code == 403
    assert len(inside.asked) == before


def test_a_form_of_our_own_page_is_taken(inside: DashboardCloud) -> None:
    """With the mark and an origin of ours, by either of the headers that browsers send."""
    mark = inside.mark()
    inside.answers["POST", f"{SERVER_PATH}/action"] = (202, None)
    for headers in ({"origin": "http://testserver"}, {"sec-fetch-site": "same-origin", "origin": "http://other"}):
        answer = inside.web.post(f"/servers/{SERVER}/action", data={"mark": mark, "action": "stop"}, headers=headers)
        assert answer.status_code == 303


def test_a_token_that_has_ended_ends_the_session(inside: DashboardCloud) -> None:
    """401 of the API leads to the login page, and the session is gone."""
    inside.answers["GET", "/compute/v2.1/servers/detail"] = (401, {"error": {"message": "no"}})
    assert inside.web.get("/servers").headers["location"] == "/login"
    assert inside.web.get("/keypairs").headers["location"] == "/login"


@pytest.mark.parametrize("seconds", [2 * 3600 + 1, 20 * 86400])
def test_a_session_that_is_left_alone_ends(inside: DashboardCloud, seconds: float) -> None:
    """After two hours unused, and in any case with its token."""
    inside.clock.seconds += seconds
    assert inside.web.get("/servers").headers["location"] == "/login"


def test_logging_out_revokes_the_token(inside: DashboardCloud) -> None:
    """The token is revoked, the session forgotten, the cookie taken away."""
    kept = inside.web.cookies["cumulet-8780"]
    answer = inside.send("/logout")
    assert answer.headers["location"] == "/login"
    revoked = next(one for one in inside.asked if one.method == "DELETE")
    assert (revoked.url.path, revoked.headers["x-subject-token"]) == ("/identity/v3/auth/tokens", TOKEN)
    assert inside.web.get("/servers", headers={"cookie": f"cumulet-8780={kept}"}).headers["location"] == "/login"


# --- what is shown ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", [*PAGES, "/", "/login", "/static/style.css", "/static/live.js", "/favicon.ico", "/nowhere"]
)
def test_every_answer_keeps_others_out(inside: DashboardCloud, path: str) -> None:
    """No inline script or style, no frame, no guessing of types, whatever the page."""
    headers = inside.web.get(path).headers
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["x-content-type-options"] == "nosniff"
    if not path.startswith(("/static/", "/favicon")):
        assert headers["cache-control"] == "no-store"


def test_the_icon_is_where_browsers_look_for_it(cloud: DashboardCloud) -> None:
    """Also beside a document that names none: the same small picture, without a session."""
    icon = cloud.web.get("/favicon.ico")
    assert (icon.status_code, icon.headers["content-type"]) == (200, "image/svg+xml")
    assert icon.content == cloud.web.get("/static/icon.svg").content
    assert icon.content.startswith(b"<svg")


@pytest.mark.parametrize("path", PAGES)
def test_names_and_consoles_are_text(inside: DashboardCloud, path: str) -> None:
    """A name or a console's output that looks like markup is shown as it is and never becomes part of the page."""
    answer = inside.web.get(path)
    assert answer.status_code == 200
    assert "alert(" in answer.text
    assert "<script>alert" not in answer.text
    assert " style=" not in answer.text
    assert HOSTILE not in answer.text
    assert "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&#34;&amp;" in answer.text


def test_the_server_page_shows_the_nineteen_steps(inside: DashboardCloud) -> None:
    """Every row by number and name, what did not happen as skipped, and the console's output as text."""
    page = inside.web.get(f"/servers/{SERVER}").text
    assert page.count('<tr class="step ') == 19
    assert page.count("<rect ") == 2
    assert page.count('<tr class="step skipped">') == 15
    assert "50.0 ms" in page
    assert "data-live" not in page
    assert 'data-live="/servers/' not in page


def test_the_server_page_says_why_it_is_where_it_is(inside: DashboardCloud) -> None:
    """The newest decision's words, as text; without them the page is the same."""
    without = inside.web.get(f"/servers/{SERVER}").text
    decided = [
        {"action": "resize", "words": f"1 host looked at, it fits {HOSTILE}"},
        {"action": "create", "words": "old"},
    ]
    inside.answers["GET", f"{SERVER_PATH}/scheduling"] = (200, {"scheduling": decided})
    page = inside.web.get(f"/servers/{SERVER}").text
    assert "1 host looked at, it fits &lt;script&gt;" in page
    assert "<dt>Placement</dt>" not in without


def test_a_server_that_is_built_is_followed(inside: DashboardCloud) -> None:
    """While BUILD, the page says where its changing part is fetched from; without a script it reloads itself."""
    building = server(status="BUILD", **{"OS-EXT-STS:task_state": "scheduling"})
    inside.answers["GET", SERVER_PATH] = (200, {"server": building})
    inside.answers["GET", f"{SERVER_PATH}/os-instance-actions/req-1"] = (
        200,
        {"instanceAction": {"events": [event("request", 0, 1), event("ask_scheduler", 2, None, None)]}},
    )
    page = inside.web.get(f"/servers/{SERVER}").text
    assert f'data-live="/servers/{SERVER}/live"' in page
    assert '<noscript><meta http-equiv="refresh"' in page
    assert '<tr class="step running">' in page
    part = inside.web.get(f"/servers/{SERVER}/live", headers={"x-fragment": "1"}).text
    assert part.lstrip().startswith("<div data-live=")
    assert "<html" not in part


def test_a_fault_is_told(inside: DashboardCloud) -> None:
    """An ERROR server's page has the fault's own words."""
    fault = {"code": 500, "created": "2026-01-01T00:00:00Z", "message": f"No valid host: {HOSTILE}"}
    inside.answers["GET", SERVER_PATH] = (200, {"server": server(status="ERROR", fault=fault)})
    page = inside.web.get(f"/servers/{SERVER}").text
    assert "No valid host: &lt;script&gt;" in page


def test_the_list_goes_on_at_its_marker(inside: DashboardCloud) -> None:
    """A page of the list leads to the next one by the API's marker."""
    inside.answers["GET", "/compute/v2.1/servers/detail"] = (
        200,
        {"servers": [server()], "servers_links": [{"rel": "next", "href": "javascript:alert(1)"}]},
    )
    assert f'href="/servers?marker={SERVER}"' in inside.web.get("/servers").text
    inside.web.get(f"/servers?marker={SERVER}")
    assert inside.asked[-1].url.params["marker"] == SERVER


@pytest.mark.parametrize("status", [403, 404, 409, 500, 503])
def test_a_refusal_of_the_api_is_a_page(inside: DashboardCloud, status: int) -> None:
    """Its status and its words, escaped, in any service's envelope."""
    for envelope in ({"itemNotFound": {"message": HOSTILE, "code": status}}, {"NeutronError": {"message": HOSTILE}}):
        inside.answers["GET", "/image/v2/images"] = (status, envelope)
        answer = inside.web.get("/images")
        assert answer.status_code == status
        assert "&lt;script&gt;alert" in answer.text
        assert "<script>alert" not in answer.text


def test_a_cloud_that_does_not_answer_is_told(inside: DashboardCloud) -> None:
    """502 and a line, no trace of a program."""

    def gone(request: httpx.Request) -> Any:
        raise httpx.ConnectError("refused", request=request)

    inside.answers["GET", "/image/v2/images"] = gone
    answer = inside.web.get("/images")
    assert answer.status_code == 502
    assert "The cloud does not answer" in answer.text


def test_programs_are_told_where_the_apis_are(cloud: DashboardCloud) -> None:
    """`/` for JSON is an index that needs no login; a person is led to the login page; other paths are 404 in kind."""
    index = cloud.web.get("/", headers={"accept": "application/json"}).json()
    assert {"type": "compute", "url": "http://testserver/compute/v2.1"} in index["endpoints"]
    assert cloud.web.get("/").headers["location"] == "/login"
    missing = cloud.web.get("/nowhere", headers={"accept": "*/*"})
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, 404)
    assert "There is no such page." in cloud.web.get("/servers/../../x").text


@pytest.mark.parametrize("path", ["/servers/not-an-id", f"/servers/{SERVER}/other", "/servers/..%2f..%2fflavors"])
def test_only_identifiers_stand_in_paths(inside: DashboardCloud, path: str) -> None:
    """Anything else is no page, and reaches no API."""
    before = len(inside.asked)
    assert inside.web.get(path).status_code == 404
    assert len(inside.asked) == before


# --- what is sent ----------------------------------------------------------------------------------------------------


def test_a_launch_is_one_request(inside: DashboardCloud) -> None:
    """The form's fields in the API's words; user data in base64 with the line ends it was written with."""
    inside.answers["POST", "/compute/v2.1/servers"] = (202, {"server": {"id": SERVER}})
    answer = inside.send(
        "/servers",
        name="web",
        image=IMAGE,
        flavor="1",
        network=[NETWORK, PORT],
        group=["default"],
        key=HOSTILE,
        user_data="#!/bin/sh\r\necho hi\r\n",
    )
    assert answer.headers["location"] == f"/servers/{SERVER}"
    assert inside.body("POST", "/compute/v2.1/servers") == {
        "server": {
            "name": "web",
            "flavorRef": "1",
            "imageRef": IMAGE,
            "networks": [{"uuid": NETWORK}, {"uuid": PORT}],
            "security_groups": [{"name": "default"}],
            "key_name": HOSTILE,
            "user_data": base64.b64encode(b"#!/bin/sh\necho hi\n").decode(),
        }
    }


def test_a_launch_may_boot_from_a_new_volume(inside: DashboardCloud) -> None:
    """A size makes the image a volume of block device mapping v2; no network means none."""
    inside.answers["POST", "/compute/v2.1/servers"] = (202, {"server": {"id": SERVER}})
    inside.send("/servers", name="web", image=IMAGE, flavor="1", volume_size="3", volume_goes="yes")
    assert inside.body("POST", "/compute/v2.1/servers") == {
        "server": {
            "name": "web",
            "flavorRef": "1",
            "networks": "none",
            "block_device_mapping_v2": [
                {
                    "boot_index": 0,
                    "source_type": "image",
                    "uuid": IMAGE,
                    "destination_type": "volume",
                    "volume_size": "3",
                    "delete_on_termination": True,
                }
            ],
        }
    }


def test_a_launch_that_is_refused_keeps_what_was_typed(inside: DashboardCloud) -> None:
    """The form comes back with the API's status, its words and the fields."""
    inside.answers["POST", "/compute/v2.1/servers"] = (400, {"badRequest": {"message": "Flavor <b> is too small."}})
    answer = inside.send("/servers", name="typed name", image=IMAGE, flavor="1", user_data="</textarea>typed data")
    assert answer.status_code == 400
    assert "Flavor &lt;b&gt; is too small." in answer.text
    assert 'value="typed name"' in answer.text
    assert "&lt;/textarea&gt;typed data" in answer.text


def test_the_login_belongs_to_the_trace_of_its_launches(inside: DashboardCloud) -> None:
    """Rows 1 and 2 are identity's record of the token that a server was launched with, and of no other."""
    path = "/identity/v3/auth/token_issues/audit-1"
    issue = {"started_at": "2025-12-31T23:59:58.000000", "finished_at": "2025-12-31T23:59:58.250000"}
    inside.answers["GET", path] = (200, {"token_issue": issue})
    assert "250.0" not in inside.web.get(f"/servers/{SERVER}").text
    inside.answers["POST", "/compute/v2.1/servers"] = (202, {"server": {"id": SERVER}})
    inside.send("/servers", name="web", image=IMAGE, flavor="1")
    page = inside.web.get(f"/servers/{SERVER}").text
    assert "250.0" in page
    assert "-2,000.0" in page


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        ("start", {"os-start": None}),
        ("stop", {"os-stop": None}),
        ("reboot", {"reboot": {"type": "SOFT"}}),
        ("hard reboot", {"reboot": {"type": "HARD"}}),
    ],
)
def test_a_button_is_one_action(inside: DashboardCloud, name: str, sent: dict[str, Any]) -> None:
    """Each button sends its action and leads back with a word about it, told once."""
    inside.answers["POST", f"{SERVER_PATH}/action"] = (202, None)
    answer = inside.send(f"/servers/{SERVER}/action", action=name)
    assert inside.body("POST", f"{SERVER_PATH}/action") == sent
    assert answer.headers["location"] == f"/servers/{SERVER}"
    assert 'role="status"' in inside.web.get("/servers").text
    assert 'role="status"' not in inside.web.get("/servers").text


def test_delete_deletes_and_nothing_else_is_an_action(inside: DashboardCloud) -> None:
    """The delete button sends DELETE; an action that has no button is refused here."""
    inside.answers["DELETE", SERVER_PATH] = (204, None)
    assert inside.send(f"/servers/{SERVER}/action", action="delete").headers["location"] == "/servers"
    assert inside.asked[-1].method == "DELETE"
    assert inside.send(f"/servers/{SERVER}/action", action="forceDelete").status_code == 400


def test_the_console_is_framed_from_here_only(inside: DashboardCloud) -> None:
    """Our own console is framed by its path, another host's is a link, and what is no web address is refused."""
    path = f"{SERVER_PATH}/remote-consoles"

    def opened(url: str) -> httpx.Response:
        inside.answers["POST", path] = (200, {"remote_console": {"protocol": "vnc", "type": "novnc", "url": url}})
        return inside.send(f"/servers/{SERVER}/console")

    assert '<iframe class="screen" src="/console/?token=T"' in opened(f"{BASE}/console/?token=T").text
    assert inside.body("POST", path) == {"remote_console": {"protocol": "vnc", "type": "novnc"}}
    other = opened("https://cloud.example/console/?token=T").text
    assert 'href="https://cloud.example/console/?token=T"' in other
    assert "<iframe" not in other
    assert "<iframe" not in opened(f"{BASE}//evil.example/").text
    for url in ("javascript:alert(1)", "data:text/html,x"):
        assert opened(url).status_code == 502


def test_a_floating_address_is_led_to_the_server(inside: DashboardCloud) -> None:
    """A new one of a network, or one that is free; and off again, staying the project's."""
    made = {"floatingip": {"floating_ip_address": "172.24.4.9"}}
    inside.answers["POST", "/network/v2.0/floatingips"] = (201, made)
    inside.answers["PUT", f"/network/v2.0/floatingips/{FLOATING}"] = (200, made)
    page = f"/servers/{SERVER}/floating-ips"
    assert inside.send(page, port=PORT, address=f"new:{PUBLIC}").status_code == 303
    assert inside.body("POST", "/network/v2.0/floatingips") == {
        "floatingip": {"floating_network_id": PUBLIC, "port_id": PORT}
    }
    assert "172.24.4.9 leads to this server." in inside.web.get("/servers").text
    inside.send(page, port=PORT, address=f"free:{FLOATING}")
    assert inside.body("PUT", f"/network/v2.0/floatingips/{FLOATING}") == {"floatingip": {"port_id": PORT}}
    inside.send(f"{page}/release", floating_ip=FLOATING)
    assert inside.body("PUT", f"/network/v2.0/floatingips/{FLOATING}") == {"floatingip": {"port_id": None}}
    assert inside.send(f"{page}/release", floating_ip="../networks/x").status_code == 400
    assert inside.send(page, port=PORT, address="").status_code == 400


def test_a_private_key_is_shown_once(inside: DashboardCloud) -> None:
    """Creating a pair answers with the private half and keeps it nowhere; an import sends the public one."""
    keypair = {"keypair": {"name": "k", "private_key": "-----BEGIN KEY-----"}}
    inside.answers["POST", "/compute/v2.1/os-keypairs"] = (201, keypair)
    answer = inside.send("/keypairs", name="k", way="create")
    assert "-----BEGIN KEY-----" in answer.text
    assert "-----BEGIN KEY-----" not in inside.web.get("/keypairs").text
    inside.answers["POST", "/compute/v2.1/os-keypairs"] = (201, {"keypair": {"name": "k"}})
    assert inside.send("/keypairs", name="k", way="import", public_key="ssh-ed25519 AAAA").status_code == 303
    assert inside.body("POST", "/compute/v2.1/os-keypairs") == {
        "keypair": {"name": "k", "type": "ssh", "public_key": "ssh-ed25519 AAAA"}
    }


def test_a_key_pair_of_any_name_is_deleted(inside: DashboardCloud) -> None:
    """Its name is one segment of the path, whatever is in it."""
    inside.send("/keypairs/delete", name="../servers/x y")
    assert inside.asked[-1].url.raw_path == b"/compute/v2.1/os-keypairs/..%2Fservers%2Fx%20y"
    before = len(inside.asked)
    assert inside.send("/keypairs/delete", name="..").status_code == 404
    assert [one.method for one in inside.asked[before:]] == ["GET"]


def test_a_network_is_made_whole_or_not_at_all(inside: DashboardCloud) -> None:
    """Network, subnet, router, interface; what was made before a refusal is deleted in reverse."""
    for plural, one in (("networks", NETWORK), ("subnets", IMAGE), ("routers", PORT)):
        inside.answers["POST", f"/network/v2.0/{plural}"] = (201, {plural[:-1]: {"id": one}})
        inside.answers["DELETE", f"/network/v2.0/{plural}/{one}"] = (204, None)
    interface = f"/network/v2.0/routers/{PORT}/add_router_interface"
    inside.answers["PUT", interface] = (200, {})
    fields = {"name": "net", "cidr": "10.1.0.0/24", "outer": PUBLIC}
    assert inside.send("/networks", **fields).status_code == 303
    assert inside.body("POST", "/network/v2.0/subnets") == {
        "subnet": {"network_id": NETWORK, "name": "net", "ip_version": 4, "cidr": "10.1.0.0/24"}
    }
    assert inside.body("POST", "/network/v2.0/routers")["router"]["external_gateway_info"] == {"network_id": PUBLIC}
    assert inside.body("PUT", interface) == {"subnet_id": IMAGE}
    inside.answers["PUT", interface] = (409, {"NeutronError": {"message": "Address in use."}})
    refused = inside.send("/networks", **fields)
    assert refused.status_code == 409
    assert "Address in use." in refused.text
    assert [one.url.path for one in inside.asked if one.method == "DELETE"] == [
        f"/network/v2.0/routers/{PORT}",
        f"/network/v2.0/subnets/{IMAGE}",
        f"/network/v2.0/networks/{NETWORK}",
    ]


def test_a_form_has_a_size(inside: DashboardCloud) -> None:
    """What is longer than any form of ours, no form at all, or no text is refused before it is read on."""
    form = {"content-type": "application/x-www-form-urlencoded"}
    assert inside.web.post("/servers", content=b"a=" + b"x" * (300 << 10), headers=form).status_code == 413
    assert inside.web.post("/servers", content=b"&".join([b"a=1"] * 1000), headers=form).status_code == 400
    assert inside.web.post("/servers", content=b"a=\xff\xfe", headers=form).status_code == 400
    assert inside.web.post("/servers", content=b"{}", headers={"content-type": "application/json"}).status_code == 415
