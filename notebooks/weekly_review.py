import marimo

__generated_with = "0.25.0"
app = marimo.App(width="medium", app_title="Weekly review")


@app.cell(hide_code=True)
def _(mo):
    mo.md("""
    # Weekly review
    The cases of a reviewed week, the most suspicious first. `KEYWATCH_LAKE` names the lake; without
    it, `make notebooks` creates a demo lake. Only a verdict that you record changes the lake.
    """)
    return


@app.cell
def _():
    import altair as alt
    import marimo as mo

    import keywatch

    alt.renderers.enable("png", scale_factor=2)  # pictures that need no network
    lake = keywatch.open()
    lake
    return alt, keywatch, lake, mo


@app.cell
def _(lake, mo):
    weeks = [week for week in lake.weeks()["week"] if week]
    which = mo.ui.dropdown(weeks, value=weeks[0], label="Week")
    which
    return (which,)


@app.cell
def _(lake, which):
    week = lake.week(which.value)
    week
    return (week,)


@app.cell(hide_code=True)
def _(mo):
    mo.md("""
    ## What to do
    One row per key that needs an action. Bits measure how rare the evidence is: 10 bits is about 1
    in 1,000.
    """)
    return


@app.cell
def _(week):
    cases = week.cases()
    evidence = week.evidence()
    return cases, evidence


@app.cell
def _(cases, lake):
    to_do = lake.sql(
        """
        SELECT action, round(bits, 1) AS bits, coalesce(name, key_id) AS "key", owner,
            summary, verdict
        FROM cases
        WHERE action <> 'none'
        ORDER BY list_position(['revoke', 'rotate', 'investigate'], action), cases.bits DESC
        """,
        cases=cases,
    )
    to_do
    return (to_do,)


@app.cell(hide_code=True)
def _(mo):
    mo.md("""
    ## Why
    The counted evidence of each key by family. A key with evidence from two families is more
    suspicious than one that is only used from a new place.
    """)
    return


@app.cell
def _(cases, evidence, lake):
    families = lake.sql(
        """
        SELECT concat_ws(' ', c.name, c.key_id) AS "key", round(c.bits, 2) AS total, e.family,
            round(sum(e.counted_bits), 2) AS bits
        FROM cases AS c
        JOIN evidence AS e USING (key_id)
        WHERE c.action <> 'none' AND e.counted_bits IS NOT NULL
        GROUP BY ALL
        ORDER BY total DESC, "key", e.family
        """,
        cases=cases,
        evidence=evidence,
    )
    families
    return (families,)


@app.cell
def _(alt, families):
    (
        alt.Chart(families)
        .mark_bar()
        .encode(
            x=alt.X("bits", title="bits"),
            y=alt.Y("key", sort=alt.SortField("total", "descending"), title=None),
            color=alt.Color("family", title="family"),
            tooltip=["key", "family", alt.Tooltip("bits", format=".1f")],
        )
        .properties(width=560)
    )
    return


@app.cell(hide_code=True)
def _(mo):
    mo.md("""
    ## Owners to ask
    """)
    return


@app.cell
def _(cases, lake):
    owners = lake.sql(
        """
        SELECT coalesce(owner, 'unknown') AS owner, count(*) AS "keys",
            max(round(bits, 1)) AS most_bits,
            list(coalesce(name, key_id) ORDER BY bits DESC) AS which
        FROM cases
        WHERE action <> 'none'
        GROUP BY ALL
        ORDER BY most_bits DESC, owner
        """,
        cases=cases,
    )
    owners
    return (owners,)


@app.cell(hide_code=True)
def _(mo):
    mo.md("""
    ## Case by case
    Choose a key; the notebook `investigate_key` shows more details.
    """)
    return


@app.cell
def _(cases, mo):
    alerted = list(cases[cases["action"] != "none"]["key_id"]) or list(cases["key_id"])
    chosen = mo.ui.dropdown(alerted, value=alerted[0], label="Key", searchable=True)
    chosen
    return (chosen,)


@app.cell
def _(chosen, week):
    key = week.key(chosen.value)
    key
    return (key,)


@app.cell
def _(key):
    key.timeline_chart()
    return


@app.cell
def _(key):
    counted = key.evidence().dropna(subset=["counted_bits"])
    counted[["counted_bits", "family", "explanation", "typical", "actual", "day", "prefix"]]
    return


@app.cell(hide_code=True)
def _(mo):
    mo.md("""
    **Your verdict.** Nothing is stored before you press the button. *benign*: the owner's use, this
    once; *expected*: the owner's use, up to a date; *compromised*: a theft; *undo* withdraws the
    latest verdict. Outside marimo, use `keywatch verdict`.
    """)
    return


@app.cell
def _(keywatch, lake):
    def recorded(key_id: str, week: str, verdict: str, by: str, because: str) -> object:
        """Record the verdict, or undo the latest one; returns what it changed."""
        with_verdicts = keywatch.open(lake.folder, verdicts=True, by=by)
        if verdict == "undo":
            return with_verdicts.undo(key_id, because, week=week)
        return with_verdicts.verdict(key_id, verdict, because, week=week)

    return (recorded,)


@app.cell
def _(key, mo):
    key  # each key has its own form, so that no input carries over to the next
    form = (
        mo.md("{verdict} {by} {because}")
        .batch(
            verdict=mo.ui.dropdown(["benign", "expected", "compromised", "undo"], label="Verdict"),
            by=mo.ui.text(label="By"),
            because=mo.ui.text(label="Because", full_width=True),
        )
        .form(submit_button_label="Record the verdict", clear_on_submit=True)
    )
    form
    return (form,)


@app.cell
def _(form, recorded, key, which):
    result = form.value and recorded(key.key_id, which.value, **form.value)
    result
    return (result,)


@app.cell
def _(key, lake, result, which):
    result  # read the verdict that was just recorded
    lake.key(key.key_id, week=which.value).verdicts()
    return


@app.cell(hide_code=True)
def _(mo):
    mo.md("""
    ## New networks
    Networks from which a key was used for the first time, with or without an alert. Check the list
    once a week, and ask the owner about networks that you do not know either.
    """)
    return


@app.cell
def _(lake, week):
    lake.sql(
        """
        SELECT action, round(bits, 1) AS bits, coalesce(name, key_id) AS "key", owner,
            concat_ws(' ', network, organization) AS network,
            array_to_string(countries, ', ') AS country, class, requests, first_seen, last_seen,
            old_place_in_use, owner_since, outcome
        FROM networks
        """,
        networks=week.new_networks(),
    )
    return


@app.cell(hide_code=True)
def _(mo):
    mo.md("""
    ## Coverage
    The absence of findings is meaningful only for keys assessed against their own history.
    """)
    return


@app.cell
def _(week):
    import pandas as pd

    counts = (
        "keys",
        "assessed",
        "warming_up",
        "not_assessable",
        "silent",
        "events",
        "history_days",
    )
    pd.DataFrame({"count": {name: week.coverage[name] for name in counts}})
    return (pd,)


@app.cell
def _(pd, week):
    pd.DataFrame({"note": week.coverage["notes"]})
    return


if __name__ == "__main__":
    app.run()
