import marimo

__generated_with = "0.25.0"
app = marimo.App(width="medium", app_title="Who used this key?")


@app.cell(hide_code=True)
def _(mo):
    mo.md("""
    # Who used this key?
    Networks and clients of one key in a week. Suspicious ones are first, and red in the chart; the
    week is shaded. The default is the most suspicious key.
    """)
    return


@app.cell(hide_code=True)
def _():
    import altair as alt
    import marimo as mo

    import keywatch

    alt.renderers.enable("png", scale_factor=2)  # pictures that need no network
    lake = keywatch.open()
    theme = mo.app_meta().theme
    return lake, mo, theme


@app.cell(hide_code=True)
def _(lake, mo):
    cases = list(lake.cases()["key_id"]) if len(lake.weeks()) else []
    keys = [*cases, *sorted(set(lake.keys()["key_id"]) - set(cases))]
    chosen = mo.ui.dropdown(keys, value=keys[0], label="Key", searchable=True)
    chosen
    return (chosen,)


@app.cell(hide_code=True)
def _(chosen, lake):
    key = lake.key(chosen.value)
    key
    return (key,)


@app.cell(hide_code=True)
def _(key):
    users = key.users()
    users[["kind", "origin", "class", "agents", "requests_before", "requests_now", "refused_now"]]
    return


@app.cell(hide_code=True)
def _(key, theme):
    key.timeline_chart(theme)
    return


@app.cell(hide_code=True)
def _(mo):
    mo.md("""
    Requests of the week as they were logged; the text was chosen by the caller:
    """)
    return


@app.cell(hide_code=True)
def _(key):
    key.events(limit=500)
    return


if __name__ == "__main__":
    app.run()
