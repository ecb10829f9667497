#include "clp_tensor.hh"

#include "clp_step.hh"
#include "kv/kernels/rebuild.hh"

#include <algorithm>
#include <array>
#include <cmath>

namespace kv {
namespace {

// Tokens that are rebuilt in one call.
constexpr std::int64_t kBlockTokens = 2048;

std::vector<QuadBlock> blocks_of(TensorCoder::Context context, std::int64_t first) {
  std::vector<QuadBlock> blocks;
  for (const TileContext* tile : context) {
    blocks.push_back(
        {tile->values.quad(0) + 4 * first, tile->values.channels(), tile->values.stride_tokens()});
  }
  return blocks;
}

const std::vector<std::int8_t>* near_of(TensorCoder::Context context) {
  return context.empty() ? nullptr : &context.back()->steps;
}

// As many of `left` tokens as one call rebuilds: whole steps of the kernels if rows of `type` can
// be written in place, else few, for they go by way of f32.
std::int64_t tokens_of_call(std::int64_t left, bool in_place) {
  const std::int64_t step = stride_of(1);
  if (!in_place || left < step) return std::min(left, 4 * step);
  return std::min(left / step * step, kBlockTokens);
}

std::optional<EpilogueType> epilogue_type(DType dtype) {
  switch (dtype) {
    case DType::kBF16:
      return EpilogueType::kBF16;
    case DType::kF16:
      return EpilogueType::kF16;
    case DType::kF32:
      return EpilogueType::kF32;
    default:
      return std::nullopt;
  }
}

}  // namespace

TensorCoder::TensorCoder(const TensorProfile& profile)
    : profile_(profile), basis_(profile.basis, profile.channels, profile.channels) {
  if (profile.inputs > 0) predictor_.emplace(profile.predictor, profile.channels, profile.inputs);
  for (std::size_t c = 0; c < profile.unit.size(); ++c) {
    context_unit_.push_back(std::ldexp(profile.unit[c], profile.shift[c]));
  }
}

TensorCoder::~TensorCoder() = default;

std::vector<std::int32_t> TensorCoder::predict(Context context, std::int64_t tokens) const {
  const std::int64_t stride = stride_of(tokens);
  std::vector<std::int32_t> sums(static_cast<std::size_t>(profile_.channels * stride));
  predict(context, {0, stride}, sums.data(), stride);
  return sums;
}

// Of whole steps of tokens, as many as the part has, from the beginning of each row of `sums`. Not
// where nothing is predicted.
void TensorCoder::predict(Context context, TokenPart part, std::int32_t* sums,
                          std::int64_t stride) const {
  if (!predictor_) return;
  int8_dot(*predictor_, blocks_of(context, part.first), stride_of(part.last - part.first), sums,
           stride);
}

void TensorCoder::begin(Context context, ByteView data, const std::string& place,
                        std::int64_t tokens, DType dtype, TileCode& code,
                        TileContext& decoded) const {
  for (const TileContext* tile : context) {
    if (tile->steps.size() != static_cast<std::size_t>(tokens)) {
      fail_input("{}: {} tokens, predicted from a tile of {}", place, tokens, tile->steps.size());
    }
  }
  const std::size_t row_bytes =
      static_cast<std::size_t>(profile_.channels) * dtype_size_bytes(dtype);
  read_tile_code(tokens, row_bytes, near_of(context), data, place, code);
  decoded.steps = code.steps.tokens;
  decoded.values.shape(profile_.channels, tokens);
}

void TensorCoder::decode(Context context, ByteView data, const std::string& place, DType dtype,
                         std::span<std::byte> rows, TileContext& decoded) const {
  const std::size_t row_bytes =
      static_cast<std::size_t>(profile_.channels) * dtype_size_bytes(dtype);
  const auto tokens = static_cast<std::int64_t>(rows.size() / row_bytes);
  TileCode code;
  begin(context, data, place, tokens, dtype, code, decoded);
  const CoefficientJob job{&profile_, &code, &place};
  decode_coefficients({&job, 1});
  reconstruct(context, code, {0, tokens}, dtype, rows, decoded);
}

void TensorCoder::reconstruct(Context context, const TileCode& code, TokenPart part, DType dtype,
                              std::span<std::byte> rows, TileContext& decoded) const {
  rebuild(context, nullptr, code, part, dtype, rows, decoded);
}

void TensorCoder::rebuild(Context context, const std::int32_t* predicted, const TileCode& code,
                          TokenPart part, DType dtype, std::span<std::byte> rows,
                          TileContext& decoded) const {
  const std::int64_t channels = profile_.channels;
  const std::int64_t stride = decoded.values.stride_tokens();
  std::array<std::uint8_t, kBlockTokens> multipliers;
  std::array<std::int8_t, kBlockTokens> shifts;
  Reconstruction job{.outputs = channels,
                     .g = profile_.gain.data(),
                     .p_stride = spread_stride_of(decoded.values.row_tokens()),
                     .m = multipliers.data(),
                     .s = shifts.data(),
                     .f = profile_.shift.data(),
                     .mean = profile_.mean.data(),
                     .unit = profile_.unit.data(),
                     .n_stride = stride,
                     .x_stride = channels};
  const std::size_t row_bytes = static_cast<std::size_t>(channels) * dtype_size_bytes(dtype);
  const std::optional<EpilogueType> type = epilogue_type(dtype);
  std::int64_t tokens = 0;
  for (std::int64_t first = part.first; first < part.last; first += tokens) {
    tokens = tokens_of_call(part.last - first, type || rows.empty());
    job.tokens = stride_of(tokens);
    for (std::int64_t t = 0; t < job.tokens; ++t) {
      const std::size_t token = static_cast<std::size_t>(first + std::min(t, tokens - 1));
      const StepFactor factor = step_factor(code.steps.eighths(token));
      multipliers[static_cast<std::size_t>(t)] = factor.multiplier;
      shifts[static_cast<std::size_t>(t)] = factor.shift;
    }
    const QuadBlock block{code.coefficients.quad(0) + 4 * first, channels, stride};
    std::vector<DotProduct> products = {
        {&basis_, {&block, 1}, (code.plan->used() + 3) / 4, channels}};
    const std::vector<QuadBlock> near = blocks_of(context, first);
    if (predicted) {
      job.p = predicted + first;
    } else if (predictor_) {
      products.push_back({&*predictor_, near, predictor_->quads(), channels});
    }
    job.n = decoded.values.quad(0) + 4 * first;
    if (rows.empty()) {
      kv::reconstruct(products, job);
      continue;
    }
    // The kernel works on whole steps of tokens, and on the dtypes that models use.
    const std::span<std::byte> to = rows.subspan(static_cast<std::size_t>(first) * row_bytes,
                                                 static_cast<std::size_t>(tokens) * row_bytes);
    if (type && tokens == job.tokens) {
      job.x = to.data();
      job.x_type = *type;
      kv::reconstruct(products, job);
      continue;
    }
    thread_local Room<float> room;
    float* floats = room.take(static_cast<std::size_t>(channels * job.tokens));
    job.x = floats;
    job.x_type = EpilogueType::kF32;
    kv::reconstruct(products, job);
    convert(std::as_bytes(std::span(floats, static_cast<std::size_t>(tokens * channels))),
            DType::kF32, to, dtype);
  }
  place_exact(code, part, dtype, rows, decoded);
}

// Exact tokens: their rows as they came, and what the prediction of others sees of them.
void TensorCoder::place_exact(const TileCode& code, TokenPart part, DType dtype,
                              std::span<std::byte> rows, TileContext& decoded) const {
  const auto channels = static_cast<std::size_t>(profile_.channels);
  const std::size_t row_bytes = channels * dtype_size_bytes(dtype);
  std::vector<float> row(channels);
  for (std::size_t i = 0; i < code.steps.exact.size(); ++i) {
    const std::int64_t token = code.steps.exact[i];
    if (token < part.first || token >= part.last) continue;
    const ByteView bytes = code.exact_rows.subspan(i * row_bytes, row_bytes);
    if (!rows.empty())
      std::copy(bytes.begin(), bytes.end(),
                rows.begin() + token * static_cast<std::ptrdiff_t>(row_bytes));
    convert(bytes, dtype, std::as_writable_bytes(std::span(row)), DType::kF32);
    for (std::size_t c = 0; c < channels; ++c) {
      const float value = (row[c] - profile_.mean[c]) / context_unit_[c];
      // NaN is not above -127.
      const long near = value > -127.0f ? std::lrint(std::min(value, 127.0f)) : -127;
      decoded.values.at(static_cast<std::int64_t>(c), token) =
          static_cast<std::uint8_t>(near + 128);
    }
  }
}

std::vector<std::int8_t> steps_from_importance(std::span<const std::uint8_t> importance) {
  // A step would go by the root of a weight if the future were known; measured, less than that and
  // hardly any coarser steps do best: what nobody asked for yet may still be asked for.
  constexpr double kHalfOctaves = 0.7 / 8;  // of step, for an eighth of an octave of weight
  constexpr long kWidest = 1;
  double mean = 0;
  for (const std::uint8_t byte : importance) mean += byte;
  mean /= static_cast<double>(std::max<std::size_t>(1, importance.size()));
  std::vector<std::int8_t> steps;
  for (const std::uint8_t byte : importance) {
    const long step = std::lrint(kHalfOctaves * (mean - byte));
    steps.push_back(static_cast<std::int8_t>(std::clamp<long>(step, -kMostTokenStep, kWidest)));
  }
  return steps;
}

std::vector<std::uint16_t> exact_tokens(std::span<const std::int8_t> steps) {
  std::vector<std::uint16_t> exact;
  for (std::size_t t = 0; t < steps.size(); ++t) {
    if (steps[t] <= kExactStep) exact.push_back(static_cast<std::uint16_t>(t));
  }
  return exact;
}

}  // namespace kv
