#!/usr/bin/env python3
"""Writes a configuration and a tag catalogue from a table of limits.

Usage: scripts/w-config.py LIMITS.parquet OUT.toml

LIMITS.parquet has one row a tag: tag, grp (number of its group of redundant channels, -1 for none), chan (its place in
the group), fail_lo, fail_hi, susp_lo, susp_hi, roc (fastest change per second), z (threshold of the z-score), tol
(tolerance of the vote). OUT.toml gets four checks: range, rate of change, z-score, and a mid-value vote for each group;
OUT.tags.csv beside it gets the limits of each tag. Numbers are written with all their digits.

Needs Python 3.11 and pyarrow. Exit code: 0 written, 2 wrong usage or input.
"""

import csv
import json
import math
import pathlib
import sys

COLUMNS = ["tag", "grp", "chan", "fail_lo", "fail_hi", "susp_lo", "susp_hi", "roc", "z", "tol"]
CATALOGUE = ["tag", "fail_lo", "fail_hi", "susp_lo", "susp_hi", "roc"]

HEAD = """\
# Written by scripts/w-config.py: limits per tag are in the catalogue, groups follow below.
tags = {catalogue}

[source.files]
quality = "quality"

[quality]
scheme = "opcua"
uncertain = "missing"

[[rule]]
id = "range"
tags = ["*"]
detect.range = {{ from_tags = {{ fail = ["fail_lo", "fail_hi"], suspect = ["susp_lo", "susp_hi"] }} }}

[[rule]]
id = "roc"
tags = ["*"]
detect.rate = {{ from_tags = {{ suspect_per_s = "roc" }}, max_gap = "1d" }}

[[rule]]
id = "base"
tags = ["*"]
detect.zscore = {{ window = 600, suspect = {z}, min_samples = 60, freeze = "never" }}
"""

GROUP = """
[[group]]
id = {id}
members = [{members}]
tick = {{ period = "6s" }}
max_skew = "6s"
own_qc = false
exclude = "never"
vote.mid_value = {{ tolerance = {{ abs = {tol} }}, miscompare = "to_voted" }}
"""


def main() -> int:
    if len(sys.argv) != 3 or sys.argv[1].startswith("-"):
        print(__doc__, file=sys.stderr)
        return 2
    source, target = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    try:
        rows = read(source)
        catalogue = target.with_suffix(".tags.csv")
        text = configuration(rows, catalogue.name)
    except (ImportError, OSError, ValueError) as error:
        print(f"w-config: {error}", file=sys.stderr)
        return 2
    with catalogue.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(CATALOGUE)
        writer.writerows([row["tag"], *(number(row, name) for name in CATALOGUE[1:])] for row in rows)
    target.write_text(text, encoding="utf-8", newline="\n")
    print(f"w-config: {len(rows)} tags, {text.count('[[group]]')} groups: {target}, {catalogue}")
    return 0


def read(source: pathlib.Path) -> list[dict]:
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(source)
    if missing := [name for name in COLUMNS if name not in table.column_names]:
        raise ValueError(f"{source}: no column {', '.join(missing)}")
    rows = table.select(COLUMNS).to_pylist()
    if not rows:
        raise ValueError(f"{source}: no rows")
    return rows


def configuration(rows: list[dict], catalogue: str) -> str:
    z = one_of_all(rows, "z", "the tags")
    parts = [HEAD.format(catalogue=quoted(catalogue), z=z)]
    groups: dict[int, list[dict]] = {}
    for row in rows:
        if row["grp"] >= 0:
            groups.setdefault(row["grp"], []).append(row)
    for group, members in sorted(groups.items()):
        members.sort(key=lambda row: row["chan"])
        tol = one_of_all(members, "tol", f"group {group}")
        names = ", ".join(quoted(row["tag"]) for row in members)
        parts.append(GROUP.format(id=quoted(f"vote.{group:04d}"), members=names, tol=tol))
    return "".join(parts)


def one_of_all(rows: list[dict], name: str, what: str) -> str:
    """The value that all rows share, as text."""
    values = {number(row, name) for row in rows}
    if len(values) != 1:
        raise ValueError(f"{what} must share one {name}, got {', '.join(sorted(values))}")
    return values.pop()


def number(row: dict, name: str) -> str:
    """A float with all its digits."""
    value = row[name]
    if value is None or not math.isfinite(value):
        raise ValueError(f"tag {row['tag']}: {name} must be a finite number, got {value}")
    return repr(float(value))


def quoted(text: str) -> str:
    """A TOML basic string; JSON's escapes are a subset of TOML's for text without surrogates."""
    return json.dumps(text, ensure_ascii=False)


if __name__ == "__main__":
    sys.exit(main())
