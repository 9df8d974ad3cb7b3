"""Turns."""

from __future__ import annotations

from collections import Counter

from aigateway_router.policy.fair_queue import FairQueue
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule


def drained(queue: FairQueue[str]) -> list[str]:
    items = []
    while (item := queue.pop()) is not None:
        items.append(item)
    return items


def test_projects_take_turns_and_each_keeps_its_own_order() -> None:
    queue = FairQueue[str](10)
    for name in ("a1", "a2", "a3", "b1", "c1", "b2"):
        assert queue.push(name[0], name)
    assert drained(queue) == ["a1", "b1", "c1", "a2", "b2", "a3"]


def test_a_project_that_comes_back_waits_behind_those_that_wait() -> None:
    queue = FairQueue[str](10)
    queue.push("a", "a1")
    queue.push("b", "b1")
    assert queue.pop() == "a1"
    queue.push("a", "a2")
    assert drained(queue) == ["b1", "a2"]


def test_it_never_holds_more_than_it_may() -> None:
    queue = FairQueue[str](2)
    assert queue.push("a", "a1")
    assert queue.push("b", "b1")
    assert not queue.push("c", "c1")
    assert len(queue) == 2
    assert drained(queue) == ["a1", "b1"]
    assert not FairQueue[str](0).push("a", "a1")


def test_a_project_that_asks_a_lot_makes_room_for_others_and_nobody_else_does() -> None:
    queue = FairQueue[str](3)
    for name in ("a1", "a2", "a3"):
        queue.push(name[0], name)
    assert queue.make_room("b") == "a3"
    assert queue.push("b", "b1")
    assert queue.make_room("c") == "a2"
    assert queue.push("c", "c1")
    assert [queue.make_room(project) for project in "abcd"] == [None, None, None, None]
    assert drained(queue) == ["a1", "b1", "c1"]
    assert FairQueue[str](3).make_room("a") is None


def test_who_goes_away_leaves_no_trace() -> None:
    queue = FairQueue[str](3)
    for name in ("a1", "b1", "b2"):
        queue.push(name[0], name)
    assert queue.remove("a", "a1")
    assert not queue.remove("a", "a1")
    assert not queue.remove("b", "a1")
    assert queue.push("c", "c1")
    assert drained(queue) == ["b1", "c1", "b2"]
    assert not queue.remove("b", "b1")


@given(st.lists(st.sampled_from("abc"), max_size=30))
def test_while_projects_wait_none_is_served_twice_before_another(projects: list[str]) -> None:
    queue = FairQueue[str](100)
    for number, project in enumerate(projects):
        queue.push(project, f"{project}{number}")
    served = [item[0] for item in drained(queue)]
    assert Counter(served) == Counter(projects)
    left = Counter(projects)
    while served:
        waiting = sorted(project for project, count in left.items() if count)
        assert sorted(served[: len(waiting)]) == waiting
        served = served[len(waiting) :]
        left.subtract(waiting)


class Turns(RuleBasedStateMachine):
    """Comings, goings and turns in any order."""

    MOST = 6

    def __init__(self) -> None:
        super().__init__()
        self.queue = FairQueue[int](self.MOST)
        self.waiting: list[tuple[str, int]] = []
        self.others_served: dict[str, Counter[str]] = {}
        """For each waiting project, whom it saw served since its own last turn, or since it came."""
        self.count = 0

    @rule(project=st.sampled_from("abcd"))
    def come(self, project: str) -> None:
        self.count += 1
        room = len(self.waiting) < self.MOST
        assert self.queue.push(project, self.count) == room
        if room:
            self.waiting.append((project, self.count))
            self.others_served.setdefault(project, Counter())

    @rule()
    def serve(self) -> None:
        item = self.queue.pop()
        if not self.waiting:
            assert item is None
            return
        project = next(name for name, number in self.waiting if number == item)
        first = next(number for name, number in self.waiting if name == project)
        assert item == first
        self.waiting.remove((project, first))
        for other, seen in self.others_served.items():
            seen[project] += other != project
            assert max(seen.values()) <= 1
        self.forget(project)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def go_away(self, data: st.DataObject) -> None:
        project, number = data.draw(st.sampled_from(self.waiting))
        assert self.queue.remove(project, number)
        assert not self.queue.remove(project, number)
        self.waiting.remove((project, number))
        if all(name != project for name, _ in self.waiting):
            self.forget(project)

    def forget(self, project: str) -> None:
        del self.others_served[project]
        if any(name == project for name, _ in self.waiting):
            self.others_served[project] = Counter()

    @invariant()
    def holds_who_waits(self) -> None:
        assert len(self.queue) == len(self.waiting)


TestTurns = Turns.TestCase
TestTurns.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
