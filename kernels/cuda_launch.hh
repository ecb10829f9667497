#pragma once
// What a .cu file takes from CUDA, in two builds: nvcc's, and with KV_CUDA_SHIM a C++ compiler's,
// where a launch runs its threads as fibers of the CPU (tests/cuda_shim). The one way to launch:
//
//   cuda_launch(kernel, blocks, threads, arguments...)   waits; throws std::runtime_error
//   DeviceArray<T> a(count); a.upload(span); a.download(offset, span); a.data()
#ifdef KV_CUDA_SHIM
#include "cuda_shim.hh"
#else

#include <cuda_runtime.h>

#include <span>
#include <stdexcept>
#include <string>
#include <type_traits>

namespace kv {

inline void cuda_check(cudaError_t status, const char* what) {
  if (status != cudaSuccess) {
    throw std::runtime_error(std::string("CUDA: ") + what + ": " + cudaGetErrorString(status));
  }
}

inline bool cuda_has_device() {
  int count = 0;
  return cudaGetDeviceCount(&count) == cudaSuccess && count > 0;
}

// Memory of the device; not set to anything.
template <typename T>
requires std::is_trivially_copyable_v<T>
class DeviceArray {
 public:
  explicit DeviceArray(std::size_t count) {
    if (count > 0) cuda_check(cudaMalloc(&data_, count * sizeof(T)), "memory of the device");
  }
  explicit DeviceArray(std::span<const T> from) : DeviceArray(from.size()) { upload(from); }
  ~DeviceArray() { cudaFree(data_); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;

  T* data() const { return data_; }
  void upload(std::span<const T> from) {
    if (from.empty()) return;
    cuda_check(cudaMemcpy(data_, from.data(), from.size_bytes(), cudaMemcpyHostToDevice), "copy");
  }
  void download(std::size_t offset, std::span<T> to) const {
    if (to.empty()) return;
    cuda_check(cudaMemcpy(to.data(), data_ + offset, to.size_bytes(), cudaMemcpyDeviceToHost),
               "copy");
  }

 private:
  T* data_ = nullptr;
};

template <typename... Parameters, typename... Arguments>
void cuda_launch(void (*kernel)(Parameters...), unsigned blocks, unsigned threads,
                 const Arguments&... arguments) {
  // clang-format off
  kernel<<<blocks, threads>>>(arguments...);
  // clang-format on
  cuda_check(cudaGetLastError(), "launch");
  cuda_check(cudaDeviceSynchronize(), "kernel");
}

}  // namespace kv
#endif
