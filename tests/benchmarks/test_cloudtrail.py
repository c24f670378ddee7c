"""The labelled CloudTrail trail, where it is at hand: sides, names, and what can't be said."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from benchmarks.quality import cloudtrail
from keywatch.settings import Settings

ATTACKER = "AKIATFQR7NSC8Q4X20BJ"


@pytest.mark.slow
def test_the_attacker_s_user_is_named_and_each_key_has_a_side() -> None:
    if not cloudtrail.FOLDER.exists():
        pytest.skip(f"{cloudtrail.FOLDER} is absent")
    found = cloudtrail.findings(cloudtrail.FOLDER, Settings().without_power())

    sides = Counter(each.side for each in found)
    assert sides == {"attacking": 7, "attacker's own": 16, "innocent": 110}
    (attacker,) = (each for each in found if each.key_id == ATTACKER)
    assert attacker.principal == "user/bert-jan"
    assert attacker.labels == {"attack_infra_setup_or_cleanup": 1938, "attack_tool": 166}
    assert attacker.is_named
    lines = cloudtrail.report(found).splitlines()
    (counted,) = (line for line in lines if line.startswith("attacking: "))
    assert counted.endswith(" of 7 keys named")
    assert sum(line.endswith(f"{ATTACKER}  user/bert-jan") for line in lines) == 1
    assert all(any(each.key_id in line for line in lines) for each in found if each.is_named)


def test_without_the_trail_there_is_nothing_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cloudtrail.main([str(tmp_path)])
    assert capsys.readouterr().out == f"{tmp_path}: no labelled trail there; nothing to do\n"
