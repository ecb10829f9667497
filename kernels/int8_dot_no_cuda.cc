// In place of int8_dot_cuda.cu, epilogue_cuda.cu and those of clp where there is no nvcc.
#include "kv/kernels/clp_decode_cuda.hh"
#include "kv/kernels/clp_encode_cuda.hh"
#include "kv/kernels/int8_dot_cuda.hh"

#include <stdexcept>

namespace kv {
namespace {

[[noreturn]] void refuse() { throw std::runtime_error("CUDA: this build has none"); }

}  // namespace

bool int8_dot_has_cuda() { return false; }
void int8_dot_on_device(const CudaDot& /*job*/) { refuse(); }
void reconstruct_on_device(const Reconstruction& /*job*/) { refuse(); }
void int8_dot_cuda(const Int8Weights& /*weights*/, std::span<const QuadBlock> /*blocks*/,
                   std::optional<std::span<const std::int32_t>> /*active*/, std::int64_t /*tokens*/,
                   std::int32_t* /*out*/, std::int64_t /*out_stride*/) {
  refuse();
}
void reconstruct_cuda(const Reconstruction& /*job*/) { refuse(); }
bool clp_decode_cuda(const CudaClpTile& /*tile*/) { refuse(); }
void clp_quantise_cuda(const CudaClpAnalysis& /*job*/) { refuse(); }

}  // namespace kv
