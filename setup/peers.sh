# shellcheck shell=bash disable=SC2154
# The programs that tests and benchmarks compare with, in a Python environment of their own. A
# virtual environment cannot be moved, so it is made in place and counts only with its stamp.
peers=$deps/peers

peers_key() { sha256sum <"$root/setup/peers.txt"; }
peers_ready() { stamped "$peers/.ready" "$(peers_key)"; }

peers_make() {
  local at_hand=()
  [ -d "$deps/downloads" ] && at_hand=(--find-links "$deps/downloads")
  say "installing the peers (transformers and what it needs, 5 GB)"
  # One that was whole is brought up to date: the list may name one program more.
  if [ ! -e "$peers/.ready" ]; then
    rm -rf "$peers"
    "$python" -m venv "$peers"
  fi
  rm -f "$peers/.ready"
  # Of the thousands of modules few are ever imported: those are compiled then.
  "$peers/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes \
    --no-compile --only-binary :all: "${at_hand[@]}" -r "$root/setup/peers.txt"
  stamp "$peers/.ready" "$(peers_key)"
}

llama_cpp_key() { cat "$root"/setup/peers{.txt,-bench.txt,.sh} | sha256sum; }
llama_cpp_ready() { stamped "$peers/.ready-bench" "$(llama_cpp_key)"; }

# From source, so that it uses all that this CPU has. By clang 16: clang 14 does not define
# __AMX_INT8__, so that llama.cpp would leave AMX alone and take three times as long; g++ 12 drops
# all but 8 bytes of the tile configuration (its intrinsic does not say that it reads the rest), and
# llama.cpp then crashes on processors with AMX.
llama_cpp_make() {
  peers_ready || peers_make
  say "building llama.cpp (some minutes)"
  "$peers/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes \
    --only-binary :all: -r <(sed '/^# Built here/,$d' "$root/setup/peers-bench.txt")
  CMAKE_ARGS='-DGGML_NATIVE=ON -DLLAVA_BUILD=OFF -DCMAKE_C_COMPILER=clang-16
    -DCMAKE_CXX_COMPILER=clang++-16' "$peers/bin/python" -m pip install --quiet \
    --disable-pip-version-check --require-hashes --no-cache-dir --force-reinstall --no-deps \
    --no-build-isolation --no-binary :all: \
    -r <(sed -n '/^# Built here/,$p' "$root/setup/peers-bench.txt")
  stamp "$peers/.ready-bench" "$(llama_cpp_key)"
}
