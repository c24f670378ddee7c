"""Write a made world: a log file a day, the inventory, the truth.

Lines are joined column by column in Arrow; no Python runs per event.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from .keys import Batch, Key
from .places import DAY_US, HOUR_US, SECOND_US, Ints, mix64
from .world import Made, inventory_line, truth_line

GZIP_LEVEL = 3
ZSTD_LEVEL = 3
WRITERS = 2
LATE_SHARE = 0.0005
"""Share of all lines that reach the log late, whatever their key."""
LATE_MEAN_US = HOUR_US // 2
TWICE_SHARE = 0.0002
SUFFIXES = {"none": "", "gz": ".gz", "zst": ".zst"}

_STOLEN_NUMBER = 1 << 31
_MAX_KEY_EVENTS = 1 << 32


@dataclass
class _Log:
    """All lines of the log, column by column, in the order they are written."""

    columns: Batch
    key: Ints
    request: npt.NDArray[np.uint64]
    written_us: Ints


def write_world(made: Made, out: Path, compress: str) -> tuple[list[Path], int]:
    """Write everything under `out`; the log files in order, and the number of lines."""
    if compress not in SUFFIXES:
        raise ValueError(f"compress is one of {', '.join(SUFFIXES)}, not {compress!r}")
    logs = out / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    _write_lines(out / "inventory.jsonl", (inventory_line(k) for k in made.keys))
    _write_lines(out / "truth.jsonl", (truth_line(k, made) for k in made.keys))
    log = _in_order(made)
    pools = _Fragments(made)
    days = np.arange(made.start_us // DAY_US, made.end_us // DAY_US)
    bounds = np.searchsorted(log.written_us, np.append(days, days[-1] + 1) * DAY_US)

    def one_day(nth: int) -> Path:
        lines = pools.lines(log, slice(int(bounds[nth]), int(bounds[nth + 1])))
        path = logs / f"{_date(int(days[nth]))}.jsonl{SUFFIXES[compress]}"
        path.write_bytes(_compressed(lines, compress))
        return path

    with ThreadPoolExecutor(WRITERS) as writers:
        paths = list(writers.map(one_day, range(len(days))))
    return paths, len(log.key)


def _write_lines(path: Path, lines: Iterable[dict[str, object]]) -> None:
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    path.write_text(text, encoding="utf-8")


def _compressed(lines: memoryview, compress: str) -> bytes | memoryview:
    if compress == "gz":
        return gzip.compress(lines, GZIP_LEVEL, mtime=0)
    if compress == "zst":
        codec = pa.Codec("zstd", compression_level=ZSTD_LEVEL)
        sink = pa.BufferOutputStream()
        with pa.CompressedOutputStream(sink, codec.name) as stream:
            stream.write(lines)
        return memoryview(sink.getvalue())
    return lines


def _in_order(made: Made) -> _Log:
    """All batches as one, sorted by when they are written; late and doubled lines included."""
    parts = list(_parts(made))
    columns = Batch(*(
        np.concatenate([vars(batch)[name] for batch, _, _ in parts])
        for name in (field.name for field in fields(Batch))
    ))  # fmt: skip
    key = np.concatenate([np.full(len(b), k.number, dtype=np.int64) for b, k, _ in parts])
    numbers = np.concatenate([
        k.number * _MAX_KEY_EVENTS + offset + np.arange(len(b)) for b, k, offset in parts
    ])  # fmt: skip
    request = mix64(numbers, made.seed)
    luck = mix64(request.view(np.int64), 1).astype(np.float64) / 2.0**64
    delay_us = np.zeros(len(key), dtype=np.int64)
    late = luck < LATE_SHARE
    delay_us[late] = (-np.log((luck[late] + 1e-12) / LATE_SHARE) * LATE_MEAN_US).astype(np.int64)
    second_us = np.zeros(len(key), dtype=np.int64)
    second_us[luck > 1 - TWICE_SHARE] = 30 * SECOND_US
    dice = mix64(request.view(np.int64), 2).astype(np.float64) / 2.0**64
    bounds = np.concatenate([[0], np.cumsum([len(b) for b, _, _ in parts])])
    for nth, (_, owner, _) in enumerate(parts):
        rows = slice(int(bounds[nth]), int(bounds[nth + 1]))
        for spells, column in ((owner.late, delay_us), (owner.twice, second_us)):
            for spell in spells:
                during = columns.time_us[rows]
                hit = (during >= spell.start_us) & (during < spell.end_us)
                hit &= dice[rows] < spell.share
                column[rows][hit] = spell.delay_us
    written_us = np.minimum(columns.time_us + delay_us, made.end_us - 1)
    again = np.flatnonzero(second_us)
    again_us = np.minimum(written_us[again] + second_us[again], made.end_us - 1)
    rows_in = np.concatenate([np.arange(len(key)), again])
    written_us = np.concatenate([written_us, again_us])
    order = np.lexsort((request[rows_in], written_us))
    rows_in, written_us = rows_in[order], written_us[order]
    sorted_columns = Batch(*(column[rows_in] for column in vars(columns).values()))
    return _Log(sorted_columns, key[rows_in], request[rows_in], written_us)


def _parts(made: Made) -> Iterator[tuple[Batch, Key, int]]:
    for key, batch in zip(made.keys, made.own, strict=True):
        yield batch, key, 0
    for theft, batch in zip(made.thefts, made.stolen, strict=True):
        yield batch, theft.key, _STOLEN_NUMBER


class _Fragments:
    """Pieces of JSON that lines are joined from."""

    def __init__(self, made: Made) -> None:
        self._first_day = made.start_us // DAY_US
        days = range(self._first_day, made.end_us // DAY_US + 1)
        self._dates = _pool(f'{{"timestamp":"{_date(day)}T' for day in days)
        self._times = _pool(
            f"{s // 3600:02d}:{s // 60 % 60:02d}:{s % 60:02d}." for s in range(86_400)
        )
        self._millis = _pool(f'{m:03d}Z","request_id":"req_' for m in range(1000))
        self._hex = _pool(f"{n:04x}" for n in range(65_536))
        self._keys = _pool(
            f'","key_id":"{k.key_id}","key":{json.dumps(k.masked, ensure_ascii=False)},"ip":"'
            for k in made.keys
        )
        self._calls = _pool(_call_fragment(text) for text in made.pools.calls.texts)
        self._agents = _pool(
            f',"user_agent":{json.dumps(a)},"response_bytes":' for a in made.pools.agents.texts
        )
        self._status = _pool(str(status) for status in range(600))
        self._address_text = made.pools.book.text

    def lines(self, log: _Log, rows: slice) -> memoryview:
        """The rows as JSON lines, UTF-8."""
        c = log.columns
        time_us, request = c.time_us[rows], log.request[rows]
        if not len(time_us):
            return memoryview(b"")
        of_day_us = time_us % DAY_US
        codes, back = np.unique(c.address[rows], return_inverse=True)
        addresses = _pool(self._address_text(code) for code in codes.tolist())
        low = np.uint64(0xFFFF)
        joined = pc.binary_join_element_wise(
            self._dates.take(_index(time_us // DAY_US - self._first_day)),
            self._times.take(_index(of_day_us // SECOND_US)),
            self._millis.take(_index(of_day_us // 1000 % 1000)),
            *(self._hex.take(_index(request >> np.uint64(s) & low)) for s in (48, 32, 16, 0)),
            self._keys.take(_index(log.key[rows])),
            addresses.take(_index(back)),
            self._calls.take(_index(c.call[rows])),
            self._status.take(_index(c.status[rows])),
            self._agents.take(_index(c.agent[rows])),
            pa.array(c.bytes[rows]).cast(pa.string()),
            pc.binary_join_element_wise(
                ',"duration_ms":', pa.array(c.duration_ms[rows]).cast(pa.string()), "}\n", ""
            ),
            "",
        )
        data = joined.buffers()[2]
        end = int(np.frombuffer(joined.buffers()[1], dtype=np.int32)[len(joined)])
        return memoryview(data)[:end]


def _call_fragment(text: str) -> str:
    method, path = text.split(" ", 1)
    return f'","method":"{method}","endpoint":{json.dumps(path)},"status":'


def _pool(texts: Iterable[str]) -> Any:
    return pa.array(list(texts), type=pa.string())


def _index(values: npt.NDArray[Any]) -> Any:
    return pa.array(values.astype(np.int32))


def _date(day: int) -> str:
    return datetime.fromtimestamp(day * 86_400, tz=UTC).strftime("%Y-%m-%d")
