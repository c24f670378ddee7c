import marimo

__generated_with = "0.25.0"
app = marimo.App(width="medium", app_title="Tune a detector")


@app.cell(hide_code=True)
def _(mo):
    mo.md("""
    # Tune a detector
    What would other numbers of a detector have said of the past? Choose a detector, change its
    numbers, and see which of its cases fail, what it says of the week, and which alerts differ.
    Nothing is stored: to keep a change, put it into `detectors/<id>/detector.toml`.
    """)
    return


@app.cell
def _():
    import altair as alt
    import marimo as mo

    import keywatch

    alt.renderers.enable("png", scale_factor=2)  # pictures that need no network
    lake = keywatch.open()
    lake.detectors()
    return alt, lake, mo


@app.cell
def _(lake):
    detector = lake.detector("unfamiliar_agent")
    detector
    return (detector,)


@app.cell(hide_code=True)
def _(mo):
    mo.md("""
    ## The change
    Here the first client that a key never used is taken for ordinary, and the usual one says
    nothing for the owner. Edit the numbers: what depends on them runs again.
    """)
    return


@app.cell
def _(detector):
    other = detector.with_params(new_product_prior=1.0, most_familiar_bits=0.0)
    return (other,)


@app.cell(hide_code=True)
def _(mo):
    mo.md("""
    ## Its cases
    Each case is an event log with the exact evidence it must give. A case that fails says what the
    change means for it.
    """)
    return


@app.cell
def _(lake, other):
    tested = other.test()
    failing = lake.sql(
        """
        SELECT "case", title, expected, actual FROM tested WHERE NOT passed ORDER BY "case"
        """,
        tested=tested,
    )
    failing
    return


@app.cell(hide_code=True)
def _(mo):
    mo.md("""
    ## What it says of the week
    One point a visit; those off the diagonal are judged otherwise.
    """)
    return


@app.cell
def _(detector, other):
    as_set_up, as_changed = detector.evidence(), other.evidence()
    return as_changed, as_set_up


@app.cell
def _(as_changed, as_set_up, lake):
    visits = lake.sql(
        """
        SELECT key_id, day, prefix, coalesce(one.bits, 0) AS bits,
            coalesce(two.bits, 0) AS bits_then, coalesce(two.actual, one.actual) AS actual
        FROM as_set_up AS one
        FULL JOIN as_changed AS two USING (key_id, day, prefix)
        ORDER BY abs(coalesce(one.bits, 0) - coalesce(two.bits, 0)) DESC, key_id, day, prefix
        LIMIT 2000
        """,
        as_changed=as_changed,
        as_set_up=as_set_up,
    )
    visits
    return (visits,)


@app.cell
def _(alt, visits):
    (
        alt.Chart(visits)
        .mark_point(opacity=0.5)
        .encode(
            x=alt.X("bits", title="bits as set up"),
            y=alt.Y("bits_then", title="bits by the other numbers"),
            tooltip=["key_id", "actual"],
        )
        .properties(width=380, height=300)
    )
    return


@app.cell(hide_code=True)
def _(mo):
    mo.md("""
    ## Which alerts would differ
    The weeks are reviewed again, with all detectors, as set up and with the other numbers: this
    takes about as long as twice so many reviews.
    """)
    return


@app.cell
def _(other):
    replayed = other.replay(weeks=2)
    return (replayed,)


@app.cell
def _(lake, replayed):
    counts = lake.sql(
        """
        SELECT week, coalesce(action, 'none') AS action,
            coalesce(action_then, 'none') AS action_then, count(*) AS "keys"
        FROM replayed
        GROUP BY ALL
        ORDER BY ALL
        """,
        replayed=replayed,
    )
    counts
    return


@app.cell
def _(lake, replayed):
    differing = lake.sql(
        """
        SELECT week, coalesce(name, key_id) AS "key", action, round(bits, 1) AS bits, action_then,
            round(bits_then, 1) AS bits_then, summary
        FROM replayed
        WHERE action IS DISTINCT FROM action_then OR abs(bits - bits_then) >= 0.1
        ORDER BY week, replayed.bits DESC NULLS LAST
        """,
        replayed=replayed,
    )
    differing
    return


if __name__ == "__main__":
    app.run()
