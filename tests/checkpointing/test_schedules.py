"""Schedules against closed forms, a dynamic programme, and a search through everything possible."""

import functools
import heapq
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adlab.checkpointing import (
    Advance,
    Backward,
    Moment,
    Restore,
    Store,
    binomial,
    every,
    fixed,
    optimal,
    sqrt,
    store_all,
    timeline,
    validate,
)

LENGTHS, SLOTS = range(1, 60), range(1, 8)


def advances(actions):
    return sum(isinstance(action, Advance) for action in actions)


def alive(moments):
    """The most states that are stored at once."""
    return max(sum(state is not None for state in moment.slots) for moment in moments)


@functools.cache
def least(length, slots):
    """Bellman's equation: store the state after k steps, differentiate the rest, then those k."""
    if length == 1:
        return 0
    if slots == 1:
        return length * (length - 1) // 2
    return min(k + least(length - k, slots - 1) + least(k, slots) for k in range(1, length))


def closed_form(length, slots):
    """Griewank and Walther's r l - C(c + r, c + 1), with the least r that reaches."""
    r = next(r for r in range(length) if math.comb(slots + r, slots) >= length)
    return r * length - math.comb(slots + r, slots + 1)


@pytest.mark.parametrize("slots", SLOTS)
def test_binomial_takes_the_fewest_steps_that_its_slots_allow(slots):
    schedule = binomial(slots)
    for length in LENGTHS:
        actions = validate(schedule.actions(length), length)
        assert advances(actions) == least(length, slots) == closed_form(length, slots)
        assert schedule.extra_forward_steps(length) == advances(actions) - (length - 1)
        assert alive(schedule.timeline(length)) <= schedule.slots(length) <= slots


def test_binomial_reaches_as_far_as_its_theorem_says():
    # With c slots, C(c + r, c) is the longest chain in which no step is computed more than r times.
    for slots, sweeps in [(1, 4), (2, 3), (3, 3), (5, 2)]:
        reach = math.comb(slots + sweeps, slots)
        per_step = [
            most_repeats(binomial(slots).actions(length), length) for length in (reach, reach + 1)
        ]
        assert per_step[0] == sweeps
        assert per_step[1] == sweeps + 1


def most_repeats(actions, length):
    counts = np.zeros(length, int)
    before = 0
    for moment in timeline(actions):
        if isinstance(moment.action, Advance):
            counts[before] += 1
        before = moment.current
    return counts.max()


@pytest.mark.parametrize("length", [1, 2, 3, 5, 16, 17, 49, 64])
@pytest.mark.parametrize("k", [1, 2, 3, 7, 100])
def test_every_stores_the_starts_and_one_segment_and_computes_each_step_at_most_twice(length, k):
    schedule = every(k)
    validate(schedule.actions(length), length)
    segments = math.ceil(length / k)
    # All but the start of a last segment of one step; then the states inside of a segment but two:
    # its start, which is stored already, and its end, which is current.
    inside = max(min(k, length) - 2, 0)
    assert schedule.slots(length) <= segments + inside
    assert schedule.extra_forward_steps(length) == repeated(length, k)
    assert alive(schedule.timeline(length)) <= schedule.slots(length)


def repeated(length, k):
    """Steps inside of all segments but the last, which is walked through just once."""
    sizes = [min(k, length - start) for start in range(0, length, k)]
    return sum(size - 1 for size in sizes[:-1])


@pytest.mark.parametrize("root", [2, 3, 8, 20])
def test_sqrt_stores_twice_the_root(root):
    length = root**2
    assert sqrt().slots(length) == 2 * root - 2
    assert sqrt().extra_forward_steps(length) == (root - 1) ** 2
    assert sqrt().actions(length) == every(root).actions(length)


@pytest.mark.parametrize("length", [1, 2, 30])
def test_storing_all_computes_nothing_again(length):
    assert store_all().extra_forward_steps(length) == 0
    assert store_all().slots(length) == max(length - 1, 1)  # x_{L-1} is at hand


def cost_by_search(costs, sizes, budget):
    """Return the least cost of steps computed, by Dijkstra's search over all that can be done.

    A node is what is stored, what is current, and how many steps are left. A stored state may be
    dropped only when its step has been differentiated.
    """
    start = (frozenset([0]), 0, len(costs))
    best, queue, number = {start: 0.0}, [(0.0, 0, start)], 0
    while queue:
        cost, _, node = heapq.heappop(queue)
        if node[2] == 0:
            return cost
        if cost > best[node]:
            continue
        for added, following in neighbours(node, costs, sizes, budget):
            if cost + added < best.get(following, math.inf):
                best[following] = cost + added
                number += 1
                heapq.heappush(queue, (cost + added, number, following))
    raise AssertionError("no schedule at all")


def neighbours(node, costs, sizes, budget):
    stored, current, left = node
    for state in stored:
        yield 0.0, (stored, state, left)
    if current == left - 1:
        yield 0.0, (stored - {current}, None, left - 1)
    elif current is not None and current < left:
        yield costs[current], (stored, current + 1, left)
    if current is not None and sum(sizes[k] for k in stored | {current}) <= budget:
        yield 0.0, (stored | {current}, current, left)


def spent(actions, costs):
    """Return the cost of the steps computed."""
    total, before = 0.0, 0
    for moment in timeline(actions):
        if isinstance(moment.action, Advance):
            total += costs[before]
        before = moment.current
    return total


