#include "int8_dot.hh"

#include "cpu_features.hh"
#include "int8_dot_targets.hh"
#include "target_table.hh"

#include <algorithm>
#include <array>
#include <memory>
#include <numeric>
#include <stdexcept>

namespace kv {
namespace {

using Table = TargetTable<DotTarget, DotFunction>;

// Fastest first.
constexpr Table::Entry kTable[] = {
#if defined(__x86_64__)
    {DotTarget::kAmx, "amx", dot_amx, cpu_has_amx_int8},
    {DotTarget::kAvx512Vnni, "avx512vnni", dot_avx512vnni, cpu_has_avx512_vnni},
    {DotTarget::kAvxVnni, "avxvnni", dot_avxvnni, cpu_has_avx_vnni},
    {DotTarget::kAvx2, "avx2", dot_avx2, cpu_has_avx2},
#endif
    {DotTarget::kScalar, "scalar", dot_scalar, [] { return true; }},
};

Table& table() {
  static Table table("int8_dot", kTable);
  return table;
}

void require(bool holds, const char* what) {
  if (!holds) throw std::invalid_argument(what);
}

// Where each quad of the concatenated blocks begins.
std::vector<const std::uint8_t*> quad_rows(const Int8Weights& weights,
                                           std::span<const QuadBlock> blocks, std::int64_t tokens) {
  std::vector<const std::uint8_t*> rows;
  rows.reserve(static_cast<std::size_t>(weights.quads()));
  for (const QuadBlock& block : blocks) {
    require(block.channels > 0 && block.channels % 4 == 0 &&
                block.channels / 4 <= weights.quads() - std::ssize(rows),
            "int8_dot: the blocks do not have the weights' inputs");
    require(block.stride_tokens >= tokens, "int8_dot: a block has too few tokens");
    for (std::int64_t q = 0; q < block.channels / 4; ++q) {
      rows.push_back(block.data + 4 * q * block.stride_tokens);
    }
  }
  require(std::ssize(rows) == weights.quads(), "int8_dot: the blocks have too few channels");
  return rows;
}

// A factor of a job and what it points to.
class Factor {
 public:
  // `quads` ascend strictly; `bias` is as DotFactor says.
  Factor(const Int8Weights& weights, std::vector<const std::uint8_t*> rows,
         std::vector<std::int32_t> quads, std::vector<std::int32_t> bias)
      : rows_(std::move(rows)), quads_(std::move(quads)), bias_(std::move(bias)) {
    for (const std::int32_t q : quads_) {
      const bool follows = !runs_.empty() && q % kTileQuads != 0 && q == last_ + 1;
      if (!follows) {
        const auto offset = q / kTileQuads * kTileBytes + q % kTileQuads * 4;
        runs_.push_back({static_cast<std::int32_t>(offset), 0});
        tiles_ += runs_.size() == 1 || q / kTileQuads != last_ / kTileQuads;
      }
      ++runs_.back().quads;
      last_ = q;
    }
    factor_ = {weights.tiles(),    weights.input_tiles(), rows_.data(),      quads_.data(),
               std::ssize(quads_), runs_.data(),          std::ssize(runs_), bias_.data()};
  }
  Factor(Factor&&) = default;  // the heap blocks move along

  const DotFactor& get() const { return factor_; }
  std::int64_t panel_bytes() const { return tiles_ * kTileQuads * kPanelBytes; }

