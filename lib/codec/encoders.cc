#include "cachegen.hh"
#include "cachegen_code.hh"
#include "ggml_blocks.hh"
#include "kivi.hh"
#include "planes.hh"
#include "raw_codec.hh"

#include <array>

namespace kv {
namespace {

// Which of the options a codec has; the others are refused, not ignored.
class Options {
 public:
  Options(std::string_view name, const CodecOptions& given) : name_(name), given_(given) {}

  void allow(std::initializer_list<std::string_view> allowed) const {
    const auto check = [&](std::string_view option, bool is_given) {
      if (is_given && std::find(allowed.begin(), allowed.end(), option) == allowed.end()) {
        fail_usage("codec {} has no --{}", name_, option);
      }
    };
    check("level", given_.level.has_value());
    check("bits", given_.bits.has_value());
    check("group", given_.group.has_value());
    check("chunk", given_.chunk.has_value());
    check("tables", given_.tables.has_value());
    check("profile", given_.profile.has_value());
    check("rope", given_.rope);
  }

  template <typename T>
  T number(std::string_view option, const std::optional<T>& value, T otherwise, T least,
           T most) const {
    const T number = value.value_or(otherwise);
    if (number < least || number > most) {
      fail_usage("codec {}: --{} {} is not from {} to {}", name_, option, number, least, most);
    }
    return number;
  }

 private:
  std::string_view name_;
  const CodecOptions& given_;
};

}  // namespace

std::unique_ptr<Codec> make_encoder(std::string_view name, const CodecOptions& given) {
  const Options options(name, given);
  if (name == "raw" || name == "planes") {
    options.allow({});
    if (name == "raw") return std::make_unique<RawCodec>();
    return std::make_unique<PlanesCodec>();
  }
  if (name == "q8_0" || name == "q4_0") {
    options.allow({"rope"});
    if (name == "q8_0") return std::make_unique<Q8Codec>(given.rope);
    return std::make_unique<Q4Codec>(given.rope);
  }
  if (name == "kivi") {
    options.allow({"bits", "group", "rope"});
    return std::make_unique<KiviCodec>(options.number("bits", given.bits, 2, 2, 4),
                                       options.number("group", given.group, 32, 8, 128),
                                       given.rope);
  }
  if (name == "cachegen-code") {
    using Tables = CacheGenCodeCodec::Tables;
    options.allow({"level", "chunk", "tables", "rope"});
    const std::string tables = given.tables.value_or("shipped");
    if (tables != "shipped" && tables != "compact") {
      fail_usage("codec {}: --tables {} is neither shipped nor compact", name, tables);
    }
    return std::make_unique<CacheGenCodeCodec>(
        options.number("level", given.level, 2, 1, 5),
        tables == "shipped" ? Tables::kShipped : Tables::kCompact,
        options.number<std::int64_t>("chunk", given.chunk, 256, 1, CacheGenCodeCodec::kMostChunk),
        given.rope);
  }
  if (name == "cachegen") {
    options.allow({"level", "profile", "rope"});
    if (!given.profile) fail_usage("codec cachegen needs a --profile of the model");
    const auto profile = read_cachegen_profile(*given.profile);
    if (profile->rotated() != given.rope) {
      fail_usage("{} was made {} --rope; code so, or give another", *given.profile,
                 profile->rotated() ? "with" : "without");
    }
    return std::make_unique<CacheGenCodec>(profile, given.level.value_or(6));
  }
  fail_usage("codec '{}' is not known; give one of {}", name,
             "raw, planes, q8_0, q4_0, kivi, cachegen, cachegen-code");
}

}  // namespace kv
