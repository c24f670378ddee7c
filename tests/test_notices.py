from __future__ import annotations

from threading import Thread

from keywatch.notices import in_steps, notice, notices_to, step, steps_of, steps_to


def test_the_innermost_listener_hears_of_it_and_no_other_thread() -> None:
    outer: list[str] = []
    inner: list[str] = []
    notice("before")
    with notices_to(outer.append):
        notice("first")
        with notices_to(inner.append):
            notice("second")
        thread = Thread(target=notice, args=["elsewhere"])
        thread.start()
        thread.join()
        notice("third")
    notice("after")

    assert (outer, inner) == (["first", "third"], ["second"])


def test_steps_are_told_apart_from_notices_and_as_a_part_of_the_whole() -> None:
    told: list[str] = []
    step("before")
    with steps_of("nobody"):
        step("unheard")
    with steps_to(told.append):
        notice("a notice")
        with steps_of("Week 1 of 2"):
            step("Scoring")
        step("Storing")
    step("after")

    assert told == ["Week 1 of 2: Scoring", "Storing"]


def test_a_step_is_told_before_its_result_is_made() -> None:
    told: list[str] = []

    def make(number: int) -> int:
        told.append(f"made {number}")
        return number

    with steps_to(told.append):
        assert [*in_steps("Reading", map(make, range(2)), 2)] == [0, 1]

    assert told == ["Reading: 1 of 2", "made 0", "Reading: 2 of 2", "made 1"]
