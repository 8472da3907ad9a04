"""The oracle of answers' shapes: it fails what the reference would not have answered, and only that."""

import json
from pathlib import Path

import pytest
from tests.http.compute_world import World

from cumulet.compute.api.oracle import ENVIRONMENT


def test_a_wrong_shape_is_a_fault_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that lacks a required key becomes a 500 in the versions that the schema is for, and no other does."""
    wanted = {"type": "object", "required": ["colour"]}
    file = tmp_path / "schemas.json"
    file.write_text(
        json.dumps(
            [{"method": "GET", "path": "/flavors", "action": None, "min": "2.55", "max": None, "schema": wanted}]
        )
    )
    monkeypatch.setenv(ENVIRONMENT, str(file))
    world = World(f"sqlite://{tmp_path}")
    try:
        assert world.client(version="2.54").get("/v2.1/flavors").status == 200
        assert world.client(version="2.55").get("/v2.1/flavors").status == 500
        assert world.client(version="2.55").get("/v2.1/flavors/42").status == 200
    finally:
        world.close()
