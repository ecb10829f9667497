#include "cachegen_code.hh"

#include "arithmetic_coder.hh"
#include "varint.hh"

#include <algorithm>
#include <bit>
#include <cmath>

namespace kv {
namespace {

constexpr std::int64_t kStreamTokens = 256;  // of a stream at most, as the public code has it
constexpr int kMostBins = 128;

// Bins of the first layers, the next and the others.
struct Bins {
  int k[3], v[2];
};
constexpr Bins kLevels[] = {{{16, 16, 12}, {16, 12}},
                            {{32, 16, 16}, {32, 16}},
                            {{32, 32, 32}, {32, 32}},
                            {{64, 64, 64}, {64, 64}},
                            {{128, 128, 128}, {128, 128}}};

// The public code has 10, 20 and 32 layers of Mistral 7B; other models get the same shares.
int bins_of(const Rows& rows, int level) {
  const Bins& bins = kLevels[level - 1];
  const std::uint32_t layer = rows.tile.layer, layers = rows.meta.layers.back().index + 1;
  if (rows.tile.kind != format::Kind::kK) return bins.v[layer < 2 ? 0 : 1];
  return bins.k[layer * 32 < layers * 10 ? 0 : layer * 32 < layers * 20 ? 1 : 2];
}

// As large as the widest of the tensor's layers needs, for all of them.
int table_bins_of(const Rows& rows, int level) {
  const Bins& bins = kLevels[level - 1];
  return rows.tile.kind == format::Kind::kK ? bins.k[0] : bins.v[0];
}

// A scale has 16 bits: bf16 where the tile is bf16, and so exact without rotation; else f16.
std::uint16_t scale_bits(float value, DType dtype) {
  if (dtype != DType::kBF16) return f16_not_below(value);
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  return static_cast<std::uint16_t>((bits >> 16) + ((bits & 0xFFFFu) != 0 ? 1 : 0));
}

float scale_value(std::uint16_t bits, DType dtype) {
  if (dtype != DType::kBF16) return f16_value(bits);
  return std::bit_cast<float>(std::uint32_t{bits} << 16);
}

using Table = std::vector<std::uint16_t>;

// One more entry than symbols; the last is not used.
void cumulate(const std::vector<std::uint32_t>& counts, std::uint32_t total, Table& table) {
  const auto bins = static_cast<std::uint32_t>(counts.size());
  std::uint32_t sum = 0;
  for (std::uint32_t i = 0; i <= bins; ++i) {
    table[i] = static_cast<std::uint16_t>((0xFFFFu - bins) * sum / total + i);
    if (i < bins) sum += counts[i];
  }
}

// Symbols of one chunk, [token][channel], and its shape.
struct Chunk {
  std::int64_t tokens = 0;
  std::size_t channels = 0;
  std::vector<std::uint8_t> symbols;

