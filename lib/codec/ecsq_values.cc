#include "ecsq_values.hh"

#include "kv/kernels/vector_target.hh"
#include "row_codec.hh"

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kv/codec/ecsq_values.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#ifndef KV_CODEC_ECSQ_VALUES_ONCE
#define KV_CODEC_ECSQ_VALUES_ONCE
namespace kv {

// Tokens that go from integers to rows at a time: 192 channels of them fill a first-level cache.
inline constexpr std::int64_t kEcsqBlock = 64;

// A rotation as numbers; channels are at most 2^16.
struct Turn {
  float cosine, sine;
  std::uint16_t a, b;
};

struct EcsqBlock {
  const EcsqValues* job;
  const float* const* steps;  // [coefficients]: of each token of the block, its step
  const Turn* turns;
  std::size_t turn_count;
  const float* mean;  // [channels]
  float most;         // values are within -most and most
  std::int64_t first, tokens;
  float* columns;         // room for [channels, a multiple of 4][kEcsqBlock]
  std::uint16_t* halves;  // rows of bf16 [tokens][channels], or null:
  float* floats;          // rows of f32
};

}  // namespace kv
#endif

HWY_BEFORE_NAMESPACE();
namespace kv::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using Floats = hn::CappedTag<float, 16>;
using Ints = hn::CappedTag<std::int32_t, 16>;
using Words = hn::CappedTag<std::uint32_t, 16>;

void scale_quads(const EcsqBlock& block) {
  const Floats d;
  const Ints ints;
  const EcsqValues& job = *block.job;
  const auto low = hn::Set(ints, 255), middle = hn::Set(ints, 128);
  for (std::int64_t c = 0; c < job.used; c += 4) {
    const auto* quads = reinterpret_cast<const std::int32_t*>(job.quads->quad(c / 4)) + block.first;
    float* column = block.columns + c * kEcsqBlock;
    for (std::int64_t t = 0; t < kEcsqBlock; t += static_cast<std::int64_t>(hn::Lanes(d))) {
      auto four = hn::LoadU(ints, quads + t);
      for (std::int64_t i = 0; i < 4; ++i) {
        const auto n = hn::Sub(hn::And(four, low), middle);
        const auto x = hn::Mul(hn::ConvertTo(d, n), hn::LoadU(d, block.steps[c + i] + t));
        hn::StoreU(x, d, column + i * kEcsqBlock + t);
        four = hn::ShiftRight<8>(four);
      }
    }
  }
}

void scale_integers(const EcsqBlock& block) {
  const EcsqValues& job = *block.job;
  const auto all = static_cast<std::int64_t>(job.steps->tokens.size());
  for (std::int64_t c = 0; c < job.used; ++c) {
    const std::int16_t* from = job.integers + c * all + block.first;
    float* column = block.columns + c * kEcsqBlock;
    for (std::int64_t t = 0; t < block.tokens; ++t) {
      column[t] = static_cast<float>(from[t]) * block.steps[c][t];
    }
    std::fill(column + block.tokens, column + kEcsqBlock, 0.0f);
  }
}

void turn_columns(const EcsqBlock& block) {
  const Floats d;
  for (std::size_t i = 0; i < block.turn_count; ++i) {
    const Turn& turn = block.turns[i];
    float* a = block.columns + turn.a * kEcsqBlock;
    float* b = block.columns + turn.b * kEcsqBlock;
    const auto cosine = hn::Set(d, turn.cosine), sine = hn::Set(d, turn.sine);
    HWY_UNROLL(8)
    for (std::int64_t t = 0; t < kEcsqBlock; t += static_cast<std::int64_t>(hn::Lanes(d))) {
      const auto x = hn::Load(d, a + t), y = hn::Load(d, b + t);
      hn::Store(hn::Sub(hn::Mul(cosine, x), hn::Mul(sine, y)), d, a + t);
      hn::Store(hn::Add(hn::Mul(sine, x), hn::Mul(cosine, y)), d, b + t);
    }
  }
}

