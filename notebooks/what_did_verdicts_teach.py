import marimo

__generated_with = "0.25.0"
app = marimo.App(width="medium", app_title="What did last month’s verdicts teach?")


@app.cell(hide_code=True)
def _(mo):
    mo.md("""
    # What did last month’s verdicts teach?
    What was decided, and the action of the same keys in the newest review since (`action_after`).
    The chart has the detectors whose evidence counted in most of these cases.
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
    given = lake.sql("SELECT DISTINCT strftime(given_at, '%Y-%m') AS m FROM lake.verdicts")
    months = sorted(given["m"], reverse=True) or [lake.lessons().month]
    month = mo.ui.dropdown(months, value=months[0], label="Month")
    month
    return (month,)


@app.cell(hide_code=True)
def _(lake, month):
    lessons = lake.lessons(month.value)
    lessons
    return (lessons,)


@app.cell(hide_code=True)
def _(lessons):
    verdicts = lessons.verdicts().sort_values("outcome", kind="stable", ignore_index=True)
    verdicts[["window_start", "key_id", "name", "action", "verdict", "action_after", "because"]]
    return


@app.cell(hide_code=True)
def _(lessons, theme):
    lessons.detector_chart(theme)
    return


if __name__ == "__main__":
    app.run()
