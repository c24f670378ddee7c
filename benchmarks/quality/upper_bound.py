"""Is it the evidence that limits us, or how it is put together? Classifiers that know the truth.

    python -m benchmarks.quality.upper_bound           quick: four worlds of 200 keys
    python -m benchmarks.quality.upper_bound --full    the eight worlds of `benchmarks.quality`

What each detector says of a key's visits in the reviewed week is what Keywatch scores. Classifiers
learn from the truth of all worlds but one how to weigh it, and rank the keys of that one; beside
them the review's own order. Far above it, how evidence is put together is what to work on; near it,
evidence is short. Nothing learnt is shipped: weights of made worlds are theirs alone.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.quality.evaluate import FALSE_ALARMS_PER_KEY, scores
from benchmarks.quality.measures import average_precision, caught
from benchmarks.quality.tables import Table, spread, tell
from benchmarks.quality.worlds import World, engine
from keywatch.detect.scored_window import scorer_of
from keywatch.lake import Lake
from keywatch.model import Window
from keywatch.settings import Settings, load_settings

Floats = npt.NDArray[np.float64]

LEARNERS: dict[str, Callable[[], Any]] = {
    "logistic regression": lambda: make_pipeline(
        StandardScaler(), LogisticRegression(C=0.1, max_iter=2000, class_weight="balanced")
    ),
    "gradient boosting": lambda: HistGradientBoostingClassifier(
        max_iter=150, learning_rate=0.06, max_leaf_nodes=12, min_samples_leaf=15,
        l2_regularization=1.0, random_state=0,
    ),
}  # fmt: skip


def main() -> int:
    given = _arguments()
    settings = load_settings()
    worlds = [World(seed, given.keys, given.weeks) for seed in given.seeds]
    told = {world.seed: evidence(world, settings) for world in worlds}
    figures: dict[str, list[list[float]]] = {
        "Keywatch": [
            _figures(scores("keywatch", world, settings)["score"].to_numpy(float), world)
            for world in worlds
        ]
    }
    for name, learner in LEARNERS.items():
        figures[name] = [_figures(_held_out(learner, worlds, told, world), world)
                         for world in worlds]  # fmt: skip
    print(f"{given.keys:,} keys, {given.weeks} weeks, seeds {given.seeds}, "
          f"settings {settings.config_hash}")  # fmt: skip
    rows = [
        (name, spread(ap for ap, _ in each), spread(recall for _, recall in each))
        for name, each in figures.items()
    ]
    table = Table(
        "Rankings by what learnt from the truth of the other worlds, beside the review's own",
        ("", "avg. precision", "recall at 1‰"), rows,
    )  # fmt: skip
    tell([table], figures, given)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality.upper_bound", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    add("--full", action="store_true", help="1,000 keys, 9 weeks, seeds 1 to 8")
    add("--keys", type=int, help="in each world")
    add("--weeks", type=int)
    add("--seeds", type=int, nargs="+")
    add("--markdown", action="store_true", help="a table for docs/detection.md")
    add("--json", type=Path, metavar="FILE", help="also the figures of each world")
    given = parser.parse_args()
    usual = (1000, 9, list(range(1, 9))) if given.full else (200, 9, [1, 2, 3, 4])
    for name, value in zip(("keys", "weeks", "seeds"), usual, strict=True):
        if getattr(given, name) is None:
            setattr(given, name, value)
    return given


def evidence(world: World, settings: Settings) -> pd.DataFrame:
    """What the detectors say of each key with evidence, a row a key.

    Of each detector the most and the least of all visits and what it says of the visit of which
    all of them say most; and facts, and how many visits there are. Less than 0 speaks for the
    owner.
    """
    lake = world.lake(settings)

    def fresh() -> pd.DataFrame:
        window = Window(world.review_start, world.end)
        with Lake.open(lake, settings.storage) as opened, opened.reading():
            _, score = scorer_of(opened, window, settings)
            (found,) = score([window])
        names = list(found.detectors)
        visits = pd.DataFrame(found.bits, columns=names)
        visits["facts"] = found.facts
        visits["key_id"] = found.visits["key_id"].to_pylist()
        return features(visits)

    return world.keep_frame("evidence", (lake.name, engine(), settings.config_hash), fresh)


def features(visits: pd.DataFrame) -> pd.DataFrame:
    """A row a key, of a row a visit with `key_id` and a column a detector."""
    names = [name for name in visits if name != "key_id"]
    by_key = visits.groupby("key_id")[names]
    in_all = visits[names].sum(axis=1)
    strangest = visits.loc[in_all.groupby(visits["key_id"]).idxmax()].set_index("key_id")[names]
    return pd.concat(
        [by_key.max().add_prefix("most "), by_key.min().add_prefix("least "),
         strangest.add_prefix("at once "), by_key.size().rename("visits")], axis=1,
    )  # fmt: skip


def _held_out(
    learner: Callable[[], Any], worlds: list[World], told: dict[int, pd.DataFrame], held: World
) -> Floats:
    """A score of every key of the world `held`, by what was learnt from the others."""
    others = [world for world in worlds if world.seed != held.seed]
    known = pd.concat([told[world.seed] for world in others])
    stolen = np.concatenate(
        [world.truth["stolen"].reindex(told[world.seed].index).to_numpy(bool) for world in others]
    )
    model = learner().fit(known.to_numpy(float), stolen)
    here = told[held.seed]
    chances = pd.Series(model.predict_proba(here.to_numpy(float))[:, 1], index=here.index)
    ranked: Floats = chances.reindex(held.truth.index).fillna(0.0).to_numpy(float)
    return ranked


def _figures(ranking: Floats, world: World) -> list[float]:
    """Average precision, and recall at one false alarm in 1,000 keys."""
    stolen = world.truth["stolen"].to_numpy(bool)
    allowed = int(len(stolen) * FALSE_ALARMS_PER_KEY)
    return [average_precision(ranking, stolen), float(caught(ranking, stolen, allowed).mean())]


if __name__ == "__main__":
    sys.exit(main())
