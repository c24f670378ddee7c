import marimo

__generated_with = "0.25.0"
app = marimo.App(width="medium", app_title="Investigate a key")


@app.cell(hide_code=True)
def _(mo):
    mo.md("""
    # Investigate a key
    Everything about one key in the lake: where it was used from, what it did, other keys used from
    there, and what would break if it were revoked. `KEYWATCH_LAKE` names the lake.
    """)
    return


@app.cell
def _():
    import altair as alt
    import marimo as mo
    import pandas as pd

    import keywatch

    alt.renderers.enable("png", scale_factor=2)  # pictures that need no network
    lake = keywatch.open()
    return alt, lake, mo, pd


@app.cell
def _(lake, mo):
    cases = lake.cases()
    keys = [*cases["key_id"], *sorted(set(lake.keys()["key_id"]) - set(cases["key_id"]))]
    chosen = mo.ui.dropdown(keys, value=keys[0], label="Key", searchable=True)
    chosen
    return (chosen,)


@app.cell
def _(chosen, lake):
    key = lake.key(chosen.value)
    key
    return (key,)


@app.cell(hide_code=True)
def _(mo):
    mo.md("""
    ## Timeline
    Requests by day and network; the window is shaded.
    """)
    return


@app.cell
def _(key):
    key.timeline_chart()
    return


@app.cell(hide_code=True)
def _(mo):
    mo.md("""
    ## Origins
    """)
    return


@app.cell
def _(key):
    key.map()
    return


@app.cell
def _(key, lake):
    addresses = key.origins("address")
    new_addresses = lake.sql(
        """
        SELECT ip, origin, "class", country, requests_before, requests_now, refused_now,
            first_seen, last_seen, flagged
        FROM addresses
        WHERE requests_now > 0
        ORDER BY flagged DESC, known, requests_now DESC
        """,
        addresses=addresses,
    )
    new_addresses
    return (new_addresses,)


@app.cell
def _(key):
    key.agents()
    return


@app.cell(hide_code=True)
def _(mo):
    mo.md("""
    ## Activity
    Endpoints before and now, then the steps between calls that are new to the key.
    """)
    return


@app.cell
def _(key):
    key.endpoint_chart()
    return


@app.cell
def _(key, lake):
    sequence = key.sequence()
    new_steps = lake.sql(
        """
        SELECT CASE previous WHEN '' THEN '(begins)' ELSE previous END AS previous, endpoint,
            requests_now, days_now
        FROM sequence
        WHERE requests_before = 0 AND requests_now > 0
        ORDER BY requests_now DESC, previous, endpoint
        LIMIT 50
        """,
        sequence=sequence,
    )
    new_steps
    return (new_steps,)


@app.cell(hide_code=True)
def _(mo):
    mo.md("""
    ## Why it is suspected
    """)
    return


@app.cell
def _(alt, key, mo):
    evidence = key.evidence()
    counted = evidence.dropna(subset=["counted_bits"])
    bars = (
        alt.Chart(counted)
        .mark_bar()
        .encode(
            x=alt.X("counted_bits", title="bits counted"),
            y=alt.Y("detector", sort="-x", title=None),
            color=alt.Color("family", title="family"),
            tooltip=["explanation", "typical", "actual"],
        )
        .properties(width=480)
    )
    bars if len(counted) else mo.md("No evidence against this key in this week.")
    return (evidence,)


@app.cell
def _(evidence):
    evidence
    return


@app.cell(hide_code=True)
def _(mo):
    mo.md("""
    ## Other keys used from there
    Other keys used from the same addresses in the window, suspicious addresses first. Many keys of
    one owner indicate an office or a gateway; keys of several owners at a new address, a campaign.
    """)
    return


@app.cell
def _(key):
    key.neighbours()
    return


@app.cell(hide_code=True)
def _(mo):
    mo.md("""
    ## What a revocation would break
    Consumers that used the key from places that are not suspicious, and how often.
    """)
    return


@app.cell
def _(key, pd):
    impact = (key.case or {}).get("impact", {})
    consumers = pd.DataFrame(
        impact.get("consumers", []), columns=["agent", "origin", "requests_per_day"]
    )
    consumers
    return (impact,)


@app.cell
def _(impact, key, pd):
    blast = (key.case or {}).get("blast_radius", {})
    facts = {name: str(value) for name, value in (impact | blast).items() if name != "consumers"}
    pd.DataFrame({"value": facts})
    return


@app.cell
def _(key, pd):
    pd.DataFrame({"step": (key.case or {}).get("steps", [])})
    return


@app.cell(hide_code=True)
def _(mo):
    mo.md("""
    ## Requests
    The text is as it was logged and was chosen by the caller.
    """)
    return


@app.cell
def _(key):
    key.events(limit=500)
    return


if __name__ == "__main__":
    app.run()
