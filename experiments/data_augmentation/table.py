"""Table and pictures of data augmentation against temperature, every seed (chain) judged by itself.

    python -m experiments.data_augmentation.table runs/data_augmentation/*    # run folders of `bnnpriors sweep`, named by average
    python -m experiments.data_augmentation.table                             # again, from results/seeds.csv

Given run folders it writes `results/seeds.csv`, a row an average, temperature and seed. From it come `results/curves.png`,
`effect.png` and the tables of the README, `tables.md`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from bnnpriors.cli.parsers import build_parser
from bnnpriors.cli.runs import write_table
from experiments.cold_posteriors.table import METRICS, effect_picture, judge, ladder_table, pool, table
from experiments.shared import curves, read_table, rounded

RESULTS = Path(__file__).parent / "results"
NAMES = {
    "none": "none",
    "one": "one random copy",
    "losses": "losses",
    "logits": "logits",
    "probs": "probabilities",
}
"""How a run folder's augmentation is shown; in the order of the tables."""


def main() -> None:
    """Judge the run folders given, then write tables and pictures of all that there is."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    build_parser()  # teaches jsonargparse which classes are data sets and scale rules
    folders = {Path(argument).name: Path(argument) for argument in sys.argv[1:]}
    if unknown := folders.keys() - NAMES:
        raise SystemExit(f"folders {sorted(unknown)} given, expected some of {list(NAMES)}")
    if folders:
        records = [
            {**rounded(record), "prior": NAMES[name]}
            for name in NAMES
            if name in folders
            for record in judge(folders[name])[1]
        ]
        write_table(RESULTS / "seeds.csv", records)
    pooled = pool(read_table(RESULTS / "seeds.csv"))
    text = f"{table(pooled, 'none', 'average of')}\n\n{ladder_table(pooled)}\n"
    curves(pooled, METRICS, bars="half", title="average of", whole=True, reference="none").savefig(
        RESULTS / "curves.png"
    )
    effect_picture({"MNIST at 14 × 14": pooled}, "none").savefig(RESULTS / "effect.png")
    (RESULTS / "tables.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
