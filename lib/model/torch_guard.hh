#pragma once
// The boundary to LibTorch: its exceptions become kv::Error here and nowhere else.

#include "kv/base/error.hh"

#include <c10/core/Device.h>
#include <c10/core/InferenceMode.h>

#include <utility>

namespace kv {

// Call in a catch block. kv::Error passes; out of memory and trouble with a device become kDevice;
// anything else from LibTorch is a mistake of ours: std::logic_error.
[[noreturn]] void rethrow_torch_exception();

template <typename F>
decltype(auto) guarded(F&& body) {
  try {
    return std::forward<F>(body)();
  } catch (...) {
    rethrow_torch_exception();
  }
}

// The same without gradients or their bookkeeping.
template <typename F>
decltype(auto) inferring(F&& body) {
  return guarded([&]() -> decltype(auto) {
    const c10::InferenceMode guard;
    return std::forward<F>(body)();
  });
}

// Whether the machine shows a GPU; nothing is loaded for this.
bool cuda_visible();
// Loads libtorch_cuda. Throws kDevice when it or the device is missing.
c10::Device open_cuda();

}  // namespace kv
