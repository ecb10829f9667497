#!/usr/bin/env python3
"""blend_goals.py WORK: what blend_quality.sh measured, against its goals; exit status 1 when one is missed.

At 15 %: hkvd removes 55 % of full reuse's divergence and the best rule 65 %, and the paired interval of
hkvd less random excludes 0.
"""
import json
import sys


def load(name):
    with open(f"{sys.argv[1]}/{name}") as file:
        return {r["recipe"]: r for r in json.load(file)["recipes"]}


beside_reuse, beside_random = load("blend.json"), load("beside-random.json")
at_15 = {name: r for name, r in beside_reuse.items() if "-r 15%" in name}
missed = 0


def say(good, text):
    global missed
    missed += not good
    print(("met: " if good else "MISSED: ") + text)


def removed(recipe):
    ratio = recipe["versus"]["kld_ratio"]
    return 1 - ratio["value"], f"{1 - ratio['value']:.3f} [{1 - ratio['high']:.3f}, {1 - ratio['low']:.3f}]"


share, text = removed(at_15["kvblend --select hkvd -r 15%"])
say(share >= 0.55, f"hkvd removes {text} of full reuse's KLD (goal 0.55)")
best = max(at_15, key=lambda name: removed(at_15[name])[0])
share, text = removed(at_15[best])
say(share >= 0.65, f"the best, {best}, removes {text} (goal 0.65)")
pair = beside_random["kvblend --select hkvd -r 15%"]["versus"]["kld"]
say(pair["high"] < 0, f"hkvd less random: {pair['value']:+.4f} [{pair['low']:+.4f}, {pair['high']:+.4f}]")
sys.exit(missed > 0)
