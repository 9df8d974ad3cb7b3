"""Who of a pool is tried first."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Literal

import pytest
from aigateway.v1 import chat_pb2, message_pb2
from aigateway_router.policy.balance import HALF_LIFE, Balancer, sticky_key
from aigateway_router.settings import Pool
from hypothesis import given, settings
from hypothesis import strategies as st
from support.clock import Clock

Strategy = Literal["weighted", "least_latency", "resident"]
DRAWS = 20_000

members_ = st.dictionaries(st.sampled_from("abcdefgh"), st.sampled_from([0.0, 0.1, 1.0, 3.0, 50.0]), min_size=1)


def everybody(_: str) -> bool:
    return True


def balancer(
    members: Mapping[str, float], strategy: Strategy = "weighted", clock: Clock | None = None, seed: int = 1
) -> Balancer:
    return Balancer(Pool(members=members, strategy=strategy), clock or Clock(), random.Random(seed))


def shares(balance: Balancer, draws: int = DRAWS, usable: Callable[[str], bool] = everybody) -> dict[str, float]:
    firsts = Counter(balance.order(None, usable)[0] for _ in range(draws))
    return {member: count / draws for member, count in firsts.items()}


@given(
    members_,
    st.none() | st.text(),
    st.sets(st.sampled_from("abcdefgh")),
    st.sampled_from(["weighted", "least_latency"]),
)
def test_every_member_is_tried_the_usable_first_and_those_of_weight_0_after_the_others(
    members: dict[str, float], key: str | None, down: set[str], strategy: Strategy
) -> None:
    order = balancer(members, strategy).order(key, lambda member: member not in down)
    assert sorted(order) == sorted(members)
    places = [(member in down, members[member] == 0) for member in order]
    assert places == sorted(places)


def test_calls_are_shared_by_weight() -> None:
    found = shares(balancer({"a": 1, "b": 3, "c": 6, "spare": 0}))
    assert found == pytest.approx({"a": 0.1, "b": 0.3, "c": 0.6}, abs=0.015)


def test_what_follows_a_failure_is_shared_by_weight_too() -> None:
    balance = balancer({"a": 1, "b": 3, "c": 6})
    seconds = Counter(order[1] for order in (balance.order(None, everybody) for _ in range(DRAWS)) if order[0] == "c")
    assert seconds["b"] / seconds.total() == pytest.approx(0.75, abs=0.015)


def test_the_share_of_a_member_that_is_down_goes_to_the_others_by_weight() -> None:
    found = shares(balancer({"a": 1, "b": 3, "c": 6}), usable=lambda member: member != "c")
    assert found == pytest.approx({"a": 0.25, "b": 0.75}, abs=0.015)


def test_a_member_of_weight_0_takes_calls_only_when_no_other_can() -> None:
    balance = balancer({"a": 1, "spare": 0})
    assert shares(balance, 200) == {"a": 1}
    assert shares(balance, 200, lambda member: member == "spare") == {"spare": 1}


def test_keys_are_shared_by_weight() -> None:
    balance = balancer({"a": 1, "b": 3, "c": 6, "spare": 0})
    firsts = Counter(balance.order(f"session-{number}", everybody)[0] for number in range(DRAWS))
    found = {member: count / DRAWS for member, count in firsts.items()}
    assert found == pytest.approx({"a": 0.1, "b": 0.3, "c": 0.6}, abs=0.015)


def test_a_key_stays_with_its_member_in_every_process() -> None:
    members = {"openai-1": 1.0, "openai-2": 1.0, "openai-3": 2.0}
    # Written down: other processes, releases and machines must say the same.
    assert [balancer(members, seed=seed).order("session-2", everybody) for seed in (1, 2)] == [EXPECTED, EXPECTED]
    assert balancer(dict(reversed(members.items())), "least_latency").order("session-2", everybody) == EXPECTED


EXPECTED = ["openai-3", "openai-1", "openai-2"]


@given(members_, st.text(), st.sampled_from("abcdefgh"), st.booleans())
def test_a_member_that_goes_moves_only_its_own_keys(
    members: dict[str, float], key: str, gone: str, only_down: bool
) -> None:
    before = balancer(members).order(key, everybody)
    left = {member: weight for member, weight in members.items() if member != gone}
    if only_down:
        after = balancer(members).order(key, lambda member: member != gone)[: len(left)]
    else:
        after = balancer(left).order(key, everybody)
    assert after == [member for member in before if member != gone]


@given(members_, st.text(), st.sampled_from("abcdefgh"), st.sampled_from([2.0, 10.0]))
def test_more_weight_only_draws_keys_to_a_member(
    members: dict[str, float], key: str, grown: str, factor: float
) -> None:
    before = balancer(members).order(key, everybody)[0]
    heavier = {member: weight * (factor if member == grown else 1) for member, weight in members.items()}
    assert balancer(heavier).order(key, everybody)[0] in {before, grown}


def test_of_two_drawn_the_quicker_is_tried_first() -> None:
    balance = balancer({"slow": 1, "quick": 1}, "least_latency")
    balance.note("slow", 2.0)
    balance.note("quick", 0.1)
    assert shares(balance, 1000) == {"quick": 1}


def test_the_quickest_does_not_get_everything() -> None:
    balance = balancer({"a": 1, "b": 1, "c": 1, "d": 1}, "least_latency")
    for seconds, member in enumerate("abcd", start=1):
        balance.note(member, float(seconds))
    # Of the six pairs, equally likely, "a" is the quicker in three.
    assert shares(balance) == pytest.approx({"a": 3 / 6, "b": 2 / 6, "c": 1 / 6}, abs=0.015)


def test_speed_never_puts_an_unusable_or_spare_member_in_front() -> None:
    balance = balancer({"down": 1, "slow": 1, "spare": 0}, "least_latency")
    for member, seconds in (("down", 0.1), ("slow", 9.0), ("spare", 0.1)):
        balance.note(member, seconds)
    assert balance.order(None, lambda member: member != "down") == ["slow", "spare", "down"]


def test_a_member_that_was_never_asked_gets_its_share() -> None:
    balance = balancer({"new": 1, "quick": 1}, "least_latency")
    balance.note("quick", 0.1)
    assert shares(balance) == pytest.approx({"new": 0.5, "quick": 0.5}, abs=0.015)


def test_a_slow_member_is_tried_again_the_more_the_longer_ago_it_was_measured() -> None:
    clock = Clock()
    balance = balancer({"slow": 1, "quick": 1}, "least_latency", clock)
    balance.note("slow", 5.0)
    found = []
    for _ in range(4):
        balance.note("quick", 0.1)
        found.append(shares(balance).get("slow", 0.0))
        clock.sleep(HALF_LIFE)
    assert found == pytest.approx([0, 0.25, 0.375, 0.4375], abs=0.015)


def test_times_are_averaged_and_the_newest_counts_most() -> None:
    balance = balancer({"a": 1, "b": 1}, "least_latency")
    balance.note("b", 1.0)
    balance.note("a", 0.5)
    balance.note("a", 2.0)
    assert shares(balance, 500) == {"a": 1}
    balance.note("a", 2.0)
    assert shares(balance, 500) == {"b": 1}
    for _ in range(20):
        balance.note("a", 0.5)
    assert shares(balance, 500) == {"a": 1}


def test_times_of_strangers_are_not_kept() -> None:
    balance = balancer({"a": 1})
    for number in range(100):
        balance.note(f"stranger-{number}", 0.1)
    balance.note("a", 1.0)
    assert list(balance._first_answers) == ["a"]


def message(role: message_pb2.Role.ValueType, *texts: str) -> message_pb2.Message:
    parts = [message_pb2.Part(text=message_pb2.TextPart(text=text)) for text in texts]
    return message_pb2.Message(role=role, parts=parts)


def system(*texts: str) -> message_pb2.Message:
    return message(message_pb2.ROLE_SYSTEM, *texts)


def user(*texts: str) -> message_pb2.Message:
    return message(message_pb2.ROLE_USER, *texts)


def call(*messages: message_pb2.Message, tools: tuple[str, ...] = ()) -> chat_pb2.ChatCall:
    named = [message_pb2.Tool(function=message_pb2.FunctionTool(name=name)) for name in tools]
    return chat_pb2.ChatCall(messages=messages, tools=named)


def key(sticky: Literal["none", "session", "prefix"], made: chat_pb2.ChatCall, **metadata: str) -> str | None:
    pool = Pool(members={"a": 1}, sticky=sticky)
    return sticky_key(pool, {name.replace("_", "-"): value for name, value in metadata.items()}, made)


def test_the_session_is_the_key_where_the_pool_says_so() -> None:
    made = call(user("hello"))
    assert key("session", made, x_session_id="s-1") == "s-1"
    assert key("session", made, x_session_id="") is None
    assert key("session", made) is None
    assert key("none", made, x_session_id="s-1") is None


def test_the_beginning_of_the_prompt_is_the_key_where_the_pool_says_so() -> None:
    plain = call(system("be kind"), user("hello"), tools=("search",))
    found = key("prefix", plain, x_session_id="s-1")
    assert found is not None
    assert len(found) == 64
    assert found == key("prefix", plain)
    others = [
        call(system("be rude"), user("hello"), tools=("search",)),
        call(system("be kind"), user("goodbye"), tools=("search",)),
        call(system("be kind"), user("hello"), tools=("fetch",)),
        call(system("be kind"), user("hello")),
        call(user("hello"), tools=("search",)),
        call(user("be kind"), user("hello"), tools=("search",)),
        call(system("be kindhello"), user(""), tools=("search",)),
    ]
    keys = [key("prefix", other) for other in (plain, *others)]
    assert len(set(keys)) == len(keys)
    assert None not in keys


def test_developer_messages_are_instructions_like_system_messages() -> None:
    developer = message(message_pb2.ROLE_DEVELOPER, "be kind")
    assert key("prefix", call(developer, user("hello"))) == key("prefix", call(system("be kind"), user("hello")))


def test_only_the_beginning_of_the_first_user_message_counts() -> None:
    assert key("prefix", call(user("x" * 1024))) == key("prefix", call(user("x" * 1024 + "y")))
    assert key("prefix", call(user("x" * 1023))) != key("prefix", call(user("x" * 1023 + "y")))


def test_there_is_no_key_without_any_text() -> None:
    picture = message_pb2.Part(image=message_pb2.ImagePart(media=message_pb2.Media(url="https://example.com/a.png")))
    for empty in (
        call(),
        call(user("")),
        call(system(), user()),
        call(message_pb2.Message(role=message_pb2.ROLE_USER, parts=[picture])),
        call(message(message_pb2.ROLE_ASSISTANT, "hi")),
    ):
        assert key("prefix", empty) is None


def test_a_native_tool_is_told_by_its_json() -> None:
    natives = [
        chat_pb2.ChatCall(tools=[message_pb2.Tool(native=message_pb2.NativePart(json=json))])
        for json in (b'{"type":"web_search"}', b'{"type":"code"}')
    ]
    keys = [key("prefix", native) for native in natives]
    assert None not in keys
    assert keys[0] != keys[1]


roles = st.sampled_from([message_pb2.ROLE_SYSTEM, message_pb2.ROLE_USER, message_pb2.ROLE_ASSISTANT])
turns = st.lists(st.builds(message, roles, st.text(max_size=5)), max_size=5)


@settings(deadline=None)
@given(turns, st.text(max_size=5), turns)
def test_a_conversation_keeps_its_key_while_it_goes_on(
    before: list[message_pb2.Message], question: str, after: list[message_pb2.Message]
) -> None:
    begun = [*before, user(question)]
    grown = [key("prefix", call(*begun, *after[:count])) for count in range(len(after) + 1)]
    assert all(one == other for one, other in pairwise(grown))


def test_a_member_that_has_the_model_goes_first_and_of_those_the_one_with_the_fewest_calls() -> None:
    waits = {"cold": (True, 0), "busy": (False, 5), "free": (False, 1)}
    pool = balancer({"cold": 100, "busy": 1, "free": 1}, "resident")
    assert pool.order(None, lambda _: True, waits.__getitem__) == ["free", "busy", "cold"]


def test_a_member_that_is_down_goes_last_though_it_has_the_model() -> None:
    waits = {"cold": (True, 0), "down": (False, 0)}
    order = balancer({"cold": 1, "down": 1}, "resident").order(None, lambda name: name != "down", waits.__getitem__)
    assert order == ["cold", "down"]


def test_where_all_wait_alike_the_weights_decide() -> None:
    pool = balancer({"large": 9, "small": 1}, "resident")
    first = [pool.order(None, lambda _: True)[0] for _ in range(1000)]
    assert 800 < first.count("large") < 980