  std::uint8_t& at(std::int64_t token, std::size_t channel) {
    return symbols[static_cast<std::size_t>(token) * channels + channel];
  }
};

// The first and last symbol that occur, and the counts from the first on but the last's, which is
// the rest.
void put_counts(const std::vector<std::uint32_t>& counts, ByteWriter& out) {
  const auto used = [](std::uint32_t count) { return count > 0; };
  const auto first = std::find_if(counts.begin(), counts.end(), used);
  const auto last = std::find_if(counts.rbegin(), counts.rend(), used).base() - 1;
  out.put(static_cast<std::uint8_t>(first - counts.begin()));
  out.put(static_cast<std::uint8_t>(last - counts.begin()));
  for (auto count = first; count != last; ++count) put_varint(out, *count);
}

void get_counts(ByteReader& in, std::uint32_t total, std::vector<std::uint32_t>& counts,
                const std::string& place) {
  std::fill(counts.begin(), counts.end(), 0);
  const std::size_t first = in.get<std::uint8_t>(), last = in.get<std::uint8_t>();
  if (first > last || last >= counts.size()) {
    fail_input("{}: symbols {} to {} of {}", place, first, last, counts.size());
  }
  for (std::size_t symbol = first; symbol < last; ++symbol) {
    counts[symbol] = get_varint(in, total, place);
    total -= counts[symbol];
  }
  counts[last] = total;
}

}  // namespace

CacheGenCodeCodec::CacheGenCodeCodec(int level, Tables tables, std::int64_t chunk, bool rope)
    : RowCodec(fmt::format("cachegen-code level={} tables={} chunk={}", level,
                           tables == Tables::kShipped ? "shipped" : "compact", chunk),
               rope),
      level_(level),
      tables_(tables),
      chunk_(chunk) {}

bool CacheGenCodeCodec::encode_rows(const Rows& rows, RowHead& head, ByteWriter& out) const {
  const int bins = bins_of(rows, level_), table_bins = table_bins_of(rows, level_);
  const auto centre = static_cast<float>(bins / 2 - 1);
  head.a = static_cast<std::uint8_t>(bins);
  head.b = static_cast<std::uint8_t>(table_bins);
  head.c = static_cast<std::uint8_t>(tables_);
  head.d = static_cast<std::uint32_t>(chunk_);
  const auto channels = static_cast<std::size_t>(rows.channels);
  Chunk chunk{0, channels, {}};
  std::vector<std::uint32_t> counts(static_cast<std::size_t>(table_bins));
  std::vector<Table> tables(channels, Table(counts.size() + 1));
  for (std::int64_t first = 0; first < rows.tokens; first += chunk_) {
    chunk.tokens = std::min(chunk_, rows.tokens - first);
    chunk.symbols.resize(static_cast<std::size_t>(chunk.tokens) * channels);
    for (std::int64_t token = 0; token < chunk.tokens; ++token) {
      const std::span<const float> row = rows.row(first + token);
      float most = 0;
      for (const float value : row) most = std::max(most, std::fabs(value));
      const std::uint16_t bits = scale_bits(most, rows.tile.dtype);
      const float scale = scale_value(bits, rows.tile.dtype), factor = centre / scale;
      if (!std::isfinite(scale)) return false;
      out.put(bits);
      const float steps = std::isfinite(factor) ? factor : 0;
      for (std::size_t c = 0; c < channels; ++c) {
        chunk.at(token, c) = static_cast<std::uint8_t>(std::rint(row[c] * steps + centre));
      }
    }
    for (std::size_t c = 0; c < channels; ++c) {
      std::fill(counts.begin(), counts.end(), 0);
      for (std::int64_t token = 0; token < chunk.tokens; ++token) ++counts[chunk.at(token, c)];
      cumulate(counts, static_cast<std::uint32_t>(chunk.tokens), tables[c]);
      if (tables_ == Tables::kShipped) {
        out.put_bytes(std::as_bytes(std::span(tables[c])));
      } else {
        put_counts(counts, out);
      }
    }
    for (std::int64_t begin = 0; begin < chunk.tokens; begin += kStreamTokens) {
      const std::int64_t end = std::min(begin + kStreamTokens, chunk.tokens);
      ByteWriter streams;
      ArithmeticEncoder encoder;
      for (std::size_t c = 0; c < channels; ++c) {
        const CumulativeTable table = CumulativeTable(tables[c]).first(counts.size());
        for (std::int64_t token = begin; token < end; ++token) {
          encoder.put(table, chunk.at(token, c));
        }
        const Bytes stream = encoder.finish();
        if (tables_ == Tables::kShipped) {
          out.put(static_cast<std::uint32_t>(stream.size()));
        } else {
          put_varint(out, static_cast<std::uint32_t>(stream.size()));
        }
        streams.put_bytes(stream);
      }
      out.put_bytes(streams.bytes());
    }
  }
  return true;
}

void CacheGenCodeCodec::decode_rows(Rows& rows, const RowHead& head, ByteReader& in) const {
  const int bins = head.a, table_bins = head.b;
  if (bins < 4 || bins > table_bins || table_bins > kMostBins || head.c > 1 || head.d == 0 ||
      head.d > kMostChunk) {
    fail_input("{}: {} bins of {}, tables of kind {} for {} tokens", rows.place, bins, table_bins,
               head.c, head.d);
  }
  const bool shipped = head.c == static_cast<std::uint8_t>(Tables::kShipped);
  const auto centre = static_cast<float>(bins / 2 - 1);
  const auto channels = static_cast<std::size_t>(rows.channels);
  std::vector<std::uint32_t> counts(static_cast<std::size_t>(table_bins));
  std::vector<Table> tables(channels, Table(counts.size() + 1));
  std::vector<float> scales;
  std::vector<std::uint32_t> sizes(channels);
  for (std::int64_t first = 0; first < rows.tokens; first += head.d) {
    const std::int64_t tokens = std::min<std::int64_t>(head.d, rows.tokens - first);
    scales.clear();
    for (std::int64_t token = 0; token < tokens; ++token) {
      scales.push_back(scale_value(in.get<std::uint16_t>(), rows.tile.dtype));
    }
    for (std::size_t c = 0; c < channels; ++c) {
      if (shipped) {
        const ByteView bytes = in.take(tables[c].size() * sizeof(std::uint16_t));
        std::memcpy(tables[c].data(), bytes.data(), bytes.size());
        if (!is_cumulative(tables[c])) fail_input("{}: channel {}: no table", rows.place, c);
      } else {
        get_counts(in, static_cast<std::uint32_t>(tokens), counts, rows.place);
        cumulate(counts, static_cast<std::uint32_t>(tokens), tables[c]);
      }
    }
    for (std::int64_t begin = 0; begin < tokens; begin += kStreamTokens) {
      const std::int64_t end = std::min(begin + kStreamTokens, tokens);
      for (std::uint32_t& size : sizes) {
        size = shipped ? in.get<std::uint32_t>() : get_varint(in, UINT32_MAX, rows.place);
      }
      for (std::size_t c = 0; c < channels; ++c) {
        ArithmeticDecoder decoder(in.take(sizes[c]));
        const CumulativeTable table = CumulativeTable(tables[c]).first(counts.size());
        for (std::int64_t token = begin; token < end; ++token) {
          const auto symbol = static_cast<float>(decoder.get(table));
          rows.row(first + token)[c] =
              (symbol - centre) / centre * scales[static_cast<std::size_t>(token)];
        }
      }
    }
  }
}

}  // namespace kv
