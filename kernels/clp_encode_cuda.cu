#include "kv/kernels/clp_cuda.hh"
#include "kv/kernels/clp_encode_cuda.hh"
#include "kv/kernels/rounded_cuda.hh"

#include <cstring>
#include <vector>

namespace KV_CUDA_NAMESPACE {
namespace clp_detail {

// A block of 256 threads has 32 tokens. To read rows, channels lie side by side in a warp; for
// everything else tokens do, and eight warps share the channels.
constexpr int kSide = 32, kWarps = kThreads / kSide;
constexpr std::int64_t kMostChannels = 1 << 14, kMostTokens = 1 << 22;
constexpr std::int32_t kInfinityBits = 0x7F800000;
constexpr float kMostWhole = 127.0f * 128.0f, kLeast = 1e-30f;

struct Rest {
  const std::uint16_t* rows;
  std::int64_t channels, tokens, used;
  const float *mean, *unit, *inverse_width;
  const std::int32_t* predicted;  // [channels][tokens], or null
  float* out;                     // [channels][tokens]
  std::int32_t* largest;          // [tokens]
};

__device__ std::int32_t magnitude_bits(float x) {
  std::int32_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  return bits & 0x7FFFFFFF;
}

__device__ float bf16_value(std::uint16_t bits) {
  const std::uint32_t wide = static_cast<std::uint32_t>(bits) << 16;
  float value;
  std::memcpy(&value, &wide, sizeof(value));
  return value;
}

// The largest of the block's warps, by token; for all threads to call.
__device__ void store_largest(std::int32_t most, int lane, int warp, std::int32_t* out,
                              bool wanted) {
  __shared__ std::int32_t of_warp[kWarps * kSide];
  of_warp[warp * kSide + lane] = most;
  __syncthreads();
  if (warp == 0 && wanted) {
    for (int i = 1; i < kWarps; ++i) {
      const std::int32_t other = of_warp[i * kSide + lane];
      most = other > most ? other : most;
    }
    *out = most;
  }
}

__global__ void rest_by_channel(Rest job) {
  __shared__ float tile[kSide * (kSide + 1)];  // [token][channel]
  const int lane = static_cast<int>(threadIdx.x) % kSide;
  const int warp = static_cast<int>(threadIdx.x) / kSide;
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * kSide, t = first + lane;
  std::int32_t most = 0;
  for (std::int64_t c0 = 0; c0 < job.channels; c0 += kSide) {
    for (int token = warp; token < kSide; token += kWarps) {
      const std::int64_t row = first + token, c = c0 + lane;
      const bool there = row < job.used && c < job.channels;
      tile[token * (kSide + 1) + lane] =
          there ? bf16_value(job.rows[row * job.channels + c]) : 0.0f;
    }
    __syncthreads();
    for (int i = warp; i < kSide && c0 + i < job.channels; i += kWarps) {
      const std::int64_t c = c0 + i;
      if (t >= job.tokens) continue;
      float rest = rounded_sub(tile[lane * (kSide + 1) + i], job.mean[c]);
      if (job.predicted) {
        const auto predicted = static_cast<float>(job.predicted[c * job.tokens + t]);
        rest = rounded_sub(rest, rounded_mul(predicted, job.unit[c]));
      }
      rest = rounded_mul(rest, job.inverse_width[c]);
      job.out[c * job.tokens + t] = rest;
      const std::int32_t bits = magnitude_bits(rest);
      most = bits > most ? bits : most;
    }
    __syncthreads();
  }
  store_largest(most, lane, warp, job.largest + t, t < job.tokens);
}

// A thread a quad of a token: integers of 15 bits, the token's largest 127 * 128, as two of 8.
__global__ void split_rest(const float* rest, const std::int32_t* largest, std::int64_t channels,
                           std::int64_t tokens, std::uint32_t* high, std::uint32_t* low,
                           float* scale) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= channels / 4 * tokens) return;
  const std::int64_t quad = i / tokens, t = i % tokens;
  const std::int32_t bits = largest[t];
  float most;
  std::memcpy(&most, &bits, sizeof(most));
  const bool finite = bits < kInfinityBits, usable = finite && most > kLeast;
  const float inverse = usable ? rounded_div(kMostWhole, most) : 0.0f;
  if (quad == 0) {
    const std::uint32_t not_a_number = 0x7FC00000;
    float worth = usable ? rounded_div(most, kMostWhole) : 0.0f;
    if (!finite) std::memcpy(&worth, &not_a_number, sizeof(worth));
    scale[t] = worth;
  }
  std::uint32_t upper = 0, lower = 0;
  for (int k = 0; k < 4; ++k) {
    const int whole = nearest_int(rounded_mul(rest[(4 * quad + k) * tokens + t], inverse));
    const int h = (whole + 64) >> 7;
    upper |= static_cast<std::uint32_t>((h + 128) & 0xFF) << (8 * k);
    lower |= static_cast<std::uint32_t>((whole - 128 * h + 128) & 0xFF) << (8 * k);
  }
  high[i] = upper;
  low[i] = lower;
}

