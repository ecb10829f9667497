#include "cachegen.hh"

#include "bit_packing.hh"
#include "varint.hh"

#include <algorithm>

namespace kv {
namespace {

using Tensor = CacheGenProfile::Tensor;

constexpr std::size_t kStepsPerStream = 4096;  // so that the ends of streams cost little
constexpr std::size_t kMostStreams = 4;        // what the coder decodes at a time

// What is coded of one strip of channels, step by step: 32 tokens of one channel, first all of the
// anchors, then of the others.
class Strip {
 public:
  Strip(const Tensor& tensor, int level, std::size_t strip, std::int64_t tokens) {
    first_ = strip * CacheGenProfile::kStripChannels;
    const std::size_t count =
        std::min<std::size_t>(CacheGenProfile::kStripChannels, tensor.channels - first_);
    models_[0] = tensor.anchors().subspan(first_, count);
    models_[1] = tensor.deltas(level).subspan(first_, count);
    for (std::int64_t token = 0; token < tokens; ++token) {
      tokens_[CacheGenSymbols::is_anchor(token) ? 0 : 1].push_back(token);
    }
    for (std::size_t part = 0; part < 2; ++part) {
      for (std::size_t block = 0; block < tokens_[part].size(); block += kRansLanes) {
        const std::size_t lanes = std::min(kRansLanes, tokens_[part].size() - block);
        for (std::size_t c = 0; c < count; ++c) {
          steps_.push_back(
              {static_cast<std::uint16_t>(part * count + c), static_cast<std::uint16_t>(lanes)});
        }
      }
    }
  }

  std::span<const RansStep> steps() const { return steps_; }
  std::size_t streams() const {
    return std::clamp<std::size_t>(steps_.size() / kStepsPerStream, 1, kMostStreams);
  }
  // Steps of stream `i` of `count`.
  std::pair<std::size_t, std::size_t> range(std::size_t i, std::size_t count) const {
    return {steps_.size() * i / count, steps_.size() * (i + 1) / count};
  }

  // Calls with each model, its step's first place among the coded values, and the index of each
  // value in the tile: use(model, place, index).
  template <typename F>
  void each(std::int64_t channels, F&& use) const {
    std::size_t step = 0;
    for (std::size_t part = 0; part < 2; ++part) {
      const std::vector<std::int64_t>& tokens = tokens_[part];
      for (std::size_t block = 0; block < tokens.size(); block += kRansLanes) {
        const std::size_t end = std::min(block + kRansLanes, tokens.size());
        for (std::size_t c = 0; c < models_[part].size(); ++c, ++step) {
          for (std::size_t i = block; i < end; ++i) {
            use(models_[part][c], step * kRansLanes + i - block,
                static_cast<std::size_t>(tokens[i] * channels) + first_ + c);
          }
        }
      }
    }
  }

