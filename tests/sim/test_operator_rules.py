"""The operator's own policy files."""

from pathlib import Path

import pytest
from tests.sim.cloud import Refused, SimCloud

pytestmark = pytest.mark.xdist_group("sim_cloud")


def test_a_file_in_the_state_folder_takes_the_place_of_a_services_defaults(tmp_path: Path) -> None:
    """DIR/policy/SERVICE.yaml, for that service and the rules that it names; all else stays as it was."""
    (tmp_path / "policy").mkdir()
    (tmp_path / "policy" / "compute.yaml").write_text('"os_compute_api:os-keypairs:index": "role:admin"\n')
    with SimCloud(tmp_path) as cloud:
        assert cloud.admin("GET", "compute", "/v2.1/os-keypairs")["keypairs"] == []
        with pytest.raises(Refused, match=r"^403 "):
            cloud.member("GET", "compute", "/v2.1/os-keypairs")
        assert cloud.member("GET", "compute", "/v2.1/servers")["servers"] == []
