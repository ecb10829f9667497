#include "kv/stream/fec.hh"

#include "kv/stream/random.hh"

#include <algorithm>
#include <array>

namespace kv {
namespace {

constexpr std::uint64_t kKeptUnits = 64;

struct Field {
  std::array<std::uint8_t, 512> exp{};
  std::array<std::uint8_t, 256> log{};

  constexpr Field() {
    unsigned value = 1;
    for (unsigned i = 0; i < 255; ++i) {
      exp[i] = exp[i + 255] = static_cast<std::uint8_t>(value);
      log[value] = static_cast<std::uint8_t>(i);
      value = value << 1 ^ (value & 0x80 ? 0x11D : 0);
    }
  }
  constexpr std::uint8_t multiply(std::uint8_t a, std::uint8_t b) const {
    return a == 0 || b == 0 ? std::uint8_t{0} : exp[static_cast<std::size_t>(log[a] + log[b])];
  }
  constexpr std::uint8_t inverse(std::uint8_t a) const {
    return exp[static_cast<std::size_t>(255 - log[a])];
  }
};
constexpr Field kField;

std::uint8_t coefficient(std::uint32_t key, std::uint64_t unit) {
  return static_cast<std::uint8_t>(1 + mix64(mix64(unit) ^ key) % 255);
}

// to += factor x from; `to` grows as needed.
void add_scaled(Bytes& to, std::uint8_t factor, ByteView from) {
  if (to.size() < from.size()) to.resize(from.size());
  for (std::size_t i = 0; i < from.size(); ++i) {
    to[i] ^= std::byte{kField.multiply(factor, std::to_integer<std::uint8_t>(from[i]))};
  }
}

void add_unit_scaled(Bytes& to, std::uint8_t factor, ByteView unit) {
  if (to.size() < unit.size() + 1) to.resize(unit.size() + 1);
  to[0] ^= std::byte{kField.multiply(factor, static_cast<std::uint8_t>(unit.size()))};
  for (std::size_t i = 0; i < unit.size(); ++i) {
    to[i + 1] ^= std::byte{kField.multiply(factor, std::to_integer<std::uint8_t>(unit[i]))};
  }
}

}  // namespace

Repair make_repair(std::uint64_t first, const std::vector<ByteView>& units, std::uint32_t key) {
  Repair repair{first, static_cast<std::uint32_t>(units.size()), key, {}};
  for (std::size_t i = 0; i < units.size(); ++i) {
    add_unit_scaled(repair.symbol, coefficient(key, first + i), units[i]);
  }
  return repair;
}

const Bytes* FecDecoder::find(std::uint64_t unit) const {
  const auto at = known_.find(unit);
  return at == known_.end() ? nullptr : &at->second;
}

bool FecDecoder::add_unit(std::uint64_t unit, ByteView bytes) {
  if (unit < low_ || unit - low_ >= kWindow || bytes.empty() || bytes.size() > kMaxUnitBytes) {
    return false;
  }
  if (!known_.emplace(unit, Bytes(bytes.begin(), bytes.end())).second) return true;
  bool concerned = false;
  for (Row& row : rows_) {
    const auto at = row.coefficients.find(unit);
    if (at == row.coefficients.end()) continue;
    add_unit_scaled(row.sum, at->second, bytes);
    row.coefficients.erase(at);
    concerned = true;
  }
  return !concerned || solve();
}

bool FecDecoder::add_repair(const Repair& repair) {
  if (repair.first < low_ || repair.first + repair.count - low_ > kWindow) return false;
  Row row;
  row.sum = repair.symbol;
  for (std::uint64_t unit = repair.first; unit < repair.first + repair.count; ++unit) {
    const std::uint8_t factor = coefficient(repair.key, unit);
    if (const Bytes* bytes = find(unit)) {
      if (bytes->size() + 1 > row.sum.size()) return false;
      add_unit_scaled(row.sum, factor, *bytes);
    } else {
      row.coefficients.emplace(unit, factor);
    }
  }
  if (row.coefficients.empty()) return true;
  if (rows_.size() == kMaxRows) rows_.erase(rows_.begin());
  rows_.push_back(std::move(row));
  return solve();
}

void FecDecoder::delivered_before(std::uint64_t unit) {
  const std::uint64_t low = unit > kKeptUnits ? unit - kKeptUnits : 0;
  if (low <= low_) return;
  low_ = low;
  known_.erase(known_.begin(), known_.lower_bound(low));
  std::erase_if(rows_, [&](const Row& row) {
    return row.coefficients.empty() || row.coefficients.begin()->first < low;
  });
}

void FecDecoder::learn(std::uint64_t unit, ByteView symbol) {
  known_.emplace(unit, Bytes(symbol.begin() + 1,
                             symbol.begin() + 1 + std::to_integer<std::ptrdiff_t>(symbol[0])));
}

// Gauss and Jordan: afterwards a row with one coefficient is a unit. Rows are few: as many as units
// are missing.
bool FecDecoder::solve() {
  for (std::size_t i = 0; i < rows_.size(); ++i) {
    if (rows_[i].coefficients.empty()) continue;
    const auto [pivot, factor] = *rows_[i].coefficients.begin();
    const std::uint8_t scale = kField.inverse(factor);
    for (auto& entry : rows_[i].coefficients) entry.second = kField.multiply(entry.second, scale);
    for (std::byte& byte : rows_[i].sum) {
      byte = std::byte{kField.multiply(std::to_integer<std::uint8_t>(byte), scale)};
    }
    for (std::size_t j = 0; j < rows_.size(); ++j) {
      const auto at = rows_[j].coefficients.find(pivot);
      if (j == i || at == rows_[j].coefficients.end()) continue;
      const std::uint8_t times = at->second;
      for (const auto& entry : rows_[i].coefficients) {
        std::uint8_t& value = rows_[j].coefficients[entry.first];
        value ^= kField.multiply(times, entry.second);
        if (value == 0) rows_[j].coefficients.erase(entry.first);
      }
      add_scaled(rows_[j].sum, times, rows_[i].sum);
    }
  }
  bool sound = true;
  for (const Row& row : rows_) {
    if (row.coefficients.size() != 1) continue;
    const auto size = row.sum.empty() ? std::size_t{0} : std::to_integer<std::size_t>(row.sum[0]);
    const auto tail =
        row.sum.begin() + static_cast<std::ptrdiff_t>(std::min(size + 1, row.sum.size()));
    const bool fits =
        size > 0 && size + 1 <= row.sum.size() &&
        std::all_of(tail, row.sum.end(), [](std::byte b) { return b == std::byte{0}; });
    if (fits) {
      learn(row.coefficients.begin()->first, row.sum);
    } else {
      sound = false;
    }
  }
  std::erase_if(rows_, [](const Row& row) { return row.coefficients.size() <= 1; });
  return sound;
}

}  // namespace kv
