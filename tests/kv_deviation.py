#!/usr/bin/env python3
"""kv_deviation.py [--mean] KV_DUMP A B: how far two caches of the same tokens are apart.

Prints the largest difference of any value of K or V, or with --mean the mean square of all
differences. Members are one each, tiles raw. kv_deviation.py --tokens KV_DUMP A prints the ids as a
line for kvprefill --jsonl.
"""

import array
import json
import subprocess
import sys


def member(dump, path):
    (only,) = json.loads(subprocess.run([dump, path], check=True, capture_output=True).stdout)
    return only


def floats(tile):
    data = bytes.fromhex(tile["data"])
    if tile["dtype"] == "f32":
        return array.array("f", data)
    assert tile["dtype"] == "bf16", tile["dtype"]
    wide = bytearray(2 * len(data))
    wide[2::4], wide[3::4] = data[0::2], data[1::2]
    return array.array("f", bytes(wide))


def tensors(dump, path):
    values = {}
    for tile in member(dump, path)["tiles"]:
        assert tile["codec"] == 0
        values.setdefault((tile["layer"], tile["kind"]), array.array("f")).extend(floats(tile))
    return values


def main(arguments):
    if arguments[0] == "--tokens":
        print(json.dumps({"id": "whole", "tokens": member(*arguments[1:])["tokens"]}))
        return
    mean = arguments[0] == "--mean"
    dump, a, b = arguments[mean:]
    a, b = tensors(dump, a), tensors(dump, b)
    assert a.keys() == b.keys() and all(len(a[key]) == len(b[key]) for key in a), "other shapes"
    differences = [x - y for key in a for x, y in zip(a[key], b[key])]
    assert all(d == d for d in differences), "NaN"
    if mean:
        print(sum(d * d for d in differences) / len(differences))
    else:
        print(max(map(abs, differences)))


main(sys.argv[1:])
