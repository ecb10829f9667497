#include "kv/model/placement.hh"

#include "kv/base/error.hh"
#include "kv/kernels/cpu_features.hh"
#include "kv/model/attention.hh"
#include "kv/model/parallel.hh"
#include "kv/model/torch_guard.hh"

#include <ATen/Parallel.h>
#include <malloc.h>

namespace kv {
namespace {

// A layer's intermediates come and go by the megabyte; given back to the system each time, they
// cost 9 % of a prefill in page faults, and what one cache leaves is room for the next.
void keep_freed_memory() {
#ifdef __GLIBC__
  ::mallopt(M_MMAP_MAX, 0);
  ::mallopt(M_TRIM_THRESHOLD, 128 << 20);
#endif
}

}  // namespace

at::Device choose_device(Device wanted) {
  if (wanted == Device::kCpu) return at::kCPU;
  if (wanted == Device::kAuto && !cuda_visible()) return at::kCPU;
  try {
    return open_cuda();
  } catch (const Error&) {
    if (wanted == Device::kCuda) throw;
    return at::kCPU;
  }
}

at::ScalarType choose_type(Compute wanted, at::Device device) {
  switch (wanted) {
    case Compute::kF32:
      return at::kFloat;
    case Compute::kBF16:
      return at::kBFloat16;
    case Compute::kF16:
      return at::kHalf;
    case Compute::kAuto:
      break;
  }
  const bool fast =
      device.is_cuda() || (attention_supported<c10::BFloat16>() && cpu_favours_bf16());
  return fast ? at::kBFloat16 : at::kFloat;
}

void use_threads(int threads) {
  if (threads < 0) fail_usage("-: {} threads: must be 0 or more", threads);
  if (threads > 0) at::set_num_threads(threads);
  if (at::get_num_threads() > 1) share_cores();
  keep_freed_memory();
}

}  // namespace kv
