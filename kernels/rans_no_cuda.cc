// In place of rans_cuda.cu where there is no nvcc.
#include "kv/kernels/rans_cuda.hh"

#include <stdexcept>

namespace kv {

namespace {

[[noreturn]] void refuse() { throw std::runtime_error("CUDA: this build has none"); }

}  // namespace

bool rans_has_cuda() { return false; }
bool rans_decode_cuda(const RansTables& /*tables*/, std::span<RansDecodeJob> /*jobs*/) { refuse(); }
bool rans_decode_on_device(const RansTables& /*tables*/, RansDecodeJob& /*job*/) { refuse(); }
void rans_encode_cuda(const RansTables& /*tables*/, std::span<const RansEncodeJob> /*jobs*/) {
  refuse();
}

}  // namespace kv
