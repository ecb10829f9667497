// The definition of the stream, one lane after another.
#include "kv/kernels/rans_row.hh"

#include <algorithm>
#include <array>
#include <cstring>

namespace kv::scalar {

namespace {

using States = std::array<std::uint32_t, kRansLanes>;

class Words {
 public:
  explicit Words(std::span<const std::byte> bytes) : bytes_(bytes) {}
  bool take(std::uint32_t& word) {
    if (bytes_.size() < 2) return false;
    word = std::to_integer<std::uint32_t>(bytes_[0]) | std::to_integer<std::uint32_t>(bytes_[1])
                                                           << 8;
    bytes_ = bytes_.subspan(2);
    return true;
  }
  bool empty() const { return bytes_.empty(); }

 private:
  std::span<const std::byte> bytes_;
};

bool decode_one(const RansTables& tables, RansDecodeJob& job) {
  if (job.stream.size() < kRansStateBytes || !rans_valid_steps(tables, job.steps)) return false;
  States states;
  std::memcpy(states.data(), job.stream.data(), kRansStateBytes);
  if (std::ranges::any_of(states, [](auto state) { return state < kRansLow; })) return false;

  Words words(job.stream.subspan(kRansStateBytes));
  std::int8_t* out = job.values;
  for (const RansStep& step : job.steps) {
    const RansRow& row = tables.rows()[step.table];
    for (std::uint32_t lane = 0; lane < step.lanes; ++lane) {
      std::uint32_t& x = states[lane];
      const std::uint32_t slot = x & ((1u << kRansScaleBits) - 1);
      unsigned index = 0;
      while (slot < row.start[index]) ++index;
      x = row.frequency(index) * (x >> kRansScaleBits) + slot - row.start[index];
      if (x < kRansLow) {
        std::uint32_t word = 0;
        if (!words.take(word)) return false;
        x = x << 16 | word;
      }
      if (index == 0) {
        if (job.escape_count == job.escapes.size()) return false;
        job.escapes[job.escape_count++] = static_cast<std::uint32_t>(out - job.values) + lane;
        out[lane] = kRansEscape;
      } else {
        out[lane] = static_cast<std::int8_t>(row.symbols / 2 - static_cast<int>(index));
      }
    }
    std::fill(out + step.lanes, out + kRansLanes, std::int8_t{0});
    out += kRansLanes;
  }
  return words.empty() && std::ranges::all_of(states, [](auto x) { return x == kRansLow; });
}

void encode_one(const RansTables& tables, const RansEncodeJob& job) {
  States states;
  states.fill(kRansLow);
  std::vector<std::uint16_t> words;  // last one first
  for (std::size_t i = job.steps.size(); i-- > 0;) {
    const RansRow& row = tables.rows()[job.steps[i].table];
    for (std::uint32_t lane = job.steps[i].lanes; lane-- > 0;) {
      std::uint32_t& x = states[lane];
      const unsigned index = row.index_of(job.values[i * kRansLanes + lane]);
      if (x >> 16 >= row.scaled[index]) {
        words.push_back(static_cast<std::uint16_t>(x));
        x >>= 16;
      }
      const std::uint32_t f = row.frequency(index);
      x = (x / f << kRansScaleBits) + x % f + row.start[index];
    }
  }
  std::ranges::reverse(words);
  const auto append = [&](const auto& array) {
    const auto bytes = std::as_bytes(std::span(array));
    job.out->insert(job.out->end(), bytes.begin(), bytes.end());
  };
  append(states);
  append(words);
}

}  // namespace

void decode(const RansTables& tables, std::span<RansDecodeJob> jobs) {
  rans_set_last_target(RansTarget::kScalar);
  for (RansDecodeJob& job : jobs) job.intact = decode_one(tables, job);
}

void encode(const RansTables& tables, std::span<const RansEncodeJob> jobs) {
  rans_set_last_target(RansTarget::kScalar);
  for (const RansEncodeJob& job : jobs) encode_one(tables, job);
}

}  // namespace kv::scalar
