#include "safetensors.hh"

#include "kv/base/json.hh"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>

namespace kv {
namespace {

using nlohmann::json;

constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;
constexpr int kMaxDepth = 8;
constexpr std::size_t kMaxDimensions = 8;

struct ElementType {
  std::string_view name;
  std::uint64_t size_bytes;
  int weight_type;  // -1: known to the format, not used by us
};
constexpr std::array<ElementType, 15> kTypes = {{
    {"F32", 4, static_cast<int>(WeightType::kF32)},
    {"F16", 2, static_cast<int>(WeightType::kF16)},
    {"BF16", 2, static_cast<int>(WeightType::kBF16)},
    {"F64", 8, -1},
    {"I64", 8, -1},
    {"I32", 4, -1},
    {"I16", 2, -1},
    {"I8", 1, -1},
    {"U8", 1, -1},
    {"U16", 2, -1},
    {"U32", 4, -1},
    {"U64", 8, -1},
    {"BOOL", 1, -1},
    {"F8_E4M3", 1, -1},
    {"F8_E5M2", 1, -1},
}};

struct Extent {
  std::uint64_t begin, end;
};

bool whole_number(const json& value) { return value.is_number_unsigned(); }

}  // namespace

SafetensorsFile::SafetensorsFile(const std::string& path) {
  const Input input = Input::open(path);
  if (!input.size_bytes()) fail_input("{}: a model must be a regular file", path);
  mapping_ = input.map();
  parse(path);
}

SafetensorsFile::SafetensorsFile(Mapping mapping, const std::string& name)
    : mapping_(std::move(mapping)) {
  parse(name);
}

void SafetensorsFile::parse(const std::string& name) {
  ByteReader reader(mapping_.bytes(), name);
  const auto header_size = reader.get<std::uint64_t>();
  if (header_size > kMaxHeaderBytes || header_size > reader.remaining()) {
    fail_input("{}: a header of {} bytes does not fit; no safetensors file, or cut short", name,
               header_size);
  }
  const std::string_view text = as_text(reader.take(static_cast<std::size_t>(header_size)));
  const ByteView data = mapping_.bytes().subspan(reader.position());
  if (json_too_deep(text, kMaxDepth)) fail_input("{}: header nested too deeply", name);
  const json header = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!header.is_object()) fail_input("{}: header is not a JSON object", name);

  std::vector<Extent> extents;
  for (const auto& [key, entry] : header.items()) {
    if (key == "__metadata__") {
      for (const auto& [name_of, text_of] : entry.items()) {
        if (text_of.is_string()) metadata_[name_of] = text_of.get<std::string>();
      }
      continue;
    }
    // Clang 14 captures no structured bindings.
    const auto bad = [&name, &tensor = key](const char* what) {
      fail_input("{}: tensor '{}': {}", name, tensor, what);
    };
    if (!entry.is_object() || !entry.contains("dtype") || !entry["dtype"].is_string() ||
        !entry.contains("shape") || !entry["shape"].is_array() || !entry.contains("data_offsets") ||
        !entry["data_offsets"].is_array() || entry["data_offsets"].size() != 2) {
      bad("dtype, shape or data_offsets are missing or of the wrong type");
    }
    const auto& dtype = entry["dtype"].get_ref<const std::string&>();
    const auto type = std::find_if(kTypes.begin(), kTypes.end(),
                                   [&](const ElementType& t) { return t.name == dtype; });
    if (type == kTypes.end()) bad("unknown dtype");
    WeightView view;
    view.name = key;
    std::uint64_t size = type->size_bytes;
    if (entry["shape"].size() > kMaxDimensions) bad("too many dimensions");
    for (const json& extent : entry["shape"]) {
      if (!whole_number(extent) || extent.get<std::uint64_t>() > (1u << 30)) bad("bad shape");
      view.shape.push_back(extent.get<std::int64_t>());
      size *= extent.get<std::uint64_t>();  // below 2^36 * 2^30: checked before the next
      if (size > (1ull << 36)) bad("too large");
    }
    const json& offsets = entry["data_offsets"];
    if (!whole_number(offsets[0]) || !whole_number(offsets[1])) bad("bad data_offsets");
    const Extent extent{offsets[0].get<std::uint64_t>(), offsets[1].get<std::uint64_t>()};
    if (extent.begin > extent.end || extent.end > data.size()) bad("lies outside the file");
    if (extent.end - extent.begin != size) bad("size and shape do not agree");
    extents.push_back(extent);
    view.bytes =
        data.subspan(static_cast<std::size_t>(extent.begin), static_cast<std::size_t>(size));
    entries_.push_back({key, dtype, view.shape, view.bytes});
    if (type->weight_type < 0) continue;
    view.type = static_cast<WeightType>(type->weight_type);
    tensors_.push_back(std::move(view));
  }
  std::sort(extents.begin(), extents.end(), [](const Extent& a, const Extent& b) {
    return a.begin != b.begin ? a.begin < b.begin : a.end < b.end;
  });
  std::uint64_t at = 0;
  for (const Extent& extent : extents) {
    if (extent.begin != at) fail_input("{}: tensor data has a hole or an overlap at {}", name, at);
    at = extent.end;
  }
  if (at != data.size()) fail_input("{}: {} bytes behind the last tensor", name, data.size() - at);
}

const SafetensorsEntry* SafetensorsFile::find(std::string_view name) const {
  // As nlohmann's objects are sorted, so are the entries.
  const auto at = std::lower_bound(
      entries_.begin(), entries_.end(), name,
      [](const SafetensorsEntry& entry, std::string_view wanted) { return entry.name < wanted; });
  return at != entries_.end() && at->name == name ? &*at : nullptr;
}

}  // namespace kv
