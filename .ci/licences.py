#!/usr/bin/env python3
"""Checks the licence of every dependency against the allow list of deny.toml.

Usage: .ci/licences.py            (Python 3.11 or newer, no packages; run anywhere inside the repository)

Reads `cargo metadata`, so all platforms and features in Cargo.lock count. A licence expression is met when an `OR`
branch of it consists of allowed licences only. Exit code: 0 all met, 1 something is not, 2 the check could not run.
"""

import json
import pathlib
import re
import subprocess
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent


def main() -> int:
    deny = tomllib.loads((ROOT / "deny.toml").read_text(encoding="utf-8"))
    allow = set(deny["licenses"]["allow"])
    command = ["cargo", "metadata", "--locked", "--all-features", "--format-version", "1"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if run.returncode != 0:
        print(f"licences: cargo metadata failed\n{run.stderr}", file=sys.stderr)
        return 2
    packages = json.loads(run.stdout)["packages"]
    refused, used = [], set()
    for package in packages:
        expression, name = package["license"], f"{package['name']} {package['version']}"
        if expression is None:
            refused.append(f"{name}: no licence expression in its manifest")
            continue
        try:
            met, licences = evaluate(expression, allow)
        except ValueError as error:
            refused.append(f"{name}: {error}")
            continue
        if met:
            used |= licences
        else:
            refused.append(f"{name}: `{expression}` is not met by the allow list of deny.toml")
    refused += [f"deny.toml: `{licence}` is allowed but no dependency uses it" for licence in sorted(allow - used)]
    for line in refused:
        print(f"licences: {line}", file=sys.stderr)
    if not refused:
        print(f"licences: {len(packages)} packages, all within {', '.join(sorted(allow))}")
    return 1 if refused else 0


def evaluate(expression: str, allow: set[str]) -> tuple[bool, set[str]]:
    """Whether an SPDX expression is met, and the allowed licences it names. The old `/` reads as OR."""
    tokens = re.findall(r"[()]|[^\s()]+", expression.replace("/", " OR "))
    named: set[str] = set()

    def any_of() -> bool:
        met = all_of()
        while tokens and tokens[0] == "OR":
            tokens.pop(0)
            met = all_of() or met
        return met

    def all_of() -> bool:
        met = one()
        while tokens and tokens[0] == "AND":
            tokens.pop(0)
            met = one() and met
        return met

    def one() -> bool:
        if not tokens:
            raise ValueError(f"cannot read the licence expression `{expression}`")
        token = tokens.pop(0)
        if token == "(":
            met = any_of()
            if not tokens or tokens.pop(0) != ")":
                raise ValueError(f"unbalanced brackets in `{expression}`")
            return met
        if token in (")", "OR", "AND", "WITH"):
            raise ValueError(f"cannot read the licence expression `{expression}`")
        if tokens and tokens[0] == "WITH":
            tokens.pop(0)
            token = f"{token} WITH {tokens.pop(0)}" if tokens else token
        if token in allow:
            named.add(token)
        return token in allow

    met = any_of()
    if tokens:
        raise ValueError(f"cannot read the licence expression `{expression}`")
    return met, named


if __name__ == "__main__":
    sys.exit(main())
