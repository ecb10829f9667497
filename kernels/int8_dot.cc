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

std::vector<DotRun> runs_of(std::span<const std::int32_t> quads) {
  std::vector<DotRun> runs;
  for (std::size_t i = 0; i < quads.size(); ++i) {
    const std::int32_t q = quads[i];
    if (i == 0 || q % kTileQuads == 0 || q != quads[i - 1] + 1) {
      const auto offset = q / kTileQuads * kTileBytes + q % kTileQuads * 4;
      runs.push_back({static_cast<std::int32_t>(offset), 0});
    }
    ++runs.back().quads;
  }
  return runs;
}

// What a factor of a job points to, where it is not the weights'.
struct FactorRoom {
  std::vector<const std::uint8_t*> rows;
  std::vector<std::int32_t> quads, bias;
  std::vector<DotRun> runs;
};

DotFactor whole_factor(const Int8Weights& weights, std::span<const QuadBlock> blocks,
                       std::int64_t tokens, FactorRoom& room) {
  room.rows = quad_rows(weights, blocks, tokens);
  return {.tiles = weights.tiles(),
          .input_tiles = weights.input_tiles(),
          .rows = room.rows.data(),
          .quads = weights.all_quads().data(),
          .quad_count = weights.quads(),
          .runs = weights.all_runs().data(),
          .run_count = std::ssize(weights.all_runs()),
          .bias = weights.bias().data()};
}

DotFactor part_factor(const Int8Weights& weights, std::span<const QuadBlock> blocks,
                      std::span<const std::int32_t> active, std::int64_t tokens, FactorRoom& room) {
  DotFactor factor = whole_factor(weights, blocks, tokens, room);
  const std::int64_t padded = kTileOutputs * weights.output_tiles();
  room.bias.assign(static_cast<std::size_t>(padded), 0);
  std::int64_t last = -1;
  std::size_t count = 0;
  for (const std::int32_t q : active) {
    require(q > last && q < weights.quads(), "int8_dot: the list of quads is wrong");
    last = q;
    // q >= count: not yet overwritten.
    room.rows[count++] = room.rows[static_cast<std::size_t>(q)];
    const std::int16_t* sums = weights.quad_sums() + q * padded;
    for (std::size_t c = 0; c < room.bias.size(); ++c) room.bias[c] -= 128 * sums[c];
  }
  room.quads.assign(active.begin(), active.end());
  room.runs = runs_of(active);
  factor.quads = room.quads.data();
  factor.quad_count = std::ssize(room.quads);
  factor.runs = room.runs.data();
  factor.run_count = std::ssize(room.runs);
  factor.bias = room.bias.data();
  return factor;
}

// Of a thread, 64-byte aligned, for what a target packs of the inputs.
std::uint8_t* panel_room(std::int64_t input_tiles) {
  const std::int64_t bytes = kPanelBytes * kTileQuads * input_tiles;
  thread_local std::vector<std::uint8_t> room;
  const auto size = static_cast<std::size_t>(bytes + 63);
  if (room.size() < size) room.resize(size);
  void* at = room.data();
  std::size_t space = room.size();
  return static_cast<std::uint8_t*>(std::align(64, static_cast<std::size_t>(bytes), at, space));
}

DotTarget run_one(const DotFactor& factor, const Int8Weights& weights, std::int64_t tokens,
                  std::int32_t* out, std::int64_t out_stride) {
  return table().selected().run({.factors = {factor},
                                 .factor_count = 1,
                                 .outputs = weights.outputs(),
                                 .tokens = tokens,
                                 .panel = panel_room(weights.input_tiles()),
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
  bias_.resize(static_cast<std::size_t>(padded));
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
    bias_[static_cast<std::size_t>(c)] = -128 * all;
  }
  all_quads_.resize(static_cast<std::size_t>(quads()));
  std::iota(all_quads_.begin(), all_quads_.end(), 0);
  all_runs_ = runs_of(all_quads_);
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
  FactorRoom room;
  return run_one(whole_factor(weights, blocks, tokens, room), weights, tokens, out, out_stride);
}

DotTarget int8_dot_active(const Int8Weights& weights, std::span<const QuadBlock> blocks,
                          std::span<const std::int32_t> active, std::int64_t tokens,
                          std::int32_t* out, std::int64_t out_stride) {
  check_tokens(tokens, out_stride);
  FactorRoom room;
  return run_one(part_factor(weights, blocks, active, tokens, room), weights, tokens, out,
                 out_stride);
}

DotTarget int8_dot_blocks(std::span<const DotProduct> products, std::int64_t tokens, DotTake* take,
                          void* state) {
  check_tokens(tokens, tokens);
  require(!products.empty() && products.size() <= kMostDotProducts && take,
          "int8_dot: no product, too many, or none to take them");
  DotJob job{};
  job.outputs = products.front().outputs;
  std::array<FactorRoom, kMostDotProducts> rooms;
  std::int64_t input_tiles = 0;
  for (const DotProduct& product : products) {
    const Int8Weights& weights = *product.weights;
    require(product.outputs == job.outputs && job.outputs >= 0 && job.outputs <= weights.outputs(),
            "int8_dot: products of different outputs");
    require(product.quads >= 0 && product.quads <= weights.quads(),
            "int8_dot: the list of quads is wrong");
    FactorRoom& room = rooms[static_cast<std::size_t>(job.factor_count)];
    const auto quads = weights.all_quads().first(static_cast<std::size_t>(product.quads));
    job.factors[job.factor_count++] =
        product.quads == weights.quads()
            ? whole_factor(weights, product.blocks, tokens, room)
            : part_factor(weights, product.blocks, quads, tokens, room);
    input_tiles += weights.input_tiles();
  }
  job.tokens = tokens;
  job.panel = panel_room(input_tiles);
  job.take = take;
  job.state = state;
  return table().selected().run(job);
}

}  // namespace kv