HWY_INLINE hn::Vec<Floats> value_of(const EcsqBlock& block, std::int64_t c, std::int64_t t) {
  const Floats d;
  const auto x = hn::Load(d, block.columns + c * kEcsqBlock + t);
  const auto value = hn::Add(hn::Set(d, block.mean[c]), x);
  return hn::Min(hn::Max(value, hn::Set(d, -block.most)), hn::Set(d, block.most));
}

void write_floats(const EcsqBlock& block) {
  const std::int64_t channels = block.job->scales->channels();
  for (std::int64_t c = 0; c < channels; ++c) {
    const float* column = block.columns + c * kEcsqBlock;
    for (std::int64_t t = 0; t < block.tokens; ++t) {
      const float value = block.mean[c] + column[t];
      block.floats[t * channels + c] = std::clamp(value, -block.most, block.most);
    }
  }
}

// To nearest, ties to even, in the upper half.
HWY_INLINE hn::Vec<Words> bf16_bits(hn::Vec<Floats> x) {
  const Words words;
  const auto bits = hn::BitCast(words, x);
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(words, 1u));
  return hn::Add(bits, hn::Add(odd, hn::Set(words, 0x7FFFu)));
}

#if HWY_TARGET != HWY_SCALAR
// Four channels of a token are 64 bits.
void write_halves(const EcsqBlock& block) {
  const Floats d;
  const Words words;
  const hn::Repartition<std::uint64_t, Words> fours;
  const std::int64_t channels = block.job->scales->channels();
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const auto upper = hn::Set(words, 0xFFFF0000u);
  alignas(64) std::uint64_t rows[16];
  for (std::int64_t c = 0; c < channels; c += 4) {
    for (std::int64_t t = 0; t < block.tokens; t += lanes) {
      const auto pair = [&](std::int64_t i) HWY_ATTR {
        const auto even = hn::ShiftRight<16>(bf16_bits(value_of(block, c + i, t)));
        return hn::Or(even, hn::And(bf16_bits(value_of(block, c + i + 1, t)), upper));
      };
      const auto first = pair(0), second = pair(2);
      // Of each 128 bits tokens 0 and 1, then 2 and 3.
      hn::Store(hn::BitCast(fours, hn::InterleaveLower(words, first, second)), fours, rows);
      hn::Store(hn::BitCast(fours, hn::InterleaveUpper(words, first, second)), fours, rows + 8);
      const std::int64_t count = std::min(lanes, block.tokens - t);
      std::uint16_t* to = block.halves + t * channels + c;
      for (std::int64_t i = 0; i < count; ++i, to += channels) {
        std::memcpy(to, rows + i / 4 * 2 + i % 4 / 2 * 8 + i % 2, 8);
      }
    }
  }
}
#else
void write_halves(const EcsqBlock& block) {
  const std::int64_t channels = block.job->scales->channels();
  for (std::int64_t c = 0; c < channels; ++c) {
    for (std::int64_t t = 0; t < block.tokens; ++t) {
      const std::uint32_t bits = hn::GetLane(bf16_bits(value_of(block, c, t)));
      block.halves[t * channels + c] = static_cast<std::uint16_t>(bits >> 16);
    }
  }
}
#endif

void WriteBlock(const EcsqBlock& block) {
  if (block.job->quads) {
    scale_quads(block);
  } else {
    scale_integers(block);
  }
  const std::int64_t channels = block.job->scales->channels();
  const std::int64_t used = std::min(channels, (block.job->used + 3) / 4 * 4);
  const std::int64_t zero_from = block.job->quads ? used : block.job->used;
  std::fill(block.columns + zero_from * kEcsqBlock, block.columns + channels * kEcsqBlock, 0.0f);
  turn_columns(block);
  if (block.halves) {
    write_halves(block);
  } else {
    write_floats(block);
  }
}

}  // namespace kv::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace kv {
namespace {

// Steps of the tokens for each of the widths that coefficients have, most often one.
class StepRows {
 public:
  StepRows(const EcsqValues& job) : job_(job) {
    const EcsqScales& scales = *job.scales;
    for (std::size_t c = 0; c < scales.wider.size(); ++c) {
      const std::uint8_t wider = scales.wider[c];
      if (row_of_width_[wider] < 0) {
        row_of_width_[wider] = static_cast<int>(widths_.size());
        widths_.push_back(c);
      }
      row_of_.push_back(row_of_width_[wider]);
    }
    rows_.resize(widths_.size() * kEcsqBlock);
    // Whole quads: what stands behind the last coefficient is 0, whatever its step.
    const std::size_t whole = (scales.wider.size() + 3) / 4 * 4;
    for (std::size_t c = 0; c < whole; ++c) {
      const int row = c < row_of_.size() ? row_of_[c] : 0;
      steps_.push_back(rows_.data() + row * kEcsqBlock);
    }
    for (const std::size_t c : widths_) {
      for (int step = -kMostTokenStep; step <= kMostTokenStep; ++step) {
        values_.push_back(scales.step(c, step, job.quality));
      }
    }
  }
  StepRows(const StepRows&) = delete;

