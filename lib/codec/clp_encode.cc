// The half of TensorCoder that only encoders use.

#include "clp_forward.hh"
#include "clp_forward_basis.hh"
#include "clp_step.hh"
#include "clp_tensor.hh"
#include "clp_values.hh"

#include <algorithm>
#include <bit>
#include <cmath>

namespace kv {
namespace {

constexpr int kMostCoefficient = 127;
constexpr std::int64_t kBlockTokens = 128;
constexpr std::int32_t kInfinityBits = 0x7F800000;
}  // namespace

const ForwardBasis& TensorCoder::forward() const {
  std::call_once(forward_once_, [&] { forward_ = std::make_shared<ForwardBasis>(profile_); });
  return *forward_;
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
  forward_transform(forward().rows.data(), profile_.channels, rest.data(), stride, out.data());
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
      : profile_(coder.profile_),
        basis_(coder.forward()),
        rows_(rows),
        asked_(std::move(steps.exact)),
        code_(code),
        exact_rows_(exact_rows) {
    code_.steps = std::move(steps);
    code_.steps.exact.clear();
    exact_rows_.clear();
    code_.coefficients.shape(profile_.channels, rows.shape[0]);
    find_coded();
    fill_thresholds();
  }

  void add(TokenPart part, const std::int32_t* predicted, std::int64_t predicted_stride) {
    const std::int64_t stride = stride_of(part.last - part.first);
    const auto values = static_cast<std::size_t>(profile_.channels * stride);
    float* rest = room().rest.take(values);
    float* coefficients = room().coefficients.take(values);
    const auto count = static_cast<std::size_t>(part.last - part.first);
    const ByteView rows = rows_.bytes.subspan(
        static_cast<std::size_t>(part.first) * rows_.row_bytes(), count * rows_.row_bytes());
    // Whole steps of bf16 as they are, by way of f32 what else there is.
    const bool straight = rows_.dtype == DType::kBF16 && rows.size() == 2 * values;
    const void* from = straight ? rows.data() : static_cast<const void*>(floats_of(rows, values));
    // By the 8-bit kernels where they are faster than f32: three products that take a quarter each.
    const bool split = dot_target_is_fast(dot_target());
    std::array<std::int32_t, kBlockTokens> largest, row{};
    rest_by_channel({from, straight, profile_.channels, stride, profile_.mean.data(),
                     profile_.unit.data(), split ? basis_.inverse_width.data() : nullptr,
                     predicted ? predicted + part.first : nullptr, predicted_stride, rest,
                     largest.data()});
    if (split) {
      transform_split(rest, stride, coefficients, largest);
    } else {
      forward_transform(basis_.rows.data(), profile_.channels, rest, stride, coefficients);
      largest_bits(coefficients, profile_.channels, stride, largest.data());
    }
    std::array<float, kBlockTokens> scale{};
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
    kv::quantise({coefficients, coded_, stride, scale.data(), row.data(), thresholds_.data(),
                  code_.coefficients.quad(0) + 4 * part.first, code_.coefficients.stride_tokens()});
  }

 private:
  struct Scratch {
    Room<float> row_major, rest, coefficients;
    Room<std::uint8_t> quads;
  };
  static Scratch& room() {
    thread_local Scratch scratch;
    return scratch;
  }

  const float* floats_of(ByteView rows, std::size_t values) {
    float* floats = room().row_major.take(values);
    const std::size_t used = rows.size() / dtype_size_bytes(rows_.dtype);
    convert(rows, rows_.dtype, std::as_writable_bytes(std::span(floats, used)), DType::kF32);
    std::fill(floats + used, floats + values, 0.0f);
    return floats;
  }

  // `largest` is of the rest, and of the coefficients afterwards.
  void transform_split(const float* rest, std::int64_t stride, float* coefficients,
                       std::array<std::int32_t, kBlockTokens>& largest) {
    const std::int64_t channels = profile_.channels;
    const auto values = static_cast<std::size_t>(channels * stride);
    std::uint8_t* high = room().quads.take(2 * values);
    std::array<float, kBlockTokens> scale;
    split_rest({rest, largest.data(), channels, stride, high, high + values, scale.data()});
    largest.fill(0);
    const QuadBlock parts[] = {{high, channels, stride}, {high + values, channels, stride}};
    const DotProduct products[] = {
        {&*basis_.high, std::span(parts, 1), basis_.high->quads(), coded_},
        {&*basis_.mixed, parts, basis_.mixed->quads(), coded_},
    };
    int8_dot_blocks(products, stride, [&](const DotBlock& block) {
      join_sums({block.sums[0], block.sums[1], block.outputs, block.tokens, block.stride,
                 basis_.row_scale.data() + block.output, scale.data() + block.token,
                 coefficients + block.output * stride + block.token, stride,
                 largest.data() + block.token});
    });
  }

  // Whole quads up to the last coefficient that a class codes at the finest step there is: tokens
  // may get coarser ones.
  void find_coded() {
    for (const std::int8_t step : code_.steps.tokens) finest_ = std::min<int>(finest_, step);
    const int eighths = code_.steps.base + kStepGrid * finest_;
    for (std::size_t k = 0; k < profile_.sigma.size(); ++k) {
      if (Classes::get().code(profile_.shape[k], profile_.sigma[k] - eighths).zero) continue;
      coded_ = static_cast<std::int64_t>(k / 4 * 4 + 4);
    }
  }

  void fill_thresholds() {
    static_assert(kThresholds == 2 * kMostTokenStep + 1);
    const Classes& classes = Classes::get();
    const auto coded = static_cast<std::size_t>(coded_);
    thresholds_.resize(coded * kThresholds + kThresholdsRoom);
    for (std::size_t k = 0; k < coded; ++k) {
      float* row = thresholds_.data() + k * kThresholds + kMostTokenStep;
      for (int step = finest_; step <= kMostTokenStep; ++step) {
        const int eighths = code_.steps.base + kStepGrid * step;
        row[step] = classes.zero_below(profile_.shape[k], profile_.sigma[k] - eighths);
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

  const TensorProfile& profile_;
  const ForwardBasis& basis_;
  const TensorView& rows_;
  std::vector<std::uint16_t> asked_;
  TileCode& code_;
  Bytes& exact_rows_;
  int finest_ = kMostTokenStep;
  std::int64_t coded_ = 4;  // whether a token is finite at least one quad tells
  std::vector<float> thresholds_;
};

void TensorCoder::quantise(Context context, const TensorView& rows, TileSteps steps, TileCode& code,
                           TileContext& decoded) const {
  thread_local Room<std::int32_t> room;
  const std::int64_t tokens = rows.shape[0], stride = spread_stride_of(tokens);
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
  clear_uncoded(*code.plan, code.coefficients);
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
