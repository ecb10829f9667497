#!/usr/bin/env bash
# man.sh SOURCE: the man pages have no warning of mandoc's but those about style.
set -euo pipefail
command -v mandoc >/dev/null || exit 125
mandoc -T lint -W warning "$1"/man/*.[157]
