import marimo

__generated_with = "0.25.0"
app = marimo.App(width="medium", app_title="What else did this address do?")


@app.cell(hide_code=True)
def _(mo):
    mo.md("""
    # What else did this address do?
    Keys that were used from an address, a prefix (192.0.2.0/24) or a network (AS64496), and which
    of them are cases. The default is the prefix of the most suspicious case.
    """)
    return


@app.cell(hide_code=True)
def _():
    import altair as alt
    import marimo as mo

    import keywatch
    from keywatch import errors

    alt.renderers.enable("png", scale_factor=2)  # pictures that need no network
    lake = keywatch.open()
    theme = mo.app_meta().theme
    return errors, lake, mo, theme


@app.cell(hide_code=True)
def _(lake, mo):
    place = mo.ui.text(lake.address().place, label="Address, prefix or network")
    place
    return (place,)


@app.cell(hide_code=True)
def _(errors, lake, mo, place):
    try:
        address = lake.address(place.value)
    except errors.UsageError as e:
        mo.stop(True, mo.plain_text(f"{e}"))
    address
    return (address,)


@app.cell(hide_code=True)
def _(address):
    keys = address.keys()
    keys[["key_id", "name", "owner", "action", "verdict", "requests_before", "requests_now"]]
    return


@app.cell(hide_code=True)
def _(address, theme):
    address.timeline_chart(theme)
    return


@app.cell(hide_code=True)
def _(mo):
    mo.md("""
    What was called from there:
    """)
    return


@app.cell(hide_code=True)
def _(address):
    endpoints = address.endpoints()
    endpoints[["endpoint", "keys_now", "requests_before", "requests_now", "refused_now"]]
    return


if __name__ == "__main__":
    app.run()
