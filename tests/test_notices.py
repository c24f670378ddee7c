from __future__ import annotations

from threading import Thread

from keywatch.notices import notice, notices_to


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
