#include "kv/kernels/clp_cuda.hh"
#include "kv/kernels/clp_decode_cuda.hh"
#include "kv/kernels/epilogue_targets.hh"
#include "kv/kernels/rans_cuda.hh"

#include <algorithm>
#include <vector>

namespace KV_CUDA_NAMESPACE {
namespace clp_detail {

constexpr std::uint32_t kZeros = 0x80808080u;  // four values of 0 in a quad

__device__ std::size_t thread_number() { return std::size_t{blockIdx.x} * kThreads + threadIdx.x; }

__global__ void fill(std::uint32_t* quads, std::size_t count) {
  const std::size_t i = thread_number();
  if (i < count) quads[i] = kZeros;
}

// A thread a lane of a step: v 2^b - 2^(b-1) + the bits of the words, modulo 2^8.
__global__ void add_low_bits(ClpLowBits part, const std::uint32_t* planes, std::int8_t* values) {
  const std::size_t i = thread_number();
  if (i >= std::size_t{part.steps} * kRansLanes) return;
  const std::size_t step = i / kRansLanes;
  const unsigned lane = static_cast<unsigned>(i % kRansLanes);
  const std::uint32_t* words = planes + part.first_word + step * part.bits;
  std::int8_t* at = values + std::size_t{part.first_step} * kRansLanes + i;
  unsigned value = (static_cast<unsigned>(*at) << part.bits) - (1u << (part.bits - 1));
  for (unsigned bit = 0; bit < part.bits; ++bit) value += (words[bit] >> lane & 1u) << bit;
  *at = static_cast<std::int8_t>(static_cast<std::uint8_t>(value));
}

__global__ void patch(const std::uint32_t* places, const std::int8_t* escapes, std::size_t count,
                      std::int8_t* values) {
  const std::size_t i = thread_number();
  if (i < count) values[places[i]] = escapes[i];
}

// A thread a token that has symbols and four coefficients.
__global__ void place(const ClpRow* rows, const std::uint16_t* order, std::size_t tokens,
                      std::size_t quads, const std::int8_t* values, std::size_t stride,
                      std::uint32_t* out) {
  const std::size_t i = thread_number();
  if (i >= tokens * quads) return;
  const std::size_t quad = i / tokens, at = i % tokens;
  std::uint32_t word = 0;
  for (unsigned r = 0; r < 4; ++r) {
    const ClpRow row = rows[4 * quad + r];
    const std::size_t group = at / kRansLanes;
    const int value =
        group < row.groups ? values[row.first_step * std::size_t{kRansLanes} + at] : 0;
    word |= static_cast<std::uint32_t>(value + 128) << (8 * r);
  }
  out[quad * stride + order[at]] = word;
}

// So that no kernel reads or writes beyond what there is. Returns how many quads have symbols.
inline std::size_t check_symbols(const CudaClpTile& tile) {
  require(tile.tables && tile.basis, "clp_decode_cuda: no tables or no basis");
  const auto channels = static_cast<std::size_t>(tile.last.outputs);
  const auto tokens = static_cast<std::size_t>(tile.last.tokens);
  require(tile.rows.size() == channels && tile.basis->outputs() == tile.last.outputs &&
              tile.basis->inputs() == tile.last.outputs,
          "clp_decode_cuda: the basis or the rows are of other channels");
  require(!tile.predictor || tile.predictor->outputs() == tile.last.outputs,
          "clp_decode_cuda: the predictor is of other channels");
  const std::size_t groups = (tile.order.size() + kRansLanes - 1) / kRansLanes;
  std::size_t used = 0;
  for (std::size_t k = 0; k < channels; ++k) {
    const ClpRow& row = tile.rows[k];
    require(row.groups <= groups && row.first_step <= tile.steps.size() &&
                row.groups <= tile.steps.size() - row.first_step,
            "clp_decode_cuda: a row is out of range");
    if (row.groups > 0) used = k + 1;
  }
  for (const ClpLowBits& part : tile.low_bits) {
    require(part.bits >= 1 && part.bits <= 7 && part.first_step <= tile.steps.size() &&
                part.steps <= tile.steps.size() - part.first_step &&
                part.first_word <= tile.planes.size() &&
                part.steps <= (tile.planes.size() - part.first_word) / part.bits,
            "clp_decode_cuda: low bits are out of range");
  }
  require(std::all_of(tile.order.begin(), tile.order.end(),
                      [&](std::uint16_t token) { return token < tokens; }),
          "clp_decode_cuda: a token is out of range");
  return (used + 3) / 4;
}

// Coefficients of the first quads, all tokens; false where the stream is damaged.
inline bool decode_symbols(const CudaClpTile& tile, std::size_t quads,
                           const DeviceArray<std::uint32_t>& out) {
  const auto stride = static_cast<std::size_t>(tile.last.tokens);
  const DeviceArray<std::int8_t> values(tile.steps.size() * kRansLanes);
  std::vector<std::uint32_t> places(tile.escapes.size());
  RansDecodeJob job{tile.stream, tile.steps, values.data(), places};
  if (!rans_decode_on_device(*tile.tables, job) || job.escape_count != places.size()) return false;
  const DeviceArray<std::uint32_t> planes{tile.planes};
  for (const ClpLowBits& part : tile.low_bits) {
    if (part.steps == 0) continue;
    cuda_launch(add_low_bits, blocks_for(std::size_t{part.steps} * kRansLanes), kThreads, part,
                planes.data(), values.data());
  }
  if (!places.empty()) {
    const DeviceArray<std::uint32_t> on_places{std::span<const std::uint32_t>(places)};
    const DeviceArray<std::int8_t> escapes{tile.escapes};
    cuda_launch(patch, blocks_for(places.size()), kThreads, on_places.data(), escapes.data(),
                places.size(), values.data());
  }
  const std::size_t words = quads * stride;
  if (words == 0) return true;
  cuda_launch(fill, blocks_for(words), kThreads, out.data(), words);
  if (tile.order.empty()) return true;
  const DeviceArray<ClpRow> rows{tile.rows};
  const DeviceArray<std::uint16_t> order{tile.order};
  cuda_launch(place, blocks_for(quads * tile.order.size()), kThreads, rows.data(), order.data(),
              tile.order.size(), quads, values.data(), stride, out.data());
  return true;
}

// The first quads are those that have coefficients: the others are 0 and need not be there.
inline void transform(const CudaClpTile& tile, std::size_t quads,
                      const DeviceArray<std::uint32_t>& coefficients, std::int32_t* out) {
  const std::int64_t tokens = tile.last.tokens;
  const QuadBlock block{reinterpret_cast<const std::uint8_t*>(coefficients.data()),
                        tile.basis->inputs(), tokens};
  std::vector<std::int32_t> list(quads + 1);  // one more: no list would mean all
  for (std::size_t q = 0; q < quads; ++q) list[q] = static_cast<std::int32_t>(q);
  const DeviceArray<std::int32_t> active{std::span<const std::int32_t>(list)};
  multiply(*tile.basis, tile.basis->outputs(), tokens, {&block, 1}, out,
           {active.data(), static_cast<std::int64_t>(quads)});
}

// Rows that lie together on the device; at once where they do here too.
inline void download_rows(const DeviceArray<std::uint8_t>& from, std::size_t rows,
                          std::size_t row_bytes, std::uint8_t* to, std::int64_t stride_bytes) {
  if (static_cast<std::size_t>(stride_bytes) == row_bytes) {
    return from.download(0, {to, rows * row_bytes});
  }
  for (std::size_t row = 0; row < rows; ++row, to += stride_bytes) {
    from.download(row * row_bytes, {to, row_bytes});
  }
}

}  // namespace clp_detail

bool clp_decode_cuda(const CudaClpTile& tile) {
  using namespace clp_detail;
  Reconstruction job = tile.last;
  job.r = nullptr, job.p = nullptr;
  job.r_stride = job.p_stride = job.tokens;
  check(job);
  const std::size_t quads = check_symbols(tile);
  const auto outputs = static_cast<std::size_t>(job.outputs);
  const auto tokens = static_cast<std::size_t>(job.tokens);
  const DeviceArray<std::uint32_t> coefficients(outputs / 4 * tokens);
  if (!decode_symbols(tile, quads, coefficients)) return false;
  const DeviceArray<std::int32_t> sums(outputs * tokens);
  const DeviceArray<std::int32_t> predicted(tile.predictor ? outputs * tokens : 0);
  transform(tile, quads, coefficients, sums.data());
  if (tile.predictor) predict(*tile.predictor, tile.context, tile.last.tokens, predicted.data());
  const DeviceArray<std::uint8_t> m{std::span(job.m, tokens)}, f{std::span(job.f, outputs)};
  const DeviceArray<std::int8_t> s{std::span(job.s, tokens)};
  const DeviceArray<std::int8_t> g{std::span(job.g, job.g ? outputs : 0)};
  const DeviceArray<float> mean{std::span(job.mean, outputs)}, unit{std::span(job.unit, outputs)};
  const std::size_t value_bytes = job.x_type == EpilogueType::kF32 ? 4 : 2;
  const DeviceArray<std::uint8_t> n(job.n ? outputs * tokens : 0);
  const DeviceArray<std::uint8_t> x(job.x ? outputs * tokens * value_bytes : 0);
  job.r = sums.data(), job.p = tile.predictor ? predicted.data() : nullptr;
  job.m = m.data(), job.s = s.data(), job.f = f.data();
  job.g = tile.last.g ? g.data() : nullptr;
  job.mean = mean.data(), job.unit = unit.data();
  job.n = tile.last.n ? n.data() : nullptr, job.n_stride = job.tokens;
  job.x = tile.last.x ? x.data() : nullptr, job.x_stride = job.outputs;
  reconstruct_on_device(job);
  if (tile.last.n) {
    download_rows(n, outputs / 4, 4 * tokens, tile.last.n, 4 * tile.last.n_stride);
  }
  if (tile.last.x) {
    download_rows(x, tokens, outputs * value_bytes, static_cast<std::uint8_t*>(tile.last.x),
                  tile.last.x_stride * static_cast<std::int64_t>(value_bytes));
  }
  return true;
}

}  // namespace KV_CUDA_NAMESPACE
