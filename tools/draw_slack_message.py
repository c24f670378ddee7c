"""Draw a message as Slack shows it: docs/slack.png, from a line of a file channel.

    keywatch demo --keep demo && keywatch deliver --lake demo/lake --config file-channel.toml
    sed -n 2p alerts.jsonl | python tools/draw_slack_message.py docs/slack.png

The blocks are those that `keywatch.deliver.slack` sends; the look is Slack's as near as CSS gets.
"""

from __future__ import annotations

import html
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from keywatch.deliver.message import Message
from keywatch.deliver.slack import blocks_of

_PAGE = """<!doctype html><meta charset="utf-8"><style>
body {{ margin: 0; background: #fff; color: #1d1c1d;
  font: 15px/1.46 Lato, "Noto Sans", sans-serif }}
main {{ width: 640px; padding: 16px 20px 20px 64px; position: relative }}
.app {{ position: absolute; left: 18px; top: 18px; width: 36px; height: 36px; border-radius: 6px;
  background: #1d3557; color: #fff; text-align: center; line-height: 36px; font-weight: 700 }}
.who {{ font-weight: 900 }} .who span {{ font-weight: 400; font-size: 12px; color: #616061 }}
h3 {{ font-size: 18px; margin: 6px 0 2px }} p {{ margin: 6px 0; white-space: pre-wrap }}
small {{ display: block; color: #616061; font-size: 12px; overflow-wrap: anywhere }}
i {{ display: inline-block; width: 13px; height: 13px; border-radius: 7px; margin-right: 4px }}
</style><main><div class="app">K</div><div class="who">Keywatch <span>APP</span></div>
{blocks}</main>
"""
# Chromium may have no font for them.
_MARKS = {"🚨": "#d0021b", "🔴": "#e01e5a", "🟠": "#de8a00", "🔵": "#1d6fd0", "✅": "#2eb67d"}
_FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync")


def page_of(message: Message) -> str:
    """The page that shows the message's blocks."""
    return _PAGE.format(blocks="\n".join(_block(block) for block in blocks_of(message)))


def _block(block: dict[str, Any]) -> str:
    match block["type"]:
        case "header":
            title = _text(block["text"])
            for mark, color in _MARKS.items():
                title = title.replace(mark, f'<i style="background:{color}"></i>')
            return f"<h3>{title}</h3>"
        case "section":
            return f"<p>{_text(block['text'])}</p>"
        case "context":
            return "".join(f"<small>{_text(part)}</small>" for part in block["elements"])
        case other:
            raise ValueError(f"no block {other} is known here")


def _text(value: dict[str, Any]) -> str:
    if value["type"] == "plain_text":
        return html.escape(value["text"])
    text = re.sub(r"<(https://[^|>]+)\|([^>]+)>", r"\2", value["text"])
    return re.sub(r"\*([^*]+)\*", r"<b>\1</b>", text)


def main(output: Path) -> int:
    message = Message.from_json(sys.stdin.readline())
    chromium = os.environ.get("KEYWATCH_CHROMIUM") or shutil.which("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(_FLAGS))
        page = browser.new_page(device_scale_factor=1)
        page.set_content(page_of(message))
        page.locator("main").screenshot(path=output)
        browser.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1])))
