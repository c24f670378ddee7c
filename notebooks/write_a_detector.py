import marimo

__generated_with = "0.25.0"
app = marimo.App(width="medium", app_title="Write a detector")


@app.cell(hide_code=True)
def _(mo):
    mo.md("""
    # Write a detector
    From an idea to a tested folder. A detector is content: its description (`detector.toml`), one
    query (`detect.sql`), tests with exact results, and a README. `detectors/README.md` lists the
    fields.

    **The idea.** A key that has only ever read begins to write. A dashboard's key that sends `POST`
    or `DELETE` is not used as its owner uses it, no matter where it is used from.
    """)
    return


@app.cell
def _():
    import os
    import tempfile
    import textwrap
    from pathlib import Path

    import altair as alt
    import marimo as mo

    import keywatch

    alt.renderers.enable("png", scale_factor=2)  # pictures that need no network
    lake = keywatch.open()
    # Keep what you write: KEYWATCH_NEW_DETECTOR=detectors/first_write
    named = os.environ.get("KEYWATCH_NEW_DETECTOR")
    folder = Path(named) if named else Path(tempfile.mkdtemp(prefix="keywatch-"), "first_write")

    def write(name: str, *parts: str) -> None:
        """Write a file of the detector's folder; each part is dedented."""
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        text = "\n".join(textwrap.dedent(part).strip() for part in parts)
        file.write_text(text + "\n", encoding="utf-8")

    return alt, folder, lake, mo, write


@app.cell(hide_code=True)
def _(mo):
    mo.md("""
    ## First, look at the data
    How many keys write at all, and on how many of their days? The idea is useful if most keys
    either never write or write often.
    """)
    return


@app.cell
def _(lake):
    days = lake.sql(
        r"""
        SELECT key_id, count(DISTINCT day) AS days,
            count(DISTINCT day) FILTER (
                regexp_matches(endpoint, '^(POST|PUT|PATCH|DELETE) ')) AS write_days
        FROM lake.activity
        GROUP BY key_id
        ORDER BY key_id
        """
    )
    days
    return (days,)


@app.cell
def _(alt, days):
    (
        alt.Chart(days.assign(share=days["write_days"] / days["days"]))
        .mark_bar()
        .encode(
            x=alt.X("share", bin=alt.Bin(maxbins=20), title="share of days with a write"),
            y=alt.Y("count()", title="keys"),
        )
        .properties(width=480, height=180)
    )
    return


@app.cell(hide_code=True)
def _(mo):
    mo.md("""
    ## Write the tests first
    One that must be found and one that must not. The bits are calculated by hand: a key without a
    write on 63 days has a probability of (0 + 2 × 0.05) / (63 + 2), which is 9.3 bits.
    """)
    return


@app.cell
def _(write):
    window = """
        [window]
        start = 2026-09-28
        end = 2026-10-05
    """
    reads = """
        [[events]]
        key_id = "key_1"
        ip = "84.151.10.20"
        endpoint = "GET /v1/checks"
        from = 2026-07-27
        until = 2026-10-05
    """
    writes = """
        [[events]]
        key_id = "key_1"
        ip = "84.151.10.20"
        endpoint = "DELETE /v1/checks/{n}"
    """
    write(
        "tests/first_write.toml",
        'title = "a key that only read begins to write"',
        window,
        reads,
        writes,
        """
        on = 2026-10-01
        times = 3
        """,
        """
        [[expect]]
        key_id = "key_1"
        day = 2026-10-01
        prefix = "84.151.10.0/24"
        bits = 9.34
        typical = "0 of 63 days with a write"
        actual = "3 writes, DELETE /v1/checks/{id}"
        explanation = "a key that only read begins to write"
        """,
    )
    write(
        "tests/usual_write.toml",
        'title = "a key that writes every other day is no finding"',
        window,
        reads,
        writes,
        """
        from = 2026-07-27
        until = 2026-10-05
        every_days = 2
        """,
    )
    cases_written = True
    return (cases_written,)


@app.cell(hide_code=True)
def _(mo):
    mo.md("""
    ## Then the description and the query
    Every number has a name with its unit and is in `[params]`, nowhere else.
    """)
    return