__global__ void join_sums(const std::int32_t* high, const std::int32_t* mixed, std::int64_t coded,
                          std::int64_t tokens, const float* row_scale, const float* scale,
                          float* out, std::int32_t* largest) {
  const int lane = static_cast<int>(threadIdx.x) % kSide;
  const int warp = static_cast<int>(threadIdx.x) / kSide;
  const std::int64_t t = static_cast<std::int64_t>(blockIdx.x) * kSide + lane;
  std::int32_t most = 0;
  for (std::int64_t k = warp; k < coded && t < tokens; k += kWarps) {
    const std::int64_t at = k * tokens + t;
    const float sum = rounded_add(rounded_mul(static_cast<float>(high[at]), 128.0f),
                                  static_cast<float>(mixed[at]));
    const float x = rounded_mul(sum, rounded_mul(row_scale[k], scale[t]));
    out[at] = x;
    const std::int32_t bits = magnitude_bits(x);
    most = bits > most ? bits : most;
  }
  store_largest(most, lane, warp, largest + t, t < tokens);
}

struct Quantise {
  const float *coefficients, *scale, *thresholds;
  const std::int32_t* row;
  std::int64_t coded, tokens, threshold_rows;
  std::uint32_t* quads;
};

__global__ void quantise(Quantise job) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= job.coded / 4 * job.tokens) return;
  const std::int64_t quad = i / job.tokens, t = i % job.tokens;
  std::uint32_t word = 0;
  for (int r = 0; r < 4; ++r) {
    const std::int64_t k = 4 * quad + r;
    const float x = rounded_mul(job.coefficients[k * job.tokens + t], job.scale[t]);
    const float limit = job.thresholds[k * job.threshold_rows + job.row[t]];
    float kept = (x < 0 ? -x : x) >= limit ? x : 0.0f;  // NaN: 0
    kept = kept < -127.0f ? -127.0f : kept > 127.0f ? 127.0f : kept;
    word |= static_cast<std::uint32_t>(nearest_int(kept) + 128) << (8 * r);
  }
  job.quads[i] = word;
}

inline void check(const CudaClpAnalysis& job) {
  const auto channels = static_cast<std::size_t>(job.channels);
  require(job.channels > 0 && job.channels % 4 == 0 && job.channels <= kMostChannels &&
              job.tokens > 0 && job.tokens % 64 == 0 && job.tokens <= kMostTokens,
          "clp_quantise_cuda: channels or tokens are out of range");
  require(job.rows.size() % channels == 0 &&
              job.rows.size() / channels <= static_cast<std::size_t>(job.tokens),
          "clp_quantise_cuda: the rows are not whole, or too many");
  require(job.mean.size() == channels && job.unit.size() == channels &&
              job.inverse_width.size() == channels && job.row_scale.size() == channels,
          "clp_quantise_cuda: numbers of other channels");
  require(job.high && job.mixed && job.high->outputs() == job.channels &&
              job.high->inputs() == job.channels && job.mixed->outputs() == job.channels &&
              job.mixed->inputs() == 2 * job.channels,
          "clp_quantise_cuda: the matrices are of other channels");
  require(!job.predictor ||
              (job.predictor->outputs() == job.channels && job.context.size() <= kCudaDotBlocks),
          "clp_quantise_cuda: the predictor is of other channels");
  require(job.coded > 0 && job.coded % 4 == 0 && job.coded <= job.channels &&
              job.threshold_rows > 0 && job.threshold_rows <= 256 &&
              job.thresholds.size() == static_cast<std::size_t>(job.coded * job.threshold_rows) &&
              job.quads.size() == static_cast<std::size_t>(job.coded * job.tokens),
          "clp_quantise_cuda: thresholds or quads are of other coefficients");
}

}  // namespace clp_detail

