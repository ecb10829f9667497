#include "kv/codec/profile.hh"

#include "kv/base/file.hh"
#include "kv/base/hash.hh"
#include "kv/container/json_object.hh"

#include <algorithm>
#include <array>
#include <cmath>

namespace kv {
namespace {

constexpr std::array<std::uint8_t, 8> kMagic = {0x8B, 'K', 'V', 'P', 0x0D, 0x0A, 0x1A, 0x0A};
constexpr std::uint16_t kVersion = 1;
constexpr std::uint64_t kMaxFileBytes = std::uint64_t{4} << 30;
constexpr std::uint32_t kMaxJsonBytes = 16u << 20;
constexpr std::int64_t kMaxChannels = 1 << 14;
constexpr std::int64_t kMaxContexts = 5;
constexpr std::uint8_t kMostLayersBack = 2;
constexpr int kMostShift = 24, kMostGain = 15, kMostEvenStep = 64;

struct Header {
  std::array<std::uint8_t, 8> magic = kMagic;
  std::uint16_t version = kVersion;
  std::uint16_t reserved = 0;
  std::uint32_t json_bytes = 0;
  std::uint64_t file_bytes = 0;
  std::uint64_t hash = 0;  // XXH3-64 of all that follows the header
};
static_assert(sizeof(Header) == 32);

json head_of(const Profile& profile) {
  json head;
  head["level"] = profile.level;
  head["made_from"] = profile.made_from;
  head["map"] = json::array();
  for (const ProfilePoint& point : profile.map) {
    head["map"].push_back({{"bits", point.bits}, {"kld", point.kld}, {"step", point.step}});
  }
  head["model"] = {{"adapter", profile.model.adapter},
                   {"architecture", profile.model.architecture},
                   {"base_fingerprint", profile.model.base_fingerprint},
                   {"fingerprint", profile.model.fingerprint},
                   {"name", profile.model.name},
                   {"tokenizer_fingerprint", profile.model.tokenizer_fingerprint}};
  head["tensors"] = json::array();
  for (const TensorProfile& tensor : profile.tensors) {
    json sources = json::array();
    for (const ContextSource& source : tensor.context) {
      sources.push_back(
          {{"back", source.layers_back}, {"kind", std::string(1, static_cast<char>(source.kind))}});
    }
    head["tensors"].push_back({{"channels", tensor.channels},
                               {"context", sources},
                               {"kind", std::string(1, static_cast<char>(tensor.kind))},
                               {"layer", tensor.layer}});
    if (tensor.even_step != 0) head["tensors"].back()["even_step"] = tensor.even_step;
  }
  return head;
}

format::Kind kind_of(const JsonObject& object) {
  const std::string text = object.text("kind");
  if (text != "K" && text != "V" && text != "L") object.refuse("kind", "is not K, V or L");
  return static_cast<format::Kind>(text[0]);
}

template <typename T>
void take(ByteReader& reader, std::vector<T>& into, std::int64_t count) {
  const ByteView bytes = reader.take(static_cast<std::size_t>(count) * sizeof(T));
  into.resize(static_cast<std::size_t>(count));
  if (!bytes.empty()) std::memcpy(into.data(), bytes.data(), bytes.size());
}

// A tensor's arrays in file order, for both directions.
template <typename F>
void each_array(F&& use, auto& t) {
  use(t.predictor, t.channels * t.inputs);
  use(t.basis, t.channels * t.channels);
  use(t.mean, t.channels);
  use(t.unit, t.channels);
  use(t.gain, t.channels);
  use(t.shift, t.channels);
  use(t.shape, t.channels);
  use(t.sigma, t.channels);
}

void check_arrays(const TensorProfile& t, const std::string& place) {
  const auto refuse = [&](const char* what) {
    fail_input("{}: layer {} {}: {}", place, t.layer, static_cast<char>(t.kind), what);
  };
  const auto has_least = [](const std::vector<std::int8_t>& values) {
    return std::find(values.begin(), values.end(), std::int8_t{-128}) != values.end();
  };
  if (has_least(t.predictor) || has_least(t.basis)) refuse("a weight is -128");
  for (std::size_t c = 0; c < t.mean.size(); ++c) {
    if (!std::isfinite(t.mean[c])) refuse("a mean is not finite");
    if (!(t.unit[c] > 0.0f) || !std::isfinite(t.unit[c])) refuse("a unit is not over 0");
    if (t.gain[c] < 0 || t.gain[c] > kMostGain) refuse("a gain is out of range");
    if (t.shift[c] < 1 || t.shift[c] > kMostShift) refuse("a shift is out of range");
    if (static_cast<int>(t.shape[c]) >= kShapes) refuse("a shape is not known");
    if (c > 0 && t.sigma[c] > t.sigma[c - 1]) refuse("deviations increase");
  }
}

void read_head(const json& head, const std::string& place, Profile& profile) {
  const JsonObject object(head, "", place);
  profile.level = static_cast<int>(object.integer("level", 0, 9));
  profile.made_from = object.text("made_from");
  object.each("map", [&](const JsonObject& point) {
    profile.map.push_back({static_cast<int>(point.integer("step", -128, 128)), point.number("bits"),
                           point.number("kld")});
  });
  const JsonObject model = object.object("model");
  profile.model = {model.text("name"),        model.text("architecture"),
                   model.text("fingerprint"), model.text("tokenizer_fingerprint"),
                   model.text("adapter"),     model.text("base_fingerprint")};
  object.each("tensors", [&](const JsonObject& entry) {
    TensorProfile& t = profile.tensors.emplace_back();
    t.layer = static_cast<std::uint32_t>(entry.integer("layer", 0, format::kMaxLayers - 1));
    t.kind = kind_of(entry);
    t.channels = entry.integer("channels", 4, kMaxChannels);
    if (entry.has("even_step")) {
      t.even_step = static_cast<int>(entry.integer("even_step", -kMostEvenStep, kMostEvenStep));
    }
    if (t.channels % 4 != 0) entry.refuse("channels", "is no multiple of 4");
    entry.each("context", [&](const JsonObject& source) {
      t.context.push_back(
          {static_cast<std::uint8_t>(source.integer("back", 0, kMostLayersBack)), kind_of(source)});
    });
    if (static_cast<std::int64_t>(t.context.size()) > kMaxContexts) {
      entry.refuse("context", "has too many tensors");
    }
  });
}

// Each context must have been decoded before.
void resolve_inputs(Profile& profile, const std::string& place) {
  for (std::size_t i = 0; i < profile.tensors.size(); ++i) {
    TensorProfile& t = profile.tensors[i];
    const auto before = [&](const ContextSource& source) -> const TensorProfile* {
      for (std::size_t j = 0; j < i; ++j) {
        const TensorProfile& other = profile.tensors[j];
        if (other.layer + source.layers_back == t.layer && other.kind == source.kind) return &other;
      }
      return nullptr;
    };
    if (i > 0 && t.layer < profile.tensors[i - 1].layer) {
      fail_input("{}: layer {} stands behind layer {}", place, t.layer,
                 profile.tensors[i - 1].layer);
    }
    if (before({0, t.kind})) {
      fail_input("{}: layer {} {} stands twice", place, t.layer, static_cast<char>(t.kind));
    }
    for (const ContextSource& source : t.context) {
      const TensorProfile* found = before(source);
      if (!found) {
        fail_input("{}: layer {} {} is predicted from what is not decoded before it", place,
                   t.layer, static_cast<char>(t.kind));
      }
      t.inputs += found->channels;
    }
    if (t.inputs > kMaxChannels) fail_input("{}: layer {}: too many inputs", place, t.layer);
  }
}

Header take_header(ByteReader& reader, const std::string& place) {
  Header header;
  const bool whole = reader.remaining() >= sizeof(Header);
  if (whole) header = reader.get<Header>();
  if (!whole || header.magic != kMagic) {
    fail_input("{}: not a profile; make one with kvcalibrate", place);
  }
  if (header.version != kVersion) {
    fail_input("{}: version {}, which this version does not know", place, header.version);
  }
  if (header.reserved != 0) fail_input("{}: reserved bits are set", place);
  if (header.json_bytes > kMaxJsonBytes)
    fail_input("{}: a head of {} bytes", place, header.json_bytes);
  return header;
}

}  // namespace

double TensorProfile::basis_value(std::int64_t c, std::int64_t k) const {
  const auto row = static_cast<std::size_t>(c);
  return static_cast<double>(basis[static_cast<std::size_t>(c * channels + k)]) *
         std::ldexp(static_cast<double>(unit[row]), gain[row]);
}

const TensorProfile* Profile::find(std::uint32_t layer, format::Kind kind) const {
  for (const TensorProfile& tensor : tensors) {
    if (tensor.layer == layer && tensor.kind == kind) return &tensor;
  }
  return nullptr;
}

bool Profile::restarts_at(std::uint32_t layer) const {
  for (const TensorProfile& tensor : tensors) {
    for (const ContextSource& source : tensor.context) {
      // A prediction of this or a later layer from before it.
      if (tensor.layer >= layer && tensor.layer - source.layers_back < layer) return false;
    }
  }
  return true;
}

Bytes Profile::to_bytes() {
  const std::string head = head_of(*this).dump();
  ByteWriter body;
  body.put_bytes(as_bytes(head));
  for (const TensorProfile& tensor : tensors) {
    each_array(
        [&](const auto& values, std::int64_t) { body.put_bytes(std::as_bytes(std::span(values))); },
        tensor);
  }
  Header header;
  header.json_bytes = static_cast<std::uint32_t>(head.size());
  header.file_bytes = sizeof(Header) + body.size();
  header.hash = hash = xxh3_64(body.bytes());
  ByteWriter out;
  out.put(header);
  out.put_bytes(body.bytes());
  return out.take();
}

std::shared_ptr<const Profile> Profile::from_bytes(ByteView bytes, const std::string& place) {
  ByteReader reader(bytes, place);
  const Header header = take_header(reader, place);
  if (header.file_bytes != bytes.size()) {
    fail_input("{}: {} bytes instead of {}; the file is damaged", place, bytes.size(),
               header.file_bytes);
  }
  if (header.hash != xxh3_64(bytes.subspan(sizeof(Header)))) {
    fail_input("{}: checksum mismatch; the file is damaged, make it again", place);
  }
  auto profile = std::make_shared<Profile>();
  profile->hash = header.hash;
  read_head(parse_json(as_text(reader.take(header.json_bytes)), place), place, *profile);
  resolve_inputs(*profile, place);
  for (TensorProfile& tensor : profile->tensors) {
    each_array([&](auto& values, std::int64_t count) { take(reader, values, count); }, tensor);
    check_arrays(tensor, place);
  }
  if (reader.remaining() != 0) fail_input("{}: {} bytes too many", place, reader.remaining());
  return profile;
}

std::shared_ptr<const Profile> Profile::open(const std::string& path) {
  Input input = Input::open(path);
  return from_bytes(input.read_all(kMaxFileBytes), input.name());
}

ProfileHead ProfileHead::read(const std::string& path) {
  Input input = Input::open(path);
  Bytes bytes(sizeof(Header));
  bytes.resize(input.read(bytes));
  ByteReader reader(bytes, input.name());
  const Header header = take_header(reader, input.name());
  Bytes text(header.json_bytes);
  text.resize(input.read(text));
  Profile profile;
  read_head(parse_json(as_text(text), input.name()), input.name(), profile);
  return {profile.model, profile.level, header.hash};
}

std::vector<std::pair<std::uint32_t, format::Kind>> order_of(const Meta& meta) {
  std::vector<std::pair<std::uint32_t, format::Kind>> order;
  for (const auto& tensor : meta.tensors()) {
    if (tensor.second != format::Kind::kE) order.push_back(tensor);
  }
  std::stable_sort(order.begin(), order.end(), [](const auto& a, const auto& b) {
    return a.first != b.first ? a.first < b.first : a.second > b.second;
  });
  return order;
}

}  // namespace kv