 private:
  std::vector<const std::uint8_t*> rows_;
  std::vector<std::int32_t> quads_;
  std::vector<DotRun> runs_;
  std::vector<std::int32_t> bias_;
  std::int32_t last_ = -1;
  std::int64_t tiles_ = 0;
  DotFactor factor_;
};

Factor whole_factor(const Int8Weights& weights, std::span<const QuadBlock> blocks,
                    std::int64_t tokens) {
  auto rows = quad_rows(weights, blocks, tokens);
  std::vector<std::int32_t> quads(rows.size());
  std::iota(quads.begin(), quads.end(), 0);
  std::vector<std::int32_t> bias(weights.sums(),
                                 weights.sums() + kTileOutputs * weights.output_tiles());
  for (std::int32_t& sum : bias) sum *= -128;
  return Factor(weights, std::move(rows), std::move(quads), std::move(bias));
}

Factor part_factor(const Int8Weights& weights, std::span<const QuadBlock> blocks,
                   std::span<const std::int32_t> active, std::int64_t tokens) {
  auto rows = quad_rows(weights, blocks, tokens);
  const std::int64_t padded = kTileOutputs * weights.output_tiles();
  std::vector<std::int32_t> bias(static_cast<std::size_t>(padded));
  std::int64_t last = -1;
  std::size_t count = 0;
  for (const std::int32_t q : active) {
    require(q > last && q < weights.quads(), "int8_dot: the list of quads is wrong");
    last = q;
    rows[count++] = rows[static_cast<std::size_t>(q)];  // q >= count: not yet overwritten
    const std::int16_t* sums = weights.quad_sums() + q * padded;
    for (std::size_t c = 0; c < bias.size(); ++c) bias[c] -= 128 * sums[c];
  }
  return Factor(weights, std::move(rows), {active.begin(), active.end()}, std::move(bias));
}

// 64-byte aligned, of a thread.
std::uint8_t* panel_room(std::int64_t bytes) {
  thread_local std::vector<std::uint8_t> room;
  const auto size = static_cast<std::size_t>(bytes + 63);
  if (room.size() < size) room.resize(size);
  void* at = room.data();
  std::size_t space = room.size();
  return static_cast<std::uint8_t*>(std::align(64, static_cast<std::size_t>(bytes), at, space));
}

DotTarget run_one(const Factor& factor, const Int8Weights& weights, std::int64_t tokens,
                  std::int32_t* out, std::int64_t out_stride) {
  return table().selected().run({.factors = {factor.get()},
                                 .factor_count = 1,
                                 .outputs = weights.outputs(),
                                 .tokens = tokens,
                                 .panel = panel_room(factor.panel_bytes()),
                                 .out = out,
                                 .out_stride = out_stride,
                                 .take = nullptr,
                                 .state = nullptr});
}

void check_tokens(std::int64_t tokens, std::int64_t out_stride) {
  require(tokens >= 0 && tokens % 16 == 0, "int8_dot: tokens are not a multiple of 16");
  require(out_stride >= tokens, "int8_dot: rows of the result overlap");
}

}  // namespace

Int8Weights::Int8Weights(std::span<const std::int8_t> rows, std::int64_t outputs,
                         std::int64_t inputs)
    : outputs_(outputs), inputs_(inputs) {
  require(outputs >= 1 && outputs <= kMaxOutputs && inputs >= 1 && inputs <= kMaxInputs,
          "Int8Weights: size out of range");
  require(std::ssize(rows) == outputs * inputs, "Int8Weights: not outputs x inputs weights");
  require(std::find(rows.begin(), rows.end(), std::int8_t{-128}) == rows.end(),
          "Int8Weights: a weight is -128");
  storage_.resize(static_cast<std::size_t>(output_tiles() * input_tiles() * kTileBytes + 63));
  void* at = storage_.data();
  std::size_t room = storage_.size();
  tiles_ = static_cast<std::int8_t*>(std::align(64, room - 63, at, room));
  const std::int64_t padded = kTileOutputs * output_tiles();
  sums_.resize(static_cast<std::size_t>(padded));
  quad_sums_.resize(static_cast<std::size_t>(padded * quads()));
  for (std::int64_t c = 0; c < outputs; ++c) {
    const std::int8_t* row = rows.data() + c * inputs;
    std::int8_t* tile =
        tiles_ + c / kTileOutputs * input_tiles() * kTileBytes + c % kTileOutputs * kTileRowBytes;
    for (std::int64_t k = 0; k < inputs; k += kTileRowBytes, tile += kTileBytes) {
      std::copy_n(row + k, std::min(kTileRowBytes, inputs - k), tile);
    }
    std::int32_t all = 0;
    for (std::int64_t q = 0; q < quads(); ++q) {
      std::int32_t sum = 0;
      for (std::int64_t k = 4 * q; k < std::min(4 * q + 4, inputs); ++k) sum += row[k];
      quad_sums_[static_cast<std::size_t>(q * padded + c)] = static_cast<std::int16_t>(sum);
      all += sum;
    }
    sums_[static_cast<std::size_t>(c)] = all;
  }
}

const char* dot_target_name(DotTarget target) { return table().name(target); }

std::span<const DotTarget> dot_targets() { return table().here(); }

DotTarget dot_target() { return table().selected().target; }

bool dot_target_is_fast(DotTarget target) {
  return target != DotTarget::kScalar && target != DotTarget::kAvx2;
}

void set_dot_target(DotTarget target) { table().select(target); }

DotTarget int8_dot(const Int8Weights& weights, std::span<const QuadBlock> blocks,
                   std::int64_t tokens, std::int32_t* out, std::int64_t out_stride) {
  check_tokens(tokens, out_stride);
  return run_one(whole_factor(weights, blocks, tokens), weights, tokens, out, out_stride);
}

DotTarget int8_dot_active(const Int8Weights& weights, std::span<const QuadBlock> blocks,
                          std::span<const std::int32_t> active, std::int64_t tokens,
                          std::int32_t* out, std::int64_t out_stride) {
  check_tokens(tokens, out_stride);
  return run_one(part_factor(weights, blocks, active, tokens), weights, tokens, out, out_stride);
}

DotTarget int8_dot_blocks(std::span<const DotProduct> products, std::int64_t tokens, DotTake* take,
                          void* state) {
  check_tokens(tokens, tokens);
  require(!products.empty() && products.size() <= kMostDotProducts && take,
          "int8_dot: no product, too many, or none to take them");
  DotJob job{};
  job.outputs = products.front().weights->outputs();
  std::vector<Factor> factors;
  std::int64_t bytes = 0;
  for (const DotProduct& product : products) {
    const Int8Weights& weights = *product.weights;
    require(weights.outputs() == job.outputs, "int8_dot: products of different outputs");
    require(product.quads >= 0 && product.quads <= weights.quads(),
            "int8_dot: the list of quads is wrong");
    if (product.quads == weights.quads()) {
      factors.push_back(whole_factor(weights, product.blocks, tokens));
    } else {
      std::vector<std::int32_t> quads(static_cast<std::size_t>(product.quads));
      std::iota(quads.begin(), quads.end(), 0);
      factors.push_back(part_factor(weights, product.blocks, quads, tokens));
    }
    job.factors[job.factor_count++] = factors.back().get();
    bytes += factors.back().panel_bytes();
  }
  job.tokens = tokens;
  job.panel = panel_room(bytes);
  job.take = take;
  job.state = state;
  return table().selected().run(job);
}

}  // namespace kv
