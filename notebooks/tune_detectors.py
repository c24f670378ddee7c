import marimo

__generated_with = "0.25.0"
app = marimo.App(width="medium", app_title="Tune a detector")


@app.cell(hide_code=True)
def _(mo):
    mo.md("""
    # Tune a detector
    How would other parameters of a detector have changed past results? Choose a detector, change
    its parameters, and see which of its tests fail, how its evidence for the week changes, and
    which alerts differ. Nothing is stored: to keep a change, edit `detectors/<id>/detector.toml`.
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
    In this example, the first client that a key never used counts as ordinary, and the usual one is
    no evidence for the owner. Edit the parameters: dependent cells run again.
    """)
    return


@app.cell
def _(detector):
    other = detector.with_params(new_product_prior=1.0, most_familiar_bits=0.0)
    return (other,)


@app.cell(hide_code=True)
def _(mo):
    mo.md("""
    ## Its tests
    Each test is an event log with the exact evidence it must give. A failing test shows the effect
    of the change.
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
    ## Evidence for the week
    One point per visit; the change affects those off the diagonal.
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
            x=alt.X("bits", title="bits with present parameters"),
            y=alt.Y("bits_then", title="bits with changed parameters"),
            tooltip=["key_id", "actual"],
        )
        .properties(width=380, height=300)
    )
    return


@app.cell(hide_code=True)
def _(mo):
    mo.md("""
    ## Alerts that would differ
    The last week is reviewed again with all detectors, with the present and the changed parameters.
    More weeks take longer: each takes about twice as long as its review.
    """)
    return


@app.cell
def _(other):
    replayed = other.replay(weeks=1)
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
