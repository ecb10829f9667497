// The half of TensorCoder that only encoders use.

#include "clp_forward.hh"
#include "clp_step.hh"
#include "clp_tensor.hh"

#include <Eigen/LU>

#include <algorithm>
#include <bit>
#include <cmath>

namespace kv {
namespace {

constexpr int kMostCoefficient = 127;
constexpr std::int64_t kBlockTokens = 128;
constexpr std::int32_t kInfinityBits = 0x7F800000;

}  // namespace

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

// A tile's rows on their way to coefficients, a block of tokens at a time.
class TensorCoder::Analysis {
 public:
  Analysis(const TensorCoder& coder, const TensorView& rows, TileSteps steps, TileCode& code,
           Bytes& exact_rows)
      : coder_(coder),
        profile_(coder.profile_),
        rows_(rows),
        asked_(std::move(steps.exact)),
        code_(code),
        exact_rows_(exact_rows) {
    code_.steps = std::move(steps);
    code_.steps.exact.clear();
    exact_rows_.clear();
    code_.coefficients.shape(profile_.channels, rows.shape[0]);
    fill_thresholds();
  }

  void add(TokenPart part, const std::int32_t* predicted, std::int64_t predicted_stride) {
    const std::int64_t stride = stride_of(part.last - part.first);
    const auto values = static_cast<std::size_t>(profile_.channels * stride);
    float* row_major = room().row_major.take(values);
    float* rest = room().rest.take(values);
    float* coefficients = room().coefficients.take(values);
    const std::size_t row_bytes = rows_.row_bytes();
    const auto count = static_cast<std::size_t>(part.last - part.first);
    const std::size_t used = count * static_cast<std::size_t>(profile_.channels);
    convert(
        rows_.bytes.subspan(static_cast<std::size_t>(part.first) * row_bytes, count * row_bytes),
        rows_.dtype, std::as_writable_bytes(std::span(row_major, used)), DType::kF32);
    std::fill(row_major + used, row_major + values, 0.0f);
    rest_by_channel({row_major, profile_.channels, stride, profile_.mean.data(),
                     profile_.unit.data(), predicted ? predicted + part.first : nullptr,
                     predicted_stride, rest});
    forward_transform(coder_.inverse().rows.data(), profile_.channels, rest, stride, coefficients);
    std::array<std::int32_t, kBlockTokens> largest, row{};
    std::array<float, kBlockTokens> scale{};
    largest_bits(coefficients, profile_.channels, stride, largest.data());
    for (std::size_t t = 0; t < count; ++t) {
      const std::size_t token = static_cast<std::size_t>(part.first) + t;
      std::int8_t& step = code_.steps.tokens[token];
      if (!fits(token, largest[t], step)) {
        add_exact(token);
        continue;
      }
      scale[t] = static_cast<float>(1.0 / step_value(code_.steps.eighths(token)));
      row[t] = step + kMostTokenStep;
    }
    kv::quantise({coefficients, profile_.channels, stride, scale.data(), row.data(),
                  thresholds_.data(), code_.coefficients.quad(0) + 4 * part.first,
                  code_.coefficients.stride_tokens()});
  }

 private:
  struct Scratch {
    Room<float> row_major, rest, coefficients;
  };
  static Scratch& room() {
    thread_local Scratch scratch;
    return scratch;
  }

  void fill_thresholds() {
    static_assert(kThresholds == 2 * kMostTokenStep + 1);
    const Classes& classes = Classes::get();
    for (std::size_t k = 0; k < profile_.sigma.size(); ++k) {
      for (int step = -kMostTokenStep; step <= kMostTokenStep; ++step) {
        const int eighths = code_.steps.base + kStepGrid * step;
        thresholds_.push_back(classes.zero_below(profile_.shape[k], profile_.sigma[k] - eighths));
      }
    }
  }

  // Whether the token can be coded; widens its step as far as it needs.
  bool fits(std::size_t token, std::int32_t largest, std::int8_t& step) const {
    if (largest >= kInfinityBits || std::binary_search(asked_.begin(), asked_.end(), token)) {
      return false;
    }
    const float most = std::bit_cast<float>(largest);
    while (most / step_value(code_.steps.eighths(token)) > kMostCoefficient) {
      if (step == kMostTokenStep) return false;
      ++step;
    }
    return true;
  }

  void add_exact(std::size_t token) {
    code_.steps.tokens[token] = 0;
    code_.steps.exact.push_back(static_cast<std::uint16_t>(token));
    const ByteView row = rows_.bytes.subspan(token * rows_.row_bytes(), rows_.row_bytes());
    exact_rows_.insert(exact_rows_.end(), row.begin(), row.end());
  }

  const TensorCoder& coder_;
  const TensorProfile& profile_;
  const TensorView& rows_;
  std::vector<std::uint16_t> asked_;
  TileCode& code_;
  Bytes& exact_rows_;
  std::vector<float> thresholds_;
};

void TensorCoder::quantise(Context context, const TensorView& rows, TileSteps steps, TileCode& code,
                           TileContext& decoded) const {
  thread_local Room<std::int32_t> room;
  const std::int64_t tokens = rows.shape[0], stride = stride_of(tokens);
  std::int32_t* predicted =
      predictor_ ? room.take(static_cast<std::size_t>(profile_.channels * stride)) : nullptr;
  Analysis analysis(*this, rows, std::move(steps), code, code.own_exact_rows);
  for (std::int64_t first = 0; first < tokens; first += kBlockTokens) {
    const TokenPart part{first, std::min(tokens, first + kBlockTokens)};
    if (predicted) predict(context, part, predicted + first, stride);
    analysis.add(part, predicted, stride);
  }
  code.exact_rows = code.own_exact_rows;
  code.make_plan(profile_);
  clear_uncoded(*code.plan, tokens, code.coefficients);
  decoded.steps = code.steps.tokens;
  decoded.values.shape(profile_.channels, tokens);
  rebuild(context, predicted, code, {0, tokens}, rows.dtype, {}, decoded);
}

Bytes TensorCoder::encode(Context context, const TensorView& rows, std::uint64_t profile_hash,
                          TileSteps steps, TileContext& decoded) const {
  TileCode code;
  quantise(context, rows, std::move(steps), code, decoded);
  const EncodeSymbols job{code.plan.get(), &code.coefficients, &code.symbols};
  encode_symbols({&job, 1});
  return write_tile_code(profile_hash, code, context.empty() ? nullptr : &context.back()->steps);
}

}  // namespace kv
