"""Evidence adds up: per visit with a cap a family, then per case, then an action.

A family's cap keeps one oddity from making a case by itself; ``revoke`` needs two families. A fact
(evidence of a detector's ``certain_bits`` or more) has no cap and needs no second family.
The thresholds stand in the settings until calibration takes their place; `p_value` and `q_value`
stay None till then.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

from keywatch.detectors import Detector
from keywatch.lake import Lake
from keywatch.model import Action
from keywatch.settings import ScoringSettings


@dataclass(frozen=True)
class ScoredCase:
    """One key's worst visit; `day` and `prefix` are None where all evidence is the key's own."""

    key_id: str
    day: date | None
    prefix: str | None
    bits: float
    families: int
    certain: bool
    action: Action


def score(lake: Lake, detectors: Iterable[Detector], settings: ScoringSettings) -> list[ScoredCase]:
    """Cases of the temporary table ``evidence``, most suspicious first.

    Makes the temporary tables ``visit_scores`` (key_id, day, prefix, bits, families, certain),
    ``scored_cases`` (what is returned) and ``facts`` (detector, certain_bits).
    """
    certain = {d.id: d.certain_bits for d in detectors if d.certain_bits is not None}
    lake.execute(
        "CREATE OR REPLACE TEMP TABLE facts AS "
        "SELECT unnest($detectors::VARCHAR[]) AS detector, unnest($bits::DOUBLE[]) AS certain_bits",
        detectors=list(certain),
        bits=[float(bits) for bits in certain.values()],
    )
    lake.execute(
        """
        CREATE OR REPLACE TEMP TABLE visit_scores AS
        WITH caps AS (
            SELECT unnest($families::VARCHAR[]) AS family, unnest($caps::DOUBLE[]) AS cap
        ),

        graded AS (
            SELECT e.*, coalesce(e.bits >= f.certain_bits, false) AS certain
            FROM evidence AS e
            LEFT JOIN facts AS f USING (detector)
            WHERE NOT e.hygiene
        ),

        -- What is said of a whole day, or of the key, belongs to each of its visits.
        by_visit AS (
            SELECT key_id, day, prefix, family, bits, certain FROM graded WHERE prefix IS NOT NULL
            UNION ALL
            SELECT g.key_id, v.day, v.prefix, g.family, g.bits, g.certain
            FROM graded AS g
            JOIN visits AS v ON v.key_id = g.key_id AND v.day = coalesce(g.day, v.day)
            WHERE g.prefix IS NULL
        ),

        by_family AS (
            SELECT key_id, day, prefix, family, bool_or(certain) AS certain,
                -- A family that the settings name no cap for has none.
                least(any_value(cap), coalesce(sum(bits) FILTER (NOT certain), 0))
                    + coalesce(sum(bits) FILTER (certain), 0) AS bits
            FROM by_visit
            LEFT JOIN caps USING (family)
            GROUP BY key_id, day, prefix, family
        )

        -- Rounded: a sum of doubles depends on their order, and a tie is broken by name.
        SELECT key_id, day, prefix, round(sum(bits), 6) AS bits,
            count(*) FILTER (bits >= $second) AS families, bool_or(certain) AS certain
        FROM by_family
        GROUP BY key_id, day, prefix
        """,
        families=list(settings.family_caps_bits),
        caps=list(settings.family_caps_bits.values()),
        second=settings.second_family_bits,
    )
    lake.execute(
        """
        CREATE OR REPLACE TEMP TABLE scored_cases AS
        SELECT key_id, day, prefix, coalesce(bits, 0) AS bits, coalesce(families, 0) AS families,
            coalesce(certain, false) AS certain,
            CASE WHEN certain OR (bits >= $revoke AND families >= 2) THEN 'revoke'
                WHEN bits >= $investigate THEN 'investigate' ELSE 'none' END AS action
        FROM (SELECT DISTINCT key_id FROM evidence)
        LEFT JOIN (
            FROM visit_scores
            QUALIFY row_number() OVER (
                PARTITION BY key_id ORDER BY certain DESC, bits DESC, day, prefix) = 1
        ) USING (key_id)
        """,
        revoke=settings.revoke_bits,
        investigate=settings.investigate_bits,
    )
    return [ScoredCase(*row) for row in lake.rows("FROM scored_cases ORDER BY bits DESC, key_id")]