@st.composite
def chains(draw):
    length = draw(st.integers(1, 8))
    numbers = st.lists(st.integers(0, 9), min_size=length, max_size=length)
    sizes = [1 + size // 2 for size in draw(numbers)]
    return draw(numbers), sizes, sizes[0] + draw(st.integers(0, 12))


@settings(max_examples=60)
@given(chains())
def test_optimal_is_the_best_of_all_there_are(chain):
    costs, sizes, budget = chain
    schedule = optimal(costs, sizes, budget)
    actions = validate(schedule.actions(len(costs)), len(costs))
    assert spent(actions, costs) == cost_by_search(costs, sizes, budget)
    for moment in timeline(actions):
        assert sum(sizes[state] for state in moment.slots if state is not None) <= budget


@pytest.mark.parametrize("slots", [1, 2, 5])
@pytest.mark.parametrize("length", [1, 7, 20, 40])
def test_optimal_for_equal_steps_is_binomial(length, slots):
    actions = optimal([1] * length, [1] * length, slots).actions(length)
    assert advances(actions) == closed_form(length, slots)


A, B = Advance(), Backward()


@pytest.mark.parametrize(
    ("actions", "length", "message"),
    [
        ([Store(0), A, B, Restore(1), B], 2, "action 3, Restore.*slot 1 must hold a state, got no"),
        ([Store(-1), B], 1, "action 0.*slot must be an integer >= 0, got -1"),
        ([Store(True), B], 1, "action 0.*slot must be an integer >= 0, got True"),
        ([A, A, B], 2, "action 1, Advance.*must not pass x_1.*got x_2"),
        ([Store(0), B, Restore(0), B], 2, "action 1, Backward.*must be x_1, got x_0"),
        ([Store(0), A, B, B], 2, "action 3, Backward.*must be x_0, got x_1"),
        ([Store(0), A, B, Restore(0), A, B], 2, "action 4, Advance.*must not pass x_0.*got x_1"),
        ([Store(0), A, B], 2, "must differentiate all 2 steps, got 1"),
        ([], 1, "must differentiate all 1 steps, got 0"),
        ([B, B], 1, "action 1, Backward.*must be x_-1, got x_0"),
    ],
)
def test_what_is_no_schedule_is_refused_at_its_first_mistake(actions, length, message):
    with pytest.raises(ValueError, match=message):
        validate(actions, length)


def test_what_is_no_action_is_refused():
    with pytest.raises(TypeError, match=r"action 1, 'advance': actions must be Store, Restore"):
        validate([Store(0), "advance", B], 2)


def test_a_forged_action_in_a_good_schedule_is_always_seen():
    good = list(binomial(3).actions(12))
    validate(good, 12)
    for place, action in enumerate(good):
        if isinstance(action, Advance | Backward):
            with pytest.raises(ValueError, match="must"):
                validate(good[:place] + good[place + 1 :], 12)


def test_the_timeline_tells_what_is_alive():
    actions = (Store(0), A, Store(1), A, B, Restore(1), B, Restore(0), B)
    assert timeline(actions) == (
        Moment(actions[0], 0, (0, None), 0),
        Moment(A, 1, (0, None), 0),
        Moment(actions[2], 1, (0, 1), 0),
        Moment(A, 2, (0, 1), 0),
        Moment(B, 2, (0, 1), 1),
        Moment(actions[5], 1, (0, None), 1),
        Moment(B, 1, (0, None), 2),
        Moment(actions[7], 0, (None, None), 2),
        Moment(B, 0, (None, None), 3),
    )


def test_a_state_that_is_never_restored_is_not_alive():
    stored = [moment.slots for moment in timeline((Store(0), A, Store(1), B, Restore(0), B))]
    assert stored == [(0, None)] * 4 + [(None, None)] * 2


def test_actions_as_they_are():
    actions = (Store(0), A, B, Restore(0), B)
    assert fixed(actions).actions(2) == actions
    assert (fixed(actions).slots(2), fixed(actions).extra_forward_steps(2)) == (1, 0)
    with pytest.raises(ValueError, match="must be for a chain of 3 steps, got one for 2"):
        fixed(actions).actions(3)
    with pytest.raises(ValueError, match="must be x_1, got x_0"):
        fixed((Store(0), B, B))


def test_slots_and_periods_are_whole_and_positive():
    for factory, name in [(binomial, "slots"), (every, "k")]:
        with pytest.raises(ValueError, match=f"{name} must be >= 1, got 0"):
            factory(0)
        with pytest.raises(TypeError, match=f"{name} must be an integer >= 1, got 2.0"):
            factory(2.0)
    for schedule in (binomial(2), sqrt()):
        with pytest.raises(ValueError, match="length must be >= 1, got 0"):
            schedule.actions(0)


@pytest.mark.parametrize(
    ("costs", "sizes", "budget", "message"),
    [
        ([1, 1], [1], 3, "one entry per step, got 2 and 1"),
        ([], [], 3, "one entry per step, got 0 and 0"),
        ([1, -1], [1, 1], 3, "costs must be finite and >= 0"),
        ([1, 1], [1, math.nan], 3, "sizes must be finite and >= 0"),
        ([1, 1], [4, 1], 3, "budget must hold at least the first state, 4, got 3"),
        ([1, 1], [4, 1], math.nan, "budget must hold at least the first state, 4, got nan"),
    ],
)
def test_what_optimal_can_not_plan_is_refused(costs, sizes, budget, message):
    with pytest.raises(ValueError, match=message):
        optimal(costs, sizes, budget)


def test_optimal_is_for_its_own_length():
    with pytest.raises(ValueError, match="must be for a chain of 3 steps, got one for 2"):
        optimal([1, 1], [1, 1], 2).actions(3)
