#pragma once
// How much the tokens of a cache matter to queries, measured at some rows of a forward pass; for
// lib/model only. With a the attention of a query head's row to token t, o what attention gave that
// row, and v_t the token's value that it read:
//
//   weight of the value = mean of a^2
//   weight of the key   = mean of a^2 |v_t - o|^2
//
// To first order these are the squared error of o by a unit error of v_t, and by a unit error of
// the score. The mean goes over all query heads of a layer and those sampled rows that stand
// kLeastDistance or more positions behind the token, and within the layer's window of it. Nearer
// rows would weigh what every token is to its neighbours.
//
// Of n rows, rows floor((i + 1) n / m) - 1 are sampled, for i from 0 to m - 1 and m the smaller of
// n and kSampledRows. A token with fewer than kLeastRows such rows is one that nobody asked for
// yet: it gets the larger of its own mean and the 90th percentile of the other tokens' weights (in
// ascending order of N the one at ceil(0.9 N), from 1). Where no token has as many, or a weight is
// not finite, all of the layer's weights of that kind are 1.

#include "kv/model/kv_cache_state.hh"
#include "kv/model/model.hh"

#include <span>
#include <vector>

namespace kv {

class ImportanceMeter {
 public:
  static constexpr std::int64_t kSampledRows = 128, kLeastDistance = 32, kLeastRows = 8;

  // For a pass of `rows` rows that extend `cache`, at ascending positions. Both arguments outlive
  // it.
  ImportanceMeter(const ModelConfig& config, const KvCache::State& cache, std::int64_t rows);

  // The pass goes on with `count` rows, in the cache's slots from `first_slot` on.
  void begin_block(std::int64_t first_slot, std::int64_t count);
  // Those of the block's rows that are sampled, ascending, and their positions.
  std::span<const std::int64_t> rows() const { return rows_; }
  std::span<const std::int32_t> positions() const;
  // rows(), for index_select
  at::Tensor index() const;

  // Once a layer and block, when the block's keys and values are in the cache and rows() is not
  // empty. Queries are rotated, in the cache's type: [kv heads][rows][group][k_dim], and what
  // attention gave them [rows][query heads][v_dim], both contiguous. The cache is tiled.
  template <typename T>
  void add_fused(std::int64_t layer, const at::Tensor& queries, const at::Tensor& outputs);
  // The same of a plain cache, with queries [rows][query heads][k_dim].
  void add_plain(std::int64_t layer, const at::Tensor& queries);

  std::vector<TokenImportance> weights() const;

 private:
  // Over the rows so far, by slot.
  struct Sums {
    std::vector<double> keys, values;
  };
  Sums& sums_of(std::int64_t layer);
  TokenImportance weights_of(std::size_t layer) const;

  const ModelConfig& config_;
  const KvCache::State& cache_;
  std::int64_t pass_rows_, done_rows_ = 0;
  std::vector<std::int64_t> rows_;       // of the block
  std::vector<std::int32_t> positions_;  // of all sampled rows so far
  std::vector<Sums> sums_;
};

}  // namespace kv
