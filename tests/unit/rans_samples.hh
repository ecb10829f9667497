#pragma once
// Random tables, steps and values for the tests of the entropy coder.
#include "kv/kernels/rans.hh"

#include <algorithm>
#include <random>
#include <vector>

namespace kv::samples {

using Random = std::mt19937_64;

inline std::size_t below(Random& random, std::size_t n) { return random() % n; }

// n frequencies of a random shape, from nearly flat to one symbol that takes nearly all.
inline std::vector<std::uint16_t> random_row(Random& random, std::size_t n) {
  std::vector<std::uint16_t> row(n, 1);
  std::size_t left = 4096 - n;
  const std::size_t favourite = below(random, n);
  if (below(random, 3) == 0) {
    const std::size_t share = below(random, 4) == 0 ? left : below(random, left + 1);
    row[favourite] = static_cast<std::uint16_t>(row[favourite] + share);
    left -= share;
  }
  const std::size_t grain = 1 + below(random, 300);
  while (left > 0) {
    const std::size_t share = std::min(left, 1 + below(random, grain));
    std::uint16_t& f = row[below(random, n)];
    f = static_cast<std::uint16_t>(f + share);
    left -= share;
  }
  return row;
}

struct Tables {
  std::vector<std::vector<std::uint16_t>> rows;
  RansTables tables;

  explicit Tables(std::vector<std::vector<std::uint16_t>> from)
      : rows(std::move(from)), tables(build(rows)) {}
  static RansTables build(const std::vector<std::vector<std::uint16_t>>& rows) {
    return RansTables(std::vector<std::span<const std::uint16_t>>(rows.begin(), rows.end()));
  }
};

inline Tables random_tables(Random& random, std::size_t count,
                            std::initializer_list<std::size_t> sizes = {4, 8, 16, 32}) {
  std::vector<std::vector<std::uint16_t>> rows;
  for (std::size_t i = 0; i < count; ++i) {
    rows.push_back(random_row(random, sizes.begin()[below(random, sizes.size())]));
  }
  return Tables(std::move(rows));
}

// Steps, their values (idle lanes 0) and what a decoder says of them.
struct Message {
  std::vector<RansStep> steps;
  std::vector<std::int8_t> values;   // as given to the encoder
  std::vector<std::int8_t> decoded;  // with kRansEscape for what is out of range
  std::vector<std::uint32_t> escapes;
};

struct Shape {
  std::size_t steps = 100;
  std::size_t run = 1;   // steps that share a table
  unsigned partial = 8;  // one of so many steps has idle lanes; 0: none
  bool all_escapes = false;
};

inline Message random_message(Random& random, const Tables& tables, const Shape& shape) {
  Message message;
  for (std::size_t i = 0; i < shape.steps; ++i) {
    RansStep step;
    step.table = static_cast<std::uint16_t>(i % shape.run != 0 ? message.steps.back().table
                                                               : below(random, tables.rows.size()));
    if (shape.partial != 0 && below(random, shape.partial) == 0) {
      step.lanes = static_cast<std::uint16_t>(1 + below(random, kRansLanes));
    }
    message.steps.push_back(step);
    const auto& row = tables.rows[step.table];
    const int middle = static_cast<int>(row.size() / 2) - 1;
    for (std::size_t lane = 0; lane < kRansLanes; ++lane) {
      if (lane >= step.lanes) {
        message.values.push_back(0);
        message.decoded.push_back(0);
        continue;
      }
      // By its probability now and then, else any symbol alike.
      std::size_t symbol = below(random, row.size());
      if (below(random, 4) != 0) {
        std::size_t slot = below(random, 4096);
        for (symbol = 0; slot >= row[symbol]; ++symbol) slot -= row[symbol];
      }
      int value = static_cast<int>(symbol) - middle;
      int decoded = value;
      if (shape.all_escapes || symbol + 1 == row.size()) {
        const int far = middle + 1 + static_cast<int>(below(random, 127u - middle));
        value = below(random, 2) == 0 ? far : -far;
        if (below(random, 20) == 0) value = -128;
        decoded = kRansEscape;
        message.escapes.push_back(static_cast<std::uint32_t>(i * kRansLanes + lane));
      }
      message.values.push_back(static_cast<std::int8_t>(value));
      message.decoded.push_back(static_cast<std::int8_t>(decoded));
    }
  }
  return message;
}

}  // namespace kv::samples