 private:
  std::size_t first_ = 0;
  std::span<const CacheGenModel> models_[2];
  std::vector<std::int64_t> tokens_[2];
  std::vector<RansStep> steps_;
};

std::size_t strips_of(const Tensor& tensor) {
  return (tensor.channels + CacheGenProfile::kStripChannels - 1) / CacheGenProfile::kStripChannels;
}

std::uint32_t zigzag(std::int32_t value) {
  return static_cast<std::uint32_t>(value) << 1 ^ static_cast<std::uint32_t>(value >> 31);
}
std::int32_t unzigzag(std::uint32_t code) {
  return static_cast<std::int32_t>(code >> 1 ^ (~(code & 1) + 1));
}

void put_part(ByteWriter& out, ByteView bytes) {
  out.put(static_cast<std::uint32_t>(bytes.size()));
  out.put_bytes(bytes);
}

const Tensor* tensor_of(const CacheGenProfile& profile, const Rows& rows) {
  const Tensor* tensor = profile.find(rows.tile.layer, rows.tile.kind);
  return tensor && tensor->channels == rows.channels ? tensor : nullptr;
}

std::string missing_tensor(const CacheGenProfile& profile, const Rows& rows) {
  return fmt::format("profile {:016x} is of another model: it has no {} channels of {} of layer {}",
                     profile.hash(), rows.channels, static_cast<char>(rows.tile.kind),
                     rows.tile.layer);
}

}  // namespace

CacheGenCodec::CacheGenCodec(std::shared_ptr<const CacheGenProfile> profile, int level)
    : RowCodec(fmt::format("cachegen level={} profile={:016x}", level, profile->hash()),
               profile->rotated()),
      profile_(std::move(profile)),
      level_(level) {
  if (level < 1 || level > profile_->levels()) {
    fail_usage("codec cachegen: the profile has levels 1 to {}, not {}", profile_->levels(), level);
  }
}

bool CacheGenCodec::encode_rows(const Rows& rows, RowHead& head, ByteWriter& out) const {
  const Tensor* tensor = tensor_of(*profile_, rows);
  if (!tensor)
    fail_input("{}; make one with the model of the cache", missing_tensor(*profile_, rows));
  thread_local CacheGenSymbols symbols;
  symbols.quantise(rows.values, rows.channels, tensor->steps[static_cast<std::size_t>(level_ - 1)]);
  if (!symbols.possible) return false;
  head.a = static_cast<std::uint8_t>(level_);
  out.put(profile_->hash());
  out.put_bytes(std::as_bytes(std::span(symbols.anchor_scales)));
  out.put_bytes(std::as_bytes(std::span(symbols.delta_scales)));
  ByteWriter low, escapes, coded;
  BitPacker packer(low);
  std::vector<std::int8_t> values;
  for (std::size_t i = 0; i < strips_of(*tensor); ++i) {
    const Strip strip(*tensor, level_, i, rows.tokens);
    values.assign(strip.steps().size() * kRansLanes, 0);
    strip.each(rows.channels, [&](const CacheGenModel& model, std::size_t place, std::size_t at) {
      const std::int32_t moved = symbols.values[at] - model.offset, high = moved >> model.shift;
      if (const int most = model.symbols / 2 - 1; high < -most || high > most) {
        values[place] = kRansEscape;
        put_varint(escapes, zigzag(symbols.values[at]));
        return;
      }
      values[place] = static_cast<std::int8_t>(high);
      packer.put(static_cast<std::uint32_t>(moved) & ((1u << model.shift) - 1), model.shift);
    });
    const std::size_t streams = strip.streams();
    coded.put(static_cast<std::uint32_t>(streams));
    for (std::size_t s = 0; s < streams; ++s) {
      const auto [first, last] = strip.range(s, streams);
      Bytes stream;
      const RansEncodeJob job = {strip.steps().subspan(first, last - first),
                                 values.data() + first * kRansLanes, &stream};
      rans_encode(profile_->tables(*tensor, level_, i), std::span(&job, 1));
      put_part(coded, stream);
    }
  }
  packer.finish();
  put_part(out, low.bytes());
  put_part(out, escapes.bytes());
  out.put_bytes(coded.bytes());
  return true;
}

void CacheGenCodec::decode_rows(Rows& rows, const RowHead& head, ByteReader& in) const {
  const auto hash = in.get<std::uint64_t>();
  const std::shared_ptr<const CacheGenProfile> profile =
      profile_ && profile_->hash() == hash ? profile_ : find_cachegen_profile(hash, rows.place);
  const int level = head.a;
  if (level < 1 || level > profile->levels() || head.b != 0 || head.c != 0 || head.d != 0) {
    fail_input("{}: level {} of {}, or reserved bytes are set", rows.place, level,
               profile->levels());
  }
  const Tensor* tensor = tensor_of(*profile, rows);
  if (!tensor) fail_input("{}: {}", rows.place, missing_tensor(*profile, rows));
  thread_local CacheGenSymbols symbols;
  symbols.tokens = rows.tokens;
  symbols.channels = rows.channels;
  const auto take_scales = [&](std::vector<std::uint16_t>& scales, std::int64_t count) {
    const ByteView bytes = in.take(static_cast<std::size_t>(count) * sizeof(std::uint16_t));
    scales.resize(static_cast<std::size_t>(count));
    if (count > 0) std::memcpy(scales.data(), bytes.data(), bytes.size());
  };
  take_scales(symbols.anchor_scales, symbols.anchors());
  take_scales(symbols.delta_scales, rows.tokens - symbols.anchors());
  BitUnpacker low(in.take(in.get<std::uint32_t>()));
  ByteReader escapes(in.take(in.get<std::uint32_t>()), rows.place);
  symbols.values.resize(rows.values.size());
  std::vector<std::int8_t> values;
  std::vector<std::uint32_t> escaped;
  for (std::size_t i = 0; i < strips_of(*tensor); ++i) {
    const Strip strip(*tensor, level, i, rows.tokens);
    values.resize(strip.steps().size() * kRansLanes);
    escaped.resize(values.size());
    const std::size_t streams = in.get<std::uint32_t>();
    if (streams < 1 || streams > kMostStreams) fail_input("{}: {} streams", rows.place, streams);
    std::array<RansDecodeJob, kMostStreams> jobs;
    for (std::size_t s = 0; s < streams; ++s) {
      const auto [first, last] = strip.range(s, streams);
      jobs[s].stream = in.take(in.get<std::uint32_t>());
      jobs[s].steps = strip.steps().subspan(first, last - first);
      jobs[s].values = values.data() + first * kRansLanes;
      jobs[s].escapes = std::span(escaped).subspan(first * kRansLanes, (last - first) * kRansLanes);
    }
    if (!rans_decode(profile->tables(*tensor, level, i), std::span(jobs).first(streams))) {
      fail_input("{}: strip {} is not a coding of {} tokens", rows.place, i, rows.tokens);
    }
    strip.each(rows.channels, [&](const CacheGenModel& model, std::size_t place, std::size_t at) {
      if (values[place] == kRansEscape) {
        symbols.values[at] = unzigzag(get_varint(escapes, UINT32_MAX, rows.place));
      } else {
        symbols.values[at] = values[place] * (1 << model.shift) +
                             static_cast<std::int32_t>(low.get(model.shift)) + model.offset;
      }
    });
  }
  if (!low.finished() || escapes.remaining() != 0) {
    fail_input("{}: more or fewer low bits or escapes than symbols", rows.place);
  }
  symbols.dequantise(rows.values, tensor->steps[static_cast<std::size_t>(level - 1)]);
}

}  // namespace kv