void clp_quantise_cuda(const CudaClpAnalysis& job) {
  using namespace clp_detail;
  clp_detail::check(job);
  const auto tokens = static_cast<std::size_t>(job.tokens);
  const auto values = static_cast<std::size_t>(job.channels) * tokens;
  const auto coded = static_cast<std::size_t>(job.coded) * tokens;
  const auto blocks = static_cast<unsigned>(job.tokens / kSide);
  const DeviceArray<std::int32_t> largest(tokens);
  const DeviceArray<float> scale(tokens), coefficients(coded);
  {
    const DeviceArray<std::int32_t> predicted(job.predictor ? values : 0);
    if (job.predictor) predict(*job.predictor, job.context, job.tokens, predicted.data());
    const DeviceArray<std::uint16_t> rows{job.rows};
    const DeviceArray<float> mean{job.mean}, unit{job.unit}, inverse_width{job.inverse_width};
    const DeviceArray<float> rest(values), row_scale{job.row_scale};
    const auto used = static_cast<std::int64_t>(job.rows.size()) / job.channels;
    cuda_launch(rest_by_channel, blocks, kThreads,
                Rest{rows.data(), job.channels, job.tokens, used, mean.data(), unit.data(),
                     inverse_width.data(), job.predictor ? predicted.data() : nullptr, rest.data(),
                     largest.data()});
    const DeviceArray<std::uint32_t> parts(2 * values / 4);  // high, then low
    cuda_launch(split_rest, blocks_for(values / 4), kThreads,
                static_cast<const float*>(rest.data()),
                static_cast<const std::int32_t*>(largest.data()), job.channels, job.tokens,
                parts.data(), parts.data() + values / 4, scale.data());
    const auto* bytes = reinterpret_cast<const std::uint8_t*>(parts.data());
    const QuadBlock halves[] = {{bytes, job.channels, job.tokens},
                                {bytes + values, job.channels, job.tokens}};
    const DeviceArray<std::int32_t> high(coded), mixed(coded);
    multiply(*job.high, job.coded, job.tokens, std::span(halves, 1), high.data());
    multiply(*job.mixed, job.coded, job.tokens, halves, mixed.data());
    cuda_launch(join_sums, blocks, kThreads, static_cast<const std::int32_t*>(high.data()),
                static_cast<const std::int32_t*>(mixed.data()), job.coded, job.tokens,
                static_cast<const float*>(row_scale.data()),
                static_cast<const float*>(scale.data()), coefficients.data(), largest.data());
  }
  std::vector<std::int32_t> of_token(tokens), row(tokens);
  std::vector<float> factor(tokens);
  largest.download(0, of_token);
  job.choose(of_token, factor, row);
  for (const std::int32_t r : row) {
    require(r >= 0 && r < job.threshold_rows, "clp_quantise_cuda: no such row of thresholds");
  }
  const DeviceArray<float> factors{std::span<const float>(factor)}, thresholds{job.thresholds};
  const DeviceArray<std::int32_t> rows{std::span<const std::int32_t>(row)};
  const DeviceArray<std::uint32_t> quads(coded / 4);
  cuda_launch(quantise, blocks_for(coded / 4), kThreads,
              Quantise{coefficients.data(), factors.data(), thresholds.data(), rows.data(),
                       job.coded, job.tokens, job.threshold_rows, quads.data()});
  std::vector<std::uint32_t> words(coded / 4);
  quads.download(0, words);
  std::memcpy(job.quads.data(), words.data(), job.quads.size());
}

}  // namespace KV_CUDA_NAMESPACE
