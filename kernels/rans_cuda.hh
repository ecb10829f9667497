#pragma once
// The entropy coder on an NVIDIA GPU: a warp a stream, a lane a lane. Same bytes as on the CPU.

#include "kv/kernels/cuda_namespace.hh"
#include "kv/kernels/rans.hh"

namespace KV_CUDA_NAMESPACE {

// False in a build without CUDA, and on a machine without a device.
bool rans_has_cuda();

// As rans_decode and rans_encode, from memory of the host to memory of the host. Throw
// std::runtime_error without a device or when it fails.
[[nodiscard]] bool rans_decode_cuda(const RansTables& tables, std::span<RansDecodeJob> jobs);
// One stream into memory of the device: job.values is there, everything else the host's.
[[nodiscard]] bool rans_decode_on_device(const RansTables& tables, RansDecodeJob& job);
void rans_encode_cuda(const RansTables& tables, std::span<const RansEncodeJob> jobs);

}  // namespace KV_CUDA_NAMESPACE
