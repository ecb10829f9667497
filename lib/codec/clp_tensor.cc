#include "clp_tensor.hh"

#include "forward_transform.hh"
#include "kv/kernels/epilogue.hh"

#include <Eigen/LU>

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

namespace kv {
namespace {

constexpr int kMostCoefficient = 127;
constexpr int kStepBits = 7;  // of the multipliers below

// 2^(i/8) in 1/128: what a step of `eighths` multiplies the basis's sum with.
struct StepFactor {
  std::uint8_t multiplier;
  std::int8_t shift;
};
StepFactor step_factor(int eighths) {
  constexpr std::array<std::uint8_t, kOctave> kMultipliers = {128, 140, 152, 166,
                                                              181, 197, 215, 235};
  const int octave = eighths >> 3;
  return {kMultipliers[static_cast<std::size_t>(eighths & 7)],
          static_cast<std::int8_t>(octave - kStepBits)};
}
double step_value(int eighths) {
  const StepFactor factor = step_factor(eighths);
  return std::ldexp(static_cast<double>(factor.multiplier), factor.shift);
}

std::vector<QuadBlock> blocks_of(std::span<const TileContext* const> context) {
  std::vector<QuadBlock> blocks;
  for (const TileContext* tile : context) {
    blocks.push_back({tile->values.data(), tile->values.channels(), tile->values.stride_tokens()});
  }
  return blocks;
}

const std::vector<std::int8_t>* near_of(std::span<const TileContext* const> context) {
  return context.empty() ? nullptr : &context.back()->steps;
}

// Rows of any float dtype as f32 [channels][stride].
std::vector<float> by_channel(const TensorView& rows, std::int64_t stride) {
  const std::int64_t tokens = rows.shape[0], channels = rows.row_values();
  std::vector<float> row_major(static_cast<std::size_t>(tokens * channels));
  convert(rows.bytes, rows.dtype, std::as_writable_bytes(std::span(row_major)), DType::kF32);
  std::vector<float> out(static_cast<std::size_t>(channels * stride));
  for (std::int64_t t = 0; t < tokens; ++t) {
    for (std::int64_t c = 0; c < channels; ++c) {
      out[static_cast<std::size_t>(c * stride + t)] =
          row_major[static_cast<std::size_t>(t * channels + c)];
    }
  }
  return out;
}

std::int64_t stride_of(std::int64_t tokens) { return (tokens + 63) / 64 * 64; }

}  // namespace

struct TensorCoder::Inverse {
  std::vector<float> rows;  // [coefficients][channels]
};

TensorCoder::TensorCoder(const TensorProfile& profile)
    : profile_(profile), basis_(profile.basis, profile.channels, profile.channels) {
  if (profile.inputs > 0) predictor_.emplace(profile.predictor, profile.channels, profile.inputs);
}

TensorCoder::~TensorCoder() = default;

const TensorCoder::Inverse& TensorCoder::inverse() const {
  std::call_once(inverse_once_, [&] {
    using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
    const std::int64_t n = profile_.channels;
    Matrix basis(n, n);
    for (std::int64_t c = 0; c < n; ++c) {
      for (std::int64_t k = 0; k < n; ++k) basis(c, k) = profile_.basis_value(c, k);
    }
    const Matrix inverted = basis.partialPivLu().inverse();
    auto inverse = std::make_unique<Inverse>();
    inverse->rows.resize(static_cast<std::size_t>(n * n));
    for (std::int64_t i = 0; i < n * n; ++i) {
      // A basis without an inverse is a bad profile; its coefficients become 0.
      const double value = inverted.data()[i];
      inverse->rows[static_cast<std::size_t>(i)] =
          std::isfinite(value) ? static_cast<float>(value) : 0.0f;
    }
    inverse_ = std::move(inverse);
  });
  return *inverse_;
}

std::vector<std::int32_t> TensorCoder::predict(std::span<const TileContext* const> context,
                                               std::int64_t tokens) const {
  const std::int64_t stride = stride_of(tokens);
  std::vector<std::int32_t> sums(static_cast<std::size_t>(profile_.channels * stride));
  if (predictor_) int8_dot(*predictor_, blocks_of(context), stride, sums.data(), stride);
  return sums;
}

std::vector<float> TensorCoder::transform(const std::vector<float>& values,
                                          const std::vector<std::int32_t>& predicted,
                                          std::int64_t tokens) const {
  const std::int64_t stride = stride_of(tokens);
  std::vector<float> rest(values.size()), out(values.size());
  for (std::int64_t c = 0; c < profile_.channels; ++c) {
    const float mean = profile_.mean[static_cast<std::size_t>(c)];
    const float unit = profile_.unit[static_cast<std::size_t>(c)];
    const auto row = static_cast<std::size_t>(c * stride);
    for (std::int64_t t = 0; t < stride; ++t) {
      const std::size_t at = row + static_cast<std::size_t>(t);
      rest[at] = values[at] - mean - static_cast<float>(predicted[at]) * unit;
    }
  }
  forward_transform(inverse().rows.data(), profile_.channels, rest.data(), stride, out.data());
  return out;
}

int TensorCoder::quantised(std::int64_t coefficient, int eighths, float value) const {
  const auto at = static_cast<std::size_t>(coefficient);
  const float threshold =
      Classes::get().zero_below(profile_.shape[at], profile_.sigma[at] - eighths);
  if (std::fabs(value) < threshold) return 0;
  return static_cast<int>(std::clamp<long>(std::lrint(value), -kMostCoefficient, kMostCoefficient));
}

Bytes TensorCoder::encode(std::span<const TileContext* const> context, const TensorView& rows,
                          std::uint64_t profile_hash, TileSteps steps, TileContext& decoded) const {
  const std::int64_t tokens = rows.shape[0], stride = stride_of(tokens);
  const std::vector<float> values = by_channel(rows, stride);
  const std::vector<std::int32_t> predicted = predict(context, tokens);
  const std::vector<float> coefficients = transform(values, predicted, tokens);
  TileCode code;
  code.coefficients = Quads(profile_.channels, tokens);
  std::vector<std::uint16_t> exact;
  Bytes exact_rows;
  const std::vector<std::uint16_t> asked = std::move(steps.exact);
  for (std::int64_t t = 0; t < tokens; ++t) {
    const auto token = static_cast<std::size_t>(t);
    float most = 0;
    bool finite = true;
    for (std::int64_t k = 0; k < profile_.channels; ++k) {
      const float value = std::fabs(coefficients[static_cast<std::size_t>(k * stride + t)]);
      finite = finite && std::isfinite(value);
      most = std::max(most, value);
    }
    bool is_exact = !finite || std::binary_search(asked.begin(), asked.end(), token);
    while (!is_exact && most / step_value(steps.eighths(token)) > kMostCoefficient) {
      if (steps.tokens[token] == kMostTokenStep)
        is_exact = true;
      else
        ++steps.tokens[token];
    }
    if (is_exact) {
      exact.push_back(static_cast<std::uint16_t>(t));
      const ByteView row = rows.bytes.subspan(token * rows.row_bytes(), rows.row_bytes());
      exact_rows.insert(exact_rows.end(), row.begin(), row.end());
      steps.tokens[token] = 0;
      continue;
    }
    const int eighths = steps.eighths(token);
    const float scale = static_cast<float>(1.0 / step_value(eighths));
    for (std::int64_t k = 0; k < profile_.channels; ++k) {
      const float value = coefficients[static_cast<std::size_t>(k * stride + t)] * scale;
      code.coefficients.at(k, t) = static_cast<std::uint8_t>(quantised(k, eighths, value) + 128);
    }
  }
  code.steps = std::move(steps);
  code.steps.exact = std::move(exact);
  code.exact_rows = exact_rows;
  // What no class codes is 0 to the decoder.
  Bytes data = write_tile_code(profile_, profile_hash, code, near_of(context));
  reconstruct(code, predicted, rows.dtype, {}, decoded);
  place_exact(code, rows.dtype, {}, decoded);
  return data;
}

void TensorCoder::decode(std::span<const TileContext* const> context, ByteView data,
                         const std::string& place, DType dtype, std::span<std::byte> rows,
                         TileContext& decoded) const {
  const std::size_t row_bytes =
      static_cast<std::size_t>(profile_.channels) * dtype_size_bytes(dtype);
  const auto tokens = static_cast<std::int64_t>(rows.size() / row_bytes);
  for (const TileContext* tile : context) {
    if (tile->steps.size() != static_cast<std::size_t>(tokens)) {
      fail_input("{}: {} tokens, predicted from a tile of {}", place, tokens, tile->steps.size());
    }
  }
  TileCode code = read_tile_code(profile_, tokens, row_bytes, near_of(context), data, place);
  reconstruct(code, predict(context, tokens), dtype, rows, decoded);
  place_exact(code, dtype, rows, decoded);
}

void TensorCoder::reconstruct(const TileCode& code, const std::vector<std::int32_t>& predicted,
                              DType dtype, std::span<std::byte> rows, TileContext& decoded) const {
  const auto tokens = static_cast<std::int64_t>(code.steps.tokens.size());
  const std::int64_t stride = stride_of(tokens), channels = profile_.channels;
  std::vector<std::int32_t> sums(static_cast<std::size_t>(channels * stride));
  std::vector<std::int32_t> active(static_cast<std::size_t>((code.used + 3) / 4));
  std::iota(active.begin(), active.end(), 0);
  const QuadBlock block{code.coefficients.data(), channels, stride};
  int8_dot_active(basis_, {&block, 1}, active, stride, sums.data(), stride);
  for (std::int64_t c = 0; c < channels; ++c) {
    const int gain = profile_.gain[static_cast<std::size_t>(c)];
    std::int32_t* row = sums.data() + c * stride;
    for (std::int64_t t = 0; t < stride; ++t) {
      row[t] = static_cast<std::int32_t>(static_cast<std::uint32_t>(row[t]) << gain);
    }
  }
  std::vector<std::uint8_t> multipliers(static_cast<std::size_t>(stride), 128);
  std::vector<std::int8_t> shifts(multipliers.size(), -kStepBits);
  for (std::int64_t t = 0; t < tokens; ++t) {
    const auto at = static_cast<std::size_t>(t);
    const StepFactor factor = step_factor(code.steps.eighths(at));
    multipliers[at] = factor.multiplier;
    shifts[at] = factor.shift;
  }
  decoded.values = Quads(channels, tokens);
  decoded.steps = code.steps.tokens;
  Reconstruction job{.outputs = channels,
                     .tokens = stride,
                     .r = sums.data(),
                     .r_stride = stride,
                     .p = predictor_ ? predicted.data() : nullptr,
                     .p_stride = stride,
                     .m = multipliers.data(),
                     .s = shifts.data(),
                     .f = profile_.shift.data(),
                     .mean = profile_.mean.data(),
                     .unit = profile_.unit.data(),
                     .n = decoded.values.quad(0),
                     .n_stride = stride,
                     .x_stride = channels};
  // The kernel works on whole blocks of tokens, and on the dtypes that models use.
  const bool straight =
      tokens == stride && (dtype == DType::kBF16 || dtype == DType::kF16 || dtype == DType::kF32);
  Bytes padded;
  if (!rows.empty()) {
    job.x = rows.data();
    job.x_type = dtype == DType::kBF16  ? EpilogueType::kBF16
                 : dtype == DType::kF16 ? EpilogueType::kF16
                                        : EpilogueType::kF32;
    if (!straight) {
      job.x_type = EpilogueType::kF32;
      padded.resize(static_cast<std::size_t>(stride * channels) * sizeof(float));
      job.x = padded.data();
    }
  }
  kv::reconstruct(job);
  if (!rows.empty() && !straight) {
    convert(ByteView(padded).first(static_cast<std::size_t>(tokens * channels) * sizeof(float)),
            DType::kF32, rows, dtype);
  }
}

// Exact tokens: their rows as they came, and what the prediction of others sees of them.
void TensorCoder::place_exact(const TileCode& code, DType dtype, std::span<std::byte> rows,
                              TileContext& decoded) const {
  const auto channels = static_cast<std::size_t>(profile_.channels);
  const std::size_t row_bytes = channels * dtype_size_bytes(dtype);
  std::vector<float> row(channels);
  for (std::size_t i = 0; i < code.steps.exact.size(); ++i) {
    const std::size_t token = code.steps.exact[i];
    const ByteView bytes = code.exact_rows.subspan(i * row_bytes, row_bytes);
    if (!rows.empty())
      std::copy(bytes.begin(), bytes.end(),
                rows.begin() + static_cast<std::ptrdiff_t>(token * row_bytes));
    convert(bytes, dtype, std::as_writable_bytes(std::span(row)), DType::kF32);
    for (std::size_t c = 0; c < channels; ++c) {
      const float unit = std::ldexp(profile_.unit[c], profile_.shift[c]);
      const float value = (row[c] - profile_.mean[c]) / unit;
      // NaN is not above -127.
      const long near = value > -127.0f ? std::lrint(std::min(value, 127.0f)) : -127;
      decoded.values.at(static_cast<std::int64_t>(c), static_cast<std::int64_t>(token)) =
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