@app.cell
def _(write):
    about = """
        title = "A key that only read begins to write"
        kind = "sql"
        family = "endpoints"
        grain = "visit"
        status = "draft"
        technique = "T1098"
        history = "own"
        known_gaps = "A thief who only reads; calls whose names begin with no HTTP method (AWS)."
        false_positives = "A dashboard that learns to acknowledge alerts."

        [params]
        prior_share = 0.05
        prior_strength_days = 2.0
        most_usual_share = 0.1
    """
    query = r"""
        -- grain: visit; reads visit_endpoints, baseline_endpoints, key_history
        -- The probability of a day with a write, given the days on which the key wrote. Keys for
        -- which writes are usual are left out.
        WITH past AS (
            SELECT key_id, max(days) AS write_days
            FROM baseline_endpoints
            WHERE regexp_matches(endpoint, '^(POST|PUT|PATCH|DELETE) ')
            GROUP BY key_id
        ),

        writes AS (
            SELECT key_id, day, prefix, sum(events)::BIGINT AS events, min(endpoint) AS endpoint
            FROM visit_endpoints
            WHERE regexp_matches(endpoint, '^(POST|PUT|PATCH|DELETE) ')
            GROUP BY key_id, day, prefix
        )

        SELECT
            w.key_id, w.day, w.prefix,
            bits(predictive(coalesce(p.write_days, 0), h.active_days, $prior_share,
                $prior_strength_days)) AS bits,
            format('{} of {} with a write', coalesce(p.write_days, 0),
                counted(h.active_days, 'day')) AS typical,
            format('{}, {}', counted(w.events, 'write'), w.endpoint) AS actual,
            'a key that only read begins to write' AS explanation
        FROM writes AS w
        JOIN key_history AS h USING (key_id)
        LEFT JOIN past AS p USING (key_id)
        WHERE h.active_days > 0
            AND coalesce(p.write_days, 0) <= $most_usual_share * h.active_days
    """
    readme = """
        # first_write
        A key that only read begins to write: most keys do only one of both. The bits are those of a
        day with a write, by the key's own days and a weak prior.
    """
    write("detector.toml", about)
    write("detect.sql", query)
    write("README.md", readme)
    detector_written = True
    return (detector_written,)


@app.cell(hide_code=True)
def _(mo):
    mo.md("""
    ## Is it valid, and do its tests pass?
    `check` reads the folder as `keywatch detectors check` does; `test` runs the tests on a real
    DuckDB. An empty list means no problems.
    """)
    return


@app.cell
def _(cases_written, detector_written, folder, lake):
    assert cases_written
    assert detector_written
    detector = lake.detector(folder)
    detector
    return (detector,)


@app.cell
def _(detector):
    wrong = detector.check()
    wrong
    return (wrong,)


@app.cell
def _(detector):
    tested = detector.test()
    tested[["case", "passed", "title"]]
    return (tested,)


@app.cell(hide_code=True)
def _(mo):
    mo.md("""
    ## Evidence for the week
    """)
    return


@app.cell
def _(detector):
    evidence = detector.evidence()
    evidence
    return (evidence,)


@app.cell(hide_code=True)
def _(mo):
    mo.md("""
    ## What it would change
    All detectors, without and with the new one: a useful detector raises stolen keys and leaves the
    others unchanged.
    """)
    return


@app.cell
def _(detector):
    replayed = detector.replay(weeks=1)
    return (replayed,)


@app.cell
def _(lake, replayed):
    changed = lake.sql(
        """
        SELECT week, coalesce(name, key_id) AS "key", action, round(bits, 1) AS bits, action_then,
            round(bits_then, 1) AS bits_then, summary
        FROM replayed
        ORDER BY abs(coalesce(bits_then, 0) - coalesce(replayed.bits, 0)) DESC, "key"
        """,
        replayed=replayed,
    )
    changed
    return


@app.cell(hide_code=True)
def _(mo):
    mo.md("""
    ## Keep it
    Put the folder into `detectors/` and add tests for the edges of the window, a key without
    history and an address that can't be located. Then run `keywatch detectors check` and
    `keywatch detectors test`.
    """)
    return


if __name__ == "__main__":
    app.run()
