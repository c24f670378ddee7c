import marimo

__generated_with = "0.25.0"
app = marimo.App(width="medium", app_title="Which keys would a rule on networks hit?")


@app.cell(hide_code=True)
def _(mo):
    mo.md("""
    # Which keys would a rule on networks hit?
    The alerts of a simple rule, such as *any use from a VPN*, beside the cases of Keywatch. A
    verdict says whether a hit is a theft or a false alarm.
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
def _(mo):
    classes = mo.ui.dropdown(
        ["vpn", "proxy", "tor", "relay", "hosting"], value="vpn", label="Class of network"
    )
    new = mo.ui.checkbox(label="only networks that are new to the key")
    mo.hstack([classes, new], justify="start", gap=2)
    return classes, new


@app.cell(hide_code=True)
def _(classes, lake, new):
    rule = lake.rule(classes.value, new=new.value)
    rule
    return (rule,)


@app.cell(hide_code=True)
def _(rule):
    hits = rule.hits()
    hits[["outcome", "action", "bits", "key_id", "name", "owner", "networks", "new", "requests"]]
    return


@app.cell(hide_code=True)
def _(rule, theme):
    rule.week_chart(theme)
    return


@app.cell(hide_code=True)
def _(mo):
    mo.md("""
    Cases that the rule would miss:
    """)
    return


@app.cell(hide_code=True)
def _(rule):
    missed = rule.missed()
    missed[["outcome", "action", "bits", "key_id", "name", "owner", "summary"]]
    return


if __name__ == "__main__":
    app.run()
