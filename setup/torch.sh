# shellcheck shell=bash disable=SC2154
# LibTorch in .deps/torch, with what it links in .deps/nvidia, where its own rpath looks for it.
torch_version=2.11.0

is_libtorch() {
  [ -e "$1/lib/libtorch_cpu.so" ] &&
    grep -q "\"$torch_version\"" "$1/include/torch/headeronly/version.h" 2>/dev/null
}

wants_cuda() {
  case ${KVTOOLS_CUDA-} in
    1) return 0 ;;
    0) return 1 ;;
  esac
  [ -e /dev/nvidia0 ] || [ -e /dev/dxg ] || nvidia-smi -L >/dev/null 2>&1
}

torch_key() {
  if wants_cuda; then wheels torch cudart cuda; else wheels torch cudart; fi
}

torch_ready() {
  if [ -n "${TORCH_DIR-}" ]; then
    [ "$(readlink "$deps/torch")" = "$(realpath "$TORCH_DIR")" ]
  elif [ -L "$deps/torch" ]; then
    is_libtorch "$deps/torch"
  else
    stamped "$deps/torch/.stamp" "$(torch_key)" ||
      { ! wants_cuda && stamped "$deps/torch/.stamp" "$(wheels torch cudart cuda)"; }
  fi
}

# The folder of a Python torch of our version; it brings its nvidia folder beside it.
installed_torch() {
  "$python" - "$torch_version" <<'PYTHON' 2>/dev/null
import importlib.metadata, sys
torch = importlib.metadata.distribution("torch")
if torch.version.split("+")[0] != sys.argv[1]:
    sys.exit(1)
print(torch.locate_file("torch"))
PYTHON
}

use_torch() {
  say "using the LibTorch in $1"
  rm -rf "$deps/torch"
  ln -s "$1" "$deps/torch"
}

# The CUDA runtime from a toolkit (linked, so that LibTorch's rpath finds it) or from its wheels.
cuda_runtime() {
  local folder=$1 library found=()
  for library in libcudart.so.13 libcupti.so.13; do
    found+=("$(find -L /usr/local/cuda*/lib64 /usr/local/cuda*/extras/CUPTI/lib64 \
      /usr/lib/x86_64-linux-gnu -maxdepth 1 -name "$library" -print -quit 2>/dev/null || true)")
  done
  if [ -n "${found[0]}" ] && [ -n "${found[1]}" ]; then
    say "using the CUDA runtime in $(dirname "${found[0]}")"
    mkdir -p "$folder/nvidia/cu13/lib"
    ln -s "${found[@]}" "$folder/nvidia/cu13/lib/"
  else
    unpack cudart "$folder" 'nvidia/*/lib/*.so*'
  fi
}

torch_make() {
  local folder=$deps/torch.new key
  if [ -n "${TORCH_DIR-}" ]; then
    is_libtorch "$TORCH_DIR" || die "TORCH_DIR='$TORCH_DIR' is no LibTorch $torch_version"
    use_torch "$(realpath "$TORCH_DIR")"
    return
  elif folder=$(installed_torch) && is_libtorch "$folder"; then
    use_torch "$folder"
    return
  fi
  folder=$deps/torch.new
  key=$(torch_key)
  rm -rf "$folder"
  mkdir -p "$folder"
  if wants_cuda; then
    unpack torch "$folder" 'torch/include/*' 'torch/lib/*' -x '*/libtorch_python.so'
    unpack cuda "$folder" 'nvidia/*/lib/*.so*'
  else
    say "no NVIDIA driver here: LibTorch without its CUDA part (KVTOOLS_CUDA=1 fetches it)"
    unpack torch "$folder" 'torch/include/*' 'torch/lib/*' -x '*/libtorch_python.so' '*_cuda*.so' \
      '*_nvshmem.so'
  fi
  cuda_runtime "$folder"
  rm -rf "$deps/torch" "$deps/nvidia"
  mv "$folder/nvidia" "$deps/nvidia"
  mv "$folder/torch" "$deps/torch"
  rmdir "$folder"
  stamp "$deps/torch/.stamp" "$key"
}
