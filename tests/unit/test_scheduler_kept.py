"""What is kept between decisions: the same answers as when everything is calculated anew, whatever happened to the hosts in between."""

import random

import pytest

from cumulet.compute.scheduler.columns import Columns, HostFacts
from cumulet.compute.scheduler.kept import FEW, HOSTS_MIN, SHAPES_MAX, Shapes
from cumulet.compute.scheduler.plan import NEAR, Plan, choose
from cumulet.compute.scheduler.snapshot import DOWN_AFTER_S, Wanted
from cumulet.core.ids import SeededIds

NOW_S = 1_000_000.0
HOSTS = HOSTS_MIN + 20
SIZES = {"VCPU": 16, "MEMORY_MB": 16384, "DISK_GB": 200}
SMALL = Wanted(resources={"VCPU": 1, "MEMORY_MB": 512, "DISK_GB": 10})
LARGE = Wanted(resources={"VCPU": 8, "MEMORY_MB": 4096, "DISK_GB": 40})
ZONED = Wanted(resources={"VCPU": 2, "MEMORY_MB": 1024, "DISK_GB": 20}, zone="other")
WITH_TRAIT = Wanted(resources={"VCPU": 2}, extra_specs={"trait:CUSTOM_A": "required"})
HUGE = Wanted(resources={"VCPU": 17})


def facts(number: int, *, disabled: bool = False, forced_down: bool = False, seen_s: float = NOW_S) -> HostFacts:
    """One of every seven is in the zone "other"."""
    return HostFacts(
        host=f"h{number}", provider_id=f"p{number}", zone="other" if number % 7 == 0 else "nova", hypervisor_type="QEMU",
        disabled=disabled, forced_down=forced_down, seen_s=seen_s, largest=SIZES,
    )  # fmt: skip


def put_room(hosts: Columns, number: int, used: float, rng: random.Random) -> None:
    """Up to a part of everything, or more, is used; one host of five has the trait."""
    room = {name: (total, int(total * used * rng.random()), total) for name, total in SIZES.items()}
    hosts.put_room(f"p{number}", room, ["CUSTOM_A"] if number % 5 == 0 else [])


def many(rng: random.Random, *, used: float) -> Columns:
    """Enough for something to be kept."""
    hosts = Columns()
    hosts.now_s = NOW_S
    for number in range(HOSTS):
        hosts.put_host(facts(number))
        put_room(hosts, number, used, rng)
    return hosts


def one_change(hosts: Columns, rng: random.Random) -> None:
    """Something that happens to hosts, the usual most often."""
    number = rng.randrange(hosts.size)
    what = rng.randrange(40)
    if what == 0:
        hosts.put_host(facts(number, disabled=rng.random() < 0.5, forced_down=rng.random() < 0.2, seen_s=hosts.now_s))
    elif what == 1:
        hosts.heard_of(f"h{number}", hosts.now_s)
    elif what == 2:
        hosts.now_s += 15.0
        for each in rng.sample(range(hosts.size), hosts.size // 2):
            hosts.heard_of(f"h{each}", hosts.now_s)
    elif what == 3:
        hosts.put_host(facts(hosts.size, seen_s=hosts.now_s))
    elif what == 4:
        for _ in range(FEW + 1):
            put_room(hosts, rng.randrange(hosts.size), 1.3, rng)
    elif what < 12:
        put_room(hosts, number, rng.choice([0.0, 0.9, 1.3]), rng)
    elif what < 30:
        hosts.take(number, {"VCPU": 1, "MEMORY_MB": 512, "DISK_GB": 10})


def said(plan: Plan) -> object:
    """What of a plan no dice have a part in."""
    weights = [round(one.weight, 9) for one in plan.weighed[:-1]]
    return plan.near, plan.fitting, plan.reasons, plan.refused, weights


@pytest.mark.parametrize("seed", range(6))
def test_what_is_kept_says_what_anew_is_calculated(seed: int) -> None:
    """After any change of the hosts, what was kept gives the same decision as nothing kept, and one near to the best is chosen."""
    rng = SeededIds(seed).rng
    hosts, shapes = many(rng, used=rng.choice([0.0, 0.3, 1.2])), Shapes()
    for _ in range(400):
        wanted = rng.choice([SMALL, SMALL, SMALL, LARGE, ZONED, WITH_TRAIT, HUGE])
        kept, anew = shapes.choose(hosts, wanted, rng), choose(hosts, wanted, rng)
        assert said(kept) == said(anew)
        assert (kept.chosen is None) == (anew.chosen is None)
        if kept.chosen is not None:
            (mine,) = [one for one in kept.weighed if one.host == hosts.names[kept.chosen]]
            assert mine.weight >= kept.weighed[0].weight - NEAR * 3 - 1e-9
            assert {one.host: one.by for one in anew.weighed}.get(mine.host, mine.by) == mine.by
            if rng.random() < 0.8:
                hosts.take(kept.chosen, wanted.resources)
        for _ in range(rng.randrange(4)):
            one_change(hosts, rng)


def test_each_near_host_is_chosen_as_often_as_another() -> None:
    """Hosts that were near, are no more and are again, have the chances of those that always were."""
    rng = SeededIds(1).rng
    hosts, shapes = many(rng, used=0.0), Shapes()
    for place in range(20, HOSTS):
        hosts.take(place, {"VCPU": 8})
    shapes.choose(hosts, SMALL, rng)
    for place in range(10):
        hosts.take(place, {"VCPU": 4})
        shapes.choose(hosts, SMALL, rng)
        hosts.take(place, {"VCPU": -4})
    assert shapes.choose(hosts, SMALL, rng).near == 20
    counts = dict.fromkeys(range(20), 0)
    for _ in range(4000):
        chosen = shapes.choose(hosts, SMALL, rng).chosen
        assert chosen is not None
        counts[chosen] += 1
    assert min(counts.values()) > 130
    assert max(counts.values()) < 280


def test_a_host_falls_silent_without_a_change() -> None:
    """Time alone makes a host unfit."""
    rng = SeededIds(2).rng
    hosts, shapes = many(rng, used=0.0), Shapes()
    assert shapes.choose(hosts, SMALL, rng).fitting == HOSTS
    hosts.put_host(facts(0, seen_s=NOW_S + 100))
    hosts.now_s = NOW_S + DOWN_AFTER_S - 1
    assert shapes.choose(hosts, SMALL, rng).fitting == HOSTS
    hosts.now_s = NOW_S + DOWN_AFTER_S
    plan = shapes.choose(hosts, SMALL, rng)
    assert (plan.fitting, plan.chosen) == (1, 0)
    assert plan.reasons == {"ComputeFilter": HOSTS - 1}


def test_the_newest_shapes_are_kept() -> None:
    """However many shapes are asked for, few are kept, and one that is gone is calculated again."""
    rng = SeededIds(3).rng
    hosts, shapes = many(rng, used=0.5), Shapes()
    for round_ in range(2):
        for number in range(SHAPES_MAX + 3):
            wanted = Wanted(resources={"VCPU": 1 + number})
            assert said(shapes.choose(hosts, wanted, rng)) == said(choose(hosts, wanted, rng)), round_
    assert len(shapes._shapes) == SHAPES_MAX