  const float* const* at(std::int64_t first, std::int64_t tokens) {
    constexpr std::size_t kSteps = 2 * kMostTokenStep + 1;
    for (std::size_t row = 0; row < widths_.size(); ++row) {
      const float* values = values_.data() + row * kSteps + kMostTokenStep;
      for (std::int64_t t = 0; t < tokens; ++t) {
        rows_[row * kEcsqBlock + static_cast<std::size_t>(t)] =
            values[job_.steps->tokens[static_cast<std::size_t>(first + t)]];
      }
    }
    return steps_.data();
  }

 private:
  const EcsqValues& job_;
  std::array<int, 256> row_of_width_ = [] {
    std::array<int, 256> none;
    none.fill(-1);
    return none;
  }();
  std::vector<std::size_t> widths_;  // a coefficient of each
  std::vector<int> row_of_;
  std::vector<float> rows_, values_;
  std::vector<const float*> steps_;
};

}  // namespace

void write_ecsq_rows(const EcsqValues& job, DType dtype, std::span<std::byte> rows) {
  thread_local Room<float> column_room, float_room;
  const EcsqScales& scales = *job.scales;
  const std::int64_t channels = scales.channels();
  const auto tokens = static_cast<std::int64_t>(job.steps->tokens.size());
  const auto whole = static_cast<std::size_t>((channels + 3) / 4 * 4);
  std::vector<Turn> turns;
  for (const Rotation& rotation : scales.rotations) {
    turns.push_back({rotation.cosine(), rotation.sine(), static_cast<std::uint16_t>(rotation.a),
                     static_cast<std::uint16_t>(rotation.b)});
  }
  std::vector<float> mean;
  for (const std::int16_t of_channel : scales.mean) {
    mean.push_back(static_cast<float>(of_channel) * scales.mean_unit());
  }
  StepRows steps(job);
  const bool halves = dtype == DType::kBF16 && channels % 4 == 0;
  const std::size_t row_bytes = static_cast<std::size_t>(channels) * dtype_size_bytes(dtype);
  EcsqBlock block{.job = &job,
                  .turns = turns.data(),
                  .turn_count = turns.size(),
                  .mean = mean.data(),
                  .most = largest_finite(dtype),
                  .columns = column_room.take(whole * kEcsqBlock)};
  const auto write = KV_VECTOR_VARIANTS(WriteBlock).chosen();
  for (std::int64_t first = 0; first < tokens; first += kEcsqBlock) {
    block.first = first;
    block.tokens = std::min(kEcsqBlock, tokens - first);
    block.steps = steps.at(first, block.tokens);
    const std::span<std::byte> to =
        rows.subspan(static_cast<std::size_t>(first) * row_bytes,
                     static_cast<std::size_t>(block.tokens) * row_bytes);
    block.halves = halves ? reinterpret_cast<std::uint16_t*>(to.data()) : nullptr;
    block.floats = float_room.take(whole * kEcsqBlock);
    write(block);
    if (halves) continue;
    const std::span values(block.floats, static_cast<std::size_t>(block.tokens * channels));
    convert(std::as_bytes(values), DType::kF32, to, dtype);
  }
}

}  // namespace kv
#endif
